import torch

from benchmarks import faces
from benchmarks.measure import Settings


def test_portraits_are_rendered_and_written():
    figures = list(faces.measure(Settings(torch.device("cpu"), rounds=1, quick=True)))
    assert [figure.unit for figure in figures] == ["img/s", "ms"]
    assert all(figure.value > 0 for figure in figures)
