"""Edits: where they are allowed, what holds them, what they leave behind; and the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from fewshot_smis.cli import main
from fewshot_smis.codes import load_codes
from fewshot_smis.data import Classes, to_uint8
from fewshot_smis.directions import learn_direction, load_direction, save_direction
from fewshot_smis.editing import (
    EditSettings,
    blend,
    edit,
    feathered,
    find_change,
    seen_change,
    widened,
)
from fewshot_smis.jobs.edit import check_square
from fewshot_smis.jobs.edit_start import read_subjects
from fewshot_smis.labelers import fit_labeler, label_samples, save_labeler
from fewshot_smis.metrics.editing import kept, miou_inside, painted_iou
from fewshot_smis.tuning import tune_prior
from stylegan import Generator, GeneratorConfig, load_generator, save_generator
from stylegan.errors import CheckpointError, ConfigError, LabelError, ShapeError
from stylegan.seeding import stream
from tests.fewshot_smis.tiny import tiny_codes, tiny_labels, tiny_prior


@pytest.fixture(scope="module")
def prior():
    return tiny_prior(16)


@pytest.fixture(scope="module")
def labeler(prior):
    return fit_labeler(prior, tiny_codes(prior), tiny_labels(2, 3), Classes.generic(3))


def painted(old, *, rows=slice(4, 9), columns=slice(5, 11)):
    """Return the maps with a box of the class after each pixel's own."""
    new = old.clone()
    new[:, rows, columns] = (new[:, rows, columns] + 1) % 3
    return new


class PixelDistance:
    """A distance whose calls are recorded."""

    name = "pixels"

    def __init__(self):
        self.seen = []

    def __call__(self, a, b):
        self.seen.append((a.detach(), b.detach()))
        return (a - b).abs().flatten(1).mean(dim=1)


def test_a_change_is_where_maps_differ_and_a_margin_around_it():
    old = torch.zeros(1, 20, 30, dtype=torch.int64)
    new = torch.zeros(1, 40, 60, dtype=torch.int64)  # painted at twice the size
    new[0, 20:24, 10:20] = 2
    change = find_change(old, new, margin=0.1)
    changed = torch.zeros(20, 30, dtype=torch.bool)
    changed[10:12, 5:10] = True
    assert torch.equal(change.changed[0], changed)
    assert torch.equal(change.label[0], changed * 2)
    changed[8:14, 3:12] = True  # 2 px, a tenth of the shorter side
    assert torch.equal(change.free[0], changed)


def test_maps_that_were_not_changed_are_refused():
    old = tiny_labels(2)
    new = old.clone()
    new[0, 0, 0] += 1
    with pytest.raises(LabelError, match="changed map 1 is the map of the picture itself"):
        find_change(old, new)
    with pytest.raises(ShapeError, match="were changed to"):
        find_change(old, new[:1])


def test_the_blend_takes_all_of_the_change_and_nothing_far_from_it():
    old = torch.zeros(1, 40, 50, dtype=torch.int64)
    new = old.clone()
    new[0, 18:22, 20:30] = 1
    change = find_change(old, new, margin=0.1)
    weight = feathered(change, margin=0.1)
    assert weight.shape == (1, 40, 50)
    assert (weight[change.changed] > 0.999).all()
    assert (weight[~widened(change.free, 4)] == 0).all()
    row = weight[0, 20, 30:]
    assert (row.diff() <= 0).all()
    photo, other = torch.zeros(1, 3, 40, 50), torch.ones(1, 3, 40, 50)
    torch.testing.assert_close(blend(photo, other, weight), weight[:, None].expand(1, 3, 40, 50))


def test_a_change_is_seen_in_the_map_and_in_the_colours():
    old = torch.zeros(1, 8, 9, dtype=torch.int64)
    new = old.clone()
    new[0, 1, 1] = 1
    before = torch.zeros(1, 3, 8, 9)
    after = before.clone()
    after[0, :, 6, 7] = 0.3
    after[0, 0, 3, 3] = 0.3  # a mean of 0.1
    change = seen_change(old, new, before, after, least=0.2)
    assert change.changed.nonzero().tolist() == [[0, 1, 1], [0, 6, 7]]


