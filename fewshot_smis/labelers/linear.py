"""Linear labels: one linear head on the features of every size, their scores added up.

Features of a prior can be read linearly (Linear Semantics in GANs): a logistic regression on
few labelled pictures beats the nearest prototype, since it weighs channels, looks at all sizes
at once, and tells classes apart instead of describing each. A head works at the size of its
features; its logits, not the features, are enlarged, so nothing large is ever held.

Legend: N pictures, E members of an ensemble, K classes, C channels, h x w feature pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot_smis.data import Classes
from fewshot_smis.labelers.base import Labeler
from stylegan import Prior
from stylegan.errors import ConfigError
from stylegan.seeding import sample_z


class Heads(NamedTuple):
    """Linear heads: `weight` {feature size: [E,K,C]} and `bias` [E,K], -inf for absent classes."""

    weight: dict[int, Tensor]
    bias: Tensor


def summed_logits(
    feats: Mapping[int, Tensor], weight: Mapping[int, Tensor], bias: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return the sum over sizes r of the enlarged logits `weight[r] @ feats[r]`, [N,K,h,w].

    `feats[r]` [N,C,h_r,w_r]; `weight[r]` [K,C]; `bias` [K]; `size` is (h, w). Bilinear.
    """
    total = bias.view(1, -1, 1, 1)
    for r, head in weight.items():
        logits = torch.einsum("nchw,kc->nkhw", feats[r], head)
        total = total + F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return total


