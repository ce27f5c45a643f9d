"""The model's side of the app: label map in, pictures out; a photograph in, its map and code out.

Maps are drawn as `side` x `side` ids. Nothing here knows of a browser.
"""

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from encoders import MaskEncoder
from fewshot_smis.data import (
    IGNORE,
    Classes,
    resize_image,
    resize_label,
    to_tensor,
    to_uint8,
)
from fewshot_smis.data.images import UInt8
from fewshot_smis.encoding import encode
from fewshot_smis.inversion import PRESETS, InversionSettings, inversion_steps
from fewshot_smis.labelers import Labeler, label_samples
from fewshot_smis.perceptual import PerceptualDistance
from fewshot_smis.refinement import freedom_of, refinement_steps
from fewshot_smis.synthesis import mix_styles, sample_styles, style_layers
from stylegan import Prior
from stylegan.errors import BackendError, ConfigError, LabelError
from stylegan.seeding import stream

MOST_STYLES = 8  # side by side
MOST_AT_ONCE = 8  # pictures in one pass of the networks
MOST_CODES = 256  # of photographs and samples, kept by name
SIDES = (256, 512)  # px; smallest and largest side of a map on the page
REFINE_STEPS = 60  # a third of the paper's: it is waited for
STYLES = "synthesize/styles"  # the stream of `synthesize --seed N --styles 1`, which draws the same
PHOTO = dataclasses.replace(PRESETS["default"], steps=80, start_samples=64)  # it is waited for


