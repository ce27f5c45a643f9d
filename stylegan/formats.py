"""Recognise the layout of a checkpoint and bring it to this package's names.

Each layout is a row of `_LAYOUTS`: a name, how to tell it, how to read it. Layouts that are known
but not read yet are rows of `_UNREAD`, so that their owner hears what the file is.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from stylegan import nvidia, rosinality
from stylegan.discriminator import DiscriminatorConfig
from stylegan.errors import CheckpointError, FewshotError
from stylegan.files import Container, container_of, read_tensors, read_torch
from stylegan.genforce import generator_from_genforce, is_genforce, stylegan1_config
from stylegan.prior import PriorConfig
from stylegan.safe_pickle import Record, read_pickle
from stylegan.sizes import (
    DiscriminatorWeights,
    GeneratorWeights,
    discriminator_weights,
    generator_weights,
)
from stylegan.stylegan1 import StyleGAN1Config
from stylegan.stylegan2 import GeneratorConfig
from stylegan.stylegan3 import StyleGAN3Config
from stylegan.stylegan3_sizes import stylegan3_config

ALL_PARTS = ("G_ema", "G", "D")
FAMILIES: tuple[type[PriorConfig], ...] = (
    GeneratorConfig,
    StyleGAN1Config,
    StyleGAN3Config,
)
BESIDE = "discriminator."
"""Before the names of a discriminator that a .safetensors holds beside its generator."""

_PROGRESS = ("kimg", "cur_nimg", "step", "iter", "iteration", "epoch")

_UNREAD = (
    ("StyleGAN1 in genforce's layout", r"(^|\.)synthesis\.layer0\.epilogue\."),
    ("StyleGAN2 in genforce's layout", r"(^|\.)synthesis\.early_layer\."),
    ("StyleGAN1 in genforce's layout", r"(^|\.)mapping\.dense0\."),
    ("StyleGAN1 of rosinality", r"(^|\.)(generator\.)?progression\.0\."),
)


class Checkpoint(NamedTuple):
    """The networks of a file, not built yet; `notes` are further facts it states."""

    format: str
    G_ema: GeneratorWeights
    G: GeneratorWeights | None
    D: DiscriminatorWeights | None
    notes: dict[str, str]


class _Opened(NamedTuple):
    content: Any
    metadata: dict[str, str]
    source: str
    parts: tuple[str, ...]


class _Layout(NamedTuple):
    name: str
    matches: Callable[[Any], bool]
    read: Callable[[_Opened], Checkpoint]


def read_checkpoint(path: Path, parts: tuple[str, ...] = ALL_PARTS) -> Checkpoint:
    """Read the networks of a checkpoint in any layout this version knows.

    Args:
        path: NVIDIA .pkl, rosinality or pSp .pt, a state dict in NVIDIA's names, or .safetensors.
        parts: Which of "G_ema", "G", "D" are wanted; the others are not looked at.

    Raises:
        CheckpointError: the file is missing, damaged, wants to run code, or holds something else.
    """
    opened = _open(path, parts)
    for layout in _LAYOUTS:
        if layout.matches(opened.content):
            return layout.read(opened)._replace(format=layout.name)
    raise _unknown(opened.content, opened.source)


def _open(path: Path, parts: tuple[str, ...]) -> _Opened:
    container = container_of(path)
    if container is Container.SAFETENSORS:
        tensors, metadata = read_tensors(path)
        return _Opened(tensors, metadata, str(path), parts)
    content = read_pickle(path) if container is Container.PICKLE else read_torch(path)
    return _Opened(content, {}, str(path), parts)


def _read_nvidia(opened: _Opened) -> Checkpoint:
    source = opened.source
    found = nvidia.networks(opened.content)
    ema = found.get("G_ema") or found.get("G")
    if ema is None:
        raise CheckpointError(f"{source}: holds a discriminator but no generator")
    G, D = found.get("G"), found.get("D")
    return Checkpoint(
        "",
        _nvidia_generator(ema, source),
        _nvidia_generator(G, source) if G and "G" in opened.parts else None,
        _nvidia_discriminator(D, source) if D and "D" in opened.parts else None,
        _progress(opened.content),
    )


def _nvidia_generator(network: Record, source: str) -> GeneratorWeights:
    state = nvidia.state_of(network, source)
    _refuse_unread(state, source)
    if _is_stylegan3(state):
        arguments = nvidia.attribute(network, "synthesis", "_init_kwargs")
        return GeneratorWeights(stylegan3_config(state, source, arguments), state)
    clamp = nvidia.attribute(network, "synthesis.b4.conv1", "conv_clamp")
    return generator_weights(state, source, conv_clamp=clamp)


def _nvidia_discriminator(network: Record, source: str) -> DiscriminatorWeights:
    return discriminator_weights(
        nvidia.state_of(network, source),
        source,
        conv_clamp=nvidia.attribute(network, "b4.conv", "conv_clamp"),
        group_size=nvidia.attribute(network, "b4.mbstd", "group_size"),
    )


def _read_rosinality(opened: _Opened) -> Checkpoint:
    content, source = opened.content, opened.source
    average = content.get("latent_avg")

    def generator(key: str) -> GeneratorWeights | None:
        state = content.get(key)
        return _rosinality_generator(state, average, source) if state else None

    ema = generator("g_ema") or generator("g")
    if ema is None:
        raise CheckpointError(f"{source}: holds a discriminator but no generator")
    D = content.get("d") if "D" in opened.parts else None
    return Checkpoint(
        "",
        ema,
        generator("g") if "G" in opened.parts else None,
        _rosinality_discriminator(D, source) if D else None,
        _progress(content),
    )


def _read_bare_rosinality(opened: _Opened) -> Checkpoint:
    weights = _rosinality_generator(opened.content, None, opened.source)
    return Checkpoint("", weights, None, None, {})


def _read_psp(opened: _Opened) -> Checkpoint:
    content = opened.content
    decoder = {
        k.removeprefix("decoder."): t
        for k, t in content["state_dict"].items()
        if k.startswith("decoder.")
    }
    average = content.get("latent_avg")
    weights = _rosinality_generator(decoder, average, opened.source)
    return Checkpoint("", weights, None, None, _progress(content))


def _rosinality_generator(
    state: Mapping[str, Tensor], latent_avg: Tensor | None, source: str
) -> GeneratorWeights:
    average = latent_avg if isinstance(latent_avg, Tensor) else None
    native = rosinality.generator_from_rosinality(_unwrapped(state), average, source=source)
    return generator_weights(native, source)


def _rosinality_discriminator(state: Mapping[str, Tensor], source: str) -> DiscriminatorWeights:
    native = rosinality.discriminator_from_rosinality(_unwrapped(state), source=source)
    return discriminator_weights(native, source)


def _read_genforce(opened: _Opened) -> Checkpoint:
    content, source = opened.content, opened.source

    def generator(state: Mapping[str, Tensor]) -> GeneratorWeights:
        native = generator_from_genforce(_unwrapped(state), source)
        return GeneratorWeights(stylegan1_config(native, source), native)

    if is_genforce(content):
        return Checkpoint("", generator(content), None, None, {})
    ema = content.get("generator_smooth") or content["generator"]
    G = content.get("generator") if "G" in opened.parts else None
    return Checkpoint("", generator(ema), generator(G) if G else None, None, _progress(content))


def _is_genforce(content: Any) -> bool:
    if not isinstance(content, Mapping):
        return False
    return any(
        is_genforce(c) for c in (content, content.get("generator_smooth"), content.get("generator"))
    )


def _read_native(opened: _Opened) -> Checkpoint:
    metadata, source = opened.metadata, opened.source
    whole = _unwrapped(opened.content)
    state = {k: t for k, t in whole.items() if not k.startswith(BESIDE)}
    D = {k.removeprefix(BESIDE): t for k, t in whole.items() if k.startswith(BESIDE)}
    if "config" in metadata:
        weights = _described_weights(metadata, state, source)
    elif _has(state, "synthesis.layer0.noise_strength"):
        weights = GeneratorWeights(stylegan1_config(state, source), state)
    elif _is_stylegan3(state):
        weights = GeneratorWeights(stylegan3_config(state, source), state)
    else:
        weights = generator_weights(state, source)
    judge = _described_discriminator(metadata, D, source) if D and "D" in opened.parts else None
    known = ("config", "kind", "format", "discriminator")
    notes = {k: v for k, v in metadata.items() if k not in known}
    return Checkpoint("", weights, None, judge, notes)


def _described_discriminator(
    metadata: Mapping[str, str], state: dict[str, Tensor], source: str
) -> DiscriminatorWeights:
    """Take the discriminator that stands beside a generator, its sizes from the header."""
    found = discriminator_weights(state, source)
    try:
        sizes = json.loads(metadata["discriminator"])
        return found._replace(config=DiscriminatorConfig.from_dict(sizes))
    except (KeyError, ValueError, TypeError, FewshotError) as err:
        raise CheckpointError(f"{source}: its header does not describe it ({err})") from err


def _described_weights(
    metadata: Mapping[str, str], state: dict[str, Tensor], source: str
) -> GeneratorWeights:
    """Take the sizes from the header, which knows what the weights do not tell."""
    kind = metadata.get("kind", "").removesuffix("-generator")
    family = next((f for f in FAMILIES if f.family == kind), GeneratorConfig)
    if family is GeneratorConfig:
        state = generator_weights(state, source).state
    try:
        return GeneratorWeights(family.from_dict(json.loads(metadata["config"])), state)
    except (ValueError, TypeError, FewshotError) as err:
        raise CheckpointError(f"{source}: its header does not describe it ({err})") from err


def _read_training(opened: _Opened) -> Checkpoint:
    """Read the state of `PriorTrainer`; sizes that the weights do not tell stand beside them."""
    content, source = opened.content, opened.source

    def generator(part: str) -> GeneratorWeights:
        found = generator_weights(content[part], source)
        config = content.get("G_config")
        return found if config is None else found._replace(config=GeneratorConfig.from_dict(config))

    D = content["D"] if "D" in opened.parts and _has(content["D"], "b4.out.weight") else None
    D = None if D is None else discriminator_weights(D, source)
    if D is not None and "D_config" in content:
        D = D._replace(config=DiscriminatorConfig.from_dict(content["D_config"]))
    G = generator("G") if "G" in opened.parts else None
    return Checkpoint("", generator("G_ema"), G, D, _progress(content))


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep the tensors; drop the "module." that data-parallel training puts before names."""
    return {k.removeprefix("module."): t for k, t in state.items() if isinstance(t, Tensor)}


