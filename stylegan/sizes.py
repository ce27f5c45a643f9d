"""Read a network's sizes off its weights, so that nobody has to type them in.

State dicts here carry NVIDIA's names, as the modules of this package do.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from stylegan.discriminator import Discriminator, DiscriminatorConfig
from stylegan.errors import CheckpointError, ConfigError, FewshotError
from stylegan.layers import resolutions
from stylegan.ops import setup_filter
from stylegan.prior import Prior, PriorConfig
from stylegan.stylegan1 import StyleGAN1, StyleGAN1Config
from stylegan.stylegan2 import Generator, GeneratorConfig
from stylegan.stylegan3 import StyleGAN3, StyleGAN3Config

DESIGNED = ("resample_filter", "up_filter", "down_filter", "freqs", "phases", "transform")
BUFFERS = (*DESIGNED, "noise_const", "w_avg", "magnitude_ema", "lod")
_TAPS = (1.0, 3.0, 3.0, 1.0)
_WHOLE_BATCH = 2**20  # a statistic over any batch, as `group_size=None` means at NVIDIA
_Net = TypeVar("_Net", bound=nn.Module)


class GeneratorWeights(NamedTuple):
    """A generator that is not built yet: its sizes and its state dict, float32 or float16."""

    config: PriorConfig
    state: dict[str, Tensor]


class DiscriminatorWeights(NamedTuple):
    """A discriminator that is not built yet."""

    config: DiscriminatorConfig
    state: dict[str, Tensor]


def generator_weights(
    state: Mapping[str, Tensor], source: str, *, conv_clamp: float | None = None
) -> GeneratorWeights:
    """Find the sizes of a StyleGAN2 generator from its state dict.

    Args:
        state: Tensors by NVIDIA's names; constant buffers may be missing.
        source: What errors call the state dict, such as its path.
        conv_clamp: Bound on activations, which the weights do not tell.

    Raises:
        CheckpointError: a tensor is missing, or the widths contradict each other.
    """
    found = sorted(int(m[1]) for k in state if (m := re.match(r"synthesis\.b(\d+)\.", k)))
    sizes = sorted(set(found))
    top = _check_sizes(sizes, source)
    widths = {r: _shape(state, f"synthesis.b{r}.conv1.weight", 4, source)[0] for r in sizes}
    depth = _depth(state, "mapping")
    if depth == 0:
        raise CheckpointError(f"{source}: a synthesis network without its mapping network")
    c_dim, embed = 0, 0
    if "mapping.embed.weight" in state:
        embed, c_dim = _shape(state, "mapping.embed.weight", 2, source)
    config = _configure(
        GeneratorConfig,
        source,
        img_resolution=top,
        z_dim=_shape(state, "mapping.fc0.weight", 2, source)[1] - embed,
        w_dim=_shape(state, "synthesis.b4.conv1.affine.weight", 2, source)[1],
        c_dim=c_dim,
        img_channels=_shape(state, f"synthesis.b{top}.torgb.weight", 4, source)[0],
        mapping_layers=depth,
        channels=widths,
        base=tuple(_shape(state, "synthesis.b4.const", 3, source)[1:]),
        architecture=_architecture(state, "synthesis.b8.skip.", "synthesis.b4.torgb.", top),
        conv_clamp=conv_clamp,
        resample_filter=_taps(state.get(f"synthesis.b{top}.resample_filter")),
    )
    return GeneratorWeights(config, _complete(state, config.resample_filter, "synthesis.", sizes))


def discriminator_weights(
    state: Mapping[str, Tensor],
    source: str,
    *,
    conv_clamp: float | None = None,
    group_size: int | None = 4,
) -> DiscriminatorWeights:
    """Find the sizes of a StyleGAN2 discriminator from its state dict.

    `conv_clamp` and `group_size` (None: the whole batch) are not in the weights.

    Raises:
        CheckpointError: a tensor is missing, or the widths contradict each other.
    """
    sizes = sorted({int(m[1]) for k in state if (m := re.match(r"b(\d+)\.", k))})
    top = _check_sizes(sizes, source)
    widths = {r: _shape(state, f"b{r}.conv0.weight", 4, source)[1] for r in sizes[1:]}
    widths[4], last_in = _shape(state, "b4.conv.weight", 4, source)[:2]
    extra = last_in - widths[4]
    c_dim = 0
    if "mapping.embed.weight" in state:
        c_dim = _shape(state, "mapping.embed.weight", 2, source)[1]
    config = _configure(
        DiscriminatorConfig,
        source,
        img_resolution=top,
        img_channels=_shape(state, f"b{top}.fromrgb.weight", 4, source)[1],
        c_dim=c_dim,
        channels=dict(sorted(widths.items())),
        architecture=_architecture(state, "b8.skip.", "b4.fromrgb.", top),
        conv_clamp=conv_clamp,
        mapping_layers=_depth(state, "mapping") if c_dim else 8,
        cmap_dim=_shape(state, "b4.out.weight", 2, source)[0] if c_dim else None,
        mbstd_group_size=(_WHOLE_BATCH if group_size is None else group_size) if extra else 0,
        mbstd_num_channels=extra or 1,
        resample_filter=_taps(state.get(f"b{top}.resample_filter")),
    )
    return DiscriminatorWeights(config, _complete(state, config.resample_filter, "", sizes))


def build_generator(weights: GeneratorWeights, source: str) -> Prior:
    """Build the network on the CPU: float32, eval mode, no gradients.

    A missing `w_avg` stays zero; `source` names the weights in errors.

    Raises:
        CheckpointError: names or shapes differ from what the sizes ask for.
    """
    state = dict(weights.state)
    state.setdefault("mapping.w_avg", torch.zeros(weights.config.w_dim))
    with torch.random.fork_rng(devices=[]):  # initial values, soon replaced, cost no one a draw
        net = new_generator(weights.config)
    return _fill(net, state, source)


def new_generator(config: PriorConfig) -> Prior:
    """Return a fresh network of the family that the configuration belongs to."""
    if isinstance(config, StyleGAN1Config):
        return StyleGAN1(config)
    if isinstance(config, StyleGAN3Config):
        return StyleGAN3(config)
    if isinstance(config, GeneratorConfig):
        return Generator(config)
    raise ConfigError(f"no generator is built from a {type(config).__name__}")


def build_discriminator(weights: DiscriminatorWeights, source: str) -> Discriminator:
    """Build the network on the CPU: float32, eval mode, no gradients.

    Raises:
        CheckpointError: names or shapes differ from what the sizes ask for.
    """
    with torch.random.fork_rng(devices=[]):
        net = Discriminator(weights.config)
    return _fill(net, weights.state, source)


def num_parameters(state: Mapping[str, Tensor]) -> int:
    """Count the trained numbers of a state dict, leaving out constant buffers."""
    return sum(t.numel() for k, t in state.items() if k.rpartition(".")[2] not in BUFFERS)


def _fill(net: _Net, state: Mapping[str, Tensor], source: str) -> _Net:
    expected = net.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    if missing or unknown:
        what = f"lacks '{missing[0]}'" if missing else f"has an unknown tensor '{unknown[0]}'"
        raise CheckpointError(
            f"{source}: {what} ({len(missing)} missing, {len(unknown)} unknown); "
            "this is not a StyleGAN of a known layout"
        )
    for name, tensor in expected.items():
        if tensor.shape != state[name].shape:
            raise CheckpointError(
                f"{source}: '{name}' is {list(state[name].shape)} where the rest of the network "
                f"asks for {list(tensor.shape)}"
            )
    ready = {k: _as_float(t, k, source) for k, t in state.items()}
    net.load_state_dict(ready, assign=True)
    return net.eval().requires_grad_(False)


def _as_float(tensor: Tensor, name: str, source: str) -> Tensor:
    if not tensor.is_floating_point():
        raise CheckpointError(f"{source}: '{name}' holds {tensor.dtype}, not weights")
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous(memory_format=layout)


def _check_sizes(sizes: list[int], source: str) -> int:
    """Return the largest of 4, 8, 16, ...; refuse gaps."""
    try:
        whole = bool(sizes) and sizes == resolutions(sizes[-1]) and len(sizes) > 1
    except FewshotError:
        whole = False
    if not whole:
        raise CheckpointError(f"{source}: blocks of {sizes} px do not make a StyleGAN2 network")
    return sizes[-1]


def _shape(state: Mapping[str, Tensor], name: str, ndim: int, source: str) -> list[int]:
    if name not in state:
        raise CheckpointError(f"{source}: lacks '{name}', so its sizes cannot be read")
    if state[name].ndim != ndim:
        raise CheckpointError(
            f"{source}: '{name}' is {list(state[name].shape)}; expected {ndim} dimensions"
        )
    return list(state[name].shape)


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    depth = 0
    while f"{prefix}.fc{depth}.weight" in state:
        depth += 1
    return depth


def _architecture(state: Mapping[str, Tensor], resnet: str, skip: str, top: int) -> str:
    if any(k.startswith(resnet) for k in state):
        return "resnet"
    return "skip" if any(k.startswith(skip) for k in state) else "orig"


def _taps(kernel: Tensor | None) -> tuple[float, ...]:
    """Return the 1-D taps of a separable filter [h, w] or [n], smallest one 1."""
    if kernel is None or kernel.numel() == 0:
        return _TAPS
    line = kernel.double().sum(dim=0) if kernel.ndim == 2 else kernel.double()
    line = line / line.abs()[line != 0].min()
    return tuple(round(v, 6) for v in line.tolist())


def _complete(
    state: Mapping[str, Tensor], taps: tuple[float, ...], prefix: str, sizes: list[int]
) -> dict[str, Tensor]:
    """Add constant buffers that a state dict may leave out: filters, and noise nobody uses."""
    full = dict(state)
    kernel = setup_filter(taps)
    for res in sizes:
        if prefix or res > 4:
            full.setdefault(f"{prefix}b{res}.resample_filter", kernel)
        for layer in ("conv", "conv0", "conv1", "skip", "fromrgb"):
            name = f"{prefix}b{res}.{layer}"
            if f"{name}.weight" not in full:
                continue
            full.setdefault(f"{name}.resample_filter", kernel)
            if prefix and layer != "skip" and f"{name}.noise_strength" not in full:
                full[f"{name}.noise_strength"] = torch.zeros([])
                full.setdefault(f"{name}.noise_const", torch.zeros(res, res))
    return full


def _configure(kind: Any, source: str, **values: Any) -> Any:
    try:
        return kind(**values)
    except ConfigError as err:
        raise CheckpointError(f"{source}: {err}") from err
