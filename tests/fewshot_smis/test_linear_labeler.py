import math

import pytest
import torch
import torch.nn.functional as F

from fewshot_smis.data import IGNORE, Classes
from fewshot_smis.labelers import (
    HeadSettings,
    LinearLabeler,
    fit_labeler,
    label_samples,
    load_labeler,
    save_labeler,
)
from fewshot_smis.labelers.linear import Heads, fit_heads, redrawn, summed_logits
from fewshot_smis.losses import l2
from fewshot_smis.training import PseudoPairs, TrainingSettings
from fewshot_smis.tuning import tune_prior
from stylegan import prepare
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import stream
from tests.fewshot_smis.tiny import tiny_codes, tiny_labels, tiny_prior

PLAIN = HeadSettings(views=0, decay=1e-4)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(seed, "linear"))


def random_feats(num: int, *, seed: int = 0) -> dict[int, torch.Tensor]:
    """Return features of two sizes, not square, 5 and 3 channels."""
    return {4: random(num, 5, 4, 3, seed=seed), 8: random(num, 3, 8, 6, seed=seed + 1)}


def one_hot(label: torch.Tensor, num: int) -> torch.Tensor:
    return F.one_hot(label, num).movedim(-1, 1).float()


def planted(num: int, *, seed: int = 0) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """Return features and the map [N,8,6] that a linear rule of both sizes gives them."""
    feats = random_feats(num, seed=seed)
    weight = {4: random(3, 5, seed=90), 8: random(3, 3, seed=91)}
    return feats, summed_logits(feats, weight, torch.zeros(3), (8, 6)).argmax(dim=1)


def fitted(**changes) -> LinearLabeler:
    prior = tiny_prior(16)
    settings = HeadSettings(**{"views": 1, "steps": 10, **changes})
    label, classes = tiny_labels(2, 3, (16, 16)), Classes.generic(4)
    labeler = fit_labeler(prior, tiny_codes(prior), label, classes, linear=settings)
    assert isinstance(labeler, LinearLabeler)
    return labeler


def test_logits_are_enlarged_and_added():
    feats = random_feats(2)
    weight, bias = {4: random(3, 5), 8: random(3, 3)}, random(3)
    total = summed_logits(feats, weight, bias, (16, 12))
    want = bias.view(1, 3, 1, 1).expand(2, 3, 16, 12).clone()
    for r, feat in feats.items():
        large = F.interpolate(feat, (16, 12), mode="bilinear")  # features first: the slow way
        want += (weight[r][None, :, :, None, None] * large[:, None]).sum(dim=2)
    torch.testing.assert_close(total, want)


def test_a_planted_linear_rule_is_recovered():
    feats, label = planted(6)
    heads = fit_heads(feats, one_hot(label, 3), PLAIN, stream(0, "members"))
    labeler = LinearLabeler(Classes.generic(3), heads)
    fresh, truth = planted(6, seed=7)
    assert float((labeler(feats) == label).float().mean()) > 0.98
    assert float((labeler(fresh) == truth).float().mean()) > 0.9
    alone = LinearLabeler(Classes.generic(3), Heads({8: heads.weight[8]}, heads.bias))
    assert float((alone(fresh) == truth).float().mean()) < 0.8  # both sizes are needed


def test_the_fit_is_the_optimum_of_the_weighted_cross_entropy():
    feats, label = planted(3)
    share = one_hot(label, 3)
    settings = HeadSettings(decay=0.01, balance=0.5, steps=200)
    heads = fit_heads(feats, share, settings, stream(0, "members"))
    scale = {r: f.std(dim=(0, 2, 3)) for r, f in feats.items()}
    weight = {r: w[0].clone().requires_grad_(True) for r, w in heads.weight.items()}
    bias = heads.bias[0].clone().requires_grad_(True)
    logp = summed_logits(feats, weight, bias, (8, 6)).log_softmax(dim=1)
    count = share.sum(dim=(0, 2, 3))
    pixel = ((count / count.sum()) ** -0.5)[label]  # each counts by the rarity of its class
    loss = (pixel * F.nll_loss(logp, label, reduction="none")).sum() / pixel.sum()
    loss = loss + 0.01 * sum((w * scale[r]).square().sum() for r, w in weight.items())
    grads = torch.autograd.grad(loss, [bias, *weight.values()])
    assert max(float(g.abs().max()) for g in grads) < 1e-3


def test_absent_classes_never_appear():
    feats, label = planted(4)
    heads = fit_heads(feats, one_hot(label * 2, 6), PLAIN, stream(0, "members"))
    labeler = LinearLabeler(Classes.generic(6), heads)
    assert labeler.present.tolist() == [True, False, True, False, True, False]
    wild = {r: 100 * f for r, f in random_feats(20, seed=5).items()}
    for size in (None, (11, 13), (3, 2)):
        assert labeler(wild, size).unique().tolist() == [0, 2, 4]
        assert not labeler.scores(wild, size).isnan().any()


