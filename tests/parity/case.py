"""Read one parity case: the reference's weights, its calls, inputs and stored outputs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tests.parity.fill import load_manifest, take

FOLDER = Path(__file__).parent


class Call(NamedTuple):
    """One call of the reference: `spec` as in case.json, tensors by argument name."""

    name: str
    spec: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def check(self, name: str, actual: Tensor, *, rtol: float, atol: float) -> None:
        """Compare `actual` with the stored slice of output `name`, and its whole-tensor mean."""
        spec = self.spec["outputs"][name]
        assert list(actual.shape) == list(spec["shape"]), (self.name, name, actual.shape)
        part = take(actual.detach().cpu().numpy(), spec["take"])
        np.testing.assert_allclose(
            part, self.outputs[name].numpy(), rtol=rtol, atol=atol, err_msg=f"{self.name}/{name}"
        )
        mean = float(actual.detach().double().mean())
        assert abs(mean - spec["mean"]) <= atol + rtol * spec["absmax"], (self.name, name, "mean")

    def check_l2(self, name: str, actual: Tensor, *, rel: float = 5e-3) -> None:
        """Compare by relative L2 error, as gradients through whole networks need."""
        spec = self.spec["outputs"][name]
        part = take(actual.detach().cpu().numpy(), spec["take"])
        want = self.outputs[name].numpy()
        assert part.shape == want.shape
        assert np.linalg.norm(part - want) <= rel * np.linalg.norm(want), (self.name, name)


class Case(NamedTuple):
    """A parity case: constructor `args`, proposed `tolerance`, the `weights` and the calls."""

    name: str
    args: dict[str, Any]
    tolerance: dict[str, Any]
    weights: dict[str, Tensor]
    calls: list[Call]

    def call(self, name: str) -> Call:
        """Return the call of that name."""
        return next(c for c in self.calls if c.name == name)


def _calls(folder: Path, spec: dict[str, Any]) -> Iterator[Call]:
    with np.load(folder / "vectors.npz") as vectors:
        for call in spec["calls"]:
            inputs = {k: torch.from_numpy(vectors[v]) for k, v in call.get("inputs", {}).items()}
            outputs = {
                k: torch.from_numpy(np.asarray(vectors[f"{call['name']}/out/{k}"]))
                for k in call["outputs"]
            }
            yield Call(call["name"], call, inputs, outputs)


def load_case(name: str) -> Case:
    """Load the case of that folder name, rebuilding its weights from their rules."""
    folder = FOLDER / name
    spec = json.loads((folder / "case.json").read_text())
    weights = {k: torch.from_numpy(v) for k, v in load_manifest(folder / "manifest.json").items()}
    return Case(name, spec["args"], spec["tolerance"], weights, list(_calls(folder, spec)))
