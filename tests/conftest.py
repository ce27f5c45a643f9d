"""Options, fixtures and skips of all tests."""

import os

import pytest
import torch

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(2)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device of the `device` fixture: cpu or cuda")
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skips = {}
    if not torch.cuda.is_available():
        skips["gpu"] = pytest.mark.skip(reason="needs a CUDA device; this machine has none")
    if not config.getoption("--slow"):
        skips["slow"] = pytest.mark.skip(reason="takes minutes; run with --slow")
    for item in items:
        for name, skip in skips.items():
            if item.get_closest_marker(name) is not None:
                item.add_marker(skip)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device named by --device."""
    name = request.config.getoption("--device")
    if name.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("--device cuda, but this machine has no CUDA device")
    return torch.device(name)
