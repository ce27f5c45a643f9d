"""The app over HTTP, in process: what it answers, what it refuses, and how it says so."""

import base64
import io
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from fewshot_smis.app import wire
from fewshot_smis.app.desk import Desk
from fewshot_smis.app.server import PAGE
from fewshot_smis.app.studio import Look, Studio
from fewshot_smis.codes import load_codes
from fewshot_smis.data import Classes
from tests.fewshot_smis.app.conftest import some_map


def pixels(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


def png(array: np.ndarray, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, form)
    return file.getvalue()


def ended(client: TestClient, told: dict[str, Any]) -> dict[str, Any]:
    """Ask for an errand until it has ended."""
    deadline = time.monotonic() + 60
    while told["state"] in ("waiting", "running") and time.monotonic() < deadline:
        time.sleep(0.01)
        told = client.get(f"/api/errands/{told['id']}").json()
    return told


def test_the_page_fetches_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for file in PAGE.iterdir():
        found = client.get(f"/{file.name}")
        assert found.status_code == 200
        assert found.content == file.read_bytes()
        addresses = found.text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in addresses, file.name


def test_models_and_examples(client: TestClient) -> None:
    about = client.get("/api/models").json()["first"]
    assert (about["side"], about["kind"], about["examples"]) == (256, "dense", ["bands"])
    maps = client.get("/api/examples", params={"model": "first"}).content
    assert len(maps) == 256 * 256
    assert set(maps) == {0, 1, 2}


def test_a_map_is_drawn_in_every_style_side_by_side(client: TestClient, studio: Studio) -> None:
    ids = some_map().tobytes()
    query = {"model": "first", "user": "a", "styles": "own,4", "layers": "2-3", "alpha": "0.5"}
    answer = client.post("/api/draw", params=query, content=ids)
    assert answer.headers["content-type"] == "image/png"
    look = Look(styles=(None, 4), layers="2-3", alpha=0.5)
    drawn = studio.draw(studio.check(ids), look)
    np.testing.assert_array_equal(pixels(answer.content), np.concatenate([*drawn.pictures], axis=1))


def test_codes_and_maps_are_downloaded_as_files_that_commands_read(
    client: TestClient, studio: Studio, tmp_path: Path
) -> None:
    ids = some_map()
    query = {"model": "first", "styles": "own,4"}
    file = tmp_path / "codes.safetensors"
    file.write_bytes(client.post("/api/code", params=query, content=ids.tobytes()).content)
    names, ws = load_codes(file, studio.model.prior)
    assert names == ["0-own", "1-style-4"]
    assert ws.shape == (2, studio.model.prior.num_ws, 8)
    stored = client.post("/api/map", params=query, content=ids.tobytes())
    assert 'filename="map.png"' in stored.headers["content-disposition"]
    np.testing.assert_array_equal(pixels(stored.content), ids)


@pytest.mark.parametrize("kind", ["ids", "colours", "jpeg"])
def test_an_uploaded_map_is_snapped_to_the_classes(client: TestClient, kind: str) -> None:
    label = np.zeros((60, 80), np.uint8)
    label[:, 30:] = 1
    label[:, 50:] = 2
    colors = np.array(Classes.generic(3).colors, np.uint8)[label]
    content = {"ids": png(label), "colours": png(colors), "jpeg": png(colors, "JPEG")}[kind]
    answer = client.post("/api/upload-map", params={"model": "first"}, content=content)
    found = np.frombuffer(answer.content, np.uint8).reshape(256, 256)
    columns = 10 + (np.arange(256) * 60 // 256)  # the middle square
    expected = np.broadcast_to(label[0, columns], (256, 256))
    assert (found == expected).mean() > (0.99 if kind != "jpeg" else 0.9)
    assert set(np.unique(found)) <= {0, 1, 2}


def test_a_photograph_is_looked_at_with_progress(client: TestClient) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    told = client.post("/api/photo", params={"model": "first"}, content=png(photo)).json()
    told = ended(client, told)
    assert (told["state"], told["step"], told["steps"]) == ("done", 3, 3)
    assert len(base64.b64decode(told["result"]["label"])) == 256 * 256
    style = {"model": "first", "styles": told["result"]["code"], "layers": "0-"}
    drawn = client.post("/api/draw", params=style, content=some_map().tobytes())
    inverted = base64.b64decode(told["result"]["picture"].partition(",")[2])
    np.testing.assert_array_equal(pixels(drawn.content), pixels(inverted))
    assert client.post(f"/api/errands/{told['id']}/cancel").json()["state"] == "done"


def test_a_rough_map_is_refined_and_drawn_from_its_layout(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewshot_smis.app.studio.REFINE_STEPS", 3)
    ids = some_map().tobytes()
    told = client.post("/api/refine", params={"model": "first"}, content=ids).json()
    told = ended(client, told)
    assert (told["state"], told["step"]) == ("done", 3)
    query = {"model": "first", "layout": told["result"]["code"]}
    drawn = client.post("/api/draw", params=query, content=ids)
    refined = base64.b64decode(told["result"]["picture"].partition(",")[2])
    np.testing.assert_array_equal(pixels(drawn.content), pixels(refined))


def test_a_sample_comes_with_its_code_and_map(client: TestClient) -> None:
    query = {"model": "first", "seed": "3"}
    told = client.post("/api/sample", params=query).json()
    assert told == client.post("/api/sample", params=query).json()
    assert len(told["code"]) == 16


BAD = [
    ("/api/draw", {"model": "other"}, b"", 400, "there is no model 'other'"),
    ("/api/draw", {"model": "../first"}, b"", 400, "there is no model"),
    ("/api/draw", {"model": "first"}, b"\0" * 5, 400, "a map of 5 pixels"),
    ("/api/draw", {"model": "first"}, b"\0" * 65537, 413, "more than 65,536 bytes"),
    ("/api/draw", {"model": "first", "styles": "1.5"}, b"\0" * 65536, 400, "style '1.5'"),
    ("/api/draw", {"model": "first", "styles": "own," * 9 + "own"}, b"", 400, "10 styles"),
    ("/api/draw", {"model": "first", "alpha": "much"}, b"", 400, "alpha 'much' is not a number"),
    ("/api/draw", {"model": "first", "layers": "0-99"}, b"\0" * 65536, 400, "outside the network"),
    ("/api/draw", {"model": "first", "styles": "0123456789abcdef"}, b"\0" * 65536, 400, "kept"),
    ("/api/upload-map", {"model": "first"}, b"<html>", 400, "not a picture"),
    ("/api/upload-map", {"model": "first"}, b"", 400, "not a picture"),
    ("/api/photo", {"model": "first"}, b"\x89PNG\r\n\x1a\n", 400, "not a picture"),
    ("/api/sample", {"model": "first", "seed": "-1"}, b"", 400, "seed '-1'"),
    ("/api/errands/unknown/cancel", {}, b"", 400, "unknown or long over"),
]


@pytest.mark.parametrize(("path", "query", "body", "status", "message"), BAD)
def test_what_cannot_be_done_is_said(
    client: TestClient, path: str, query: dict, body: bytes, status: int, message: str
) -> None:
    answer = client.post(path, params=query, content=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_uploads_have_limits_of_bytes_and_pixels(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    truncated = png(np.zeros((64, 64, 3), np.uint8))[:60]
    for path in ("/api/upload-map", "/api/photo"):
        answer = client.post(path, params={"model": "first"}, content=truncated)
        assert answer.status_code == 400
        assert "/" not in answer.json()["error"].replace("copy or export", "")
    monkeypatch.setattr(wire, "MOST_PIXELS", 1000)
    wide = png(np.zeros((10, 101, 3), np.uint8))
    answer = client.post("/api/photo", params={"model": "first"}, content=wide)
    assert (answer.status_code, "101 x 10" in answer.json()["error"]) == (413, True)
    answer = client.post("/api/photo", params={"model": "first"}, content=b"\0" * (16 << 20) + b"1")
    assert answer.status_code == 413


def test_a_busy_desk_says_so_with_503(client: TestClient, desk: Desk) -> None:
    go, begun = threading.Event(), threading.Event()
    desk.draw("x", lambda _: [(begun.set(), go.wait(10))], None)
    assert begun.wait(10)
    waiting = [desk.draw(name, lambda items: [1 for _ in items], None) for name in "yz"]
    query = {"model": "first", "user": "w"}
    answer = client.post("/api/draw", params=query, content=some_map().tobytes())
    go.set()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "2 people are waiting" in answer.json()["error"]
    assert [future.result(10) for future in waiting] == [1, 1]
    assert client.post("/api/draw", params=query, content=some_map().tobytes()).status_code == 200


def test_other_sites_and_other_hosts_are_refused(client: TestClient) -> None:
    form = {"content-type": "text/plain"}  # what any page may send without asking
    assert client.post("/api/sample", params={"model": "first"}, headers=form).status_code == 415
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    for path in ("/../pyproject.toml", "/..%2fstudio.py", "/studio.py", "/page/index.html"):
        assert client.get(path).status_code == 404