class LinearLabeler(Labeler):
    """Linear heads on the features of several sizes.

    The members of an ensemble vote by the mean of their logits, which is a linear head again:
    labels cost the same for any number of members. Where they disagree is `disputes`.

    Args:
        classes: The classes, K of them.
        heads: The heads of E members.
        drop: Share of samples, those of most disputed labels, that training is to leave out.
    """

    kind = "linear"
    bias: Tensor

    def __init__(self, classes: Classes, heads: Heads, *, drop: float = 0.0) -> None:
        super().__init__(classes, max(heads.weight))
        self.drop = drop
        self._resolutions = tuple(sorted(heads.weight))
        for r in self._resolutions:
            self._store(f"weight{r}", heads.weight[r])
        self._store("bias", heads.bias)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sizes of the feature maps that have a head, in pixels."""
        return self._resolutions

    @property
    def members(self) -> int:
        """Number of ensemble members."""
        return len(self.bias)

    @property
    def present(self) -> Tensor:
        """Which classes a shot holds, [K] bool."""
        return self.bias[0].isfinite()

    @property
    def weight(self) -> dict[int, Tensor]:
        """The members' heads, {feature size: [E,K,C]}."""
        return {r: getattr(self, f"weight{r}") for r in self.resolutions}

    def scores(self, feats: dict[int, Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Return the mean logits of the members, [N,K,h,w]; -inf for absent classes."""
        weight = {r: w.mean(dim=0) for r, w in self.weight.items()}
        return self._logits(feats, weight, self.bias.mean(dim=0), size)

    def disputes(self, feats: dict[int, Tensor]) -> Tensor:
        """Return how much the members disagree at each pixel, [N,h,w] in nats.

        The Jensen-Shannon divergence of their class probabilities, as in DatasetGAN: 0 where
        all say the same, ln E where each is sure of something else. 0 for one member.
        """
        weight = {r: w.flatten(0, 1) for r, w in self.weight.items()}
        logits = self._logits(feats, weight, self.bias.flatten())
        num, _, *size = logits.shape
        p = logits.view(num, *self.bias.shape, *size).softmax(dim=2)  # [N,E,K,h,w]
        return entropy(p.mean(dim=1), dim=1) - entropy(p, dim=2).mean(dim=1)

    def options(self) -> dict[str, Any]:
        """Return the arguments that rebuild this labeler, as JSON values."""
        return {"resolutions": list(self.resolutions), "drop": self.drop}

    def _logits(
        self,
        feats: dict[int, Tensor],
        weight: dict[int, Tensor],
        bias: Tensor,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        read = {r: self._read(feats, r, w.shape[1]) for r, w in weight.items()}
        largest = read[self.resolution]
        return summed_logits(read, weight, bias, size or (largest.shape[2], largest.shape[3]))


def entropy(p: Tensor, dim: int) -> Tensor:
    """Return the entropy of probabilities `p` along `dim`, in nats."""
    return torch.special.entr(p).sum(dim=dim)


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """How heads are fitted.

    Attributes:
        views: Extra views of each shot, see `redrawn`.
        members: Heads of the ensemble; each but a single one sees pixels weighted at random.
        drop: Share of samples, those the members dispute most, that training is to leave out.
        balance: Weight of a class is its share of the pixels to the power -balance: 0 counts
            pixels, 1 classes.
        decay: Weight of the squared heads against the loss of one shot, for features brought to
            unit variance.
        steps: Iterations of L-BFGS.
        tuning: Steps a shot of tuning the prior to the shots' pictures, where they are given.
    """

    views: int = 4
    members: int = 1
    drop: float = 0.0
    balance: float = 0.5
    decay: float = 0.03
    steps: int = 30
    tuning: int = 30

    def __post_init__(self) -> None:
        """Check the values."""
        least = {"views": 0, "members": 1, "balance": 0, "decay": 0, "steps": 1, "tuning": 0}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be at least {low}")
        if not 0 <= self.drop < 1:
            raise ConfigError(f"drop is {self.drop}, but must be at least 0 and below 1")
        if self.drop > 0 and self.members == 1:
            raise ConfigError(f"drop is {self.drop}, but one member disputes nothing; fit several")


@torch.no_grad()
def redrawn(prior: Prior, ws: Tensor, gen: torch.Generator) -> Tensor:
    """Give the codes `ws` [N,L,D] the fine styles of other samples: same layout, other look.

    The layers of the prior's largest size are exchanged, to-RGB included. With noise drawn anew as
    well, a shot has any number of views that share its label map.
    """
    fine = torch.tensor(prior.synthesis.layer_resolutions, device=ws.device)
    other = prior.mapping(sample_z(len(ws), prior.z_dim, gen).to(ws.device))
    return torch.where((fine == fine.max())[None, :, None], other, ws)


def fit_heads(
    feats: Mapping[int, Tensor], share: Tensor, settings: HeadSettings, gen: torch.Generator
) -> Heads:
    """Fit linear heads by logistic regression.

    Args:
        feats: Features of N pictures, {size: [N,C,h_r,w_r]}.
        share: How much of each pixel each class covers, [N,K,H,W]; the rest is unknown.
        settings: See `HeadSettings`.
        gen: Source of the members' pixel weights.
    """
    mass = share.sum(dim=(0, 2, 3))
    present = mass.nonzero()[:, 0]
    balance = (mass[present] / mass.sum()) ** -settings.balance
    share = share[:, present] * balance.view(1, -1, 1, 1)
    mean = {r: f.mean(dim=(0, 2, 3)) for r, f in feats.items()}
    scale = {r: f.std(dim=(0, 2, 3)).clamp(min=1e-6) for r, f in feats.items()}
    unit = {r: (f - _channels(mean[r])) / _channels(scale[r]) for r, f in feats.items()}
    heads = []
    for _ in range(settings.members):
        weight = share if settings.members == 1 else share * _bootstrap(share, gen)
        heads.append(_regression(unit, weight / weight.sum(), settings))
    full: dict[int, Tensor] = {}
    bias = share.new_full((len(heads), len(mass)), -torch.inf)
    bias[:, present] = torch.stack([b for _, b in heads])
    for r in feats:
        w = torch.stack([weight[r] for weight, _ in heads]) / scale[r]  # [E,K',C]
        bias[:, present] -= w @ mean[r]
        full[r] = w.new_zeros(len(heads), len(mass), w.shape[2])
        full[r][:, present] = w
    return Heads(full, bias)


def _channels(x: Tensor) -> Tensor:
    return x.view(1, -1, 1, 1)


def _bootstrap(share: Tensor, gen: torch.Generator, cells: int = 8) -> Tensor:
    """Draw the weight of each pixel, [N,1,H,W]: Exp(1) for each of `cells` x `cells` patches."""
    drawn = torch.rand(len(share), 1, cells, cells, generator=gen, device=gen.device)
    weight = -torch.log1p(-drawn).to(share)
    return F.interpolate(weight, share.shape[2:], mode="nearest")


def _regression(
    feats: dict[int, Tensor], weight: Tensor, settings: HeadSettings
) -> tuple[dict[int, Tensor], Tensor]:
    """Minimise the cross-entropy weighted by `weight` [N,K,H,W], which sums to 1.

    Return the heads {size: [K,C]} and the bias [K]; they start at 0.
    """
    num, size = weight.shape[1], (weight.shape[2], weight.shape[3])
    bias = weight.new_zeros(num, requires_grad=True)
    heads = {r: f.new_zeros(num, f.shape[1], requires_grad=True) for r, f in feats.items()}
    optimizer = torch.optim.LBFGS(
        [bias, *heads.values()],
        max_iter=settings.steps,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logp = summed_logits(feats, heads, bias, size).log_softmax(dim=1)
        size_of_heads = torch.stack([w.square().sum() for w in heads.values()]).sum()
        value = settings.decay * size_of_heads - (weight * logp).sum()
        torch.autograd.backward(value)
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return {r: w.detach() for r, w in heads.items()}, bias.detach()