def test_unknown_pixels_teach_nothing():
    prior = tiny_prior(16)
    label = tiny_labels(2, 3, (16, 16))
    label[:, 8:] = IGNORE
    classes = Classes.generic(3)
    settings = HeadSettings(views=0)
    labeler = fit_labeler(prior, tiny_codes(prior), label, classes, linear=settings)
    found = label_samples(labeler, prior, tiny_codes(prior))
    assert float((found == label)[:, :8].float().mean()) > 0.9
    share = torch.rand(2, 3, 8, 6, generator=stream(0, "share"))
    share[:, :, 4:] = 0
    feats = random_feats(2)
    one = fit_heads(feats, share, PLAIN, stream(0, "m"))
    assert one.bias.isfinite().all()


def test_the_labeler_gives_back_the_maps_at_any_size():
    prior = tiny_prior(16, width=32)
    label = tiny_labels(2, 3, (20, 24))
    labeler = fit_labeler(prior, tiny_codes(prior), label, Classes.generic(3), method="linear")
    assert labeler.resolutions == (4, 8, 16)
    found = label_samples(labeler, prior, tiny_codes(prior), (20, 24))
    assert found.dtype == torch.int64
    assert float((found == label).float().mean()) > 0.9
    parts = [label_samples(labeler, prior, w[None], (20, 24)) for w in tiny_codes(prior)]
    assert float((found == torch.cat(parts)).float().mean()) > 0.99


def test_views_change_the_largest_layers_alone():
    prior = tiny_prior(16)
    ws = tiny_codes(prior, 3)
    other = redrawn(prior, ws, stream(0, "views"))
    same = [torch.equal(ws[:, i], other[:, i]) for i in range(prior.num_ws)]
    assert same == [r < 16 for r in prior.synthesis.layer_resolutions]


def test_fits_are_decided_by_the_seed():
    prior = tiny_prior(16)
    ws, label, classes = tiny_codes(prior), tiny_labels(2, 3, (16, 16)), Classes.generic(3)
    options = {"linear": HeadSettings(views=1, members=2, steps=5)}
    first, same, other = (
        fit_labeler(prior, ws, label, classes, seed=s, **options) for s in (3, 3, 4)
    )
    for name, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])


def test_saved_labelers_are_the_same(tmp_path):
    labeler = fitted(members=2, drop=0.25)
    save_labeler(labeler, tmp_path / "labeler.safetensors")
    again = load_labeler(tmp_path / "labeler.safetensors")
    assert isinstance(again, LinearLabeler)
    assert (again.classes, again.options()) == (labeler.classes, labeler.options())
    assert again.drop == 0.25
    feats = {r: random(2, 8, r, r + 1) for r in again.resolutions}
    assert torch.equal(again(feats), labeler(feats))
    assert torch.equal(again.disputes(feats), labeler.disputes(feats))


def test_members_vote_by_their_mean_and_disagree_in_nats():
    feats, _ = planted(2)
    weight = {r: random(2, 3, f.shape[1]) for r, f in feats.items()}
    bias = random(2, 3)
    labeler = LinearLabeler(Classes.generic(3), Heads(weight, bias))
    each = [
        summed_logits(feats, {r: w[e] for r, w in weight.items()}, bias[e], (8, 6))
        for e in range(2)
    ]
    torch.testing.assert_close(labeler.scores(feats), (each[0] + each[1]) / 2)
    p = torch.stack([x.softmax(dim=1) for x in each])  # [E,N,K,h,w]
    middle = p.mean(dim=0)
    divergence = (p * (p / middle).log()).sum(dim=2).mean(dim=0)
    torch.testing.assert_close(labeler.disputes(feats), divergence, atol=1e-6, rtol=1e-4)
    sure = {r: 1e4 * torch.stack([w[0], -w[0]]) for r, w in weight.items()}
    opposed = LinearLabeler(Classes.generic(3), Heads(sure, torch.zeros(2, 3)))
    assert float(opposed.disputes(feats).median()) == pytest.approx(math.log(2), abs=1e-3)


def test_ambiguous_pixels_are_disputed_most():
    gen = stream(0, "ambiguous")
    label = torch.randint(2, (8, 8, 8), generator=gen)
    clear = 4.0 * label[:, None] - 2
    feat = clear + 0.3 * random(8, 1, 8, 8)
    unsure = torch.zeros(8, 8, dtype=torch.bool)
    unsure[2:5, 3:7] = True  # nothing there tells the classes apart
    feat[:, :, unsure] = 0.3 * random(8, 1, int(unsure.sum()))
    settings = HeadSettings(members=8, decay=1e-3)
    heads = fit_heads({8: feat}, one_hot(label, 2), settings, gen)
    dispute = LinearLabeler(Classes.generic(2), heads).disputes({8: feat})
    assert float(dispute[:, unsure].min()) > float(dispute[:, ~unsure].max())


