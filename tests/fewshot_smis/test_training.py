import io
import itertools
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F

from fewshot_smis.data import IGNORE, one_hot, resize_label
from fewshot_smis.labelers import label_samples
from fewshot_smis.labelers.mismatch import class_mismatch, on_grid
from fewshot_smis.training import (
    PRESETS,
    PseudoPairs,
    Shots,
    TrainingSettings,
    encoder_loss,
    incomplete,
    train_encoder,
    validate,
)
from stylegan.errors import CheckpointError, ConfigError, DivergenceError, ShapeError
from stylegan.seeding import sample_z, stream
from tests.fewshot_smis.tiny import (
    tiny_codes,
    tiny_encoder,
    tiny_labeler,
    tiny_labels,
    tiny_prior,
)

PRIOR = tiny_prior(16)
LABELER = tiny_labeler(PRIOR)
SHOTS = Shots(tiny_codes(PRIOR), tiny_labels())


FIELDS = {field.name for field in fields(TrainingSettings)}


def arguments(**options):
    """Return the arguments of a short training; those of its settings may be given by name."""
    settings = TrainingSettings(**{k: v for k, v in options.items() if k in FIELDS})
    others = {k: v for k, v in options.items() if k not in FIELDS}
    return {"steps": 4, "precision": "float32", "settings": settings, **others}


def train(encoder=None, **options):
    encoder = tiny_encoder(PRIOR) if encoder is None else encoder
    return list(train_encoder(encoder, LABELER, PRIOR, **arguments(**options)))


def pairs(shots=None, **changes):
    return PseudoPairs(PRIOR, LABELER, TrainingSettings(**changes), shots)


def plain_loss(encoder, label, ws):
    return encoder_loss(encoder, label, ws, LABELER, PRIOR)[0]


def test_a_pair_is_a_sample_and_the_labelers_map_of_it():
    label, ws = pairs().draw(3, 20, stream(0, "p"))
    gen = stream(0, "p")
    want = PRIOR.mapping(sample_z(3, 8, gen))
    assert torch.equal(ws, want)
    out = PRIOR.synthesis(want, "random", (16,), gen)
    assert torch.equal(label, LABELER(out.feats, (20, 20)))


def test_mixed_samples_cross_over_once():
    _, ws = pairs(mixing=1.0).draw(20, 16, stream(0, "p"))
    jumps = (ws[:, 1:] != ws[:, :-1]).any(dim=2)
    assert (jumps.sum(dim=1) == 1).all()
    assert jumps.any(dim=0).sum() > 2
    _, ws = pairs(mixing=0.5).draw(20, 16, stream(0, "p"))
    assert 3 < int((ws[:, 1:] != ws[:, :-1]).any(dim=2).sum()) < 17


def test_labelled_pictures_join_the_samples_in_their_share():
    shots = Shots(SHOTS.ws, resize_label(SHOTS.labels, 16))
    label, ws = pairs(shots=shots, shot_share=0.5).draw(30, 16, stream(0, "p"))
    found = 0
    for i, w in enumerate(ws):
        same = [k for k in range(2) if torch.equal(w, shots.ws[k])]
        if same:
            assert torch.equal(label[i], shots.labels[same[0]])
            found += 1
    assert 5 < found < 25


def test_the_loss_is_the_mean_square_in_w_plus():
    encoder = tiny_encoder(PRIOR).eval()
    label, ws = pairs().draw(2, 16, stream(0, "p"))
    want = F.mse_loss(encoder(one_hot(label, 3)), ws)
    torch.testing.assert_close(plain_loss(encoder, label, ws), want)


def test_the_reference_trains_on_codes_alone():
    report = train(steps=1, **vars(PRESETS["reference"]))[0]
    assert report.terms == {"latent": report.loss}
    assert (report.lr, report.encoder.training) == (1e-4, True)
    both = train(steps=1, consistency=0.5)[0]
    assert both.loss == pytest.approx(both.terms["latent"] + 0.5 * both.terms["mismatch"])


