"""The papers' figures of a prior: their properties, and the commands that draw them."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from fewshot_smis.cli import main
from fewshot_smis.codes import load_codes
from fewshot_smis.data import sheets
from fewshot_smis.data.images import to_uint8
from fewshot_smis.jobs.prior_figures import film_frames, read_seeds
from fewshot_smis.prior_figures import (
    interpolate,
    layer_bands,
    noise_realizations,
    pixel_std,
    seed_codes,
    synthesize_noise,
    truncate,
)
from fewshot_smis.synthesis import mix_styles
from stylegan import (
    Generator,
    GeneratorConfig,
    StyleGAN1,
    StyleGAN1Config,
    StyleGAN3,
    StyleGAN3Config,
    load_generator,
    save_generator,
)
from stylegan.errors import ConfigError, ShapeError
from stylegan.seeding import stream
from tests.fewshot_smis.tiny import tiny_codes, tiny_prior

WIDTHS = {4: 8, 8: 8, 16: 8}


@pytest.fixture(scope="module")
def prior() -> Generator:
    return tiny_prior(16)


@pytest.mark.parametrize(
    ("resolution", "coarse", "middle"),
    [(1024, 3, 7), (256, 3, 7), (64, 3, 7), (32, 1, 5), (16, 1, 3)],
)
def test_bands_are_the_papers_and_move_down_in_small_priors(resolution, coarse, middle):
    prior = tiny_prior(resolution, width=1)
    bands = layer_bands(prior)
    assert bands["coarse"] == tuple(range(coarse))
    assert bands["middle"] == tuple(range(coarse, middle))
    assert bands["fine"] == tuple(range(middle, prior.num_ws))


def test_a_stylegan3_has_bands_but_no_noise():
    config = StyleGAN3Config(
        img_resolution=64, z_dim=8, w_dim=8, channels=(4,) * 6, num_critical=1, mapping_layers=1
    )
    prior = StyleGAN3(config).eval().requires_grad_(False)
    bands = layer_bands(prior)
    sizes = prior.synthesis.layer_resolutions
    assert {name: {sizes[i] for i in layers} for name, layers in bands.items()} == {
        "coarse": {16},
        "middle": {32},
        "fine": {64},
    }
    assert sorted(i for layers in bands.values() for i in layers) == list(range(prior.num_ws))
    with pytest.raises(ConfigError, match="takes no noise"):
        synthesize_noise(seed_codes([0], prior), prior, ())


def test_each_seed_alone_decides_its_picture(prior):
    both = seed_codes([3, 5], prior)
    assert both.shape == (2, 6, 8)
    torch.testing.assert_close(both[1:], seed_codes([5], prior))
    assert not torch.equal(both[0], both[1])
    average = seed_codes([3], prior, truncation_psi=0)[0]
    torch.testing.assert_close(average, prior.mapping.w_avg.expand(6, 8))


def test_a_conditional_prior_draws_the_class_asked_for():
    config = GeneratorConfig(
        img_resolution=8, z_dim=8, w_dim=8, c_dim=3, mapping_layers=2, channels={4: 4, 8: 4}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = Generator(config).requires_grad_(False)
    codes = [seed_codes([0], prior, label=label) for label in range(3)]
    assert not torch.equal(codes[0], codes[2])
    with pytest.raises(ConfigError, match="class 3: this generator has classes 0-2"):
        seed_codes([0], prior, label=3)


def test_mixing_a_code_with_itself_changes_nothing(prior):
    ws = tiny_codes(prior, 3)
    for layers in layer_bands(prior).values():
        mixed = mix_styles(ws, ws, prior, layers=layers)  # [3,3,L,D]
        assert torch.equal(mixed[range(3), range(3)], ws)


def test_truncation_goes_through_the_average(prior):
    ws, w_avg = tiny_codes(prior, 3), prior.mapping.w_avg
    out = truncate(ws, w_avg, [1, 0.5, 0, -1])
    assert out.shape == (3, 4, 6, 8)
    torch.testing.assert_close(out[:, 0], ws)
    torch.testing.assert_close(out[:, 1], (ws + w_avg) / 2)
    assert torch.equal(out[:, 2], w_avg.expand(3, 6, 8))
    torch.testing.assert_close(out[:, 3] - w_avg, w_avg - ws)


def test_noise_in_all_or_no_layers_is_that_of_the_network(prior):
    ws = tiny_codes(prior)
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    everything = synthesize_noise(ws, prior, range(prior.num_ws))
    nothing = synthesize_noise(ws, prior, ())
    assert torch.equal(everything, prior.synthesis(ws).img)
    torch.testing.assert_close(nothing, prior.synthesis(ws, noise_mode="none").img)
    assert not torch.allclose(everything, nothing, atol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())


def test_noise_of_one_layer_depends_on_that_layer_alone(prior):
    ws = tiny_codes(prior, 1)
    fine = layer_bands(prior)["fine"]  # the convolutions of 16 px
    other = tiny_prior(16)
    other.synthesis.b8.conv0.noise_const.normal_(generator=stream(1, "other noise"))
    assert torch.equal(synthesize_noise(ws, prior, fine), synthesize_noise(ws, other, fine))
    other.synthesis.b16.conv1.noise_const.normal_(generator=stream(2, "other noise"))
    assert not torch.equal(synthesize_noise(ws, prior, fine), synthesize_noise(ws, other, fine))


def test_a_stylegan1_has_noise_and_bands():
    config = StyleGAN1Config(
        img_resolution=16, z_dim=8, w_dim=8, mapping_layers=2, mapping_dim=8, channels=WIDTHS
    )
    prior = StyleGAN1(config).eval().requires_grad_(False)
    assert layer_bands(prior) == {"coarse": (0, 1), "middle": (2, 3), "fine": (4, 5)}
    gen = stream(0, "strengths")
    for name, value in prior.synthesis.named_parameters():
        if name.endswith("noise_strength"):
            value.normal_(generator=gen)
    ws = seed_codes([0], prior)
    assert torch.equal(synthesize_noise(ws, prior, range(6)), prior.synthesis(ws).img)
    drawn = []
    for layer in range(6):  # the noise of one layer, as that of the network without the others
        alone = copy.deepcopy(prior)
        strengths = [v for k, v in alone.named_parameters() if k.endswith("noise_strength")]
        sizes = [v for k, v in alone.named_buffers() if k.endswith("noise_const")]
        assert [noise.shape[-1] for noise in sizes] == list(prior.synthesis.layer_resolutions)
        for other, strength in enumerate(strengths):
            if other != layer:
                strength.zero_()
        drawn.append(synthesize_noise(ws, prior, [layer]))
        torch.testing.assert_close(drawn[-1], alone.synthesis(ws).img)
    assert not torch.allclose(drawn[0], drawn[5], atol=1e-3)


def test_standard_deviation_is_that_of_the_stack(prior):
    ws = tiny_codes(prior, 2)
    draws = list(noise_realizations(ws, prior, 12, stream(0, "noise")))
    slow = torch.stack(draws).mean(dim=2).std(dim=0, correction=0)
    torch.testing.assert_close(pixel_std(draws), slow)
    assert slow.min() > 0
    assert pixel_std([draws[0]] * 3).max() < 1e-3
    with pytest.raises(ShapeError, match="of no pictures"):
        pixel_std([])


@pytest.mark.parametrize("loop", [True, False])
def test_the_walk_passes_its_keys(loop):
    keys = torch.randn(4, 2, 6, 8, generator=stream(0, "keys"))
    walk = interpolate(keys, 5, loop=loop)
    assert walk.shape == (20 if loop else 16, 2, 6, 8)
    assert torch.equal(walk[::5], keys)
    if not loop:
        assert torch.equal(walk[-1], keys[-1])


def test_the_walk_is_smooth_and_closes():
    keys = torch.randn(4, 3, generator=stream(0, "keys"), dtype=torch.float64)
    walk = interpolate(keys, 100)
    step = (walk.roll(-1, 0) - walk).norm(dim=1)
    turn = (walk.roll(-1, 0) - 2 * walk + walk.roll(1, 0)).norm(dim=1)
    assert turn.max() < 0.06 * step.max()  # velocity is continuous, at the seam too
    rolled = interpolate(keys.roll(1, 0), 100)
    torch.testing.assert_close(rolled, walk.roll(100, 0))


def test_the_walk_follows_parabolas_exactly():
    keys = torch.arange(6, dtype=torch.float64)[:, None] ** 2
    walk = interpolate(keys, 4, loop=False)[:, 0]
    at = torch.arange(21, dtype=torch.float64) / 4
    torch.testing.assert_close(walk[4:17], at[4:17] ** 2)  # inner legs; the ends are clamped


def test_one_key_stands_still_and_no_key_is_refused():
    keys = torch.randn(1, 3, generator=stream(0, "keys"))
    assert torch.equal(interpolate(keys, 3), keys.expand(3, 3))
    with pytest.raises(ShapeError, match="0 keys"):
        interpolate(keys[:0], 3)


def test_walks_of_a_frame_stand_in_rows_and_columns(prior):
    ws = torch.stack([tiny_codes(prior, 6, seed=s) for s in range(2)])  # [2 frames,6 walks,L,D]
    frames = list(film_frames(ws, prior, shape=(2, 3), cell=1, batch=7))
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 2
    alone = to_uint8(prior.synthesis(ws[1, 4:5]).img)[0]  # second row, second column
    assert np.abs(frames[1][16:, 16:32].astype(int) - alone).max() <= 1


def test_seeds_are_read_and_refused():
    assert read_seeds("seeds", "7") == [7]
    assert read_seeds("seeds", "3-5,0,9-9") == [3, 4, 5, 0, 9]
    for text in ("", "a", "1,,2", "5-2", "-3", "1-"):
        with pytest.raises(ConfigError, match="write seeds like 0-3,85"):
            read_seeds("seeds", text)


def call(*args: Any, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["prior", *map(str, args)])
    if result.exit_code != code:
        raise AssertionError(f"exit {result.exit_code}\n{result.output}") from result.exception
    return result


@pytest.fixture(scope="module")
def prior_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_generator(tiny_prior(16), path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def test_prior_sample_draws_the_picture_of_a_seed(prior_file: Path, tmp_path: Path) -> None:
    call("sample", "--prior", prior_file, "--seed", 5, "--count", 1, "--out", tmp_path / "s")
    prior = load_generator(prior_file)
    _, ws = load_codes(tmp_path / "s" / "codes.safetensors", prior)
    torch.testing.assert_close(ws, seed_codes([5], prior))


def test_mixing_with_itself_repeats_the_source(prior_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixing"
    call(
        *("mixing", "--prior", prior_file, "--sources-a", "4", "--sources-b", "4,7"),
        *("--out", out),
    )
    prior = load_generator(prior_file)
    names, ws = load_codes(out / "codes.safetensors", prior)
    assert names == [f"a4-b{b}-{band}" for band in ("coarse", "middle", "fine") for b in (4, 7)]
    a, b = seed_codes([4], prior)[0], seed_codes([7], prior)[0]
    for same, mixed, layers in zip(ws[::2], ws[1::2], layer_bands(prior).values(), strict=True):
        torch.testing.assert_close(same, a)
        inside = [i in layers for i in range(prior.num_ws)]
        torch.testing.assert_close(mixed, torch.where(torch.tensor(inside)[:, None], b, a))
    sheet = pixels(out / "sheet.png")
    source = sheets.fit_cell(to_uint8(prior.synthesis(a[None]).img)[0], 128)
    assert count_of(source, sheet) == 1 + 3 + 3  # as B, as A of each row, and mixed with itself


def count_of(tile: np.ndarray, sheet: np.ndarray) -> int:
    """Count the places of `sheet` that show `tile`, which is of flat blocks of pixels."""
    height, width = tile.shape[:2]
    corners = np.argwhere((np.abs(sheet.astype(int) - tile[0, 0]) <= 1).all(axis=2))
    found = 0
    for y, x in corners:
        cut = sheet[y : y + height, x : x + width]
        found += cut.shape == tile.shape and np.abs(cut.astype(int) - tile).max() <= 1
    return found


def test_mixing_takes_layers(prior_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixing"
    call("mixing", "--prior", prior_file, "--layers", "1-2", "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert result == {"pictures": 10, "bands": {"layers 1-2": [1, 2]}}
    message = call("mixing", "--prior", prior_file, "--layers", "9", code=2).output
    assert "layer 9 is outside the network" in message


def test_truncation_writes_every_strength(prior_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "truncation"
    call("truncation", "--prior", prior_file, "--seeds", "1-2", "--psis", "1,0,-1", "--out", out)
    prior = load_generator(prior_file)
    names, ws = load_codes(out / "codes.safetensors", prior)
    assert names == [f"seed{seed}-psi{psi}" for seed in (1, 2) for psi in (1, 0, -1)]
    assert torch.equal(ws[1], ws[4])  # both are the average
    average = sheets.fit_cell(to_uint8(prior(torch.zeros(1, 8), truncation_psi=0.0))[0], 128)
    assert count_of(average, pixels(out / "sheet.png")) == 2
    message = call("truncation", "--prior", prior_file, "--psis", "1,x", code=2).output
    assert "write numbers like 1,0.5,0,-1" in message


def test_noise_sheet_and_figures(prior_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "noise"
    call(
        *("noise", "--prior", prior_file, "--seeds", "0-1", "--realizations", 4, "--out", out),
    )
    result = json.loads((out / "result.json").read_text())
    assert 0 < result["mean_std"] < result["largest_std"]
    assert pixels(out / "sheet.png").shape[1] > 6 * 128


# imageio-ffmpeg's reader leaves its pipes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("form", ["gif", "webp", "mp4"])
def test_interpolation_films_can_be_read(form: str, prior_file: Path, tmp_path: Path) -> None:
    if form == "mp4":
        pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg (extra `video`)")
    out = tmp_path / "film"
    call(
        *("interpolate", "--prior", prior_file, "--seeds", "0-3", "--columns", 2, "--cell", 32),
        *("--frames", 3, "--psi", 1, "--format", form, "--out", out),
    )
    result = json.loads((out / "result.json").read_text())
    assert result == {"film": f"film.{form}", "frames": 6, "seconds": 0.2}
    if form == "mp4":
        from imageio.v2 import mimread

        first = np.array(mimread(out / "film.mp4")[0])
    else:
        first = pixels(out / f"film.{form}")
    prior = load_generator(prior_file)
    key = np.hstack(list(to_uint8(prior.synthesis(seed_codes([0, 2], prior)).img)))
    assert first.shape == (32, 64, 3)
    near = np.abs(first[::2, ::2].astype(int) - key).mean()
    far = np.abs(first[::2, ::2].astype(int) - key[:, ::-1]).mean()
    assert near < 0.5 * far  # lossy, but the picture of the seeds


def test_seeds_that_walks_cannot_share_are_refused(prior_file: Path, tmp_path: Path) -> None:
    args = ("interpolate", "--prior", prior_file, "--seeds", "0-4", "--columns", 2)
    message = call(*args, "--out", tmp_path / "film", code=2).output
    assert "5 seeds, which 2 walks cannot share" in message
    assert not (tmp_path / "film").exists()
