"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data").

Every picture that the discriminator sees, real or drawn, is changed at random with strength `p`:
each transform below is applied with that probability. `p` follows how far the discriminator
overfits, so that it is told apart from the training set by nothing it could learn by heart.
The order, the distributions and their widths are those of the paper's appendix B.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import Source, rand, randint, randn
from stylegan.warp import SYM2, matrix, mirror, replace, rotation, scale, shift, warp

GROUPS = ("blit", "geom", "color", "filter", "noise", "cutout")
PRESETS = {name: (name,) for name in GROUPS} | {
    "bg": GROUPS[:2],
    "bgc": GROUPS[:3],
    "bgcf": GROUPS[:4],
    "bgcfn": GROUPS[:5],
    "bgcfnc": GROUPS,
}
"""Names of the sets of transforms that the paper compares; "bgc" is its choice."""

BAND_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)
"""Share of each frequency band in a natural picture, whose spectrum falls as 1 / f."""


class Draw:
    """The random choices for one batch of `num` pictures of `height` x `width` px."""

    def __init__(self, num: int, height: int, width: int, p: float, gen: Source) -> None:
        self.num, self.height, self.width, self.p, self.gen = num, height, width, p, gen

    def uniform(self, low: float, high: float) -> Tensor:
        """Draw [N] from U(low, high)."""
        return low + (high - low) * self._rand()

    def normal(self, std: float) -> Tensor:
        """Draw [N] from N(0, std^2)."""
        return std * randn((self.num,), self.gen)

    def integer(self, count: int) -> Tensor:
        """Draw [N] from 0 .. count - 1."""
        return randint(count, (self.num,), self.gen)

    def maybe(self, value: Tensor, otherwise: float, p: float | None = None) -> Tensor:
        """Keep each of `value` [N] with probability p (`self.p`), else put `otherwise`."""
        chosen = self._rand() < (self.p if p is None else p)
        return torch.where(chosen, value, value.new_full((), otherwise))

    def _rand(self) -> Tensor:
        return rand((self.num,), self.gen)


# Pixel blitting: every result is a pixel of the picture.


def x_flip(draw: Draw) -> Tensor:
    """Mirror the picture left to right, or not."""
    return scale(1.0 - 2 * draw.maybe(draw.integer(2), 0), 1.0)


def quarter_turn(draw: Draw) -> Tensor:
    """Turn by 0, 90, 180 or 270 degrees."""
    turns = draw.maybe(draw.integer(4), 0)
    cos = turns.new_tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float32)
    return rotation(cos[turns], cos[turns - 1])


def integer_shift(draw: Draw) -> Tensor:
    """Move by whole pixels, up to an eighth of the size."""
    x, y = draw.uniform(-0.125, 0.125), draw.uniform(-0.125, 0.125)
    chosen = draw.maybe(torch.ones_like(x), 0)
    return shift((x * chosen * draw.width).round(), (y * chosen * draw.height).round())


# General geometric transforms.


def isotropic_scale(draw: Draw) -> Tensor:
    """Scale by a log-normal factor of 0.2 octaves."""
    s = draw.maybe(draw.normal(0.2).exp2(), 1)
    return scale(s, s)


def turn(draw: Draw) -> Tensor:
    """Turn by any angle; it stands before and after the stretch and one of them acts with p."""
    angle = draw.uniform(-math.pi, math.pi)
    angle = draw.maybe(angle, 0, p=1 - math.sqrt(1 - draw.p))
    return rotation(angle.cos(), angle.sin())


def stretch(draw: Draw) -> Tensor:
    """Scale the width by a log-normal factor of 0.2 octaves and the height by its inverse."""
    s = draw.maybe(draw.normal(0.2).exp2(), 1)
    return scale(s, 1 / s)


def fractional_shift(draw: Draw) -> Tensor:
    """Move by a normal distance of an eighth of the size."""
    x, y = draw.normal(0.125), draw.normal(0.125)
    chosen = draw.maybe(torch.ones_like(x), 0)
    return shift(x * chosen * draw.width, y * chosen * draw.height)


# Colour transforms, of (r, g, b, 1) with colours in [-1, 1].


def _luma(like: Tensor) -> tuple[Tensor, Tensor]:
    """Return v^T v and the cross product with v, [3, 3], of the grey axis v = (1, 1, 1) / 3^0.5."""
    v = 3**-0.5
    cross = like.new_tensor([[0.0, -v, v], [v, 0.0, -v], [-v, v, 0.0]])
    return like.new_full((3, 3), 1 / 3), cross


def _homogeneous(linear: Tensor) -> Tensor:
    """Widen matrices [N, 3, 3] of (r, g, b) to [N, 4, 4] of (r, g, b, 1)."""
    wide = F.pad(linear, [0, 1, 0, 1])
    wide[:, 3, 3] = 1
    return wide