def test_an_edit_draws_the_changed_map_and_holds_the_rest(prior, labeler):
    ws = tiny_codes(prior, 2, seed=3)
    photos = prior.synthesis(ws).img
    old = label_samples(labeler, prior, ws, 16)
    change = find_change(old, painted(old), margin=0.07)
    distance, proxy, losses = PixelDistance(), PixelDistance(), []
    found = edit(
        photos,
        ws,
        change,
        labeler,
        prior,
        gen=stream(0, "edit"),
        perceptual=distance,
        identity=proxy,
        settings=EditSettings(steps=25, lr=0.1, map_weight=5),
        on_report=lambda step, loss: losses.append((step, loss)),
    )
    assert [step for step, _ in losses] == list(range(1, 26))
    assert (found.loss < losses[0][1]).all()
    before, after = (
        miou_inside(label_samples(labeler, prior, w, 16), change, 3) for w in (ws, found.ws)
    )
    assert (before == 0).all()
    assert after.mean() > 0.2
    assert torch.equal(found.ws[:, 4:], ws[:, 4:])  # the layers of style stay
    assert not torch.equal(found.ws[:, 3], ws[:, 3])
    kept_pixels, target = distance.seen[-1]
    assert torch.equal(kept_pixels[0][:, change.free[0]], target[0][:, change.free[0]])
    assert not torch.equal(kept_pixels[0][:, ~change.free[0]], target[0][:, ~change.free[0]])
    assert not torch.equal(proxy.seen[-1][0][0][:, change.free[0]], target[0][:, change.free[0]])


def test_the_loss_is_the_weighted_sum_of_its_terms(prior, labeler):
    ws = tiny_codes(prior, 1, seed=3)
    photo = torch.rand(1, 3, 16, 16, generator=stream(0, "photo"))
    old = label_samples(labeler, prior, ws, 16)
    change = find_change(old, painted(old))
    losses = []
    weights = {"map_weight": 0.3, "pixel_weight": 2.0, "regularizer": 0.7}
    settings = EditSettings(steps=1, perceptual_weight=0, identity_weight=0, **weights)
    found = edit(
        *(photo, ws, change, labeler, prior),
        gen=stream(0, "edit"),
        settings=settings,
        on_report=lambda _, loss: losses.append(loss),
    )
    out = prior.synthesis(ws, feature_resolutions=labeler.resolutions)
    logp = labeler.scores(out.feats, (16, 16)).log_softmax(dim=1)
    free = change.free[0]
    cross = -torch.stack([logp[0, change.label[0, y, x], y, x] for y, x in free.nonzero()]).mean()
    square = (out.img - photo).square().mean(dim=1)[0][~free].mean()
    assert float(losses[0]) == pytest.approx(float(0.3 * cross + 2 * square), rel=1e-4)
    assert torch.equal(found.ws, ws)  # of one step, the best is the start


def test_unknown_classes_and_wrong_numbers_are_refused(prior):
    codes = tiny_codes(prior)
    labeler = fit_labeler(prior, codes, tiny_labels(2, 3), Classes.generic(4))
    old = label_samples(labeler, prior, codes, 16)
    new = old.clone()
    new[:, 5:8, 5:8] = 3  # a class of no shot
    photos, gen = prior.synthesis(codes).img, stream(0, "edit")
    change = find_change(old, new, margin=0.0)
    alone = change._replace(free=change.changed)
    with pytest.raises(LabelError, match="no class inside the change was in the labelled"):
        edit(photos, codes, alone, labeler, prior, gen=gen)
    with pytest.raises(ShapeError, match="1 pictures, 2 codes and 2 changed maps"):
        edit(photos[:1], codes, change, labeler, prior, gen=gen)
    with pytest.raises(ConfigError, match="pixel_weight of an edit is -1"):
        EditSettings(pixel_weight=-1)
    with pytest.raises(ConfigError, match="steps of an edit is 0"):
        EditSettings(steps=0)


def test_what_is_kept_is_measured_outside(prior):
    photos = torch.rand(1, 3, 20, 20, generator=stream(0, "photo"))
    old = torch.zeros(1, 20, 20, dtype=torch.int64)
    new = old.clone()
    new[:, 8:12, 8:12] = 1
    change = find_change(old, new)
    edited = photos.clone()
    edited[:, :, 9, 9] = -1  # inside
    distance = PixelDistance()
    same = kept(edited, photos, change, perceptual=distance)
    assert (float(same.pixels), float(same.perceptual)) == (0, 0)
    assert torch.isnan(same.identity).all()
    edited[:, :, 0, :] = photos[:, :, 0, :] + 0.5
    left = kept(edited, photos, change, perceptual=distance, identity=distance)
    outside = (~change.free).sum()
    assert float(left.pixels) == pytest.approx(float((20 * 0.25 / outside) ** 0.5), rel=1e-4)
    assert float(left.perceptual) == pytest.approx(0.5 * 20 / 400, rel=1e-4)
    assert left.identity > left.perceptual


def test_the_iou_is_over_the_classes_painted():
    target = torch.tensor([1, 1, 1, 2, 2])
    pred = torch.tensor([1, 1, 0, 2, 1])
    assert painted_iou(pred, target, 4) == pytest.approx((2 / 4 + 1 / 2) / 2)


