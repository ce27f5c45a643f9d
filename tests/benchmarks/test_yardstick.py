"""The yardstick computes what our networks compute: pictures, logits, losses and gradients."""

import copy

import torch

from benchmarks.yardstick import plain
from stylegan.critic import Critic
from stylegan.seeding import sample_z, stream
from stylegan.training import PriorTrainer
from tests.stylegan.test_training import make_trainer


def test_a_training_step_of_the_yardstick_is_ours_in_float32() -> None:
    ours = make_trainer(precision="float32")
    with torch.no_grad():
        for name, value in ours.G.named_parameters():
            if name.endswith("noise_strength"):
                value.fill_(0.3)
    generator, judge = plain(copy.deepcopy(ours.G), copy.deepcopy(ours.D))
    z = sample_z(2, 8, stream(0, "z"))
    with torch.no_grad():
        torch.testing.assert_close(generator(z), ours.G(z), rtol=1e-4, atol=1e-5)
        real = ours._real()[0]
        torch.testing.assert_close(judge(real), ours.D(real), rtol=1e-4, atol=1e-5)

    theirs = PriorTrainer(
        generator,
        Critic(judge, r1_gamma=1.0, interval=2),
        make_trainer().images,
        batch=4,
        path_weight=2.0,
        path_interval=2,
        precision="float32",
    )
    for _ in range(3):
        expected, found = ours.step().losses, theirs.step().losses
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