def brightness(draw: Draw) -> Tensor:
    """Add a normal amount of 0.2 to all colours."""
    b = draw.maybe(draw.normal(0.2), 0)
    return matrix((1.0, 0.0, 0.0, b), (0.0, 1.0, 0.0, b), (0.0, 0.0, 1.0, b), (0.0, 0.0, 0.0, 1.0))


def contrast(draw: Draw) -> Tensor:
    """Multiply all colours by a log-normal factor of 0.5 octaves."""
    c = draw.maybe(draw.normal(0.5).exp2(), 1)
    return _homogeneous(c[:, None, None] * torch.eye(3, device=c.device))


def luma_flip(draw: Draw) -> Tensor:
    """Turn light into dark at the same hue, or not."""
    i = draw.maybe(draw.integer(2), 0).float()
    luma, _ = _luma(i)
    return _homogeneous(torch.eye(3, device=i.device) - 2 * luma * i[:, None, None])


def hue(draw: Draw) -> Tensor:
    """Turn colours about the grey axis by any angle."""
    angle = draw.maybe(draw.uniform(-math.pi, math.pi), 0)[:, None, None]
    luma, cross = _luma(angle)
    rest = torch.eye(3, device=angle.device) - luma
    return _homogeneous(luma + rest * angle.cos() + cross * angle.sin())


def saturation(draw: Draw) -> Tensor:
    """Multiply the distance from the grey axis by a log-normal factor of one octave."""
    s = draw.maybe(draw.normal(1.0).exp2(), 1)[:, None, None]
    luma, _ = _luma(s)
    return _homogeneous(luma + (torch.eye(3, device=s.device) - luma) * s)


Transform = Callable[[Draw], Tensor]
BLIT: tuple[Transform, ...] = (x_flip, quarter_turn, integer_shift)
GEOM: tuple[Transform, ...] = (isotropic_scale, turn, stretch, turn, fractional_shift)
COLOR: tuple[Transform, ...] = (brightness, contrast, luma_flip, hue, saturation)


def compose(transforms: tuple[Transform, ...], draw: Draw, size: int) -> Tensor:
    """Multiply the matrices [N, size, size] of `transforms`; the first acts first."""
    result = torch.eye(size, device=draw.gen.device).expand(draw.num, size, size)
    for transform in transforms:
        result = transform(draw) @ result
    return result


def band_gains(draw: Draw) -> Tensor:
    """Draw the amplification [N, 4] of four octaves of detail; the expected power stays one."""
    power = torch.tensor(BAND_POWER, device=draw.gen.device)
    gains = torch.ones(draw.num, 4, device=draw.gen.device)
    for band in range(4):
        t = torch.ones_like(gains)
        t[:, band] = draw.maybe(draw.normal(1.0).exp2(), 1)
        gains = gains * t / (power * t.square()).sum(dim=1, keepdim=True).sqrt()
    return gains


def recolor(images: Tensor, matrices: Tensor) -> Tensor:
    """Apply matrices [N, 4, 4] of (r, g, b, 1) to pictures [N, 3, H, W], or grey [N, 1, H, W]."""
    channels = images.shape[1]
    if channels not in (1, 3):
        raise ShapeError(f"colours need pictures of 1 or 3 channels, not {channels}")
    matrices = matrices.to(images)
    pixels = images.expand(-1, 3, -1, -1).flatten(2)
    pixels = torch.baddbmm(matrices[:, :3, 3:], matrices[:, :3, :3], pixels)
    pixels = pixels if channels == 3 else pixels.mean(dim=1, keepdim=True)
    return pixels.view_as(images)


def amplify(images: Tensor, gains: Tensor) -> Tensor:
    """Multiply four octaves of detail, lowest first, by `gains` [N, 4] along both axes."""
    changed = (gains != 1).any(dim=1)
    taps = (gains @ filter_bank().to(gains)).to(images)  # [N,T]
    return replace(images, changed, lambda rows: _filter_each(images[rows], taps[rows]))


