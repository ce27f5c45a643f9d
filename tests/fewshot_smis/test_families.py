"""The whole method on StyleGAN1 and StyleGAN3: invert, label, train, synthesize."""

import pytest
import torch

from fewshot_smis.data import Classes
from fewshot_smis.data.images import read_image
from fewshot_smis.inversion import invert
from fewshot_smis.jobs.prior import SamplePriorJob, sample_prior
from fewshot_smis.labelers import feature_resolution, fit_labeler, label_samples
from fewshot_smis.runs import Run
from fewshot_smis.synthesis import synthesize
from fewshot_smis.training import TrainingSettings, train_encoder
from stylegan import (
    Prior,
    StyleGAN1,
    StyleGAN1Config,
    StyleGAN3,
    StyleGAN3Config,
    save_generator,
)
from stylegan.errors import ConfigError
from stylegan.seeding import sample_z, stream
from tests.fewshot_smis.tiny import tiny_codes, tiny_encoder, tiny_labels

SIZES = {"img_resolution": 32, "z_dim": 8, "w_dim": 8, "mapping_layers": 2}
WIDTHS = {4: 8, 8: 8, 16: 8, 32: 8}


def tiny(family: str) -> Prior:
    """Return a random generator of the family with the true mean of its w."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "1":
            prior: Prior = StyleGAN1(StyleGAN1Config(**SIZES, mapping_dim=8, channels=WIDTHS))
        else:
            turning = {"conv_kernel": 1, "radial_filters": True} if family == "3R" else {}
            prior = StyleGAN3(StyleGAN3Config(**SIZES, channels=(8,) * 4, **turning))
    prior.eval().requires_grad_(False)
    w = prior.mapping.map(sample_z(500, 8, stream(0, "w")), None)
    prior.mapping.w_avg.copy_(w.mean(dim=0))
    return prior


@pytest.mark.parametrize("family", ["1", "3T", "3R"])
def test_the_method_runs_on_every_family(family):
    prior = tiny(family)
    images = prior.synthesis(tiny_codes(prior)).img
    found = invert(images, prior, gen=stream(0, "i"), steps=60, space="w+", perceptual=None)
    again = prior.synthesis(found.ws).img
    middle = prior.synthesis(prior.mapping.w_avg.expand(2, prior.num_ws, -1)).img
    assert (again - images).square().mean() < 0.5 * (middle - images).square().mean()

    labels = tiny_labels(2, 3, (32, 32))
    proto = fit_labeler(prior, found.ws, labels, Classes.generic(3), method="prototypes")
    assert proto.resolution == feature_resolution(prior) == 16
    labeler = fit_labeler(prior, found.ws, labels, Classes.generic(3))
    assert labeler.resolutions == tuple(prior.synthesis.block_resolutions)
    known = label_samples(labeler, prior, found.ws) == labels
    assert float(known.float().mean()) > 0.5  # a third by chance
    encoder = tiny_encoder(prior)
    settings = TrainingSettings(batch=8, lr=3e-3)
    steps = list(
        train_encoder(encoder, labeler, prior, steps=30, settings=settings, precision="float32")
    )
    losses = [step.loss for step in steps]
    assert sum(losses[-10:]) < sum(losses[:10])

    drawn = synthesize(labels, encoder, prior, styles=3, gen=stream(0, "s"))
    assert drawn.img.shape == (2, 3, 3, 32, 32)
    assert drawn.ws.shape == (2, 3, prior.num_ws, 8)
    assert not torch.equal(drawn.img[:, 0], drawn.img[:, 1])


def test_features_are_read_nearest_to_64_px():
    assert feature_resolution(tiny("3T"), reference=True) == 32
    large = StyleGAN3(StyleGAN3Config(img_resolution=256, w_dim=4, z_dim=4, channels=(4,) * 14))
    assert feature_resolution(large) == 64


def test_samples_of_a_stylegan3_turn_and_move(tmp_path):
    save_generator(tiny("3T"), tmp_path / "3.safetensors")
    save_generator(tiny("1"), tmp_path / "1.safetensors")
    drawn = {}
    for name, moves in {"plain": {}, "moved": {"shift_x": 0.25}}.items():
        run = Run.at(tmp_path / name, "prior sample")
        job = SamplePriorJob(prior=tmp_path / "3.safetensors", count=2, device="cpu", **moves)
        sample_prior(job, run)
        drawn[name] = read_image(run.path / "images" / "seed0-0000.png").astype(float)
    left, right = drawn["plain"][:, :-8], drawn["moved"][:, 8:]
    assert abs(left - right).mean() < 0.1 * abs(drawn["plain"] - drawn["moved"]).mean()
    job = SamplePriorJob(prior=tmp_path / "1.safetensors", count=1, device="cpu", rotate=5)
    with pytest.raises(ConfigError, match="a stylegan1 generator cannot turn or move"):
        sample_prior(job, Run.at(tmp_path / "no", "prior sample"))
