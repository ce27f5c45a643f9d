import io
import math
from dataclasses import replace

import pytest
import torch

from fewshot_smis.inversion import (
    PRESETS,
    InversionSettings,
    inversion_steps,
    invert,
    learning_rate,
    load_codes,
    nearest_samples,
    picture_loss,
    save_codes,
)
from stylegan.errors import CheckpointError, ConfigError, DivergenceError, ShapeError
from stylegan.seeding import stream
from stylegan.steering import attribute_shift, settle
from tests.fewshot_smis.tiny import tiny_codes, tiny_prior


class Edges:
    """Stands for a perceptual distance: compares horizontal differences."""

    name = "edges"

    def __call__(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).diff(dim=3).abs().mean(dim=(1, 2, 3))


def pictures(prior, num=2, seed=5):
    return prior.synthesis(tiny_codes(prior, num, seed=seed)).img


@pytest.mark.parametrize("space", ["w", "w+"])
@pytest.mark.parametrize("perceptual", [None, Edges()])
def test_pictures_of_the_prior_are_found_again(space, perceptual):
    prior = tiny_prior(16)
    images = pictures(prior)
    seen = []
    found = invert(
        images,
        prior,
        gen=stream(0, "i"),
        steps=100,
        space=space,
        perceptual=perceptual,
        on_report=seen.append,
    )
    assert found.ws.shape == (2, 6, 8)
    assert found.steps == len(seen) == 100
    assert (found.loss < 0.7 * seen[0].loss).all()
    img = prior.synthesis(found.ws).img
    variance = images.var(dim=(1, 2, 3))
    assert ((img - images).square().mean(dim=(1, 2, 3)) < 0.3 * variance).all()
    if space == "w":
        assert torch.equal(found.ws, found.ws[:, :1].expand(-1, 6, -1))
    else:
        assert not torch.equal(found.ws[:, 0], found.ws[:, 5])


def test_the_best_codes_are_kept_and_have_the_loss_stated():
    prior = tiny_prior(16)
    images = pictures(prior)
    settings = InversionSettings(steps=25, lr=3.0, ramp_down=0.0)  # too fast, so it jumps about
    reports = list(inversion_steps(images, prior, settings, gen=stream(0, "i")))
    losses = torch.stack([r.loss for r in reports])
    assert torch.equal(reports[-1].best, losses.amin(dim=0))
    assert (losses[-1] > losses.amin(dim=0)).any()
    again = (prior.synthesis(reports[-1].ws).img - images).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(again, reports[-1].best)


