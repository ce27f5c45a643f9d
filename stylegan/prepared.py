"""A StyleGAN2 made ready to draw: the same pictures from weights scaled, cast and laid out once.

`prepare(prior)` gives a prior for everything but training: sampling, labelling, inversion, the app.
It is differentiable by its codes, not by its weights.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stylegan.ops import bias_act, upfirdn2d, upsample2d, winograd
from stylegan.precision import cpu_has_amx, resolve_precision
from stylegan.prior import Prior, PriorConfig, Rendering, Synthesis
from stylegan.seeding import Source, randn, sample_z, stream
from stylegan.stylegan2 import (
    SynthesisBlock,
    SynthesisLayer,
    SynthesisNetwork,
    ToRGBLayer,
)

MIN_PSNR = 40.0  # dB between a picture in bfloat16 and the same in float32
POLYPHASE_FROM = 64  # px of the enlarged picture
INPUT_AXIS = {  # the shape of [C_in] beside the weights of each form
    "direct": (1, -1, 1, 1),
    "polyphase": (1, -1, 1, 1),
    "transposed": (-1, 1, 1, 1),
    "winograd": (1, -1, 1),
}


def prepare(prior: Prior, *, precision: str = "auto", recompute: bool = False) -> Prior:
    """Return `prior` in a form that draws faster, with its weights frozen.

    Only StyleGAN2 has one; another prior is returned as it is. A prepared one keeps its format.

    Args:
        prior: The generator; it is not changed, and its mapping is shared.
        precision: Number format of the features: "float32", "bfloat16", or "auto", which is
            bfloat16 where the machine gains by it and a picture stays within 40 dB of float32.
        recompute: Where codes are differentiated, keep nothing inside a block, but compute it
            again in the backward pass: less memory for a third more time.

    Raises:
        ConfigError: `precision` is unknown.
    """
    dtype = resolve_precision(precision, prior.mapping.w_avg.device)
    source = prior.synthesis
    if isinstance(source, PreparedSynthesis):
        return _ready(prior, source.blocks(), source.dtype, recompute)
    if not isinstance(source, SynthesisNetwork):
        return prior
    ready = _ready(prior, _blocks(source, dtype), dtype, recompute)
    if precision == "auto" and dtype != torch.float32 and psnr(prior, ready) < MIN_PSNR:
        return _ready(prior, _blocks(source, torch.float32), torch.float32, recompute)
    return ready


def _blocks(source: SynthesisNetwork, dtype: torch.dtype) -> "dict[int, _Block]":
    return {res: _Block(getattr(source, f"b{res}"), dtype) for res in source.block_resolutions}


def _ready(prior: Prior, blocks: "dict[int, _Block]", dtype: torch.dtype, recompute: bool) -> Prior:
    synthesis = PreparedSynthesis(
        prior.config, blocks, prior.synthesis.layer_resolutions, dtype=dtype, recompute=recompute
    )
    ready = Prior(prior.config, synthesis=synthesis, mapping=prior.mapping)
    ready.synthesis.requires_grad_(False)
    return ready.eval()


@torch.no_grad()
def psnr(a: Prior, b: Prior) -> float:
    """Return how close a picture of `b` is to the same of `a`, in dB of the range [-1, 1]."""
    device = a.mapping.w_avg.device
    z = sample_z(1, a.z_dim, stream(0, "prepare")).to(device)
    c = F.one_hot(torch.zeros(1, dtype=torch.long, device=device), a.c_dim) if a.c_dim else None
    ws = a.mapping(z, c, truncation_psi=0.7)
    error = F.mse_loss(b.synthesis(ws).img.float(), a.synthesis(ws).img.float())
    return 10 * math.log10(4 / max(float(error), 1e-12))


class PreparedSynthesis(Synthesis):
    """ws [N, num_ws, w_dim] -> Rendering, as the SynthesisNetwork its blocks are made from."""

    def __init__(
        self,
        config: PriorConfig,
        blocks: "dict[int, _Block]",
        layer_resolutions: tuple[int, ...],
        *,
        dtype: torch.dtype,
        recompute: bool = False,
    ) -> None:
        super().__init__(config)
        self.dtype, self.recompute = dtype, recompute
        self.block_resolutions, self.layer_resolutions = list(blocks), layer_resolutions
        for res, block in blocks.items():
            self.add_module(f"b{res}", block)

    def blocks(self) -> "dict[int, _Block]":
        """Return the block of each size."""
        return {res: getattr(self, f"b{res}") for res in self.block_resolutions}

    def forward(
        self,
        ws: Tensor,
        noise_mode: str = "const",
        feature_resolutions: Iterable[int] = (),
        generator: Source | None = None,
    ) -> Rendering:
        """Draw pictures from styles; see `stylegan.stylegan2.SynthesisNetwork.forward`."""
        wanted = set(feature_resolutions)
        self.check(ws, noise_mode, wanted)
        img, feats = None, {}
        for i, (res, x) in enumerate(self._sizes(ws, noise_mode, generator)):
            block: _Block = getattr(self, f"b{res}")
            img = block.paint(img, x, ws[:, 2 * i + 1])
            if res in wanted:
                feats[res] = x
        return Rendering(cast(Tensor, img), feats)

    def _sizes(
        self, ws: Tensor, noise_mode: str, gen: Source | None, largest: float = math.inf
    ) -> Iterator[tuple[int, Tensor]]:
        x: Tensor | None = None
        again = self.recompute and torch.is_grad_enabled() and ws.requires_grad
        for i, res in enumerate(self.block_resolutions):
            if res > largest:
                return
            block: _Block = getattr(self, f"b{res}")
            styles = ws[:, max(2 * i - 1, 0) : 2 * i + 1]
            noises = block.noises(len(ws), noise_mode, gen)  # drawn once, also where recomputed
            if again:
                x = cast(Tensor, checkpoint(block, x, styles, noises, use_reentrant=False))
            else:
                x = block(x, styles, noises)
            yield res, x


class _Block(nn.Module):
    """One resolution; see SynthesisBlock."""

    const: Tensor
    resample_filter: Tensor
    skip: nn.Module | None

    def __init__(self, source: SynthesisBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.resolution = source.resolution
        self.register_buffer("resample_filter", source.resample_filter)
        self.skip = getattr(source, "skip", None)  # of the residual architecture
        gain = 1.0 if self.skip is None else math.sqrt(0.5)
        if source.is_first:
            self.register_buffer("const", source.const.detach().to(dtype))
            self.layers = nn.ModuleList([_Layer(source.conv1, dtype)])
        else:
            self.layers = nn.ModuleList(
                [_Layer(source.conv0, dtype), _Layer(source.conv1, dtype, gain=gain)]
            )
        self.torgb = _ToRGB(source.torgb, dtype) if hasattr(source, "torgb") else None

    def noises(self, num: int, mode: str, gen: Source | None) -> list[Tensor | None]:
        """Return what each layer adds: None, or a plane [H, W], or one a picture [N, 1, H, W]."""
        return [cast(_Layer, layer).noise(num, mode, gen) for layer in self.layers]

    def forward(self, x: Tensor | None, ws: Tensor, noises: list[Tensor | None]) -> Tensor:
        """Return the features [N, C, H, W] under styles `ws` [N, 1 or 2, w_dim]."""
        if x is None:
            x = self.const.expand(len(ws), -1, -1, -1)
            x = x.contiguous(memory_format=torch.channels_last)
        y = None if self.skip is None else self.skip(x, gain=math.sqrt(0.5))
        for layer, w, noise in zip(self.layers, ws.unbind(dim=1), noises, strict=True):
            x = layer(x, w, noise)
        return x if y is None else y + x

    def paint(self, img: Tensor | None, x: Tensor, w: Tensor) -> Tensor | None:
        """Return the picture at this size in float32, None where there is none yet."""
        if img is not None:
            img = upsample2d(img, self.resample_filter)
        if self.torgb is None:
            return img
        y = self.torgb(x, w)
        return y if img is None else img + y


class _Layer(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU; see SynthesisLayer."""

    affine: Tensor  # [C_in, w_dim], its gain included
    affine_bias: Tensor  # [C_in]
    weight: Tensor  # in the form that `_convolved` takes
    energy: Tensor  # [C_in, C_out]: squares of the weights, summed over the kernel
    bias: Tensor
    noise_const: Tensor
    resample_filter: Tensor

    def __init__(self, source: SynthesisLayer, dtype: torch.dtype, *, gain: float = 1.0) -> None:
        super().__init__()
        self.up, self.size = source.up, source.size
        self.gain = math.sqrt(2) * gain
        self.clamp = None if source.conv_clamp is None else source.conv_clamp * gain
        weight = source.weight.detach().float()
        affine, affine_bias = _folded(source.affine)
        self.form = _form(weight, self.up, self.size, dtype)
        self.register_buffer("affine", affine)
        self.register_buffer("affine_bias", affine_bias)
        self.register_buffer("energy", weight.square().sum(dim=(2, 3)).t().contiguous())
        self.register_buffer("bias", source.bias.detach())
        self.register_buffer("noise_const", source.noise_const)
        self.noise_strength = nn.Parameter(source.noise_strength.detach())
        self.register_buffer("resample_filter", source.resample_filter)
        if self.form == "polyphase":
            weight = polyphase(weight, source.resample_filter)
        elif self.form == "transposed":
            weight = weight.transpose(0, 1)
        elif self.form == "winograd":
            weight = winograd.transformed(weight)
        weight = weight.to(dtype)
        if weight.ndim == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)

    def noise(self, num: int, mode: str, gen: Source | None) -> Tensor | None:
        """Return what is added before the bias."""
        if mode == "none":
            return None
        if mode == "const":
            return self.noise_const * self.noise_strength
        shape, device = (num, 1, *self.size), self.bias.device
        noise = torch.randn(shape, device=device) if gen is None else randn(shape, gen)
        return noise.to(device) * self.noise_strength

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """Map `x` [N, C_in, h, w] under styles `w` [N, w_dim] to [N, C_out, H, W]."""
        styles = F.linear(w, self.affine, self.affine_bias)
        demodulation = (styles.square() @ self.energy + 1e-8).rsqrt()  # [N, C_out]
        weight = self.weight
        if self._folds(x, styles):
            weight = (weight * styles.view(INPUT_AXIS[self.form])).to(weight.dtype)
        else:
            x = bias_act(x, scale=styles)
        x = self._convolved(x, weight)
        return bias_act(
            x,
            self.bias,
            act="lrelu",
            gain=self.gain,
            clamp=self.clamp,
            scale=demodulation,
            noise=noise,
            overwrite=True,
        )

    def _folds(self, x: Tensor, styles: Tensor) -> bool:
        """Tell whether the styles of one picture had better scale the weights than the features.

        Not where they are differentiated, which would take the gradient of all weights.
        """
        learns = torch.is_grad_enabled() and styles.requires_grad
        return len(x) == 1 and not learns and self.weight.numel() < x.numel()

    def _convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.form == "winograd":
            return winograd.convolve(x, weight)
        transposed = self.form == "transposed"
        x = _Convolution.apply(x, weight, transposed)  # type: ignore[no-untyped-call]
        if transposed:
            return upfirdn2d(x, self.resample_filter, padding=1, gain=4)
        return interleaved(x) if self.form == "polyphase" else x


