"""Rendering synthetic faces, and writing them as an image folder does.

OMP_NUM_THREADS=1 python -m benchmarks.faces

One process renders; `faces render --workers` starts as many as there are cores.
"""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figure, Settings, interleaved, main, rate
from fewshot_smis.faces import render_face
from fewshot_smis.faces.dataset import write_portrait

SEED = 700000
AIM = 15.0


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the portraits a second, and the milliseconds that a portrait's files take."""
    count, size = (2, 32) if settings.quick else (60, 128)
    portraits = [render_face(SEED, index, size) for index in range(count)]

    def render() -> None:
        for index in range(count):
            render_face(SEED, index, size)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        (folder / "labels").mkdir()

        def write() -> None:
            for index, portrait in enumerate(portraits):
                write_portrait(folder, f"{index:06d}", portrait)

        times = interleaved({"render": render, "write": write}, settings, rounds=settings.rounds)
    yield rate(f"portraits of {size} px, one process", times["render"], count, "img/s", aim=AIM)
    each = [1000 * seconds / count for seconds in times["write"]]
    yield Figure(
        f"files of a portrait of {size} px", statistics.median(each), "ms", (min(each), max(each))
    )


if __name__ == "__main__":
    main("faces", measure, __doc__)