def test_pictures_do_not_influence_each_other():
    prior = tiny_prior(16)
    images = pictures(prior, 3)
    together = invert(images, prior, gen=stream(0, "i"), steps=20)
    alone = invert(images[1:2], prior, gen=stream(0, "i"), steps=20)
    torch.testing.assert_close(together.ws[1:2], alone.ws, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_resumed_inversion_equals_one_never_stopped(preset):
    prior = tiny_prior(16)
    images = pictures(prior)
    states, losses = [], []

    def keep(report):
        losses.append(report.loss)
        if report.step == 7:
            states.append(report.state())

    options = {"preset": preset, "steps": 20, "lr": 0.1}
    whole = invert(images, prior, gen=stream(0, "i"), on_report=keep, **options)
    file = io.BytesIO()
    torch.save(states[0], file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = []
    resumed = invert(
        images, prior, gen=stream(9, "other"), resume=state, on_report=again.append, **options
    )
    assert torch.equal(torch.stack([r.loss for r in again]), torch.stack(losses[7:]))
    assert torch.equal(resumed.ws, whole.ws)
    assert torch.equal(resumed.loss, whole.loss)
    assert resumed.steps == whole.steps


def test_resuming_a_finished_inversion_gives_its_result():
    prior = tiny_prior(16)
    states = []
    whole = invert(
        pictures(prior),
        prior,
        gen=stream(0, "i"),
        steps=3,
        on_report=lambda r: states.append(r.state()),
    )
    again = invert(pictures(prior), prior, gen=stream(0, "i"), steps=3, resume=states[-1])
    assert torch.equal(again.ws, whole.ws)
    assert again.steps == 3


def test_the_reference_preset_is_that_of_the_public_code():
    prior = tiny_prior(16)
    settings = PRESETS["reference"]
    assert (settings.steps, settings.lr, settings.optimizer) == (2000, 1.0, "ranger")
    assert (settings.pixel_weight, settings.perceptual_weight) == (1.0, 0.8)
    assert [learning_rate(settings, step) for step in (0, 1000, 1999)] == [1.0] * 3
    images = pictures(prior, 1)
    first = next(inversion_steps(images, prior, settings, gen=stream(0, "i"), perceptual=Edges()))
    offset = first.ws - prior.mapping.w_avg  # N(0, 1) / sqrt(512) in the reference's prior
    assert float(offset.std()) == pytest.approx(1 / math.sqrt(8), rel=0.4)
    reports = list(
        inversion_steps(
            images, prior, InversionSettings(**{**vars(settings), "steps": 53}), gen=stream(0, "i")
        )
    )
    looked_at = torch.stack([reports[i].loss for i in (0, 50, 52)])
    assert torch.equal(reports[-1].best, looked_at.amin(dim=0))


def test_learning_rate_rises_and_falls():
    settings = InversionSettings(steps=100, lr=2.0, ramp_up=0.1, ramp_down=0.5)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:51] == [2.0] * 42
    assert rates[75] == pytest.approx(1.0)
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_the_nearest_start_is_the_picture_itself_if_it_is_among_them():
    prior, settings = tiny_prior(16), replace(PRESETS["default"], start_samples=30)
    z = torch.randn(30, 8, generator=stream(0, "i"))
    ws = prior.mapping(z, truncation_psi=0.7)
    images = prior.synthesis(ws[[3, 20]]).img
    found = nearest_samples(images, prior, settings, stream(0, "i"))
    torch.testing.assert_close(found, ws[[3, 20], 0])
    average = prior.mapping.w_avg.expand(1, 6, -1)
    found = nearest_samples(prior.synthesis(average).img, prior, settings, stream(0, "i"))
    torch.testing.assert_close(found, average[:, 0])


def test_of_the_starts_near_in_pixels_the_one_of_least_loss_is_taken():
    prior = tiny_prior(16)
    settings = replace(PRESETS["default"], start_samples=30, perceptual_weight=20)
    images = pictures(prior, 8)
    plain = nearest_samples(images, prior, settings, stream(0, "i"))
    told = nearest_samples(images, prior, settings, stream(0, "i"), Edges())
    assert not torch.equal(plain, told)

    def loss(w):
        img = prior.synthesis(w[:, None].expand(-1, 6, -1)).img
        return picture_loss(img, images, settings, Edges())

    assert (loss(told) <= loss(plain)).all()


def test_a_start_has_the_attributes_of_the_picture():
    prior = tiny_prior(16)
    directions = 20 * torch.nn.functional.normalize(torch.ones(1, prior.w_dim), dim=1)
    labels = torch.tensor([[1.0], *[[0.0]] * 999])  # so rare that no sample has it
    steered = settle(prior, directions, labels, gen=stream(0, "settle"))
    z = torch.randn(2, 8, generator=stream(1, "z"))
    w = prior.mapping(z)[:, 0]
    images = prior.synthesis(
        (w + torch.tensor([[1.0], [0.0]]) * directions)[:, None].expand(-1, 6, -1)
    ).img
    settings = replace(PRESETS["default"], start_samples=8)
    found = nearest_samples(images, steered, settings, stream(0, "i"))
    shift = attribute_shift(steered.mapping, found, w.mean(dim=0))
    torch.testing.assert_close(shift, torch.cat([directions, 0 * directions]))


def test_pictures_of_any_size_are_taken():
    prior = tiny_prior(16)
    images = torch.rand(1, 3, 40, 23, generator=stream(0, "x")) * 2 - 1
    found = invert(images, prior, gen=stream(0, "i"), steps=2)
    assert found.ws.shape == (1, 6, 8)


def test_the_regularizer_keeps_codes_near_the_mean():
    prior = tiny_prior(16)
    images = pictures(prior, 1)
    free, tied = (
        list(
            inversion_steps(
                images,
                prior,
                InversionSettings(steps=60, lr=0.1, regularizer=weight),
                gen=stream(0, "i"),
            )
        )[-1].ws
        for weight in (0.0, 10.0)
    )
    assert (tied - prior.mapping.w_avg).norm() < 0.5 * (free - prior.mapping.w_avg).norm()


def test_divergence_names_step_and_picture():
    prior = tiny_prior(16)
    images = pictures(prior)
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(DivergenceError, match=r"picture 1 is nan at step 1 .* lower learning"):
        invert(images, prior, gen=stream(0, "i"), steps=5)


def test_mistakes_are_named():
    prior = tiny_prior(16)
    images, gen = pictures(prior), stream(0, "i")
    with pytest.raises(ConfigError, match="preset 'best' is unknown; choose from default, ref"):
        invert(images, prior, gen=gen, preset="best")
    with pytest.raises(ConfigError, match="space 'z' is unknown"):
        invert(images, prior, gen=gen, space="z")
    with pytest.raises(ConfigError, match="steps is 0"):
        invert(images, prior, gen=gen, steps=0)
    with pytest.raises(ConfigError, match="lr is -1"):
        invert(images, prior, gen=gen, lr=-1)
    with pytest.raises(ConfigError, match="size is 2 px"):
        InversionSettings(steps=1, lr=1, size=2)
    with pytest.raises(ShapeError, match=r"\[3, 16, 16\], but \[N,3,H,W\]"):
        invert(images[0], prior, gen=gen)
    state = next(inversion_steps(images, prior, PRESETS["default"], gen=gen)).state()
    with pytest.raises(CheckpointError, match=r"holds codes \[2, 6, 8\], not \[1, 6, 8\]"):
        invert(images[:1], prior, gen=gen, resume=state)


def test_codes_are_read_as_they_were_written(tmp_path):
    prior = tiny_prior(16)
    ws = tiny_codes(prior, 2)
    save_codes(tmp_path / "codes.safetensors", ws, ["a", "b"], {"steps": 3})
    names, again = load_codes(tmp_path / "codes.safetensors", prior)
    assert names == ["a", "b"]
    assert torch.equal(again, ws)


@pytest.mark.parametrize("key", ["codes", "latent", None])
def test_codes_of_the_reference_are_read(tmp_path, key):
    ws = tiny_codes(tiny_prior(16), 2)
    path = tmp_path / "shot.pt"
    torch.save(ws if key is None else {key: ws, "step": 3}, path)
    names, again = load_codes(path)
    assert names == ["shot-0", "shot-1"]
    assert torch.equal(again, ws)
    torch.save({"codes": ws[0]}, path)
    assert load_codes(path)[0] == ["shot"]


def test_files_that_hold_no_codes_are_refused(tmp_path):
    prior = tiny_prior(16)
    ws = tiny_codes(prior, 2)
    with pytest.raises(ShapeError, match="2 codes, but 1 names"):
        save_codes(tmp_path / "x.safetensors", ws, ["a"])
    with pytest.raises(CheckpointError, match="no such file"):
        load_codes(tmp_path / "x.safetensors")
    path = tmp_path / "x.pt"
    for content, message in (
        ({"weights": ws}, "holds no codes but weights"),
        ({"codes": ws[0, 0]}, r"holds \[8\]"),
        ({"codes": ws / 0}, "not finite"),
    ):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            load_codes(path)
    path.write_bytes(b"<html><body>sign in</body></html>")
    with pytest.raises(CheckpointError, match="a web page"):
        load_codes(path)
    save_codes(tmp_path / "x.safetensors", ws[:, :5], ["a", "b"])
    with pytest.raises(ShapeError, match=r"x.safetensors: the codes have num_ws 5 .* num_ws 6"):
        load_codes(tmp_path / "x.safetensors", prior)


def test_recomputed_features_give_the_same_codes():
    prior = tiny_prior(16)
    plain = replace(PRESETS["default"], steps=5, start_samples=4, noise="random")
    found = []
    for settings in (plain, replace(plain, recompute=True)):
        steps = inversion_steps(pictures(prior), prior, settings, gen=stream(0, "i"))
        found.append(list(steps)[-1])
    torch.testing.assert_close(found[1].ws, found[0].ws)
    torch.testing.assert_close(found[1].loss, found[0].loss)
