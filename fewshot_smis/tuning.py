"""Pivotal tuning (Roich et al. 2021): bend a generator a little, so that a code draws a photograph.

Inversion gives a code whose picture is near the photograph. Training the generator's weights on
that one code closes the gap; a second term holds the pictures of codes around it, so that edits of
the code still do what they did.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from fewshot_smis.codes import check_codes
from fewshot_smis.data import resize_image
from fewshot_smis.losses import l2
from fewshot_smis.optim import make_optimizer
from fewshot_smis.perceptual import PerceptualDistance
from stylegan import Prior
from stylegan.errors import ConfigError, ShapeError
from stylegan.prepared import PreparedSynthesis
from stylegan.seeding import sample_z

NEARBY = 0.3  # how far from the pivot towards a sample pictures are held


def tune_prior(
    prior: Prior,
    ws: Tensor,
    images: Tensor,
    *,
    gen: torch.Generator,
    steps: int = 200,
    lr: float = 3e-4,
    perceptual: PerceptualDistance | None = None,
    locality: float = 0.1,
    on_report: Callable[[int, float], None] | None = None,
) -> Prior:
    """Return a copy of `prior` whose pictures of `ws` are nearer to `images`.

    Args:
        prior: The generator; it stays as it is.
        ws: The pivots [N,L,D]: codes found by inversion, which are not changed.
        images: Their photographs [N,3,H,W] in [-1,1].
        gen: Source of the samples around the pivots.
        steps: Steps of Adam; each sees one pivot, in turn.
        lr: Its learning rate.
        perceptual: Distance that joins the pixels' mean square; None for pixels alone.
        locality: Weight of the same distance between new and old pictures near the pivots.
        on_report: Called after each step with its number and its loss.

    Raises:
        ConfigError: `steps` is less than 1, or `prior` is prepared, which has no weights to tune.
        ShapeError: Codes of another prior, or not one for each picture.
    """
    check_codes(ws, prior)
    if len(images) != len(ws):
        raise ShapeError(f"{len(images)} pictures, but {len(ws)} codes; give one code a picture")
    if steps < 1:
        raise ConfigError(f"steps of the tuning is {steps}; give at least 1")
    if isinstance(prior.synthesis, PreparedSynthesis):
        raise ConfigError(
            "a prepared generator has no weights to tune; give the one that load_generator returns"
        )
    tuned = copy.deepcopy(prior).requires_grad_(False)
    tuned.synthesis.requires_grad_(True)
    optimizer = make_optimizer("adam", tuned.synthesis.parameters(), lr)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return l2(a, b) if perceptual is None else l2(a, b) + perceptual(a, b)

    for step in range(steps):
        i = step % len(ws)
        pivot = ws[i : i + 1].detach()
        img = tuned.synthesis(pivot).img
        loss = distance(img, resize_image(images[i : i + 1].to(img), tuple(img.shape[2:])))
        if locality > 0:
            with torch.no_grad():
                z = sample_z(1, prior.z_dim, gen).to(pivot.device)
                nearby = pivot + NEARBY * (prior.mapping(z) - pivot)
                held = prior.synthesis(nearby).img
            loss = loss + locality * distance(tuned.synthesis(nearby).img, held)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss.sum())
        optimizer.step()
        if on_report is not None:
            on_report(step + 1, float(loss.detach().sum()))
    return tuned.requires_grad_(False).eval()
