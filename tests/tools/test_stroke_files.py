"""SVG and PNG drawings: classes by name and by colour, hard edges out of smooth ones, refusals."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fewshot_smis.data import Classes
from stylegan.errors import BackendError, DataError, LabelError
from tools.stroke_files import read_layers, read_svg
from tools.strokes import draw_strokes

CLASSES = Classes(
    ("unknown", "ear", "tail", "eye"),
    ((0, 0, 0), (255, 0, 0), (0, 0, 255), (0, 128, 0)),
    sparse=True,
)


def drawn(tmp_path: Path, body: str, head: str = 'viewBox="0 0 60 40" width="60" height="40"'):
    pytest.importorskip("svgelements", reason="needs svgelements (extra `scribbles`)")
    path = tmp_path / "cat.svg"
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {head}>{body}</svg>')
    strokes, size = read_svg(path, CLASSES)
    return draw_strokes(strokes, size)


def test_svg_strokes_are_as_wide_as_drawn(tmp_path: Path) -> None:
    line = '<line x1="10" y1="10" x2="50" y2="10" stroke="red" stroke-width="4"/>'
    label = drawn(tmp_path, line)
    assert label.shape == (40, 60)
    assert (label[8:12, 10:50] == 1).all()
    assert not label[:8].any()
    assert not label[12:].any()
    moved = drawn(tmp_path, f'<g transform="translate(0,20) scale(1,.5)">{line}</g>')
    assert (moved[24:26, 10:50] == 1).all()


def test_svg_viewbox_scales_to_the_size(tmp_path: Path) -> None:
    line = '<line x1="10" y1="10" x2="50" y2="10" stroke="red" stroke-width="4"/>'
    label = drawn(tmp_path, line, 'viewBox="0 0 60 40" width="120" height="80"')
    assert label.shape == (80, 120)
    assert (label[16:24, 20:100] == 1).all()
    assert not label[:16].any()


def test_svg_classes_come_from_names_then_colours(tmp_path: Path) -> None:
    label = drawn(
        tmp_path,
        """<style>.thick { stroke-width: 6 }</style>
        <g id="tail" stroke="#123456"><path d="M 5 5 H 20"/></g>
        <polyline class="thick Ear" points="5,20 20,20" stroke="#123456" fill="none"/>
        <path d="M 30 30 C 40 10, 50 10, 55 30" style="stroke:rgb(0,128,0);fill:none"/>
        <circle cx="50" cy="8" r="5" fill="blue"/>
        <rect x="0" y="0" width="60" height="40" fill="none"/>""",
    )
    assert (label[4:6, 6:19] == 2).all()
    assert (label[17:23, 6:19] == 1).all()
    assert (label == 3).any(0)[31:54].all()  # the curve has no gap
    assert (label[5:11, 47:53] == 2).all()
    assert label[20, 40] == 0


def test_svg_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabelError, match=r"cat.svg: Path curl: no class is '#123456'; the classes"):
        drawn(tmp_path, '<path id="curl" d="M 0 0 L 9 9" stroke="#123456"/>')
    with pytest.raises(LabelError, match="the fill #00ff00 is the colour of no class"):
        drawn(tmp_path, '<circle r="5" fill="lime"/>')
    broken = tmp_path / "broken.svg"
    broken.write_text("<svg><g>")
    with pytest.raises(DataError, match=r"broken.svg: not an SVG drawing"):
        read_svg(broken, CLASSES)
    with pytest.raises(DataError, match="no such file"):
        read_svg(tmp_path / "none.svg", CLASSES)
    monkeypatch.setitem(sys.modules, "svgelements", None)
    with pytest.raises(BackendError, match=r"pip install 'fewshot-smis\[scribbles\]'"):
        read_svg(broken, CLASSES)


def smooth_layer(path: Path, ink: tuple[int, int, int], box: tuple[int, ...], mode: str) -> Path:
    """Paint an ellipse with soft edges, as painting programs do."""
    paper = (255, 255, 255) if mode == "RGB" else (*ink, 0)
    large = Image.new(mode, (240, 160), paper)
    ImageDraw.Draw(large).ellipse([4 * side for side in box], fill=ink)
    large.resize((60, 40), Image.Resampling.LANCZOS).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_layers_have_hard_edges_and_the_later_lies_above(tmp_path: Path, mode: str) -> None:
    low = smooth_layer(tmp_path / "1.png", (255, 0, 0), (5, 5, 45, 35), mode)
    high = smooth_layer(tmp_path / "2.png", (0, 0, 255), (30, 10, 55, 30), mode)
    label = read_layers([low, high], CLASSES)
    assert set(np.unique(label)) == {0, 1, 2}  # blends of blue and red are no third class
    assert (label[18:22, 8:28] == 1).all()
    assert (label[18:22, 33:52] == 2).all()
    rows, columns = np.indices(label.shape) + 0.5
    ellipse = ((columns - 42.5) / 12.5) ** 2 + ((rows - 20) / 10) ** 2 <= 1
    assert ((label == 2) != ellipse).mean() < 0.03


def test_layers_named_as_classes_need_no_colour(tmp_path: Path) -> None:
    layer = smooth_layer(tmp_path / "eye.png", (90, 90, 90), (5, 5, 45, 35), "RGBA")
    assert set(np.unique(read_layers([layer], CLASSES))) == {0, 3}


def test_wrong_layers_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grey = smooth_layer(tmp_path / "grey.png", (90, 90, 90), (5, 5, 45, 35), "RGBA")
    with pytest.raises(LabelError, match=r"grey.png: #5a5a5a is the colour of no class \(\d+ pix"):
        read_layers([grey], CLASSES)
    small = tmp_path / "small.png"
    Image.new("RGB", (9, 8), (255, 0, 0)).save(small)
    with pytest.raises(LabelError, match=r"grey.png: 60 x 40, unlike small.png"):
        read_layers([small, grey], CLASSES)
    mostly = np.full((8, 9, 3), 90, np.uint8)
    mostly[0, 0] = 255, 0, 0
    Image.fromarray(mostly).save(small)
    assert read_layers([small], CLASSES).sum() == 1
    assert "71 pixels left out" in caplog.text
