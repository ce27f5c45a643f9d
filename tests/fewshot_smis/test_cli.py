"""Every command runs in process from fixture to run directory, stops, resumes, and says no."""

import importlib.metadata
import json
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from fewshot_smis.cli import (
    COMMANDS,
    FACES_COMMANDS,
    LABELS_COMMANDS,
    PRIOR_COMMANDS,
    TOOLS,
    main,
)
from fewshot_smis.codes import load_codes
from fewshot_smis.data import Classes, load_pairs
from fewshot_smis.data.files import read_json
from fewshot_smis.labelers import load_labeler
from fewshot_smis.synthesis import style_layers
from stylegan import load_generator, save_generator
from tests.fewshot_smis.tiny import tiny_prior

SIZE = 32


def call(*args: Any, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in args])
    if result.exit_code != code:
        raise AssertionError(f"exit {result.exit_code}\n{result.output}") from result.exception
    return result


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture(scope="module")
def prior_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    save_generator(tiny_prior(SIZE), path)
    return path


def make_pairs(folder: Path, *, num: int = 2, sparse: bool = False) -> Path:
    """Pictures of 40x40 with maps of 20x20 in three vertical bands, or three marks."""
    gen = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for i in range(num):
        picture = gen.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"p{i}.png")
        label = np.zeros((20, 20), np.uint8)
        if sparse:
            label[4:7, 4:7], label[12:15, 10:13] = 1, 2
        else:
            label[:, 7:14], label[:, 14:] = 1, 2
        Image.fromarray(label).save(folder / "labels" / f"p{i}.png")
    Classes.generic(3, sparse=sparse).save(folder / "classes.json")
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, prior_file: Path, pairs: Path
) -> dict[str, Path]:
    """Invert, label and train once; the run directories of each."""
    root = tmp_path_factory.mktemp("runs")
    invert = root / "invert"
    call(
        *("invert", "--images", pairs, "--prior", prior_file, "--perceptual", "none"),
        *("--steps", 4, "--batch", 1, "--out", invert),
    )
    label = root / "label"
    call(
        *("label", "--pairs", pairs, "--codes", invert, "--prior", prior_file),
        *("--samples", 4, "--out", label),
    )
    train = root / "train"
    call(
        *("train", "--labeler", label, "--trunk", "light", "--width", 8, "--steps", 6),
        *("--every", 2, "--out", train),
    )
    return {"invert": invert, "label": label, "train": train, "prior": prior_file}


def test_invert_writes_a_code_for_each_picture(trained: dict[str, Path]) -> None:
    run = trained["invert"]
    names, ws = load_codes(run / "codes.safetensors", load_generator(trained["prior"]))
    assert names == ["p0", "p1"]
    assert torch.isfinite(ws).all()
    result = json.loads((run / "result.json").read_text())
    assert sorted(result["loss"]) == ["p0", "p1"]
    assert pixels(run / "sheet.png").shape[1] > 300


def test_label_tunes_the_prior_that_heads_learn_from(
    trained: dict[str, Path], pairs: Path, tmp_path: Path
) -> None:
    call(
        *("label", "--pairs", pairs, "--codes", trained["invert"], "--prior", trained["prior"]),
        *("--samples", 1, "--tuning", 0, "--out", tmp_path / "label"),
    )
    tuned, plain = (
        load_labeler(folder / "labeler.safetensors").state_dict()
        for folder in (trained["label"], tmp_path / "label")
    )
    assert not torch.allclose(tuned["weight16"], plain["weight16"], rtol=0.01)


def test_label_and_train_leave_models_and_sheets(trained: dict[str, Path]) -> None:
    for name in ("labeler.safetensors", "shots.png", "sheet.png", "classes.json", "prior.json"):
        assert (trained["label"] / name).is_file()
    run = trained["train"]
    assert (run / "encoder.safetensors").is_file()
    steps = [
        json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().split("\n")[:-1]
    ]
    assert steps[-1] == 6
    assert {p.name for p in (run / "samples").iterdir()} == {f"step-{i:06d}.png" for i in (2, 4, 6)}