def test_training_leaves_out_the_most_disputed_samples():
    prior, labeler = tiny_prior(16), fitted(members=4, drop=0.5)
    pairs = PseudoPairs(prior, labeler, TrainingSettings())
    label, ws = pairs.draw(3, 20, stream(0, "p"))
    assert label.shape == (3, 20, 20)
    gen = stream(0, "p")
    drawn = prior.mapping(torch.randn(6, 8, generator=gen))
    feats = prior.synthesis(drawn, "random", labeler.resolutions, gen).feats
    kept = labeler.disputes(feats).mean(dim=(1, 2)).argsort()[:3]
    assert torch.equal(ws, drawn[kept])
    assert torch.equal(label, labeler(feats, (20, 20))[kept])


def test_mistakes_are_named():
    prior = tiny_prior(16)
    ws, label, classes = tiny_codes(prior), tiny_labels(), Classes.generic(3)
    with pytest.raises(ConfigError, match="unknown method 'quadratic'"):
        fit_labeler(prior, ws, label, classes, method="quadratic")
    with pytest.raises(ConfigError, match="sparse maps are for prototypes or columns"):
        fit_labeler(prior, ws, label, classes, kind="sparse", method="linear")
    with pytest.raises(ConfigError, match="dense maps are for prototypes or linear"):
        fit_labeler(prior, ws, label, classes, method="columns")
    with pytest.raises(ConfigError, match=r"reference .* for prototypes only"):
        fit_labeler(prior, ws, label, classes, reference=True, method="linear")
    with pytest.raises(ConfigError, match="members is 0, but must be at least 1"):
        HeadSettings(members=0)
    with pytest.raises(ConfigError, match=r"drop is 1\.0, but must be at least 0 and below 1"):
        HeadSettings(members=2, drop=1.0)
    with pytest.raises(ConfigError, match="one member disputes nothing"):
        HeadSettings(drop=0.1)
    labeler = fitted()
    with pytest.raises(ShapeError, match=r"reads 4 px features, but was given \[16\]"):
        labeler({16: torch.zeros(1, 8, 16, 16)})
    with pytest.raises(ShapeError, match="fitted to features of 8 channels, but these have 5"):
        labeler({r: torch.zeros(1, 5, r, r) for r in labeler.resolutions})
    dense = fit_labeler(prior, ws, label, classes, method="prototypes")
    with pytest.raises(TypeError, match="disputes need an ensemble"):
        dense.disputes({8: torch.zeros(1, 8, 8, 8)})


def test_heads_learn_from_a_prior_tuned_to_the_pictures():
    prior, other = tiny_prior(16), tiny_prior(16, seed=1)
    ws, label, classes = tiny_codes(prior), tiny_labels(2, 3, (16, 16)), Classes.generic(3)
    images = other.synthesis(ws).img  # what no code of the prior draws
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    settings = HeadSettings(views=0, steps=5, tuning=3)
    losses: list[float] = []
    found = fit_labeler(
        *(prior, ws, label, classes),
        linear=settings,
        images=images,
        on_report=lambda _, loss: losses.append(loss),
    )
    assert len(losses) == 6  # three steps a picture
    for name, value in prior.state_dict().items():
        assert torch.equal(value, before[name])
    tuned = tune_prior(prior, ws, images, gen=stream(0, "x"), steps=6, lr=1e-3, locality=0.0)
    assert l2(tuned.synthesis(ws).img, images).sum() < l2(prior.synthesis(ws).img, images).sum()
    by_hand = fit_labeler(tuned, ws, label, classes, linear=settings)
    plain = fit_labeler(prior, ws, label, classes, linear=settings)
    assert isinstance(found, LinearLabeler)
    assert isinstance(by_hand, LinearLabeler)
    assert isinstance(plain, LinearLabeler)
    for r in found.resolutions:
        torch.testing.assert_close(found.weight[r], by_hand.weight[r], rtol=1e-2, atol=1e-3)
        assert not torch.allclose(found.weight[r], plain.weight[r])


def test_pictures_count_where_they_tune_and_are_refused_elsewhere():
    prior = tiny_prior(16)
    ws, label, classes = tiny_codes(prior), tiny_labels(2, 3, (16, 16)), Classes.generic(3)
    images = -prior.synthesis(ws).img
    feats = prior.synthesis.features(tiny_codes(prior, seed=3), (4, 8, 16))
    untuned = HeadSettings(steps=5, tuning=0)
    with_them = fit_labeler(prior, ws, label, classes, images=images, linear=untuned)
    without = fit_labeler(prior, ws, label, classes, linear=untuned)
    assert torch.equal(with_them.scores(feats), without.scores(feats))
    for options in ({"method": "prototypes"}, {"reference": True}, {"resolution": 8}):
        with pytest.raises(ConfigError, match="but the method is prototypes; leave them out"):
            fit_labeler(prior, ws, label, classes, images=images, **options)
    with pytest.raises(ConfigError, match="but the method is columns; leave them out"):
        fit_labeler(prior, ws, label, classes, images=images, kind="sparse")
    with pytest.raises(ConfigError, match="prepared generator has no weights to tune"):
        fit_labeler(prepare(prior), ws, label, classes, images=images)
    with pytest.raises(ShapeError, match="1 pictures, but 2 codes"):
        fit_labeler(prior, ws, label, classes, images=images[:1])
