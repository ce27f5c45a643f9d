"""From labelled pictures to a model one can draw with, without leaving the page."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from fewshot_smis.app.desk import BusyError, Desk
from fewshot_smis.app.server import Workshop, build_app
from fewshot_smis.app.studio import Studio
from fewshot_smis.app.trainings import Plan, Shot, Training, Trainings
from fewshot_smis.data import Classes, load_pairs
from fewshot_smis.runs import Run
from stylegan.errors import ConfigError, LabelError
from tests.fewshot_smis.app.conftest import OCTETS, some_map

CLASSES = Classes(("ground", "thing", "other"), ((0, 0, 0), (200, 0, 0), (0, 0, 200)))
GOOD: dict[str, Any] = {"title": "t", "classes": CLASSES.to_json(), "steps": 5, "recipe": "quick"}
PATIENCE = 300  # seconds, on a busy machine


def shots(studio: Studio, num: int = 1) -> list[Shot]:
    """Samples of the prior with a made-up map."""
    sights = studio.samples(range(num))
    label = studio.check(some_map().tobytes())
    return [Shot(sight.picture, label, studio.code(sight.code)) for sight in sights]


def wait_for(training: Training, *states: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while training.state not in states and time.monotonic() < deadline:
        time.sleep(0.02)
    assert training.state in states, (training.state, training.error)


def follow(client: TestClient, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Ask for the one training until it is as wanted; return what was told on the way."""
    told: list[dict[str, Any]] = client.get("/api/trainings").json()
    deadline = time.monotonic() + PATIENCE
    while not until(told[-1]) and time.monotonic() < deadline:
        time.sleep(0.02)
        told += client.get("/api/trainings").json()
    assert until(told[-1]), told[-1]
    return told


def test_a_photograph_is_trained_on_stopped_resumed_and_drawn_with(
    client: TestClient, trainings: Trainings, studio: Studio, desk: Desk
) -> None:
    photo = client.post("/api/sample", params={"model": "first", "seed": "1"}).json()["picture"]
    ids = base64.b64encode(some_map().tobytes()).decode()
    pictures = [{"picture": photo.partition(",")[2], "ids": ids, "code": None}]
    content = {**GOOD, "title": "my model", "steps": 50, "pictures": pictures}
    name = client.post("/api/trainings", content=json.dumps(content)).json()["id"]
    run = trainings.root / name / "train"
    told = follow(client, lambda told: list((run / "checkpoints").glob("*.pt")) != [])
    assert len({t["stage"] for t in told}) == 3
    client.post(f"/api/trainings/{name}/cancel")
    follow(client, lambda told: told["state"] == "stopped")
    step = int(Run(run).latest_checkpoint().stem[5:])
    assert 0 < step < 50
    trainings.close()

    again = Trainings(trainings.root, studio, trainings.prior, "hash")
    app = build_app(Workshop(studio, desk, again), ("testserver",))
    with TestClient(app, headers=OCTETS) as client:
        assert client.get("/api/trainings").json()[0]["state"] == "stopped"
        client.post(f"/api/trainings/{name}/resume")
        (*_, told) = follow(client, lambda told: told["state"] in ("done", "failed"))
        assert (told["state"], told["error"], told["step"]) == ("done", "", 50)
        assert f"resumed at step {step}" in (run / "log.txt").read_text()
        assert told["curve"][0] > 0
        sheet = client.get(f"/api/trainings/{name}/sheet")
        assert sheet.content.startswith(b"\x89PNG")
        about = client.get("/api/models").json()[name]
        assert (about["name"], about["photos"], len(about["examples"])) == ("my model", True, 1)
        assert [c["name"] for c in about["classes"]] == list(CLASSES.names)
        drawn = client.post("/api/draw", params={"model": name}, content=some_map().tobytes())
        assert drawn.status_code == 200
    again.close()


def test_trainings_of_another_prior_are_left_alone(
    trainings: Trainings, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "resume", lambda training: None)
    training = trainings.start(Plan(title="t", classes=CLASSES), shots(studio))
    for prior, names in (("hash", [training.id]), ("another", [])):
        again = Trainings(trainings.root, studio, trainings.prior, prior)
        again.close()
        assert [told["id"] for told in again.told()] == names