def test_drawn_pictures_are_taught_to_show_their_maps():
    label, _ = pairs().draw(32, 16, stream(7, "held out"))

    def mismatch(network):
        with torch.no_grad():
            ws = network.eval()(one_hot(label, 3))
            feats = PRIOR.synthesis.features(ws, (16,))
            return float(class_mismatch(LABELER, feats, on_grid(label, LABELER, (16, 16))))

    def after(**options):
        options = {"steps": 40, "lr": 1e-2, "ema": 0.9, "mixing": 1.0, **options}
        return mismatch(train(tiny_encoder(PRIOR), **options)[-1].encoder)

    assert after(consistency=3.0) < 0.97 * after(consistency=0.0)


def test_learning_rates_rise_and_fall():
    rates = [r.lr for r in train(steps=8, ramp_up=0.25, ramp_down=0.5, lr=1e-3)]
    assert rates[:5] == pytest.approx([0.0005, 0.001, 0.001, 0.001, 0.001])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.0005


@pytest.mark.parametrize("optimizer", ["ranger", "adamw"])
def test_training_lowers_the_loss(optimizer):
    label, ws = pairs().draw(64, 16, stream(7, "held out"))
    encoder = tiny_encoder(PRIOR)

    def held_out(network):
        with torch.no_grad():
            return float(plain_loss(network.eval(), label, ws))

    before = held_out(encoder)
    settings = {"consistency": 0, "ramp_down": 0, "optimizer": optimizer, "ema": 0.9}
    reports = train(encoder, steps=40, lr=1e-2, batch=8, **settings)
    assert [r.step for r in reports] == list(range(1, 41))
    assert held_out(reports[-1].encoder) < 0.985 * before
    assert not reports[-1].encoder.training


def test_the_same_seed_gives_the_same_losses():
    def losses(seed):
        return [r.loss for r in train(seed=seed)]

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