def filter_bank() -> Tensor:
    """Return the zero-phase filters [4, T] of four octaves, lowest first; they sum to a delta.

    With L(z) = H(z) H(1/z) / 2 of the orthogonal filter H (sym2), L(z) + L(-z) = 1, so a picture
    is parted into L(-z) and L(z), the latter into L(z) L(-z^2) and L(z) L(z^2), and so on.
    """
    half = torch.tensor(SYM2, dtype=torch.float64)
    low = _convolve(half, half.flip(0)) / 2
    sign = torch.tensor([-1.0, 1.0] * len(low), dtype=torch.float64)[: len(low)]
    high = low * sign  # centred on an odd index, where the sign is +
    rest, bands = torch.ones(1, dtype=torch.float64), []
    for octave in range(3):
        bands.append(_convolve(rest, _spread(high, 2**octave)))
        rest = _convolve(rest, _spread(low, 2**octave))
    bands.append(rest)
    length = len(rest)
    return torch.stack([F.pad(b, [(length - len(b)) // 2] * 2) for b in reversed(bands)])


def _spread(taps: Tensor, step: int) -> Tensor:
    """Return the taps of f(z^step)."""
    spread = taps.new_zeros((len(taps) - 1) * step + 1)
    spread[::step] = taps
    return spread


def _convolve(a: Tensor, b: Tensor) -> Tensor:
    return F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]


def _filter_each(images: Tensor, taps: Tensor) -> Tensor:
    """Filter each picture [N, C, H, W] along both axes with its own symmetric taps [N, T]."""
    margin = taps.shape[1] // 2
    down, right = (
        torch.einsum("ijt,nt->nij", mirror(n, margin, images).unfold(0, taps.shape[1], 1), taps)
        for n in images.shape[2:]
    )
    return down[:, None] @ images @ right[:, None].mT


def add_noise(images: Tensor, draw: Draw) -> Tensor:
    """Add white noise whose deviation is half-normal of 0.1."""
    sigma = draw.maybe(draw.normal(0.1).abs(), 0)[:, None, None, None]
    noise = randn(images.shape, draw.gen)
    return images + (noise * sigma).to(images)


def cut_out(images: Tensor, draw: Draw) -> Tensor:
    """Blank a rectangle of half the size about a point of the picture to mid-grey."""
    reach = draw.maybe(torch.full((draw.num,), 0.25, device=draw.gen.device), 0)[:, None]
    inside = []
    for length in (draw.height, draw.width):
        place = (torch.arange(length, device=reach.device) + 0.5) / length
        inside.append((place - draw.uniform(0, 1)[:, None]).abs() < reach)  # [N,length]
    blank = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(blank.to(images.device), 0)


class Augment(nn.Module):
    """Change pictures at random with strength `p`, which the training sets.

    Args:
        transforms: A name of PRESETS.

    Raises:
        ConfigError: There is no such preset.
    """

    def __init__(self, transforms: str = "bgc") -> None:
        super().__init__()
        if transforms not in PRESETS:
            raise ConfigError(
                f"unknown transforms '{transforms}'; choose from {', '.join(PRESETS)}"
            )
        self.groups = PRESETS[transforms]
        self.geometry = BLIT * ("blit" in self.groups) + GEOM * ("geom" in self.groups)
        self.colors = COLOR * ("color" in self.groups)
        self.p = 0.0

    def forward(self, images: Tensor, gen: Source) -> Tensor:
        """Return changed copies of `images` [N, C, H, W] in [-1, 1]; differentiable twice.

        Computed in float32, or float64 if `images` are, also under autocast. With p = 0 the result
        is `images` itself and nothing is drawn from `gen`.

        Raises:
            ShapeError: The colours are to be changed, and C is neither 1 nor 3.
        """
        if self.p <= 0:
            return images
        n, _, height, width = images.shape
        draw = Draw(n, height, width, self.p, gen)
        with torch.autocast(images.device.type, enabled=False):
            x = images.to(torch.promote_types(images.dtype, torch.float32))
            if self.geometry:
                x = warp(x, compose(self.geometry, draw, 3))
            if self.colors:
                x = recolor(x, compose(self.colors, draw, 4))
            if "filter" in self.groups:
                x = amplify(x, band_gains(draw))
            if "noise" in self.groups:
                x = add_noise(x, draw)
            if "cutout" in self.groups:
                x = cut_out(x, draw)
        return x.to(images.dtype)


class AdaptiveStrength:
    """Move `p` so that the discriminator stays as sure of real pictures as `target`.

    The measure of overfitting is r_t = E[sign D(real)]: 0 for a discriminator that guesses, 1 for
    one that knows every training picture.

    Args:
        target: The r_t to hold.
        kimg: Thousands of pictures in which `p` could rise from 0 to 1; 100 for transfer.
        interval: Minibatches between two changes.
    """

    def __init__(self, target: float = 0.6, kimg: float = 500.0, interval: int = 4) -> None:
        self.target, self.kimg, self.interval = target, kimg, interval
        self.r_t = 0.0  # as last measured
        self._signs, self._seen, self._steps = 0.0, 0, 0

    def observe(self, real_logits: Tensor) -> None:
        """Take note of the discriminator's logits, any shape, of augmented real pictures."""
        self._signs += float(real_logits.detach().sign().sum())
        self._seen += real_logits.numel()

    def update(self, p: float, batch: int) -> float:
        """Return the strength after one more minibatch of `batch` pictures; call once for each."""
        self._steps += 1
        if self._steps % self.interval or not self._seen:
            return p
        self.r_t = self._signs / self._seen
        self._signs, self._seen = 0.0, 0
        step = batch * self.interval / (self.kimg * 1000)
        return min(max(p + math.copysign(step, self.r_t - self.target), 0.0), 1.0)

    def state(self) -> dict[str, Any]:
        """Return plain values from which `load_state` goes on exactly."""
        return {"r_t": self.r_t, "signs": self._signs, "seen": self._seen, "steps": self._steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.r_t, self._signs = state["r_t"], state["signs"]
        self._seen, self._steps = state["seen"], state["steps"]
