"""Yes-or-no attributes of pictures: exact ones, learned by linear heads on lite0."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_smis.data.attributes import Attributes
from fewshot_smis.metrics.features import Lite0Space
from stylegan.errors import DataError, ShapeError

GRID = 4  # cells a side to which the map at stride 16 is averaged
MIN_MINORITY = 0.01
MAX_STEPS = 200


class BinaryAttributes(NamedTuple):
    """What is true of which picture."""

    names: tuple[str, ...]
    values: Tensor  # [N, A] bool


class AttributeHeads(NamedTuple):
    """One linear classifier an attribute, on standardised features."""

    weight: Tensor  # [D, A]
    bias: Tensor  # [A]
    mean: Tensor  # [D]
    scale: Tensor  # [D]

    def __call__(self, features: Tensor) -> Tensor:
        """Return logits [N, A] of `features` [N, D]: the sign decides, the size is confidence."""
        return (features - self.mean) / self.scale @ self.weight + self.bias


def as_binary(pictures: Sequence[Attributes], where: str) -> BinaryAttributes:
    """Return what of the attributes of pictures is a matter of yes or no.

    Truth values stay as they are, numbers are true above their median over the pictures, text is
    left out; so is an attribute whose rarer value has under 1 % of the pictures, or only one of
    them.

    Args:
        pictures: The attributes of each; see `read_attributes`.
        where: The pictures' place, for errors.

    Raises:
        DataError: No attribute is left.
    """
    columns = {key: _column(pictures, key) for key in pictures[0]}
    found = {key: column for key, column in columns.items() if column is not None}
    if not found:
        raise DataError(f"{where}: no attribute that varies; give more pictures, or leave out ls")
    return BinaryAttributes(tuple(found), torch.stack(list(found.values()), dim=1))


def _column(rows: Sequence[Attributes], key: str) -> Tensor | None:
    """Return the attribute `key` of each row, [N] bool, or None where it says too little."""
    values = [row.get(key) for row in rows]
    if not all(isinstance(value, bool | int | float) for value in values):
        return None
    numbers = torch.tensor(values, dtype=torch.float64)
    yes = numbers > (0.5 if isinstance(values[0], bool) else numbers.median())
    rarer = min(int(yes.sum()), int((~yes).sum()))
    return yes if rarer > max(1, MIN_MINORITY * len(yes)) else None


@torch.no_grad()
def attribute_features(images: Tensor, space: Lite0Space) -> Tensor:
    """Return lite0's map at stride 16, averaged to 4 x 4 cells, [N, 1792].

    `images` are [N, 3, H, W] in [-1, 1]. The cells keep where things are, which the pooled vector
    of the distances does not.
    """
    return F.adaptive_avg_pool2d(space.maps(images)[2], GRID).flatten(1)


def fit_heads(features: Tensor, values: Tensor, *, decay: float = 0.1) -> AttributeHeads:
    """Fit a logistic regression for each attribute; convex, so the result depends on no seed.

    Args:
        features: [N, D].
        values: [N, A] bool.
        decay: Weight of half the squared weights, beside the mean loss over the pictures.

    Raises:
        ShapeError: The numbers of rows differ.
    """
    if features.ndim != 2 or values.ndim != 2 or len(features) != len(values):
        raise ShapeError(
            f"features of {list(features.shape)} for attributes of {list(values.shape)}; give "
            "[N, D] and [N, A]"
        )
    mean, scale = features.mean(dim=0), features.std(dim=0) + 1e-6
    x, y = (features - mean) / scale, values.to(features.dtype)
    weight = x.new_zeros(x.shape[1], y.shape[1], requires_grad=True)
    bias = x.new_zeros(y.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        miss = F.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="sum") / len(x)
        loss = miss + 0.5 * decay * weight.square().sum()
        weight.grad, bias.grad = torch.autograd.grad(loss, (weight, bias))
        return loss

    solver.step(objective)  # type: ignore[no-untyped-call]
    return AttributeHeads(weight.detach(), bias.detach(), mean, scale)


def accuracy(logits: Tensor, values: Tensor) -> Tensor:
    """Return the share [A] of rows whose logit [N, A] has the sign that `values` [N, A] says."""
    return ((logits > 0) == values).double().mean(dim=0)