def test_pairs_are_written_as_the_commands_read_them(
    trainings: Trainings, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "resume", lambda training: None)
    training = trainings.start(Plan(title=" two ", classes=CLASSES), shots(studio, 2))
    pairs = load_pairs(training.folder / "pairs")
    assert [pair.name for pair in pairs.pairs] == ["1", "2"]
    assert pairs.classes == CLASSES
    np.testing.assert_array_equal(pairs.pairs[0].label.numpy(), some_map())
    assert training.stages == ("label", "train")  # the codes of samples are known
    assert (training.title, training.state, training.told()["step"]) == ("two", "stopped", 0)
    photo = Shot(np.zeros((16, 16, 3), np.uint8), pairs.pairs[0].label, None)
    mixed = trainings.start(Plan(title="m", classes=CLASSES), [*shots(studio), photo])
    assert mixed.stages == ("invert", "label", "train")


def test_commands_start_anew_or_go_on(
    trainings: Trainings, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "resume", lambda training: None)
    training = trainings.start(Plan(title="t", classes=CLASSES, recipe="full"), shots(studio))
    for stage in ("label", "train"):
        words = training.command(stage, trainings.prior, {stage: ("--device", "cpu")})
        assert words[0] == stage
        assert words[-4:-1] == ["--device", "cpu", "--out"]
        Run.at(training.folder / stage, stage)
    label = training.command("label", trainings.prior, {})
    assert "--resume" not in label  # it takes a moment, and starts anew
    assert not (training.folder / "label").exists()
    run = str(training.folder / "train")
    assert training.command("train", trainings.prior, {}) == ["train", "--resume", run]


def test_the_line_is_short_and_what_waits_can_be_cancelled(
    trainings: Trainings, studio: Studio
) -> None:
    plan = Plan(title="t", classes=CLASSES)
    first = trainings.start(plan, shots(studio))
    wait_for(first, "running")
    second = trainings.start(plan, shots(studio))
    assert second.state == "waiting"
    with pytest.raises(BusyError, match="1 trainings are waiting"):
        trainings.start(plan, shots(studio))
    trainings.cancel(second)
    assert second.state == "stopped"
    trainings.cancel(first)
    wait_for(first, "stopped")
    assert [told["state"] for told in trainings.told()] == ["stopped", "stopped"]


def test_a_model_that_cannot_be_opened_is_left_out(
    trainings: Trainings, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "resume", lambda training: None)
    training = trainings.start(Plan(title="t", classes=CLASSES), shots(studio))
    for stage in training.stages:
        Run.at(training.folder / stage, stage).finish({})
    assert training.state == "done"
    assert trainings.studios() == {}
    assert "classes.json: no such file" in training.told()["error"]


def test_a_failure_is_told_in_the_commands_own_words(trainings: Trainings, studio: Studio) -> None:
    trainings.prior.unlink()
    training = trainings.start(Plan(title="t", classes=CLASSES), shots(studio))
    wait_for(training, "failed")
    assert "prior.safetensors: no such file" in training.told()["error"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no json", "this is no training"),
        (b"[1]", "this is no training"),
        (json.dumps({**GOOD, "pictures": []}), "0 pictures; label 1 to 5"),
        (json.dumps({**GOOD, "pictures": [{"picture": "!", "ids": "", "code": None}]}), "picture"),
        (json.dumps({**GOOD, "steps": 0, "pictures": []}), "0 training steps"),
        (json.dumps({**GOOD, "recipe": "x", "pictures": []}), "recipe 'x'; choose from quick"),
        (json.dumps({**GOOD, "title": "", "pictures": []}), "name the model"),
        (json.dumps({**GOOD, "classes": ["one"], "pictures": []}), "1 classes"),
    ],
)
def test_what_is_no_training_is_refused(
    client: TestClient, content: bytes | str, message: str
) -> None:
    answer = client.post("/api/trainings", content=content)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert client.get("/api/trainings").json() == []


def test_a_map_without_labels_is_refused(trainings: Trainings, studio: Studio) -> None:
    (shot,) = shots(studio)
    blank = shot._replace(label=torch.full_like(shot.label, 255))
    with pytest.raises(LabelError, match="picture 1 has no labels yet"):
        trainings.start(Plan(title="t", classes=CLASSES), [blank])
    with pytest.raises(ConfigError, match="6 pictures"):
        trainings.start(Plan(title="t", classes=CLASSES), [shot] * 6)
    assert not trainings.root.exists()


def test_unknown_trainings_are_refused(client: TestClient) -> None:
    for path in ("cancel", "resume"):
        answer = client.post(f"/api/trainings/..%2f..%2fx/{path}")
        assert answer.status_code in (400, 404)
    assert client.get("/api/trainings/x/sheet").json()["error"].startswith("there is no training")
