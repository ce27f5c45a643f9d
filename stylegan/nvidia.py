"""Take the networks out of a pickle of NVIDIA's PyTorch trainers.

`safe_pickle` gives each network as a `Record`: the attributes of a module whose code is not
here. Its `_parameters`, `_buffers` and `_modules` make the state dict; a few plain attributes
say what tensors cannot.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from stylegan.errors import CheckpointError
from stylegan.safe_pickle import Record

_ORDER = ("G", "D", "G_ema")  # of a snapshot written as a tuple
_MAPPING_LR = 0.01
_ACTIVATIONS = ("linear", "lrelu")


def networks(content: Any) -> dict[str, Record]:
    """Return the networks among "G", "D", "G_ema" of a pickle's content; empty if none.

    A single network counts as "G_ema", and so does a lone "G".
    """
    if isinstance(content, Record):
        content = {"G_ema": content}
    elif isinstance(content, list | tuple):
        content = dict(zip(_ORDER, content, strict=False))
    if not isinstance(content, Mapping):
        return {}
    return {k: content[k] for k in _ORDER if isinstance(content.get(k), Record)}


def state_of(network: Record, source: str) -> dict[str, Tensor]:
    """Return the state dict of a network, its names dotted as torch does.

    A mapping network trained at another rate than 0.01 is scaled to this one, which changes no
    output.

    Raises:
        CheckpointError: a layer uses an activation that StyleGAN2 does not have.
    """
    state: dict[str, Tensor] = {}
    for prefix, module in _modules(network):
        activation = module.get("activation", "linear")
        if activation not in _ACTIVATIONS:
            raise CheckpointError(
                f"{source}: layer '{prefix}' uses the activation '{activation}', which "
                "StyleGAN2 does not; this version cannot read it"
            )
        scale = _mapping_scale(prefix, module)
        volatile = module.get("_non_persistent_buffers_set", ())
        for group in ("_parameters", "_buffers"):
            for name, tensor in module.get(group, {}).items():
                if isinstance(tensor, Tensor) and not (group == "_buffers" and name in volatile):
                    full = f"{prefix}.{name}" if prefix else name
                    state[full] = tensor if scale == 1 else tensor * scale
    return state


def attribute(network: Record, path: str, name: str) -> Any:
    """Return the plain attribute `name` of the submodule at the dotted `path`; None if absent."""
    return next((m.get(name) for prefix, m in _modules(network) if prefix == path), None)


def _modules(network: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each module's dotted name and attributes, parents first."""
    waiting = [("", network.state)]
    seen: set[int] = set()  # a crafted pickle may nest a module in itself
    while waiting:
        prefix, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield prefix, module
        for name, child in reversed(list((module.get("_modules") or {}).items())):
            if isinstance(child, Record):
                waiting.append((f"{prefix}.{name}" if prefix else str(name), child.state))


def _mapping_scale(prefix: str, module: Mapping[str, Any]) -> float:
    rate = module.get("bias_gain", _MAPPING_LR)
    in_mapping = prefix.startswith("mapping.fc")
    if not in_mapping or math.isclose(rate, _MAPPING_LR, rel_tol=1e-6):
        return 1.0
    return float(rate) / _MAPPING_LR