class _Convolution(torch.autograd.Function):
    """A 3x3 convolution, or the transposed one of stride two, whose weights are frozen.

    torch's own keep their input for the gradient of the weights, whether that is wanted or not.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.transposed = transposed
        if transposed:
            return F.conv_transpose2d(x, weight, stride=2)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        if ctx.transposed:
            return F.conv2d(dy, weight, stride=2), None, None
        return F.conv_transpose2d(dy, weight, padding=1), None, None


def _form(weight: Tensor, up: int, size: tuple[int, int], dtype: torch.dtype) -> str:
    """Return the form of a convolution that is fastest for a result of `size`."""
    if up == 1:
        return "winograd" if winograd.pays(weight.to(dtype), size) else "direct"
    tiles = weight.device.type == "cpu" and dtype == torch.bfloat16 and cpu_has_amx()
    return "polyphase" if tiles and min(size) >= POLYPHASE_FROM else "transposed"


class _ToRGB(nn.Module):
    """1x1 modulated convolution to picture channels, a product of matrices; see ToRGBLayer."""

    affine: Tensor
    affine_bias: Tensor
    weight: Tensor  # [C_in, img_channels]
    bias: Tensor

    def __init__(self, source: ToRGBLayer, dtype: torch.dtype) -> None:
        super().__init__()
        self.clamp, self.dtype = source.conv_clamp, dtype
        affine, affine_bias = _folded(source.affine)
        self.register_buffer("affine", affine * source.weight_gain)
        self.register_buffer("affine_bias", affine_bias * source.weight_gain)
        self.register_buffer("weight", source.weight.detach()[:, :, 0, 0].t().contiguous())
        self.register_buffer("bias", source.bias.detach())

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map `x` [N, C_in, H, W] under styles `w` [N, w_dim] to [N, img_channels, H, W]."""
        styles = F.linear(w, self.affine, self.affine_bias)
        weight = (self.weight * styles[:, :, None]).to(self.dtype)  # [N, C_in, img_channels]
        n, c, height, width = x.shape
        y = (x.permute(0, 2, 3, 1).reshape(n, height * width, c) @ weight).float() + self.bias
        if self.clamp is not None:
            y = y.clamp(-self.clamp, self.clamp)
        return y.view(n, height, width, -1).permute(0, 3, 1, 2)