@pytest.mark.parametrize("optimizer", ["ranger", "adamw"])
@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_training_equals_one_never_stopped(optimizer, ema, precision):
    options = {
        "precision": precision,
        "steps": 9,
        "optimizer": optimizer,
        "ema": ema,
        "lr": 1e-2,
        "mixing": 0.5,
        "shots": SHOTS,
        "shot_share": 0.3,
        "seed": 3,
    }
    whole = train(tiny_encoder(PRIOR, seed=1), **options)
    stopped = train_encoder(tiny_encoder(PRIOR, seed=1), LABELER, PRIOR, **arguments(**options))
    file = io.BytesIO()
    torch.save(next(itertools.islice(stopped, 3, None)).state(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed = train(tiny_encoder(PRIOR, seed=2), resume=state, **options)
    assert [r.step for r in resumed] == [5, 6, 7, 8, 9]
    assert [r.loss for r in resumed] == [r.loss for r in whole[4:]]
    for a, b in zip(
        whole[-1].encoder.state_dict().values(),
        resumed[-1].encoder.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_state_is_a_copy():
    loop = train_encoder(tiny_encoder(PRIOR), LABELER, PRIOR, steps=3, precision="float32")
    state = next(loop).state()
    before = {k: v.clone() for k, v in state["encoder"].items()}
    next(loop)
    assert state["step"] == 1
    assert all(torch.equal(v, before[k]) for k, v in state["encoder"].items())


def test_the_learning_rate_may_be_lowered_when_resuming():
    state = train(steps=2)[-1].state()
    assert train(steps=3, lr=1e-6, ramp_up=0, ramp_down=0, resume=state)[-1].lr == 1e-6


def test_the_average_follows_the_encoder():
    encoder = tiny_encoder(PRIOR)
    start = [p.detach().clone() for p in encoder.parameters()]
    report = train(encoder, steps=1, ema=0.999, lr=1e-2, ramp_down=0)[0]
    decay = 2 / 11  # of the first step
    for before, now, mean in zip(
        start, encoder.parameters(), report.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(mean, decay * before + (1 - decay) * now)
    assert report.encoder is not encoder
    assert train(encoder, steps=1, ema=None)[0].encoder is encoder


def test_training_is_checked_on_the_shots():
    reports = train(steps=5, validation=SHOTS, validate_every=2)
    assert [r.step for r in reports if r.validation] == [2, 4, 5]
    last = reports[-1]
    assert last.validation == validate(last.encoder, LABELER, PRIOR, SHOTS)
    encoder = tiny_encoder(PRIOR)
    found = validate(encoder, LABELER, PRIOR, SHOTS)
    ws = encoder.eval()(one_hot(resize_label(SHOTS.labels, 16), 3)).detach()
    assert found.distance == pytest.approx(float((ws - SHOTS.ws).square().mean().sqrt()))
    same = label_samples(LABELER, PRIOR, ws) == resize_label(SHOTS.labels, 16)
    assert found.agreement == pytest.approx(float(same.float().mean()))


def test_sparse_maps_train_too():
    labeler = tiny_labeler(PRIOR, sparse=True)
    reports = list(train_encoder(tiny_encoder(PRIOR), labeler, PRIOR, steps=2, validation=SHOTS))
    assert len(reports) == 2
    assert 0 <= reports[-1].validation.agreement <= 1


def test_bfloat16_gives_about_the_same_loss():
    half = train(steps=1, precision="bfloat16")[0].loss
    assert half == pytest.approx(train(steps=1)[0].loss, rel=0.05)


def test_divergence_names_the_step_and_leaves_the_encoder_as_it_was():
    encoder = tiny_encoder(PRIOR)
    loop = train_encoder(encoder, LABELER, PRIOR, **arguments(steps=9, ema=None, consistency=0))
    next(loop)
    with torch.no_grad():
        encoder.latent_avg.fill_(torch.inf)
    before = [p.detach().clone() for p in encoder.parameters()]
    with pytest.raises(DivergenceError, match=r"the loss is inf at step 2; .* last checkpoint"):
        next(loop)
    after = encoder.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="steps is 0"):
        train(steps=0)
    with pytest.raises(ConfigError, match="batch is 0"):
        train(batch=0)
    with pytest.raises(ConfigError, match="ema is 1"):
        train(ema=1.0)
    with pytest.raises(ConfigError, match="mixing is 2"):
        train(mixing=2)
    with pytest.raises(ConfigError, match="consistency is -1"):
        train(consistency=-1)
    with pytest.raises(ConfigError, match="but no shots are given"):
        train(shot_share=0.5)
    with pytest.raises(ConfigError, match="optimizer 'sgd'"):
        train(optimizer="sgd")
    with pytest.raises(ShapeError, match="takes 4 classes, but the labeler gives 3"):
        train(tiny_encoder(PRIOR, 4))
    with pytest.raises(ShapeError, match="codes of 8 x 8, but the prior takes 6 x 8"):
        train(tiny_encoder(tiny_prior(32)))
    state = train(steps=1)[-1].state()
    with pytest.raises(CheckpointError, match="averaged"):
        train(resume=state, ema=None)
    with pytest.raises(CheckpointError, match="does not fit this training"):
        train(resume={"step": 1})


def test_incomplete_maps_are_shown_and_only_what_is_drawn_is_asked_for():
    label, ws = pairs().draw(2, 16, stream(0, "p"))
    drawn = torch.where(label == label[0, 0, 0], IGNORE, label)
    encoder = tiny_encoder(PRIOR)
    loss, terms = encoder_loss(encoder, label, ws, LABELER, PRIOR, drawn=drawn, consistency=2.0)
    loss = loss.detach()
    found = encoder(one_hot(drawn, LABELER.num_classes)).detach()
    feats = PRIOR.synthesis.features(found, LABELER.resolutions)
    asked = on_grid(drawn, LABELER, tuple(feats[LABELER.resolution].shape[2:]))
    want = class_mismatch(LABELER, feats, asked)
    assert terms["mismatch"] == pytest.approx(float(want), rel=1e-5)
    assert terms["latent"] == pytest.approx(float(F.mse_loss(found, ws)), rel=1e-5)
    assert float(loss) == pytest.approx(terms["latent"] + 2 * terms["mismatch"], rel=1e-5)


def test_classes_are_left_out_in_their_share():
    labels = pairs().draw(4, 16, stream(0, "p"))[0]
    assert incomplete(labels, LABELER, 0.0, stream(0, "d")) is labels
    assert (incomplete(labels, LABELER, 1.0, stream(0, "d")) == IGNORE).all()
    sparse = tiny_labeler(PRIOR, sparse=True)
    assert (incomplete(labels, sparse, 1.0, stream(0, "d")) == 0).all()
    assert train(class_dropout=0.5)[-1].loss != train()[-1].loss
