import json
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_smis.runs import Run, plain, planned_path, sha256
from stylegan.errors import ConfigError, DataError


@contextmanager
def file_limit(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_run_from_start_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fewshot-smis", "train", "--steps", "2"])
    source = tmp_path / "in.bin"
    source.write_bytes(b"abc")
    run = Run.create(tmp_path / "runs", "train-encoder")
    assert run.path == tmp_path / "runs" / "00001-train-encoder"
    run.save_config({"steps": 2, "labeler": Path("a/b"), "space": ("w", "w+")})
    run.save_inputs({"prior": source, "nothing": None})
    run.save_meta(device="cpu")
    run.log("step 1\nstep 2")
    run.report({"step": 1, "loss": torch.tensor(0.5), "lr": np.float32(0.25)})
    run.report({"step": 2, "loss": float("nan")})
    assert not (run.path / "result.json").exists()
    run.finish({"loss": 0.25})

    def read(name):
        return json.loads((run.path / name).read_text())

    assert read("config.json") == {"steps": 2, "labeler": "a/b", "space": ["w", "w+"]}
    assert run.config() == read("config.json")
    assert (run.path / "log.txt").read_text() == "step 1\nstep 2\n"
    assert run.metrics() == [
        {"step": 1, "loss": 0.5, "lr": 0.25},
        {"step": 2, "loss": None},
    ]
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert read("inputs.json") == {"prior": {"path": str(source), "sha256": abc}}
    assert read("result.json") == {"loss": 0.25}
    meta = read("meta.json")
    assert meta["status"] == "finished"
    assert meta["argv"] == ["fewshot-smis", "train", "--steps", "2"]
    assert meta["torch"] == torch.__version__
    assert (meta["device"], meta["name"]) == ("cpu", "train-encoder")
    assert meta["started"] <= meta["finished"]
    assert meta["seconds"] >= 0
    assert {"version", "git", "python", "cuda"} <= meta.keys()


def test_numbers_go_on_after_the_highest(tmp_path):
    for name in ("00003-a", "00012-b", "notes", "12-c"):
        (tmp_path / name).mkdir()
    assert planned_path(tmp_path, "x") == tmp_path / "00013-x"
    assert not (tmp_path / "00013-x").exists()
    assert Run.create(tmp_path, "x").path.name == "00013-x"
    assert Run.create(tmp_path, "x").path.name == "00014-x"
    assert planned_path(tmp_path / "none", "x").name == "00001-x"


def test_runs_made_at_once_have_different_numbers(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda i: Run.create(tmp_path, f"job{i}"), range(24)))
    assert len({run.path.name[:5] for run in runs}) == 24
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_run_names_are_checked(tmp_path, name):
    with pytest.raises(ConfigError, match="use letters, digits"):
        Run.create(tmp_path, name)


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(DataError, match="runs: cannot write"):
        Run.create(tmp_path / "runs", "x")


def test_out_folder(tmp_path):
    run = Run.at(tmp_path / "new" / "out", "label")
    assert (run.path / "samples").is_dir()
    assert run.meta()["name"] == "label"
    before = sorted(path.name for path in run.path.iterdir())
    with pytest.raises(ConfigError, match=r"out: the output folder exists .*choose another --out"):
        Run.at(tmp_path / "new" / "out")
    assert sorted(path.name for path in run.path.iterdir()) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/out: cannot write"):
        Run.at(tmp_path / "file" / "out")


def test_checkpoints_are_read_with_weights_only_and_the_newest_stay(tmp_path):
    run = Run.create(tmp_path, "x")
    assert run.latest_checkpoint() is None
    for step in (5, 10, 200_000, 1_000_000):
        state = {"step": step, "w": torch.full((2, 3), float(step)), "opt": [{"lr": (0.1, None)}]}
        path = run.checkpoint(step, state)
    assert run.latest_checkpoint() == path
    names = sorted(p.name for p in (run.path / "checkpoints").iterdir())
    assert names == ["step-000010.pt", "step-1000000.pt", "step-200000.pt"]
    state = torch.load(path, weights_only=True)
    assert state["opt"] == [{"lr": (0.1, None)}]
    assert (state["w"] == 1_000_000).all()


