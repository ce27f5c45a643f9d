"""Write tiny checkpoints as foreign programs write them."""

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stylegan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from stylegan.rosinality import generator_to_rosinality

WIDTHS = {4: 12, 8: 8, 16: 6}


def tiny_generator(**changes: Any) -> Generator:
    """A 16 px generator whose every tensor differs from its initial value."""
    values = {"img_resolution": 16, "z_dim": 7, "w_dim": 10, "mapping_layers": 3}
    config = GeneratorConfig(**{**values, "channels": WIDTHS, **changes})
    return _stir(Generator(config))


def tiny_discriminator(**changes: Any) -> Discriminator:
    return _stir(
        Discriminator(DiscriminatorConfig(**{"img_resolution": 16, "channels": WIDTHS, **changes}))
    )


def _stir(net):
    gen = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if not name.endswith("resample_filter"):
                tensor.copy_(torch.randn(tensor.shape, generator=gen))
    return net.eval().requires_grad_(False)


class EasyDict(dict):
    """Stands for dnnlib's; its module is set while pickling."""


class Persistent:
    """An object that pickles as NVIDIA's persistent classes do."""

    def __init__(self, class_name: str, state: dict[str, Any], source: str = "") -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": source,
            "class_name": class_name,
            "state": state,
        }

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


def persistent(net: nn.Module, source: str = "", **attributes: Any) -> Persistent:
    """Describe a network and its children as NVIDIA's pickles do."""
    plain = {
        k: v
        for k, v in vars(net).items()
        if isinstance(v, int | float | str | None) and not k.startswith("_")
    }
    if hasattr(net, "group_size"):
        plain["mbstd"] = None
    state = {
        **plain,
        "_parameters": dict(net._parameters),
        "_buffers": dict(net._buffers),
        "_non_persistent_buffers_set": set(),
        "_modules": {k: persistent(m, source) for k, m in net.named_children()},
        "_init_kwargs": EasyDict(attributes),
        **attributes,
    }
    return Persistent(type(net).__name__, state, source)


def dump_nvidia(content: Any, protocol: int = 4) -> bytes:
    """Pickle `content` with the module names of NVIDIA's code."""
    persistence = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("a reader of data must not call this")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj
    util = types.ModuleType("dnnlib.util")
    util.EasyDict = EasyDict
    fakes = {
        "torch_utils": types.ModuleType("torch_utils"),
        "torch_utils.persistence": persistence,
        "dnnlib": types.ModuleType("dnnlib"),
        "dnnlib.util": util,
    }
    sys.modules.update(fakes)
    home, EasyDict.__module__ = EasyDict.__module__, "dnnlib.util"
    try:
        return pickle.dumps(content, protocol=protocol)
    finally:
        EasyDict.__module__ = home
        for name in fakes:
            del sys.modules[name]


def dump_to(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(dump_nvidia(content, protocol))
    return path


def write_rosinality(path, **parts):
    """Write a tiny generator as rosinality's trainer does, with further parts, and return it."""
    G = tiny_generator()
    content = {"g_ema": generator_to_rosinality(G.state_dict()), **parts}
    torch.save(content, path)
    return G
