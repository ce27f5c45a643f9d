"""A studio of tiny networks, and a client that talks to it in process."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from fewshot_smis.app.desk import Desk
from fewshot_smis.app.server import Workshop, build_app
from fewshot_smis.app.studio import Model, Studio
from fewshot_smis.app.trainings import Trainings
from fewshot_smis.data import Classes
from fewshot_smis.inversion import InversionSettings
from stylegan import save_generator
from tests.fewshot_smis.tiny import tiny_encoder, tiny_labeler, tiny_labels, tiny_prior

OCTETS = {"content-type": "application/octet-stream"}
SMALL = {"invert": ("--steps", "30", "--perceptual", "none"), "train": ("--width", "8")}
QUICK = InversionSettings(steps=3, lr=0.1, start="average")


def tiny_studio(*, labeler: bool = True) -> Studio:
    prior = tiny_prior(16)
    encoder = tiny_encoder(prior)
    with torch.no_grad():  # a fresh encoder gives the same code for all maps
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model = Model(
        name="tiny",
        encoder=encoder.eval(),
        prior=prior,
        classes=Classes.generic(3),
        labeler=tiny_labeler(prior) if labeler else None,
        examples=(("bands", tiny_labels(1)[0]),),
    )
    return Studio(model, photo=QUICK)


@pytest.fixture
def studio() -> Studio:
    return tiny_studio()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk(most_waiting=2, most_errands=2)
    yield made
    made.close()


@pytest.fixture
def trainings(studio: Studio, tmp_path: Path) -> Iterator[Trainings]:
    prior = tmp_path / "prior.safetensors"
    save_generator(studio.model.prior, prior)
    made = Trainings(tmp_path / "app", studio, prior, "hash", options=SMALL, most_waiting=1)
    yield made
    made.close()


@pytest.fixture
def client(studio: Studio, desk: Desk, trainings: Trainings) -> Iterator[TestClient]:
    app = build_app(Workshop(studio, desk, trainings), ("testserver",))
    with TestClient(app, headers=OCTETS) as made:
        yield made


def some_map(side: int = 256, *, split: int = 100) -> np.ndarray:
    """Class 1 left of column `split`, class 2 right of it."""
    ids = np.full((side, side), 2, np.uint8)
    ids[:, :split] = 1
    return ids