def _progress(content: Any) -> dict[str, str]:
    if not isinstance(content, Mapping):
        return {}
    return {k: str(content[k]) for k in _PROGRESS if isinstance(content.get(k), int | float)}


def _has(content: Any, key: str) -> bool:
    """Tell whether a state dict holds the tensor `key`, wrapped or not."""
    return isinstance(content, Mapping) and (key in content or f"module.{key}" in content)


def _is_rosinality(content: Any) -> bool:
    if not isinstance(content, Mapping):
        return False
    names = ("g_ema", "g")
    only_d = _has(content.get("d"), "final_conv.0.weight")
    return only_d or any(_has(content.get(n), "conv1.conv.weight") for n in names)


def _is_bare_rosinality(content: Any) -> bool:
    return _has(content, "to_rgb1.conv.weight")


def _is_psp(content: Any) -> bool:
    return isinstance(content, Mapping) and _has(
        content.get("state_dict"), "decoder.conv1.conv.weight"
    )


def _is_stylegan3(content: Any) -> bool:
    return _has(content, "synthesis.input.freqs")


def _is_native(content: Any) -> bool:
    names = ("synthesis.b4.const", "synthesis.layer0.noise_strength")
    return any(_has(content, n) for n in names) or _is_stylegan3(content)


def _is_training(content: Any) -> bool:
    return isinstance(content, Mapping) and content.keys() >= {"G", "G_ema", "D", "opt_G"}


