"""Steps replayed as CUDA graphs are the steps of the plain loop, and resume like them."""

import copy

import pytest
import torch

from tests.stylegan.test_training import make_augmentation, make_trainer

pytestmark = pytest.mark.gpu

STEPS = 12
LAZY = {"path_weight": 2.0, "path_interval": 2, "precision": "float32"}


def on_card(**settings):
    return make_trainer(device="cuda", **LAZY, **settings)


def test_replayed_steps_have_the_losses_and_weights_of_plain_ones() -> None:
    plain, captured = on_card(captured=False), on_card()
    assert plain.recorder is None
    assert captured.recorder is not None
    for _ in range(STEPS):
        want, got = plain.step().losses, captured.step().losses
        assert got == pytest.approx(want, rel=1e-3, abs=1e-4)
    assert len(captured.recorder._replays) == 2  # with the lazy terms and without
    for name, weight in plain.G_ema.state_dict().items():
        torch.testing.assert_close(captured.G_ema.state_dict()[name], weight, rtol=1e-2, atol=1e-4)


def test_a_resumed_training_goes_on_with_the_draws_of_the_captured_one() -> None:
    whole = on_card()
    for _ in range(STEPS // 2):
        whole.step()
    resumed = on_card()
    resumed.load_state(copy.deepcopy(whole.state()))
    for _ in range(STEPS // 2):
        assert resumed.step().losses == pytest.approx(whole.step().losses, rel=1e-3, abs=1e-4)


def test_augmented_training_is_not_captured() -> None:
    assert make_trainer(make_augmentation(), device="cuda").recorder is None