def test_synthesize_draws_each_map_in_each_style(
    trained: dict[str, Path], pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "drawn"
    call(
        *("synthesize", "--run", trained["train"], "--labels", pairs / "labels"),
        *("--styles", 3, "--layers", "5-7", "--out", out),
    )
    files = sorted(p.name for p in (out / "images").iterdir())
    assert files == [f"p{i}-{k}.png" for i in range(2) for k in range(3)]
    _, ws = load_codes(out / "codes.safetensors")
    ws = ws.view(2, 3, *ws.shape[1:])
    assert torch.equal(ws[:, 0, :5], ws[:, 1, :5])  # the layout's layers
    assert torch.equal(ws[0, :, 5:8], ws[1, :, 5:8])  # the style's layers
    assert not torch.equal(ws[:, 0, 5:8], ws[:, 1, 5:8])


def test_synthesize_refines_the_layouts_as_refine_does(
    pairs: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    common = ("--run", trained["train"], "--labels", pairs / "labels")
    call("synthesize", *common, "--refine", "--styles", 1, "--out", tmp_path / "drawn")
    call("refine", *common, "--out", tmp_path / "refined")
    call("synthesize", *common, "--styles", 1, "--out", tmp_path / "plain")
    found, want, plain = (
        load_codes(tmp_path / name / "codes.safetensors")[1]
        for name in ("drawn", "refined", "plain")
    )
    layout = min(style_layers(want.shape[1]))
    torch.testing.assert_close(found[:, :layout], want[:, :layout])
    assert torch.equal(found[:, layout:], plain[:, layout:])
    assert not torch.equal(found[:, :layout], plain[:, :layout])
    assert "labeler" in read_json(tmp_path / "drawn" / "inputs.json")


def test_synthesize_takes_the_styles_of_photographs(
    trained: dict[str, Path], pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "drawn"
    call(
        *("synthesize", "--run", trained["train"], "--labels", pairs / "labels" / "p0.png"),
        *("--style", trained["invert"], "--layers", "6-", "--out", out),
    )
    _, photo = load_codes(trained["invert"] / "codes.safetensors")
    _, ws = load_codes(out / "codes.safetensors")
    assert torch.allclose(ws[:, 6:], photo[:, 6:])


def test_mix_writes_every_layout_in_every_style(trained: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "mixed"
    call(
        *("mix", "--prior", trained["prior"], "--layout", trained["invert"]),
        *("--style", "5,7-8", "--alpha", 0.5, "--out", out),
    )
    files = sorted(p.name for p in (out / "images").iterdir())
    assert files == [f"p{i}-seed{k}.png" for i in (0, 1) for k in (5, 7, 8)]
    assert (out / "sheet.png").is_file()


def test_stopped_training_resumes_with_the_same_losses(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewshot_smis.jobs import train as job

    def losses(run: Path) -> dict[int, float]:
        rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
        return {row["step"]: row["loss"] for row in rows}

    args = ("train", "--labeler", trained["label"], "--trunk", "light", "--width", 8)
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    monkeypatch.setattr(job, "REPORT_EVERY", 1)
    call(*args, "--steps", 7, "--every", 3, "--out", whole)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        real = job.progress_sheet
        count = iter(range(9))
        patch.setattr(job, "progress_sheet", lambda *a: real(*a) if next(count) < 1 else stop())
        result = CliRunner().invoke(
            main, [str(a) for a in (*args, "--steps", 7, "--every", 3)] + ["--out", str(halved)]
        )
        assert result.exit_code != 0
    assert not (halved / "result.json").exists()
    call("train", "--resume", halved)
    assert losses(halved) == losses(whole)
    a, b = (
        torch.load(run / "checkpoints" / "step-000007.pt", weights_only=True)
        for run in (whole, halved)
    )
    assert all(torch.equal(a["encoder"][k], b["encoder"][k]) for k in a["encoder"])


def test_sampled_pictures_can_be_labelled_without_inversion(
    prior_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "sampled"
    call("prior", "sample", "--prior", prior_file, "--count", 3, "--out", run)
    names, ws = load_codes(run / "codes.safetensors")
    prior = load_generator(prior_file)
    drawn = prior.synthesis(ws).img
    (run / "labels").mkdir()
    stored = pixels(run / "images" / f"{names[1]}.png")
    wanted = ((drawn[1].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(stored, wanted)
    label = np.zeros((SIZE, SIZE), np.uint8)
    label[:, 16:] = 1
    for name in names:
        Image.fromarray(label).save(run / "labels" / f"{name}.png")
    shown = call(
        *("label", "--pairs", run, "--prior", prior_file, "--out", tmp_path / "label"),
        *("--samples", 2, "--tuning", 2),
    ).output
    assert f"{2 * len(names)}/{2 * len(names)}" in shown
    assert (tmp_path / "label" / "labeler.safetensors").is_file()


def test_sparse_pairs_train_by_the_same_commands(prior_file: Path, tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "pairs", num=1, sparse=True)
    common = ("--runs", tmp_path / "runs")
    call(
        *("invert", "--images", pairs, "--prior", prior_file, "--perceptual", "none"),
        *("--steps", 2, *common),
    )
    codes = tmp_path / "runs" / "00001-invert"
    shown = call("label", "--pairs", pairs, "--codes", codes, "--prior", prior_file, *common)
    assert "tune" not in shown.output  # only linear heads are fitted to a tuned prior
    call(
        *("train", "--labeler", tmp_path / "runs" / "00002-label", "--trunk", "light"),
        *("--width", 8, "--steps", 2, *common),
    )
    call(
        *("synthesize", "--run", tmp_path / "runs" / "00003-train", "--labels", pairs / "labels"),
        *common,
    )
    assert len(list((tmp_path / "runs" / "00004-synthesize" / "images").iterdir())) == 4


def test_prior_info_and_convert(prior_file: Path, tmp_path: Path) -> None:
    text = call("prior", "info", prior_file).output
    assert "img_resolution" in text
    assert "32" in text
    for to, name in (
        ("rosinality", "a.pt"),
        ("nvidia-state", "b.pt"),
        ("safetensors", "c.safetensors"),
    ):
        call("prior", "convert", prior_file, tmp_path / name, "--to", to)
        assert (tmp_path / name).stat().st_size > 1000
    again = load_generator(tmp_path / "a.pt")
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(z), load_generator(prior_file)(z))
    call("prior", "convert", prior_file, tmp_path / "a.pt", "--to", "rosinality", code=2)
    text = call("prior", "convert", prior_file, tmp_path / "d.pt", "--label", 1, code=2).output
    assert "class 1: the network has no classes" in text


def test_prior_train_resumes_and_its_snapshot_loads(pairs: Path, tmp_path: Path) -> None:
    args = (
        "--data",
        pairs,
        "--resolution",
        16,
        "--batch",
        4,
        "--widths",
        "8,8,8",
        "--snapshot",
        0.008,
        "--latent",
        "8,8,2",
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    call("prior", "train", *args, "--kimg", 0.024, "--out", whole)
    call("prior", "train", *args, "--kimg", 0.008, "--out", parts)
    (parts / "result.json").unlink()  # as if it had been stopped
    call("prior", "train", "--resume", parts, "--kimg", 0.024)
    a, b = (load_generator(run / "generator.safetensors") for run in (whole, parts))
    assert a.img_resolution == 16
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def test_rendered_faces_are_pairs_and_judge_a_prior(prior_file: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "faces", tmp_path / "out"
    call("faces", "render", folder, "--count", 8, "--size", 32, "--seed", 7)
    assert len(load_pairs(folder).pairs) == 8
    args = ("--prior", prior_file, "--data", folder, "--metrics", "fd")
    call("prior", "evaluate", *args, "--out", out)
    assert json.loads((out / "result.json").read_text())["frechet_distance_lite0"] > 0
    call("faces", "render", folder, "--count", 1, code=1)  # the folder exists


def test_help_of_every_command_and_dry_run_write_nothing(tmp_path: Path) -> None:
    for prefix, table in (
        ((), COMMANDS),
        (("prior",), PRIOR_COMMANDS),
        (("faces",), FACES_COMMANDS),
        (("labels",), LABELS_COMMANDS),
    ):
        for name in table:
            assert "--seed" in call(*prefix, name, "--help").output
    out = tmp_path / "x"
    text = call("demo", "--dry-run", "--out", out).output
    assert "would write to" in text
    assert not out.exists()


def test_commands_of_entry_points_are_listed_and_called(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("landmarks", "tools.landmarks:main", TOOLS),
        EntryPoint("broken", "tools.no_such_module:main", TOOLS),
        EntryPoint("train", "tools.landmarks:main", TOOLS),  # our own command keeps its name
    ]
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda *, group: EntryPoints(points).select(group=group)
    )
    listed = call("--help").output.split("Tools:")[1]
    assert "landmarks  Landmark label maps of photographs, and how good detectors are." in listed
    assert "broken     From tools.no_such_module." in listed
    assert "train" not in listed
    assert "compare" in call("landmarks", "--help").output
    assert "no face" not in call("landmarks", "label", "nowhere", "--out", "x", code=1).output
    assert "--labeler" in call("train", "--help").output
    assert "broken: tools.no_such_module:main cannot be loaded" in call("broken", code=1).output


BAD = [
    (("train", "--labeler", "nowhere"), 1, "nowhere: no such run directory"),
    (("train",), 2, "--labeler is missing"),
    (("train", "--labeler", "x", "--steps", 0), 2, "--steps is 0; it must be at least 1"),
    (("train", "--step", 3), 2, "Did you mean"),
    (("synthesise",), 2, "No such command"),
    (("invert", "--images", "nowhere", "--perceptual", "none"), 1, "nowhere"),
    (("prior", "info", "nowhere.pkl"), 1, "nowhere.pkl: no such file"),
    (("mix", "--device", "quantum"), 1, "not a device"),
    (("demo", "--config", "nowhere.json"), 2, "nowhere.json: no such file"),
]


@pytest.mark.parametrize(("args", "code", "message"), BAD)
def test_wrong_usage_is_told_with_its_fix(
    args: tuple[Any, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*args, code=code)
    assert message in result.output
    assert "Traceback" not in result.output
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_config_file_gives_defaults_and_unknown_keys_stop(tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"steps": 5, "labeler": "x"}))
    text = call("train", "--config", config, "--batch", 3, "--dry-run").output
    job = json.loads(text[: text.index("\nwould")])
    assert (job["steps"], job["batch"], job["labeler"]) == (5, 3, "x")
    config.write_text(json.dumps({"step": 5}))
    assert "Did you mean 'steps'?" in call("train", "--config", config, code=2).output


def test_output_folder_that_exists_is_left_alone(prior_file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    result = call("prior", "sample", "--prior", prior_file, "--out", tmp_path / "out", code=2)
    assert "exists already" in result.output
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_codes_of_another_prior_are_refused(
    trained: dict[str, Path], pairs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    save_generator(tiny_prior(16), other)
    result = call(
        *("label", "--pairs", pairs, "--codes", trained["invert"], "--prior", other),
        *("--runs", tmp_path / "runs"),
        code=1,
    )
    assert "made with another prior" in result.output
    assert list((tmp_path / "runs").iterdir()) == []


def test_layers_outside_the_network_are_refused(
    trained: dict[str, Path], pairs: Path, tmp_path: Path
) -> None:
    result = call(
        *("synthesize", "--run", trained["train"], "--labels", pairs / "labels"),
        *("--layers", "8-13", "--runs", tmp_path),
        code=2,
    )
    assert "outside the network, which has layers 0-7" in result.output


def test_nan_stops_training_and_keeps_the_last_checkpoint(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "nan"
    result = call(
        *("train", "--labeler", trained["label"], "--trunk", "light", "--width", 8, "--steps", 50),
        *("--every", 1, "--lr", 1e30, "--out", run),
        code=1,
    )
    assert "step" in result.output
    kept = sorted((run / "checkpoints").iterdir())
    state = torch.load(kept[-1], weights_only=True)
    assert all(torch.isfinite(v).all() for v in state["encoder"].values() if v.is_floating_point())
    assert not (run / "result.json").exists()
