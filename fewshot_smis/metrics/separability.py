"""Linear separability of a latent space (Karras et al. 2019, section 4.2)."""

import importlib
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stylegan.errors import BackendError, ShapeError

SKLEARN_MISSING = (
    "linear separability needs the package 'scikit-learn' ({error}); "
    "run: pip install fewshot-smis[metrics]"
)
FOLDS = 5


def separability(entropies: Tensor) -> float:
    """Return `exp(sum_i H(Y_i | X_i))` of the attributes' entropies [A]: 1 is separable."""
    return math.exp(float(entropies.double().sum()))


def attribute_entropy(latents: Tensor, logit: Tensor) -> float:
    """Return H(Y | X) in nats: what a hyperplane's side X of a latent leaves open of the class Y.

    The class is the sign of the classifier's `logit`; the less confident half of the samples is
    dropped, as in the paper. The hyperplane is a linear support vector machine's. The paper judges
    it on the samples it was fitted to, 100,000 of them; here each fifth is judged by the machine
    fitted to the other four, since few samples in many dimensions are always separable.

    Args:
        latents: [N, D], N at least 20.
        logit: [N], the classifier's output for the samples' pictures.

    Raises:
        ShapeError: The numbers differ, or there are too few.
        BackendError: scikit-learn is not installed.
    """
    if latents.ndim != 2 or logit.shape != latents.shape[:1] or len(logit) < 4 * FOLDS:
        raise ShapeError(
            f"latents of {list(latents.shape)} with logits of {list(logit.shape)}; give [N, D] and "
            f"[N] of at least {4 * FOLDS} samples"
        )
    sure = logit.abs().argsort(descending=True, stable=True)[: len(logit) // 2]
    x = latents[sure].double()
    x = (x - x.mean(dim=0)) / x.var(dim=0).mean().sqrt()  # z and w meet the machine at one scale
    side = _sides(x.cpu().numpy(), (logit[sure] > 0).cpu().numpy())
    return conditional_entropy(side, logit[sure].cpu() > 0)


def conditional_entropy(x: Tensor, y: Tensor) -> float:
    """Return H(Y | X) in nats of two columns of truth values, both [N] bool."""
    joint = torch.bincount(2 * x.long() + y.long(), minlength=4).view(2, 2).double() / len(x)
    given = joint / joint.sum(dim=1, keepdim=True)  # a side without samples adds nothing
    return abs(float(torch.where(joint > 0, joint * given.log(), 0).sum()))  # no term is above 0


def _sides(x: NDArray[np.float64], y: NDArray[np.bool_]) -> Tensor:
    """Return the side [N] bool of each row, by a machine that has not seen its fold."""
    machine = linear_svm()
    fold = np.arange(len(x)) % FOLDS
    side = np.zeros(len(x), dtype=bool)
    for i in range(FOLDS):
        seen, judged = y[fold != i], fold == i
        if seen.all() or not seen.any():
            side[judged] = seen[0]
        else:
            side[judged] = machine.fit(x[fold != i], seen).predict(x[judged])
    return torch.from_numpy(side)


def linear_svm() -> Any:
    """Return an untrained linear support vector machine; BackendError without scikit-learn."""
    try:
        svm = importlib.import_module("sklearn.svm")
    except ImportError as error:
        raise BackendError(SKLEARN_MISSING.format(error=error)) from error
    return svm.LinearSVC(dual=False)  # solved in the primal: exact, and no random order
