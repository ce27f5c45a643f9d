"""Films are written whole, and read back as the frames that went in."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from fewshot_smis.data.video import write_film
from stylegan.errors import BackendError, DataError


def moving_bar(frames: int = 6, size: tuple[int, int] = (32, 48)) -> list[np.ndarray]:
    """Frames with a white bar that moves to the right."""
    film = np.full((frames, *size, 3), 40, np.uint8)
    for i, frame in enumerate(film):
        frame[:, 6 * i : 6 * i + 6] = 230
    return list(film)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_pillow_films_hold_the_frames_and_loop(tmp_path: Path, suffix: str) -> None:
    frames = moving_bar()
    path = tmp_path / f"bar{suffix}"
    write_film(path, iter(frames), fps=20)
    with Image.open(path) as film:
        assert film.n_frames == len(frames)
        assert film.info["loop"] == 0  # for ever
        shown = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
        assert film.info["duration"] == 50
    for frame, read in zip(frames, shown, strict=True):
        assert np.abs(read.astype(int) - frame).max() < 40
    assert list(tmp_path.iterdir()) == [path]


# imageio-ffmpeg's reader leaves its pipes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_mp4_holds_the_frames(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg (extra `video`)")
    from imageio.v2 import get_reader

    frames = moving_bar()
    path = tmp_path / "bar.mp4"
    write_film(path, frames, fps=20)
    with get_reader(path) as reader:
        assert reader.get_meta_data()["fps"] == 20
        shown = [np.array(frame) for frame in reader]
    assert len(shown) == len(frames)
    for frame, read in zip(frames, shown, strict=True):
        assert read.shape == frame.shape
        assert np.abs(read.astype(int) - frame).mean() < 12
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = moving_bar()
    with pytest.raises(DataError, match=r"no film has the ending '.avi'; use .mp4, .webp or .gif"):
        write_film(tmp_path / "bar.avi", frames)
    with pytest.raises(DataError, match="a film without frames"):
        write_film(tmp_path / "bar.gif", [])
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(BackendError, match=r"pip install 'fewshot-smis\[video\]', or choose .webp"):
        write_film(tmp_path / "bar.mp4", frames)
    assert list(tmp_path.iterdir()) == []
