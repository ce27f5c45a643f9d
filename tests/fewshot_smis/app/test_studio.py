"""The model's side of the app, without a server."""

import numpy as np
import pytest
import torch

from fewshot_smis.app.studio import MOST_CODES, Look, Model, Studio, in_parts, middle_square
from fewshot_smis.codes import load_codes
from fewshot_smis.data import Classes, to_uint8
from fewshot_smis.encoding import encode
from fewshot_smis.refinement import ALL, refine
from fewshot_smis.synthesis import sample_styles, synthesize
from stylegan.errors import BackendError, ConfigError, LabelError
from stylegan.seeding import stream
from tests.fewshot_smis.app.conftest import some_map, tiny_studio
from tests.fewshot_smis.tiny import tiny_encoder, tiny_labeler, tiny_prior


def test_a_drawing_is_what_the_commands_draw(studio: Studio) -> None:
    label = studio.check(some_map().tobytes())
    look = Look(styles=(None, 5, 7), layers="3-4", alpha=0.5, psi=0.7)
    drawing = studio.draw(label, look)
    model = studio.model
    own = synthesize(label[None], model.encoder, model.prior, styles=0)
    np.testing.assert_array_equal(drawing.pictures[0], to_uint8(own.img[0])[0])
    for place, seed in ((1, 5), (2, 7)):  # `synthesize --seed 5 --styles 1 --layers 3-4 ...`
        gen = stream(seed, "synthesize/styles")
        ws = sample_styles(1, model.prior, gen, truncation_psi=0.7)
        out = synthesize(
            label[None], model.encoder, model.prior, ws_style=ws, layers="3-4", alpha=0.5
        )
        torch.testing.assert_close(drawing.ws[place], out.ws[0, 0])


def test_maps_drawn_together_are_what_they_are_alone(studio: Studio) -> None:
    sight = studio.samples([1])[0]
    looks = (Look(), Look(styles=(3, None), alpha=0.5), Look(styles=(4,), layout=sight.code))
    maps = [studio.check(some_map(split=s).tobytes()) for s in (50, 120, 200)]
    together = studio.draw_all(list(zip(maps, looks, strict=True)))
    for label, look, drawing in zip(maps, looks, together, strict=True):
        alone = studio.draw(label, look)
        torch.testing.assert_close(drawing.ws, alone.ws)
        assert len(drawing.pictures) == len(look.styles)
        assert np.abs(drawing.pictures.astype(int) - alone.pictures).max() <= 1


def test_another_map_gives_another_picture(studio: Studio) -> None:
    a, b = (studio.draw(studio.check(some_map(split=s).tobytes()), Look()) for s in (60, 200))
    assert not np.array_equal(a.pictures, b.pictures)


def test_a_kept_code_is_a_style_and_old_ones_are_forgotten(studio: Studio) -> None:
    sight = studio.samples([3])[0]
    label = studio.check(some_map().tobytes())
    drawing = studio.draw(label, Look(styles=(sight.code,), layers="0-"))
    np.testing.assert_array_equal(drawing.pictures[0], sight.picture)
    for i in range(MOST_CODES):
        studio.keep(torch.full((studio.model.prior.num_ws, 8), float(i)))
    with pytest.raises(ConfigError, match="no longer kept; upload the photo again"):
        studio.draw(label, Look(styles=(sight.code,)))


def test_a_photograph_becomes_a_code_and_a_map(studio: Studio) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    reports = list(studio.look_at(photo))
    assert [r.step for r in reports] == [1, 2, 3]
    assert [r.result is None for r in reports] == [True, True, False]
    sight = reports[-1].result
    assert sight.label.shape == (256, 256)
    assert sight.picture.shape == (16, 16, 3)
    prior = studio.model.prior
    drawn = to_uint8(prior.synthesis(studio.code(sight.code)[None]).img)[0]
    np.testing.assert_array_equal(sight.picture, drawn)


def test_without_a_labeler_photographs_are_refused_with_the_fix() -> None:
    studio = tiny_studio(labeler=False)
    assert studio.about()["photos"] is False
    assert studio.samples([0])[0].label is None
    with pytest.raises(BackendError, match=r"tiny: has no labeler .* labeler.safetensors"):
        next(studio.look_at(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(BackendError, match="no labeler to say what a class looks like"):
        next(studio.refine(studio.check(some_map().tobytes())))


def test_a_rough_map_is_refined_to_a_layout(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_smis.app.studio.REFINE_STEPS", 4)
    label = studio.check(some_map().tobytes())
    reports = list(studio.refine(label))
    assert [(r.step, r.steps) for r in reports] == [(i, 4) for i in (1, 2, 3, 4)]
    ws = encode(label[None], studio.model.encoder)
    model = studio.model
    gen = stream(0, "app/refine")
    freedom = ALL._replace(steps=4)
    found = refine(label[None], ws, model.labeler, model.prior, gen=gen, freedom=freedom)
    torch.testing.assert_close(studio.code(reports[-1].result.code), found.ws[0])
    drawing = studio.draw(label, Look(layout=reports[-1].result.code))
    np.testing.assert_array_equal(drawing.pictures[0], reports[-1].result.picture)


def test_marks_of_a_sparse_model_are_drawn_and_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot_smis.app.studio.REFINE_STEPS", 2)
    prior = tiny_prior(16)
    labeler = tiny_labeler(prior, sparse=True)
    encoder = tiny_encoder(prior).eval()
    studio = Studio(Model("marks", encoder, prior, Classes.generic(3, sparse=True), labeler))
    assert studio.about()["kind"] == "sparse"
    label = studio.check(bytes(256 * 256))
    label[100:104, 50:54] = 2
    (*_, last) = studio.refine(label)
    drawing = studio.draw(label, Look(styles=(None, 1), layout=last.result.code))
    assert drawing.pictures.shape == (2, 16, 16, 3)
    assert last.result.label.shape == (256, 256)


def test_examples_are_brought_to_the_page(studio: Studio) -> None:
    maps = studio.examples()
    assert maps.shape == (1, 256, 256)
    assert maps.unique().tolist() == [0, 1, 2]
    assert studio.about()["side"] == 256
    assert [c["name"] for c in studio.about()["classes"]] == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\0" * 9, "a map of 9 pixels"), (b"\3" * 256 * 256, "class id 3, but there are 3 classes")],
)
def test_a_map_that_is_none_is_refused(studio: Studio, content: bytes, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        studio.check(content)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"styles": ()}, "0 styles; ask for 1 to 8"),
        ({"styles": (None,) * 9}, "9 styles"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"psi": float("nan")}, "psi is nan"),
    ],
)
def test_a_look_that_is_none_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Look(**fields)


@pytest.mark.parametrize(("num", "sizes"), [(1, [1]), (7, [4, 2, 1]), (8, [8]), (22, [8, 8, 4, 2])])
def test_batches_come_in_few_sizes(num: int, sizes: list[int]) -> None:
    parts = in_parts(torch.arange(num))
    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat(parts), torch.arange(num))


def test_the_middle_square_is_cut_out() -> None:
    picture = np.arange(4 * 7).reshape(4, 7)
    np.testing.assert_array_equal(middle_square(picture), picture[:, 1:5])


def test_codes_are_read_again(studio: Studio, tmp_path) -> None:
    from fewshot_smis.codes import save_codes

    drawing = studio.draw(studio.check(some_map().tobytes()), Look(styles=(None, 1)))
    save_codes(tmp_path / "codes.safetensors", drawing.ws, ["own", "1"])
    _, ws = load_codes(tmp_path / "codes.safetensors", studio.model.prior)
    assert torch.equal(ws, drawing.ws)