def test_directions_add_up_and_are_kept(prior, tmp_path):
    before, after = tiny_codes(prior, 3, seed=1), tiny_codes(prior, 3, seed=2)
    learnt = learn_direction("grin", before, after, {"run": "00001-edit"})
    save_direction(learnt, tmp_path / "grin.safetensors")
    read = load_direction(tmp_path / "grin.safetensors", prior)
    assert (read.name, read.meta) == ("grin", {"run": "00001-edit"})
    mean = (after - before).mean(dim=0)
    torch.testing.assert_close(read.apply(before, -2.0), before - 2 * mean)
    with pytest.raises(ShapeError, match="made with another prior"):
        load_direction(tmp_path / "grin.safetensors", tiny_prior(32))
    with pytest.raises(ShapeError, match="the edit 'grin' is for codes"):
        read.apply(before[:, :4])
    save_generator(prior, tmp_path / "prior.safetensors")
    with pytest.raises(CheckpointError, match="holds no edit"):
        load_direction(tmp_path / "prior.safetensors")


def test_tuning_brings_the_picture_nearer_and_leaves_the_prior_alone(prior):
    ws = tiny_codes(prior, 2, seed=4)
    images = prior.synthesis(tiny_codes(prior, 2, seed=5)).img
    weights = {name: value.clone() for name, value in prior.state_dict().items()}
    losses = []
    tuned = tune_prior(
        *(prior, ws, images),
        gen=stream(0, "tune"),
        steps=30,
        lr=3e-3,
        on_report=lambda step, loss: losses.append(loss),
    )
    assert all(torch.equal(value, weights[name]) for name, value in prior.state_dict().items())
    assert not any(p.requires_grad for p in tuned.parameters())
    before, after = (((p.synthesis(ws).img - images) ** 2).mean() for p in (prior, tuned))
    assert after < 0.7 * before
    assert len(losses) == 30
    z = torch.randn(2, prior.z_dim, generator=stream(0, "z"))
    assert torch.equal(tuned.mapping(z), prior.mapping(z))
    with pytest.raises(ShapeError, match="1 pictures, but 2 codes"):
        tune_prior(prior, ws, images[:1], gen=stream(0, "tune"))
    with pytest.raises(ConfigError, match="steps of the tuning is 0"):
        tune_prior(prior, ws, images, gen=stream(0, "tune"), steps=0)


