"""The page in a real Chromium: painted on, shown a photograph, trained from.

    python -m pytest --slow -s tests/fewshot_smis/app/test_browser.py

prints the figures. With FEWSHOT_SMIS_SCREENSHOTS=docs it also writes what the page looks like.
"""

import io
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

from fewshot_smis.app.desk import Desk
from fewshot_smis.app.server import Workshop, build_app
from fewshot_smis.app.studio import Studio
from fewshot_smis.app.trainings import Trainings
from fewshot_smis.data import Classes, load_label_maps
from fewshot_smis.jobs.app import open_studio
from fewshot_smis.jobs.base import DEMO, demo_model, demo_prior
from fewshot_smis.jobs.train import TrainEncoderJob, new_encoder
from fewshot_smis.metrics.segmentation import consistency
from fewshot_smis.perceptual import load_perceptual

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra dev)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs Chromium: apt-get install chromium chromium-driver",
    ),
]
PHONE, DESK = (390, 844), (1280, 1000)
PATIENCE = 600  # seconds


class Site(NamedTuple):
    """The app as served here."""

    address: str
    studio: Studio
    desk: Desk
    trainings: Trainings


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the shipped model on a free port."""
    studio = open_studio(demo_model(), None, torch.device("cpu"), load_perceptual("lite0"))
    desk = Desk()
    root = tmp_path_factory.mktemp("app")
    trainings = Trainings(root, studio, demo_prior(), "demo")
    config = uvicorn.Config(
        build_app(Workshop(studio, desk, trainings)), port=0, log_level="error", lifespan="off"
    )
    socket = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    yield Site(f"http://127.0.0.1:{socket.getsockname()[1]}/", studio, desk, trainings)
    server.should_exit = True
    thread.join()
    trainings.close()
    desk.close()


class Page:
    """A browser window with the app in it."""

    def __init__(self, address: str, size: tuple[int, int]) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
            options.add_argument(word)
        options.add_argument("--hide-scrollbars")
        width, height = size
        if size == PHONE:
            metrics = {"width": width, "height": height, "pixelRatio": 2, "touch": True}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        options.add_argument(f"--window-size={width},{height}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(60)
        self.driver.get(address)
        self.settle()

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def wait(self, ready: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if found := ready():
                return found
            time.sleep(0.1)
        raise AssertionError(f"the page says: {self.run('return document.body.innerText')}")

    def settle(self) -> None:
        """Wait until the picture has not been redrawn for a second."""
        drawn = "return document.getElementById('status').dataset.drawn"
        self.wait(lambda: self.run(drawn))
        while True:
            before = self.run(drawn)
            time.sleep(1)
            if self.run(drawn) == before:
                return

    def canvas(self, selector: str) -> np.ndarray:
        """Return the pixels of a canvas, [H,W,3]."""
        found = self.run(
            "const c = document.querySelector(arguments[0]);"
            "return [c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]",
            selector,
        )
        side, *data = found
        return np.array(data, np.uint8).reshape(-1, side, 4)[..., :3]

    def stroke(self, points: list[tuple[float, float]], selector: str = "#viewport") -> None:
        """Draw through points in units of the board, from its upper left corner."""
        board = self.find(selector)
        size = board.size["width"]
        chain = webdriver.ActionChains(self.driver, duration=40)
        offsets = [(round((x - 0.5) * size), round((y - 0.5) * size)) for x, y in points]
        chain.move_to_element_with_offset(board, *offsets[0]).click_and_hold()
        for x, y in offsets[1:]:
            chain.move_to_element_with_offset(board, x, y)
        chain.release().perform()

    def choose(self, name: str, box: str = "#palette") -> None:
        self.run(
            "[...document.querySelectorAll(arguments[0] + ' button')]"
            ".find(b => b.textContent === arguments[1]).click()",
            box,
            name,
        )

    def upload(self, button: str, file: Path) -> None:
        """Choose a file without the system's dialog, which a headless browser lacks."""
        self.run("document.getElementById('file').click = () => {}")
        self.click(button)
        self.find("#file").send_keys(str(file))

    def shot(self, name: str) -> None:
        """Write a screenshot, of few bytes, where the environment wants one."""
        folder = os.environ.get("FEWSHOT_SMIS_SCREENSHOTS")
        if folder:
            image = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
            image.save(Path(folder) / f"{name}.webp", quality=90, method=6)

    def close(self) -> None:
        log = [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        self.driver.quit()
        assert [message for message in log if " 503 " not in message] == []


@pytest.fixture(params=[DESK, PHONE], ids=["desktop", "phone"])
def page(site: Site, request: pytest.FixtureRequest) -> Iterator[Page]:
    made = Page(site.address, request.param)
    yield made
    made.close()


def told(text: str) -> None:
    """Print a figure; -s shows it."""
    sys.stdout.write(f"\n{text}\n")


def kind(page: Page) -> str:
    return "phone" if page.run("return innerWidth") <= PHONE[0] else "desktop"


def test_a_stroke_changes_the_picture_there_and_little_elsewhere(page: Page) -> None:
    page.choose("hair")
    before, map_before = (
        page.canvas("#picture").astype(float),
        page.canvas(".sheet canvas + canvas"),
    )
    page.stroke([(0.36, 0.24), (0.42, 0.3), (0.5, 0.32), (0.6, 0.3), (0.66, 0.25)])
    page.stroke([(0.36, 0.3), (0.5, 0.24), (0.64, 0.32), (0.5, 0.28)])
    page.settle()
    after, map_after = page.canvas("#picture").astype(float), page.canvas(".sheet canvas + canvas")
    page.shot(f"app-draw-{kind(page)}")
    painted = torch.from_numpy((map_before != map_after).any(axis=2))
    colors = {tuple(c) for c in map_after[painted.numpy()].tolist()}
    assert colors == {(0, 0, 204)}  # hard edges: hair, and nothing in between
    size = before.shape[0]
    share = torch.nn.functional.adaptive_max_pool2d(painted.float()[None, None], size)[0, 0]
    near = torch.nn.functional.max_pool2d(share[None, None], size // 4 + 1, 1, size // 8)[0, 0]
    change = np.abs(after - before).mean(axis=2)
    inside, far = change[share.numpy() > 0].mean(), change[near.numpy() == 0].mean()
    told(f"mean absolute change of 255: {inside:.1f} inside the stroke, {far:.1f} far from it")
    assert inside > 2 * far
    page.click("[data-tool=undo]")
    page.click("[data-tool=undo]")
    page.settle()
    np.testing.assert_array_equal(page.canvas("#picture"), before)


def test_what_is_kept_is_drawn_on(page: Page) -> None:
    example = "document.querySelectorAll('#examples button')[arguments[0]].click()"
    page.run(example, 1)
    page.settle()
    kept, board = page.canvas("#picture"), page.canvas(".sheet canvas + canvas")
    for number in (2, 3):
        page.run("document.getElementById('keep').click()")
        page.run(example, number)
        page.settle()
    page.click("[data-tab=gallery]")
    cards = "return document.querySelectorAll('#kept article').length"
    page.wait(lambda: page.run(cards) == 2)
    page.shot(f"app-gallery-{kind(page)}")
    page.run("document.querySelectorAll('#kept article')[1].querySelector('button').click()")
    page.settle()
    np.testing.assert_array_equal(page.canvas(".sheet canvas + canvas"), board)
    np.testing.assert_array_equal(page.canvas("#picture"), kept)


def test_a_busy_server_is_waited_for(site: Site, page: Page) -> None:
    drawn = page.canvas("#picture")
    site.desk.most_waiting = 0
    page.run("document.querySelectorAll('#examples button')[2].click()")
    status = "return document.getElementById('status').innerText"
    page.wait(lambda: "people are waiting" in page.run(status))
    site.desk.most_waiting = 32
    page.settle()
    assert "people" not in page.run(status)
    assert not np.array_equal(page.canvas("#picture"), drawn)


def test_a_photograph_gets_its_map(page: Page) -> None:
    name, truth = load_label_maps(DEMO / "maps")[4]
    page.upload("#upload-photo", DEMO / "maps" / "images" / f"{name}.png")
    page.wait(lambda: not page.run("return document.getElementById('working').open"))
    page.wait(lambda: page.run("return document.querySelectorAll('#styles figure').length") == 5)
    page.settle()
    page.shot(f"app-photo-{kind(page)}")
    colors = page.canvas(".sheet canvas + canvas")[::2, ::2]
    known = np.array(Classes.CELEBAMASK.colors)
    ids = np.abs(colors[:, :, None].astype(int) - known).sum(axis=3).argmin(axis=2)
    right = (ids == truth.numpy()).mean()
    most = np.bincount(truth.numpy().ravel()).max() / truth.numel()
    told(f"pixels labelled right: {right:.3f}; all as the commonest class: {most:.3f}")
    assert right > (1 + most) / 2


def test_classes_are_edited_and_pictures_labelled(page: Page) -> None:
    page.click("[data-tab=label]")
    page.wait(lambda: page.run("return document.querySelectorAll('#shots figure').length") == 1)
    page.choose("hat", "#label-palette")
    page.stroke([(0.3, 0.12), (0.5, 0.08), (0.7, 0.12)], "#label-viewport")
    page.shot(f"app-label-{kind(page)}")
    page.run("document.getElementById('editor').open = true")
    page.run("document.getElementById('add-class').click()")
    names = page.run(
        "return [...document.querySelectorAll('#label-palette button')].map(b => b.textContent)"
    )
    assert names[-1] == "class 19"
    page.choose("class 19", "#label-palette")
    page.stroke([(0.4, 0.9), (0.6, 0.9)], "#label-viewport")
    color = page.canvas("#label-viewport .sheet canvas + canvas")[int(256 * 0.9), 128]
    assert color.tolist() not in [list(c) for c in Classes.CELEBAMASK.colors]
    page.run("document.getElementById('shot-sample').click()")
    page.wait(lambda: page.run("return document.querySelectorAll('#shots figure').length") == 2)


def test_one_labelled_picture_becomes_a_model(site: Site) -> None:
    page = Page(site.address, DESK)
    page.click("[data-tab=label]")
    page.wait(lambda: page.run("return document.querySelectorAll('#shots figure').length") == 1)
    page.find("#title").send_keys("from one picture")
    page.run("document.getElementById('effort').options[0].value = 'quick 100'")
    page.run("document.getElementById('effort').selectedIndex = 0")
    page.click("#train")
    page.wait(lambda: page.run("return document.querySelector('.training .curve') !== null"))
    page.wait(lambda: page.run("return document.querySelector('.sheet-image')?.naturalWidth > 0"))
    page.shot("app-train-desktop")
    page.wait(lambda: page.run("return document.querySelector('.training .primary') !== null"))
    page.click(".training .primary")
    page.wait(lambda: page.run("return !document.getElementById('draw').hidden"))
    page.settle()
    page.shot("app-trained-desktop")
    page.close()
    trained = site.trainings.studios()[site.trainings.told()[0]["id"]].model
    maps = [label for _, label in load_label_maps(DEMO / "maps")]
    judge = site.studio.model.labeler
    assert judge is not None
    job = TrainEncoderJob(labeler=Path(), kind="backbone_wplus", trunk="light")
    fresh = new_encoder(job, judge, trained.prior)
    scores = [consistency(maps, e, judge, trained.prior) for e in (trained.encoder, fresh)]
    told("mIoU of held-out maps: {:.3f} trained, {:.3f} untrained".format(*scores))
    assert scores[0] > scores[1]
