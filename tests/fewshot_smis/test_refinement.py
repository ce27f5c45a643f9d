"""Refinement: the loss equals its formula, only the named layers move, and it falls."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from PIL import Image

from encoders import save_encoder
from fewshot_smis.cli import main
from fewshot_smis.codes import load_codes
from fewshot_smis.data import IGNORE, Classes
from fewshot_smis.labelers import fit_labeler, save_labeler
from fewshot_smis.labelers.mismatch import (
    class_mismatch,
    class_mismatches,
    drawn_on_grid,
    mean_mismatch,
    mean_prototypes,
    mismatch,
    on_grid,
)
from fewshot_smis.refinement import ALL, FEW, freedom_of, layout_layers, principal_axes, refine
from stylegan import save_generator
from stylegan.errors import ConfigError, LabelError, ShapeError
from stylegan.seeding import sample_z, stream
from stylegan.steering import settle
from tests.fewshot_smis.tiny import (
    tiny_codes,
    tiny_encoder,
    tiny_labeler,
    tiny_labels,
    tiny_prior,
)


@pytest.fixture(scope="module")
def prior():
    return tiny_prior(16)


def linear_labeler(prior):
    classes = Classes.generic(4)  # class 3 is in no shot
    return fit_labeler(prior, tiny_codes(prior), tiny_labels(2, 3), classes)


def features(prior, labeler, ws):
    return prior.synthesis(ws, feature_resolutions=labeler.resolutions).feats


@pytest.mark.parametrize("sparse", [False, True])
def test_prototype_mismatch_is_one_minus_the_cosine_with_the_drawn_class(prior, sparse):
    labeler = tiny_labeler(prior, sparse=sparse)
    labels = tiny_labels(2, 3, (32, 48))
    labels[0, :9] = 0 if sparse else IGNORE
    drawn = drawn_on_grid(labels, labeler, (16, 16))
    feats = features(prior, labeler, tiny_codes(prior, seed=1))
    found = mismatch(labeler, feats, drawn)
    proto, feat = mean_prototypes(labeler), feats[16]
    for n, y, x in [(0, 1, 3), (0, 12, 7), (1, 0, 15), (1, 9, 5)]:
        k = int(drawn.label[n, y, x])
        unknown = k == IGNORE or (sparse and k == 0)
        wanted = 0 if unknown else 1 - F.cosine_similarity(feat[n, :, y, x], proto[k], dim=0)
        assert float(found[n, y, x]) == pytest.approx(float(wanted), abs=1e-5)
    counted = (drawn.label[0] != (0 if sparse else IGNORE)).sum()
    mean = found[0].sum() / counted
    assert float(mean_mismatch(labeler, feats, drawn)[0]) == pytest.approx(float(mean), rel=1e-5)


def test_a_class_of_marks_is_the_mean_of_its_marks(prior):
    labeler = tiny_labeler(prior, sparse=True)
    proto = mean_prototypes(labeler)
    assert proto[0].abs().sum() == 0
    for k in (1, 2):
        mean = labeler.proto[labeler.ids == k].mean(dim=0)
        torch.testing.assert_close(proto[k], mean / mean.norm(), atol=1e-5, rtol=0)


def test_linear_mismatch_is_the_cross_entropy_and_skips_absent_classes(prior):
    labeler = linear_labeler(prior)
    labels = tiny_labels(1, 3, (16, 16))
    labels[0, 4], labels[0, 5] = 3, IGNORE
    drawn = drawn_on_grid(labels, labeler, (16, 16))
    ws = tiny_codes(prior, 1, seed=1).requires_grad_(True)
    feats = features(prior, labeler, ws)
    found = mismatch(labeler, feats, drawn)
    slow = F.cross_entropy(labeler.scores(feats, (16, 16)), labels.clamp(max=2), reduction="none")
    assert (found[0, 4:6] == 0).all()
    torch.testing.assert_close(found[0, 6:], slow[0, 6:])
    found.sum().backward()
    assert torch.isfinite(ws.grad).all()


def test_classes_count_alike_in_the_mismatch_of_many_maps(prior):
    labeler = linear_labeler(prior)
    labels = torch.zeros(2, 16, 16, dtype=torch.int64)
    labels[0, 0, :2], labels[1, 3], labels[1, 4] = 1, 3, IGNORE  # 3 is absent
    drawn = on_grid(labels, labeler, (16, 16))
    feats = features(prior, labeler, tiny_codes(prior, seed=1))
    cost = mismatch(labeler, feats, drawn)
    want = (cost[0, 0, :2].mean() + cost[drawn.known & (labels == 0)].mean()) / 2
    torch.testing.assert_close(class_mismatch(labeler, feats, drawn), want)
    nothing = on_grid(torch.full_like(labels, 3), labeler, (16, 16))
    assert float(class_mismatch(labeler, feats, nothing)) == 0
    first = (cost[0, 0, :2].mean() + cost[0, labels[0] == 0].mean()) / 2
    second = cost[1][drawn.known[1]].mean()  # of one class
    torch.testing.assert_close(
        class_mismatches(labeler, feats, drawn), torch.stack([first, second])
    )
    assert class_mismatches(labeler, feats, nothing).tolist() == [0, 0]


def test_maps_that_cannot_be_compared_are_refused(prior):
    labeler = linear_labeler(prior)
    with pytest.raises(LabelError, match="holds class id 4, but the labeler knows 4 classes"):
        drawn_on_grid(tiny_labels(2, 5), labeler, (8, 8))
    only_absent = torch.full((1, 8, 8), 3)
    with pytest.raises(LabelError, match="label map 0 holds no class that a labelled picture"):
        drawn_on_grid(only_absent, labeler, (8, 8))


def test_axes_are_orthogonal_and_the_samples_spread_most_along_the_first(prior):
    mean, axes, deviations = principal_axes(prior, 3, stream(0, "axes"))
    torch.testing.assert_close(axes @ axes.T, torch.eye(3), atol=1e-5, rtol=0)
    w = prior.mapping(sample_z(4000, prior.z_dim, stream(1, "w")))[:, 0]
    torch.testing.assert_close(mean, w.mean(dim=0), atol=0.1, rtol=0)
    spread = (w @ axes.T).std(dim=0)
    assert spread[0] > spread[1] > spread[2]
    torch.testing.assert_close(deviations, spread, rtol=0.1, atol=0)
    for num in (99, None):
        assert len(principal_axes(prior, num, stream(0, "axes")).directions) == prior.w_dim


@pytest.mark.parametrize(("num_ws", "count"), [(18, 8), (14, 8), (12, 7), (6, 4)])
def test_the_layout_layers_are_the_papers_and_fewer_in_small_priors(num_ws, count):
    assert layout_layers(num_ws) == tuple(range(count))


@pytest.mark.parametrize("kind", ["dense", "sparse", "linear"])
def test_refinement_fits_the_map_better_and_keeps_the_style_layers(prior, kind):
    labeler = (
        linear_labeler(prior) if kind == "linear" else tiny_labeler(prior, sparse=kind == "sparse")
    )
    ws, labels = tiny_codes(prior, 3, seed=2), tiny_labels(3, 3, (20, 24)).flip(2)
    freedom = FEW._replace(steps=12, components=4)
    found = refine(labels, ws, labeler, prior, gen=stream(0, "refine"), freedom=freedom)
    assert (found.after < found.before).all()
    assert torch.equal(found.ws[:, 4:], ws[:, 4:])
    shift = (found.ws - ws)[:, :4]
    torch.testing.assert_close(shift, shift[:, :1].expand(-1, 4, -1), atol=1e-5, rtol=0)
    axes = principal_axes(prior, 4, stream(0, "refine")).directions
    torch.testing.assert_close(shift[:, 0] @ axes.T @ axes, shift[:, 0], atol=1e-5, rtol=0)
    feats = features(prior, labeler, found.ws)
    drawn = drawn_on_grid(labels, labeler, (16, 16))
    torch.testing.assert_close(mean_mismatch(labeler, feats, drawn), found.after)


def test_dense_maps_move_each_layer_for_itself_and_fit_better_for_it(prior):
    labeler = linear_labeler(prior)
    ws, labels = tiny_codes(prior, 3, seed=2), tiny_labels(3, 3, (20, 24)).flip(2)
    assert freedom_of(labeler) is ALL
    assert freedom_of(tiny_labeler(prior, sparse=True)) is FEW
    found = refine(labels, ws, labeler, prior, gen=stream(0, "refine"))
    assert (found.after < found.before).all()
    shift = found.ws - ws
    assert shift[:, 4:].abs().max() == 0
    assert (shift[:, 1:4] - shift[:, :1]).abs().amax(dim=(0, 2)).min() > 1e-3
    few = refine(labels, ws, labeler, prior, gen=stream(0, "r"), freedom=FEW._replace(steps=40))
    drawn = drawn_on_grid(labels, labeler, (16, 16))
    costs = [mean_mismatch(labeler, features(prior, labeler, w), drawn) for w in (found.ws, few.ws)]
    assert float(costs[0].mean()) < float(costs[1].mean())


def test_the_pull_counts_how_many_deviations_the_moved_layers_are_from_the_mean(prior):
    labeler = linear_labeler(prior)
    ws, labels = tiny_codes(prior, 3, seed=2), tiny_labels(3, 3, (20, 24)).flip(2)
    drawn = drawn_on_grid(labels, labeler, (16, 16))
    mean, axes, deviations = principal_axes(prior, None, stream(0, "refine"))
    lengths = []
    for pull in (0.0, 2.0):
        freedom = ALL._replace(pull=pull)
        found = refine(labels, ws, labeler, prior, gen=stream(0, "refine"), freedom=freedom)
        feats = features(prior, labeler, found.ws)
        fit = mean_mismatch(labeler, feats, drawn) + class_mismatches(labeler, feats, drawn)
        length = torch.stack(
            [((w - mean) @ axis / d) ** 2 for w in found.ws[:, :4].unbind(1) for axis, d in
             zip(axes, deviations, strict=True)]
        ).mean(dim=0)  # fmt: skip
        torch.testing.assert_close(fit + pull * length, found.after, rtol=1e-4, atol=1e-4)
        lengths.append(float(length.mean()))
    assert lengths[1] < 0.9 * lengths[0]


def test_codes_of_a_steered_prior_keep_their_attributes(prior):
    """Along their direction nothing but the jump is common, and the pull is to where it leads."""
    directions = 20 * torch.nn.functional.normalize(torch.ones(1, prior.w_dim), dim=1)
    worn = torch.tensor([[1.0], [0.0], [0.0]])
    steered = settle(prior, directions, worn, gen=stream(0, "settle"))
    axes = principal_axes(steered, None, stream(0, "refine"))
    torch.testing.assert_close(axes, principal_axes(prior, None, stream(0, "refine")))
    labeler, labels = linear_labeler(prior), tiny_labels(3, 3, (20, 24)).flip(2)
    drawn = drawn_on_grid(labels, labeler, (16, 16))
    ws = tiny_codes(prior, 3, seed=2) + worn[:, None] * directions
    found, _, after = refine(labels, ws, labeler, steered, gen=stream(0, "refine"))
    feats = features(prior, labeler, found)
    fit = mean_mismatch(labeler, feats, drawn) + class_mismatches(labeler, feats, drawn)
    away = (found - worn[:, None] * directions)[:, :4] - axes.mean
    length = (away @ axes.directions.T / axes.deviations).square().mean(dim=(1, 2))
    torch.testing.assert_close(fit + ALL.pull * length, after, rtol=1e-4, atol=1e-4)


def test_maps_are_refined_each_for_itself_and_may_differ_in_size(prior):
    labeler = tiny_labeler(prior)
    ws = tiny_codes(prior, 3, seed=2)
    labels = [tiny_labels(1, 3, size)[0] for size in ((20, 24), (16, 16), (40, 30))]
    steps = []
    common = {"freedom": FEW._replace(steps=3)}
    together = refine(
        labels, ws, labeler, prior, gen=stream(0, "r"), batch=2, on_report=steps.append, **common
    )
    alone = refine(labels[1:2], ws[1:2], labeler, prior, gen=stream(0, "r"), **common)
    torch.testing.assert_close(together.ws[1:2], alone.ws)
    found = [(r.step, r.last, len(r.loss)) for r in steps]
    assert found == [(i, i == 3, n) for n in (2, 1) for i in (1, 2, 3)]


def test_wrong_arguments_are_refused(prior):
    labeler, ws, gen = tiny_labeler(prior), tiny_codes(prior, 2), stream(0, "r")
    labels = tiny_labels(2)
    with pytest.raises(ShapeError, match="1 maps, but 2 codes"):
        refine(labels[:1], ws, labeler, prior, gen=gen)
    with pytest.raises(ConfigError, match="steps is 0"):
        refine(labels, ws, labeler, prior, gen=gen, freedom=ALL._replace(steps=0))
    with pytest.raises(ConfigError, match="0 principal components"):
        refine(labels, ws, labeler, prior, gen=gen, freedom=FEW._replace(components=0))
    with pytest.raises(ConfigError, match="outside the network"):
        refine(labels, ws, labeler, prior, gen=gen, layers="5-9")


@pytest.fixture
def model(prior, tmp_path: Path) -> Path:
    """A run of `train` and its labeler, as far as `refine` reads them."""
    run = tmp_path / "train"
    run.mkdir()
    save_generator(prior, tmp_path / "prior.safetensors")
    labeler = tiny_labeler(prior, sparse=True)
    save_labeler(labeler, tmp_path / "labeler.safetensors")
    save_encoder(tiny_encoder(prior), run / "encoder.safetensors")
    labeler.classes.save(run / "classes.json")
    (run / "prior.json").write_text(json.dumps({"path": "../prior.safetensors"}))
    paths = {"labeler": {"path": str(tmp_path / "labeler.safetensors")}}
    (run / "inputs.json").write_text(json.dumps(paths))
    maps = tmp_path / "maps"
    maps.mkdir()
    for name, size in (("a", (24, 24)), ("b", (20, 30))):
        label = np.zeros(size, np.uint8)
        label[4:7, 4:7], label[12:15, 10:13] = 1, 2
        Image.fromarray(label).save(maps / f"{name}.png")
    return run


def test_the_command_draws_each_map_before_and_after(prior, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ["--run", model, "--labels", tmp_path / "maps", "--steps", 4, "--components", 2]
    result = CliRunner().invoke(main, ["refine", *map(str, args), "--out", str(out)])
    assert result.exit_code == 0, result.output
    names, _ = load_codes(out / "codes.safetensors", prior)
    assert names == ["a", "b"]
    assert sorted(p.name for p in (out / "images").iterdir()) == ["a.png", "b.png"]
    facts = json.loads((out / "result.json").read_text())
    assert facts["loss_after"] <= facts["loss_before"]
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width > 3 * 128


def test_the_command_starts_from_codes_of_the_reference(prior, model: Path, tmp_path: Path) -> None:
    start = tiny_codes(prior, 1)
    torch.save({"codes": start}, tmp_path / "0.pt")
    out = tmp_path / "out"
    args = ["--run", model, "--labels", tmp_path / "maps", "--steps", 1]
    args += ["--codes", tmp_path / "0.pt", "--labeler", tmp_path / "labeler.safetensors"]
    result = CliRunner().invoke(main, ["refine", *map(str, args), "--out", str(out)])
    assert result.exit_code == 0, result.output
    _, ws = load_codes(out / "codes.safetensors", prior)
    torch.testing.assert_close(ws, start.expand(2, -1, -1))  # the best of one step is the start


def test_the_command_says_what_is_missing(model: Path, tmp_path: Path) -> None:
    args = ["refine", "--run", model, "--labels", tmp_path / "maps", "--out", tmp_path / "out"]
    (tmp_path / "labeler.safetensors").unlink()
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 2
    assert "is gone; give it by --labeler RUN" in result.output
    (model / "inputs.json").unlink()
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert "does not name its labeler" in result.output
