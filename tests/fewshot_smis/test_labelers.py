import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fewshot_smis.data import IGNORE, Classes, resize_label
from fewshot_smis.labelers import (
    DenseLabeler,
    SparseLabeler,
    feature_resolution,
    fit_labeler,
    label_samples,
    load_labeler,
    save_labeler,
)
from fewshot_smis.labelers.prototypes import (
    MAX_COSINES,
    PixelPrototypes,
    cell_prototypes,
    claims,
    class_prototypes,
    coverage,
    first_topk,
    hypercolumns,
    masked_average,
    point_prototypes,
)
from stylegan.errors import CheckpointError, ConfigError, LabelError, ShapeError
from stylegan.seeding import stream
from tests.fewshot_smis.tiny import tiny_codes, tiny_labeler, tiny_labels, tiny_prior


def random_feats(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=stream(0, "feats"))


def test_coverage_counts_every_pixel():
    label = torch.zeros(7, 10, dtype=torch.int64)
    label[3, 4] = 2
    label[0] = IGNORE
    share = coverage(label, 3, (3, 4))
    assert share.shape == (3, 3, 4)
    cells = [[(y * 3 // 7, x * 4 // 10) for x in range(10)] for y in range(7)]
    for y in range(3):
        for x in range(4):
            inside = [label[i, j] for i in range(7) for j in range(10) if cells[i][j] == (y, x)]
            for k in range(3):
                want = sum(int(value) == k for value in inside) / len(inside)
                assert float(share[k, y, x]) == pytest.approx(want)


def test_coverage_of_a_map_smaller_than_the_grid_is_one_hot():
    share = coverage(torch.tensor([[0, 1]]), 2, (3, 4))
    assert share[0].tolist() == [[1, 1, 0, 0]] * 3
    assert torch.equal(share[1], 1 - share[0])


def test_masked_average_equals_the_mean_of_the_masked_pixels():
    feat = random_feats(2, 5, 3, 4)
    label = torch.randint(0, 2, (2, 3, 4), generator=stream(1, "label"))
    weight = torch.stack([label == 0, label == 1, label == 2], dim=1).float()
    mean = masked_average(feat, weight)
    for n in range(2):
        for k in range(2):
            want = feat[n][:, label[n] == k].mean(dim=1)
            torch.testing.assert_close(mean[n, k], want)
    assert torch.equal(mean[:, 2], torch.zeros(2, 5))


def test_shots_count_equally_and_only_where_they_hold_the_class():
    feat = random_feats(2, 5, 3, 4)
    weight = torch.zeros(2, 2, 3, 4)
    weight[0, 0], weight[1, 0, 0, 0], weight[1, 1, 1] = 1, 1, 1
    proto = class_prototypes(feat, weight)
    both = (feat[0].mean(dim=(1, 2)) + feat[1, :, 0, 0]) / 2
    torch.testing.assert_close(proto[0], both / both.norm())
    only = feat[1, :, 1].mean(dim=1)
    torch.testing.assert_close(proto[1], only / only.norm())


def test_absent_classes_never_win_by_default():
    classes = Classes.generic(3)
    proto = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    feat = {8: torch.tensor([-1.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 2, 3)}
    labeler = DenseLabeler(classes, proto, resolution=8)
    assert labeler(feat).tolist() == [[[0] * 3] * 2]
    assert labeler.scores(feat)[0, 1].eq(-math.inf).all()
    reference = DenseLabeler(classes, proto, resolution=8, reference=True)
    assert reference(feat).tolist() == [[[1] * 3] * 2]


def test_point_prototypes_keep_dots_smaller_than_a_cell():
    feat = random_feats(6, 3, 4)
    label = torch.zeros(30, 40, dtype=torch.int64)
    label[3, 3] = 1  # both in cell (0, 0), off its top left pixel
    label[7, 8] = 2
    label[10:20, 10:20] = 3  # all of cell (1, 1)
    label[25, 35] = IGNORE
    found = point_prototypes(feat, label, 4)
    assert found.ids.tolist() == [1, 2, 3]
    assert not torch.allclose(found.proto[0], found.proto[1], atol=1e-2)
    torch.testing.assert_close(found.proto[2], feat[:, 1, 1] / feat[:, 1, 1].norm())
    torch.testing.assert_close(found.proto.norm(dim=1), torch.ones(3))
    assert cell_prototypes(feat, label[::10, ::10]).ids.tolist() == [3]


def test_claims_equal_a_direct_search():
    feat = random_feats(2, 6, 4, 5)
    proto = torch.nn.functional.normalize(random_feats(30, 6), dim=1)
    ids = torch.randint(1, 4, (30,), generator=stream(2, "ids"))
    score = claims(feat, PixelPrototypes(proto, ids), 4, topk=3, threshold=0.4)
    want = torch.zeros(2, 4, 20)
    cosine = torch.nn.functional.cosine_similarity(
        proto[None, :, :, None], feat.flatten(2)[:, None], dim=2
    )
    for n in range(2):
        for p in range(30):
            for x in sorted(range(20), key=lambda x: -float(cosine[n, p, x]))[:3]:
                if cosine[n, p, x] > 0.4:
                    place = want[n, ids[p]]
                    place[x] = max(place[x], cosine[n, p, x])
    torch.testing.assert_close(score.flatten(2), want)
    assert 0 < int((want > 0).sum()) < want.numel()


def test_claims_in_parts_equal_claims_at_once(monkeypatch):
    feat = random_feats(2, 6, 4, 5)
    proto = PixelPrototypes(random_feats(30, 6), torch.arange(30) % 3 + 1)
    whole = claims(feat, proto, 4, topk=2, threshold=0.1)
    monkeypatch.setattr("fewshot_smis.labelers.prototypes.MAX_COSINES", 7 * 2 * 20)
    torch.testing.assert_close(claims(feat, proto, 4, topk=2, threshold=0.1), whole)


def test_equal_cosines_are_claimed_in_reading_order():
    row = torch.tensor([[0.5, 0.7] * 100 + [-0.1], [0.1] * 50 + [0.9] * 151])
    value, index = first_topk(row, 103)
    assert sorted(index[0].tolist()) == sorted([*range(1, 200, 2), 0, 2, 4])
    assert sorted(index[1].tolist()) == list(range(50, 153))
    assert torch.equal(row.gather(1, index), value)
    value, index = first_topk(row, 201)
    assert sorted(index[0].tolist()) == list(range(201))


def test_thousands_of_prototypes_never_hold_more_cosines_than_allowed(monkeypatch):
    feat = random_feats(8, 16, 64, 64)
    many = PixelPrototypes(random_feats(9001, 16), torch.arange(9001) % 7 + 1)
    held = []

    def counted(cosine, k):
        held.append(cosine.numel())
        return first_topk(cosine, k)

    monkeypatch.setattr("fewshot_smis.labelers.prototypes.first_topk", counted)
    score = claims(feat, many, 8, topk=3, threshold=0.5)
    assert sum(held) == 9001 * 8 * 64 * 64
    assert max(held) <= MAX_COSINES
    assert score.shape == (8, 8, 64, 64)
    assert (score[:, 0] == 0).all()
    assert (score[:, 1:].amax(dim=(2, 3)) > 0.5).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_the_labeler_gives_back_the_map_it_was_fitted_to(sparse):
    prior = tiny_prior(16, width=32)
    ws = tiny_codes(prior, 1)
    label = tiny_labels(1, 3, (16, 16))
    labeler = fit_labeler(
        prior, ws, label, Classes.generic(3, sparse=sparse), topk=1, resolution=16
    )
    found = label_samples(labeler, prior, ws)
    assert found.dtype == torch.int64
    assert found.shape == (1, 16, 16)
    if sparse:  # each pixel claims itself
        assert torch.equal(found, label)
        assert isinstance(labeler, SparseLabeler)
    else:
        # far from perfect on random features, far above the third of a blind guess
        assert float((found == label).float().mean()) > 0.5
    assert label_samples(labeler, prior, ws, (30, 40)).shape == (1, 30, 40)


def test_labels_of_a_batch_are_those_of_its_samples():
    prior = tiny_prior(16)
    for sparse in (False, True):
        labeler = tiny_labeler(prior, sparse=sparse)
        ws = tiny_codes(prior, 5, seed=1)
        whole = label_samples(labeler, prior, ws)
        parts = torch.cat([label_samples(labeler, prior, w[None]) for w in ws])
        assert float((whole == parts).float().mean()) > 0.99
        assert torch.equal(label_samples(labeler, prior, ws, batch=1), parts)


def test_maps_of_several_sizes_and_non_square_features():
    prior = tiny_prior(16)
    maps = [tiny_labels(1, 3, size)[0] for size in ((11, 40), (64, 17))]
    labeler = fit_labeler(prior, tiny_codes(prior), maps, Classes.generic(3), resolution=16)
    assert labeler({16: random_feats(2, 8, 5, 9)}).shape == (2, 5, 9)
    sparse = fit_labeler(
        prior, tiny_codes(prior), maps, Classes.generic(3), kind="sparse", resolution=16
    )
    assert sparse.sparse
    assert sparse({16: random_feats(2, 8, 5, 9)}).shape == (2, 5, 9)


def test_ignored_pixels_are_left_out():
    prior = tiny_prior(16)
    label = tiny_labels(2, 3, (16, 16))
    ignored = label.clone()
    ignored[:, :, 10:] = IGNORE
    options = {"classes": Classes.generic(3), "method": "prototypes"}
    with_less = fit_labeler(prior, tiny_codes(prior), ignored, **options)
    assert with_less.present.tolist() == [True, True, False]
    full = fit_labeler(prior, tiny_codes(prior), label, **options)
    torch.testing.assert_close(with_less.proto[0], full.proto[0])


def test_features_are_64_px_but_never_the_last_block_of_a_small_prior():
    assert feature_resolution(tiny_prior(16)) == 8
    assert feature_resolution(tiny_prior(64)) == 32
    assert feature_resolution(tiny_prior(128)) == 64
    assert feature_resolution(tiny_prior(16), reference=True) == 16
    assert feature_resolution(tiny_prior(128), reference=True) == 64


def test_dense_scores_are_enlarged_and_sparse_marks_are_not():
    prior = tiny_prior(16)
    ws = tiny_codes(prior, 2, seed=3)
    feats = prior.synthesis(ws, feature_resolutions=(16,)).feats
    dense = tiny_labeler(prior)
    large = torch.nn.functional.interpolate(dense.scores(feats), (40, 24), mode="bilinear")
    assert torch.equal(dense(feats, (40, 24)), large.argmax(dim=1))
    assert torch.equal(label_samples(dense, prior, ws, (40, 24)), large.argmax(dim=1))
    assert not torch.equal(dense(feats, (40, 24)), resize_label(dense(feats), (40, 24)))
    sparse = tiny_labeler(prior, sparse=True)
    exact = DenseLabeler(dense.classes, dense.proto, resolution=16, reference=True)
    for labeler in (sparse, exact):
        assert torch.equal(labeler(feats, (40, 24)), resize_label(labeler(feats), (40, 24)))


def test_enlarged_scores_keep_absent_classes_out():
    proto = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    labeler = DenseLabeler(Classes.generic(3), proto, resolution=8)
    feats = {8: -random_feats(2, 2, 4, 5).abs()}  # all present classes score below 0
    assert 1 not in labeler(feats, (9, 11))
    assert not labeler.scores(feats, (9, 11)).isnan().any()


def test_a_cosine_of_columns_is_the_mean_of_the_cosines_of_their_sizes():
    feats = {4: random_feats(2, 3, 4, 3), 8: random_feats(2, 5, 8, 6)}
    columns = hypercolumns(feats)
    assert columns.shape == (2, 8, 8, 6)
    small = F.normalize(feats[4], dim=1)
    large = F.interpolate(small, (8, 6), mode="bilinear", align_corners=False)
    want = sum(F.cosine_similarity(x[0, :, 5, 2], x[1, :, 1, 4], dim=0) for x in (large, feats[8]))
    found = F.cosine_similarity(columns[0, :, 5, 2], columns[1, :, 1, 4], dim=0)
    assert float(found) == pytest.approx(float(want) / 2, abs=1e-6)


def test_sparse_maps_are_read_at_all_sizes_unless_the_papers_one_is_asked_for(tmp_path):
    prior = tiny_prior(32)
    ws, label, classes = tiny_codes(prior), tiny_labels(), Classes.generic(3, sparse=True)
    labeler = fit_labeler(prior, ws, label, classes)
    assert (labeler.resolutions, labeler.resolution) == ((4, 8, 16), 16)
    assert labeler.proto.shape[1] == 24
    save_labeler(labeler, tmp_path / "labeler.safetensors")
    again = load_labeler(tmp_path / "labeler.safetensors")
    assert torch.equal(label_samples(again, prior, ws), label_samples(labeler, prior, ws))
    for options in ({"method": "prototypes"}, {"resolution": 16}):
        assert fit_labeler(prior, ws, label, classes, **options).resolutions == (16,)
    with pytest.raises(ShapeError, match=r"reads 4 px features, but was given \[16\]"):
        labeler({16: torch.zeros(1, 8, 16, 16)})


def test_points_that_look_alike_are_told_apart_by_where_they_are():
    gen = stream(0, "places")
    place = F.interpolate(torch.randn(1, 6, 4, 4, generator=gen), (16, 16), mode="bilinear")
    look = torch.zeros(2, 3, 16, 16)
    look[:, 0] = 1
    for n, shift in enumerate((0, 1)):  # two dots of one look, moved a little in the second
        look[n, :, 4, 3 + shift] = look[n, :, 11, 12 - shift] = torch.tensor([0.0, 1.0, 0.0])
    feats = {4: F.adaptive_avg_pool2d(place, 4).expand(2, -1, -1, -1), 16: look}
    label = torch.zeros(16, 16, dtype=torch.int64)
    label[4, 3], label[11, 12] = 1, 2

    def found(feat):
        points = point_prototypes(feat[0], label, 3)
        score = claims(feat[1:], points, 3, topk=1, threshold=0.0)[0]
        return [divmod(int(score[k].argmax()), 16) for k in (1, 2)]

    assert found(hypercolumns(feats)) == [(4, 4), (11, 11)]
    assert found(look) == [(4, 4), (4, 4)]


@pytest.mark.parametrize("sparse", [False, True])
def test_saved_labelers_are_the_same(tmp_path, sparse):
    prior = tiny_prior(16)
    labeler = tiny_labeler(prior, sparse=sparse)
    save_labeler(labeler, tmp_path / "labeler.safetensors")
    again = load_labeler(tmp_path / "labeler.safetensors")
    assert type(again) is type(labeler)
    assert again.classes == labeler.classes
    assert again.options() == labeler.options()
    ws = tiny_codes(prior, 2, seed=3)
    assert torch.equal(label_samples(again, prior, ws), label_samples(labeler, prior, ws))
    assert [p.name for p in tmp_path.iterdir()] == ["labeler.safetensors"]


def test_files_that_hold_no_labeler_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_labeler(tmp_path / "none.safetensors")
    page = tmp_path / "page.safetensors"
    page.write_text("<!DOCTYPE html><html>not found</html>")
    with pytest.raises(CheckpointError, match="a web page, not a checkpoint"):
        load_labeler(page)
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, other)
    with pytest.raises(CheckpointError, match="holds no labeler"):
        load_labeler(other)
    save_file({"x": torch.zeros(2)}, other, metadata={"labeler": '{"kind": "dense"}'})
    with pytest.raises(CheckpointError, match="incomplete"):
        load_labeler(other)


def test_mistakes_are_named():
    prior = tiny_prior(16)
    ws, label, classes = tiny_codes(prior), tiny_labels(), Classes.generic(3)
    with pytest.raises(ConfigError, match="unknown kind of labeler 'both'"):
        fit_labeler(prior, ws, label, classes, kind="both")
    with pytest.raises(ShapeError, match="2 codes, but 1 label maps"):
        fit_labeler(prior, ws, label[:1], classes)
    with pytest.raises(ShapeError, match="num_ws 4 and w_dim 8, but the prior has num_ws 6"):
        fit_labeler(prior, ws[:, :4], label, classes)
    with pytest.raises(LabelError, match=r"label map 0 holds class id 2, .* only 2 classes"):
        fit_labeler(prior, ws, label, Classes.generic(2))
    with pytest.raises(LabelError, match="not one pixel"):
        fit_labeler(prior, ws, torch.full_like(label, IGNORE), classes)
    with pytest.raises(LabelError, match=r"not one pixel .* class 0"):
        fit_labeler(prior, ws, torch.zeros_like(label), Classes.generic(3, sparse=True))
    with pytest.raises(ConfigError, match="topk is 0"):
        fit_labeler(prior, ws, label, classes, kind="sparse", topk=0)
    with pytest.raises(ConfigError, match="threshold is 2"):
        fit_labeler(prior, ws, label, classes, kind="sparse", threshold=2)
    greedy = fit_labeler(prior, ws, label, classes, kind="sparse", topk=300, resolution=16)
    with pytest.raises(ConfigError, match="topk is 300, but the feature map has only 256 pixels"):
        label_samples(greedy, prior, ws)
    labeler = tiny_labeler(prior)
    with pytest.raises(ShapeError, match="reads 16 px features, but was given \\[8\\]"):
        labeler({8: torch.zeros(1, 8, 8, 8)})
    with pytest.raises(ShapeError, match="fitted to features of 8 channels, but these have 5"):
        labeler({16: torch.zeros(1, 5, 16, 16)})