class Model(NamedTuple):
    """What a studio works with."""

    name: str
    encoder: MaskEncoder
    prior: Prior
    classes: Classes
    labeler: Labeler | None = None  # without one photographs have no maps
    examples: tuple[tuple[str, Tensor], ...] = ()  # names and maps [h,w] int64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """The styles a map is drawn in.

    Attributes:
        styles: One picture each: a seed, the name of a kept code, or None for the style that the
            encoder itself gives.
        layers: Layers that take the style, see `parse_layers`.
        alpha: Strength of the style, 0 to 1.
        psi: Truncation of seeds' styles, 0 to 1.
        layout: The name of a kept code, as `refine` gives, in place of the encoder's.
    """

    styles: tuple[int | str | None, ...] = (None,)
    layers: str | None = None
    alpha: float = 1.0
    psi: float = 1.0
    layout: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if not 1 <= len(self.styles) <= MOST_STYLES:
            raise ConfigError(f"{len(self.styles)} styles; ask for 1 to {MOST_STYLES}")
        for name in ("alpha", "psi"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it lies between 0 and 1")


class Drawing(NamedTuple):
    """One map in S styles."""

    pictures: UInt8  # [S,H,W,3]
    ws: Tensor  # [S,L,D]


class Sight(NamedTuple):
    """What the studio found in a photograph, or drew as a sample."""

    code: str  # name of the kept code
    picture: UInt8  # [H,W,3], as the prior draws the code
    label: Tensor | None  # [side,side] int64, None without a labeler


class Progress(NamedTuple):
    """How far a long errand is; `result` comes with the last report."""

    step: int
    steps: int
    result: Any = None


class Studio:
    """Draw with one model.

    Args:
        model: Encoder, prior, classes, and a labeler for the maps of photographs.
        perceptual: Distance for the inversion of photographs; None for pixels alone.
        photo: How photographs are inverted.
    """

    def __init__(
        self,
        model: Model,
        *,
        perceptual: PerceptualDistance | None = None,
        photo: InversionSettings = PHOTO,
    ) -> None:
        self.model, self.perceptual, self.photo = model, perceptual, photo
        self.side = min(max(2 * model.encoder.input_size, SIDES[0]), SIDES[1])
        self._codes: OrderedDict[str, Tensor] = OrderedDict()  # name -> [L,D]

    def about(self) -> dict[str, Any]:
        """Return what a page needs to know of the model, as JSON values."""
        prior = self.model.prior
        return {
            "name": self.model.name,
            "side": self.side,
            "resolution": prior.img_resolution,
            "num_ws": prior.num_ws,
            "style_layers": list(style_layers(prior.num_ws)),
            "photos": self.model.labeler is not None,
            "examples": [name for name, _ in self.model.examples],
            **self.model.classes.to_json(),
        }

    def examples(self) -> Tensor:
        """Return the example maps, [N,side,side] int64."""
        empty = torch.zeros(0, self.side, self.side, dtype=torch.int64)
        return torch.cat([empty, *(self.fit(label) for _, label in self.model.examples)])

    def fit(self, label: Tensor) -> Tensor:
        """Bring a map [h,w] of any size to the page's, [1,side,side]; the middle square of it."""
        return resize_label(middle_square(label)[None], self.side)

    def fit_picture(self, picture: UInt8) -> UInt8:
        """Bring a picture [H,W,3] to the prior's size; the middle square of it."""
        square = to_tensor(middle_square(picture))[None]
        return to_uint8(resize_image(square, self.model.prior.img_resolution))[0]

    def check(self, ids: bytes, classes: Classes | None = None) -> Tensor:
        """Return the map [side,side] int64 that `ids`, a byte a pixel, hold.

        The ids are those of the model's classes, or of `classes`.

        Raises:
            LabelError: There are too few or too many pixels, or an id is no class.
        """
        if len(ids) != self.side**2:
            raise LabelError(
                f"a map of {len(ids)} pixels, but this model's page draws {self.side} x "
                f"{self.side}; reload the page"
            )
        label = np.frombuffer(ids, np.uint8).reshape(self.side, self.side).astype(np.int64)
        num = (classes or self.model.classes).num_classes
        bad = label[(label >= num) & (label != IGNORE)]
        if bad.size:
            raise LabelError(f"class id {bad[0]}, but there are {num} classes; reload the page")
        return torch.from_numpy(label)

    def draw(self, label: Tensor, look: Look) -> Drawing:
        """Draw `label` [side,side] int64 in every style of `look`; see `draw_all`."""
        return self.draw_all([(label, look)])[0]

    @torch.no_grad()
    def draw_all(self, orders: Sequence[tuple[Tensor, Look]]) -> list[Drawing]:
        """Draw the maps [side,side] of several people at once, each in the styles of its look.

        Raises:
            ConfigError: A layer outside the network, or a code that is no longer kept.
            LabelError: A class id that the model does not know.
        """
        prior = self.model.prior
        own = self._encode(torch.stack([label for label, _ in orders]))  # [N,L,D]
        codes = []
        for (_, look), encoded in zip(orders, own, strict=True):
            layout = encoded if look.layout is None else self.code(look.layout)
            style = torch.stack([self._style(style, layout, look.psi) for style in look.styles])
            ws = mix_styles(layout[None], style, prior, layers=look.layers, alpha=look.alpha)
            codes.append(ws[0])  # [S,L,D]
        parts = in_parts(torch.cat(codes))
        pictures = np.concatenate([to_uint8(prior.synthesis(part).img) for part in parts])
        ends = np.cumsum([len(ws) for ws in codes])[:-1]
        shares = np.split(pictures, ends)
        return [Drawing(share, ws.cpu()) for share, ws in zip(shares, codes, strict=True)]

    def refine(self, label: Tensor) -> Iterator[Progress]:
        """Let the picture of a map [H,W] follow it more closely, step by step.

        The last report's result is a `Sight`, whose code is the layout to draw with.

        Raises:
            BackendError: The model has no labeler.
        """
        labeler = self._labeler("say what a class looks like")
        freedom = freedom_of(labeler)
        freedom = freedom._replace(steps=min(freedom.steps, REFINE_STEPS))
        steps = refinement_steps(
            label[None],
            self._encode(label[None]),
            labeler,
            self.model.prior,
            gen=stream(0, "app/refine", self.device),
            freedom=freedom,
        )
        for report in steps:
            result = self._sight(report.best.ws[0]) if report.last else None
            yield Progress(report.step, freedom.steps, result)

    def samples(self, seeds: Sequence[int]) -> list[Sight]:
        """Draw samples of the prior, keep their codes, and say how the labeler sees them."""
        gens = [stream(seed, "app/sample") for seed in seeds]
        prior = self.model.prior
        return [self._sight(sample_styles(1, prior, gen, truncation_psi=0.7)[0]) for gen in gens]

    def look_at(self, picture: UInt8) -> Iterator[Progress]:
        """Find the code and the map of a photograph [H,W,3], step by step.

        Its middle square is inverted; the last report's result is a `Sight`.

        Raises:
            BackendError: The model has no labeler.
        """
        self._labeler("tell the map of a photograph")
        prior = self.model.prior
        square = to_tensor(middle_square(picture))[None].to(self.device)
        seed = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:4], "little")
        gen = stream(seed, "app/photo", self.device)
        steps = inversion_steps(square, prior, self.photo, gen=gen, perceptual=self.perceptual)
        for report in steps:
            last = report.step == report.steps
            result = self._sight(report.ws[0].detach()) if last else None
            yield Progress(report.step, report.steps, result)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.prior.mapping.w_avg.device

    def code(self, name: str) -> Tensor:
        """Return the kept code [L,D] of that name.

        Raises:
            ConfigError: It is no longer, or never was, kept.
        """
        if name not in self._codes:
            raise ConfigError(f"the style '{name[:16]}' is no longer kept; upload the photo again")
        self._codes.move_to_end(name)
        return self._codes[name]

    def keep(self, ws: Tensor) -> str:
        """Keep the code `ws` [L,D] and return its name; the least used are forgotten."""
        name = hashlib.sha256(ws.cpu().numpy().tobytes()).hexdigest()[:16]
        self._codes[name] = ws
        self._codes.move_to_end(name)
        while len(self._codes) > MOST_CODES:
            self._codes.popitem(last=False)
        return name

    def _encode(self, labels: Tensor) -> Tensor:
        parts = in_parts(labels.to(self.device))
        return torch.cat([encode(part, self.model.encoder) for part in parts])  # [N,L,D]

    def _labeler(self, purpose: str) -> Labeler:
        if self.model.labeler is None:
            raise BackendError(
                f"{self.model.name}: has no labeler to {purpose}; put the labeler.safetensors of "
                "its run of `label` into its folder"
            )
        return self.model.labeler

    def _style(self, style: int | str | None, own: Tensor, psi: float) -> Tensor:
        """Return the code [L,D] of a style; `own` [L,D] is the encoder's."""
        if style is None:
            return own
        if isinstance(style, str):
            return self.code(style)
        gen = stream(style, STYLES)
        return sample_styles(1, self.model.prior, gen, truncation_psi=psi)[0]

    @torch.no_grad()
    def _sight(self, ws: Tensor) -> Sight:
        prior, labeler = self.model.prior, self.model.labeler
        picture = to_uint8(prior.synthesis(ws[None]).img)[0]
        label = None
        if labeler is not None:
            label = label_samples(labeler, prior, ws[None], self.side)[0].cpu()
        return Sight(self.keep(ws), picture, label)


def in_parts(batch: Tensor) -> list[Tensor]:
    """Split a batch [N,...] into parts of 8, 4, 2 and 1.

    Convolutions keep plans and memory for every size they have met, so few sizes are met.
    """
    sizes = [MOST_AT_ONCE] * (len(batch) // MOST_AT_ONCE)
    left = len(batch) % MOST_AT_ONCE
    sizes += [2**i for i in reversed(range(MOST_AT_ONCE.bit_length())) if left & 2**i]
    return list(torch.split(batch, sizes))


def middle_square(picture: Any) -> Any:
    """Return the largest square in the middle of an array or tensor [H,W,...]."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]