def call(*args, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if result.exit_code != code:
        raise AssertionError(f"exit {result.exit_code}\n{result.output}") from result.exception
    return result


@pytest.fixture(scope="module")
def folder(prior, labeler, tmp_path_factory) -> Path:
    """A labeler's run, and two photographs that are not square."""
    root = tmp_path_factory.mktemp("edit")
    (root / "label").mkdir()
    (root / "photos").mkdir()
    save_generator(prior, root / "label" / "prior.safetensors")
    (root / "label" / "prior.json").write_text(json.dumps({"path": "prior.safetensors"}))
    save_labeler(labeler, root / "label" / "labeler.safetensors")
    faces = to_uint8(prior.synthesis(tiny_codes(prior, 2, seed=6)).img)
    for name, face in zip(("a", "b"), faces, strict=True):
        photo = np.full((48, 60, 3), 200, np.uint8)
        photo[:, 6:54] = face.repeat(3, axis=0).repeat(3, axis=1)
        Image.fromarray(photo).save(root / "photos" / f"{name}.png")
    return root


def begin(folder: Path, out: Path, *more) -> Path:
    call(
        *("edit", "--photo", folder / "photos", "--labeler", folder / "label"),
        *("--inversion-steps", 8, "--perceptual", "none", "--out", out, *more),
    )
    return out


def change_maps(run: Path, to: Path) -> Path:
    to.mkdir()
    for path in (run / "maps").iterdir():
        with Image.open(path) as image:
            label = np.array(image)
        label[5:9, 5:9] = (label[5:9, 5:9] + 1) % 3
        Image.fromarray(label).save(to / path.name)
    return to


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def test_photographs_are_edited_through_their_maps(prior, folder: Path, tmp_path: Path) -> None:
    start = begin(folder, tmp_path / "start")
    facts = json.loads((start / "result.json").read_text())
    assert facts["photographs"] == ["a", "b"]
    assert f"edit --photo {start} --map" in facts["next"]
    changed = change_maps(start, tmp_path / "changed")
    out = tmp_path / "out"
    common = ("--steps", 3, "--perceptual", "none", "--out", out)
    call("edit", "--photo", start, "--map", changed, *common)
    facts = json.loads((out / "result.json").read_text())
    assert len(facts["miou_inside"]) == 2
    assert (out / "sheet.png").is_file()
    photo, edited = pixels(folder / "photos" / "a.png"), pixels(out / "edited" / "a.png")
    assert photo.shape == edited.shape
    assert np.array_equal(photo[:, :6], edited[:, :6])  # outside the frame
    assert np.array_equal(photo[:5, 6:54], edited[:5, 6:54])  # far from the change
    assert not np.array_equal(photo[15:27, 21:33], edited[15:27, 21:33])
    _, before = load_codes(out / "codes.safetensors", prior)
    _, after = load_codes(out / "edited.safetensors", prior)
    assert not torch.equal(before, after)

    call("learn-edit", out, "--name", "grin")
    assert load_direction(tmp_path / "edits" / "grin.safetensors").meta["photographs"] == ["a", "b"]
    call("learn-edit", out, "--name", "grin", code=2)
    again = tmp_path / "again"
    call(
        *("edit", "--photo", start, "--apply", "grin", "--strength", -1.5, "--runs", tmp_path),
        *("--perceptual", "none", "--out", again),
    )
    _, applied = load_codes(again / "edited.safetensors")
    mean = (after - before).mean(dim=0)
    torch.testing.assert_close(applied, before - 1.5 * mean)
    assert "miou_inside" not in json.loads((again / "result.json").read_text())  # none was asked


def test_a_tuned_generator_stays_in_its_run_and_is_gone_on_with(
    prior, folder: Path, tmp_path: Path
) -> None:
    was = (folder / "label" / "prior.safetensors").read_bytes()
    start = begin(folder, tmp_path / "start", "--tune", 2)
    assert (folder / "label" / "prior.safetensors").read_bytes() == was
    tuned = load_generator(start / "generator.safetensors")
    assert not torch.equal(tuned.synthesis.b16.conv1.weight, prior.synthesis.b16.conv1.weight)
    changed = change_maps(start, tmp_path / "changed")
    out = tmp_path / "out"
    call(
        *("edit", "--photo", start, "--map", changed, "--steps", 1, "--perceptual", "none"),
        *("--out", out),
    )
    path = json.loads((out / "prior.json").read_text())["path"]
    assert Path(path) == (start / "generator.safetensors").resolve()


def test_the_face_is_where_its_frame_says(folder: Path, tmp_path: Path) -> None:
    frame = {"center": [20.0, 24.0], "across": [1.0, 0.0], "half": 12.0}
    (tmp_path / "frames.json").write_text(json.dumps({"a": frame, "b": frame}))
    start = begin(folder, tmp_path / "start", "--frames", tmp_path / "frames.json")
    assert json.loads((start / "frames.json").read_text())["a"] == frame
    faces = {f"a-{i}": {"photo": "photos/a.jpg", **frame} for i in (1, 2)}  # as align writes them
    (tmp_path / "frames.json").write_text(json.dumps(faces))
    two = [s.name for s in read_subjects(folder / "photos" / "a.png", tmp_path / "frames.json")]
    assert two == ["a-1", "a-2"]
    result = call(
        *("edit", "--photo", folder / "photos", "--labeler", folder / "label"),
        *("--frames", tmp_path / "frames.json", "--out", tmp_path / "x"),
        code=1,
    )
    assert "no face of 'b'; align the photograph first" in result.output


def test_generators_of_other_shapes_are_refused():
    config = GeneratorConfig(
        img_resolution=16, z_dim=4, w_dim=4, base=(4, 6), channels={4: 4, 8: 4, 16: 4}
    )
    with pytest.raises(ConfigError, match="this generator draws 24 x 16"):
        check_square(Generator(config))


def test_wrong_edits_are_told(folder: Path, tmp_path: Path) -> None:
    start = begin(folder, tmp_path / "start")
    same = call("edit", "--photo", start, "--map", start / "maps", "--runs", tmp_path, code=1)
    assert "is the map of the picture itself" in same.output
    one = call(
        *("edit", "--photo", start, "--map", start / "maps" / "a.png", "--runs", tmp_path), code=2
    )
    assert "one map for 2 photographs" in one.output
    both = call("edit", "--photo", start, "--map", "x", "--apply", "y", code=2)
    assert "--map and --apply are two edits" in both.output
    none = call("edit", "--photo", start, "--apply", "frown", "--runs", tmp_path, code=1)
    assert "no such file, and no" in none.output
    empty = call("learn-edit", start, "--name", "grin", code=1)
    assert "holds no edited.safetensors" in empty.output
    folders = change_maps(start, tmp_path / "changed")
    (folders / "b.png").unlink()
    few = call("edit", "--photo", start, "--map", folders, "--runs", tmp_path, code=1)
    assert "no changed map of b" in few.output