def _folded(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weights and bias of an equalised linear layer, its gains included."""
    weight, bias = cast(Tensor, layer.weight), cast(Tensor, layer.bias)
    gain, bias_gain = cast(float, layer.weight_gain), cast(float, layer.bias_gain)
    return weight.detach() * gain, bias.detach() * bias_gain


def polyphase(weight: Tensor, taps: Tensor) -> Tensor:
    """Turn a 3x3 convolution that doubles the size, and the 4x4 filter after it, into one kernel.

    Both are one transposed convolution of stride two with a 6x6 kernel. Each of its four output
    phases (y, x) sees only every second row and column of the kernel: a 3x3 convolution of the
    small picture. Row t of phase p is row 4 - 2t + p of the six.

    Args:
        weight: [C_out, C_in, 3, 3].
        taps: [4, 4], summing to one.

    Returns:
        [4 * C_out, C_in, 3, 3], for a convolution with padding 1 and then `interleaved`.
    """
    c_out, c_in = weight.shape[:2]
    kernel = weight.reshape(-1, 1, 3, 3)
    wide = F.conv2d(kernel, 4 * taps.flip([0, 1])[None, None], padding=3).view(c_out, c_in, 6, 6)
    rows = torch.tensor([[4, 2, 0], [5, 3, 1]], device=weight.device)  # [phase, t]
    phases = wide[:, :, rows][..., rows]  # [C_out, C_in, y, 3, x, 3]
    return phases.permute(2, 4, 0, 1, 3, 5).reshape(4 * c_out, c_in, 3, 3)


def interleaved(x: Tensor) -> Tensor:
    """Put the phases of `x` [N, 4 * C, H, W] (y, x, C) in their places: [N, C, 2H, 2W]."""
    n, c, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(n, height, width, 2, 2, c // 4)
    x = x.transpose(2, 3).reshape(n, 2 * height, 2 * width, c // 4)
    return x.permute(0, 3, 1, 2)