def test_optimizer_state_can_be_kept(tmp_path):
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "model": layer.state_dict()}
    path = Run.create(tmp_path, "x").checkpoint(1, state)
    back = torch.load(path, weights_only=True)
    torch.testing.assert_close(back["optimizer"]["state"], optimizer.state_dict()["state"])
    torch.testing.assert_close(back["model"], dict(layer.state_dict()))


@pytest.mark.parametrize("bad", [np.float64(1), np.zeros(2), Path("a"), {1}])
def test_checkpoints_hold_plain_values_only(tmp_path, bad):
    run = Run.create(tmp_path, "x")
    with pytest.raises(TypeError, match=r"state\['a'\]\[1\]: a checkpoint holds tensors and plain"):
        run.checkpoint(1, {"a": [0, bad]})
    assert run.latest_checkpoint() is None


def test_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    run = Run.create(tmp_path, "x")
    good = run.checkpoint(1, {"w": torch.zeros(10)})
    refused = pytest.raises(DataError, match=r"step-000002\.pt: cannot write .*free some space")
    with file_limit(5000), refused:
        run.checkpoint(2, {"w": torch.zeros(10_000)}, keep=1)
    assert list((run.path / "checkpoints").iterdir()) == [good]
    assert torch.load(good, weights_only=True)["w"].shape == (10,)


def test_full_disk_leaves_no_half_report(tmp_path):
    run = Run.create(tmp_path, "x")
    run.report({"step": 1})
    refused = pytest.raises(DataError, match=r"metrics\.jsonl: cannot write .*free some space")
    with file_limit(50), refused:
        run.report({"step": 2, "text": "x" * 100})
    assert (run.path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_resume_takes_back_reports_past_the_checkpoint(tmp_path):
    run = Run.create(tmp_path, "x")
    for step in range(1, 8):
        run.report({"step": step})
        if step == 5:
            checkpoint = run.checkpoint(step, {"step": step})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    run.save_meta(status="failed")
    again = Run.resume(run.path)
    assert again.latest_checkpoint() == checkpoint
    assert [report["step"] for report in again.metrics()] == [1, 2, 3, 4, 5]
    assert again.meta()["status"] == "running"
    assert len(again.meta()["resumed"]) == 1
    again.report({"step": 6})
    assert [report["step"] for report in again.metrics()] == [1, 2, 3, 4, 5, 6]


def test_resume_without_checkpoint_starts_over(tmp_path):
    run = Run.create(tmp_path, "x")
    run.report({"step": 1})
    again = Run.resume(run.path)
    assert again.latest_checkpoint() is None
    assert again.metrics() == []


def test_resume_errors(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such run directory"):
        Run.resume(tmp_path / "nowhere")
    with pytest.raises(DataError, match="not a run directory; --resume takes one"):
        Run.resume(tmp_path)
    run = Run.create(tmp_path, "x")
    run.finish({})
    with pytest.raises(ConfigError, match="this run is finished"):
        Run.resume(run.path)


def test_sha256_of_a_folder_sees_names_and_contents(tmp_path):
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_bytes(b"1")
    first = sha256(folder)
    (folder / "sub" / "a").write_bytes(b"2")
    second = sha256(folder)
    (folder / "sub" / "a").rename(folder / "sub" / "b")
    assert len({first, second, sha256(folder)}) == 3
    with pytest.raises(DataError, match="none: cannot be read"):
        sha256(tmp_path / "none")


def test_missing_input_is_named(tmp_path):
    run = Run.create(tmp_path, "x")
    with pytest.raises(DataError, match=r"gone\.pkl: cannot be read"):
        run.save_inputs({"prior": tmp_path / "gone.pkl"})
    assert not (run.path / "inputs.json").exists()


def test_plain_values():
    value = {1: (Path("a"), np.int64(3), torch.arange(2), float("inf"), True, None)}
    assert plain(value) == {"1": ["a", 3, [0, 1], None, True, None]}