_LAYOUTS = (
    _Layout("training checkpoint", _is_training, _read_training),
    _Layout("NVIDIA pickle", lambda c: bool(nvidia.networks(c)), _read_nvidia),
    _Layout("rosinality", _is_rosinality, _read_rosinality),
    _Layout("pSp decoder", _is_psp, _read_psp),
    _Layout("rosinality state dict", _is_bare_rosinality, _read_bare_rosinality),
    _Layout("genforce", _is_genforce, _read_genforce),
    _Layout("NVIDIA-named state dict", _is_native, _read_native),
)


def _names(content: Any, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Yield dotted names of the tensors inside nested dicts."""
    if not isinstance(content, Mapping) or depth > 3:
        return
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}"
        else:
            yield from _names(value, f"{prefix}{key}.", depth + 1)


def _refuse_unread(content: Any, source: str) -> None:
    names = list(_names(content))
    for what, pattern in _UNREAD:
        if any(re.search(pattern, name) for name in names):
            raise CheckpointError(
                f"{source}: a {what} checkpoint, which this version does not read; "
                "use a StyleGAN2 checkpoint"
            )


def _unknown(content: Any, source: str) -> CheckpointError:
    _refuse_unread(content, source)
    names = list(_names(content))
    if not names:
        return CheckpointError(f"{source}: holds no tensors, so it is no checkpoint")
    return CheckpointError(
        f"{source}: not a StyleGAN2 generator: it holds {len(names)} tensors such as "
        f"'{names[0]}'; expected an NVIDIA .pkl, a rosinality or pSp .pt, or a .safetensors "
        "written by this project"
    )
