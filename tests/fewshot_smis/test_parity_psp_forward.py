"""pSp after its encoder: latent average, style mixing and the decoder, against the reference."""

import pytest
import torch
import torch.nn.functional as F

import stylegan
from encoders import EncoderConfig
from encoders.psp import expand_latent_avg
from fewshot_smis.synthesis import mix_styles
from tests.parity.case import load_case

CASE = "psp_forward_512_cm1"
CONFIG = EncoderConfig(in_channels=19, num_ws=16)


@pytest.fixture(scope="module")
def case():
    return load_case(CASE)


@pytest.fixture(scope="module")
def prior(case, tmp_path_factory):
    """The decoder, from a file laid out as a pSp checkpoint."""
    path = tmp_path_factory.mktemp("psp") / "psp.pt"
    torch.save({"state_dict": case.weights, "latent_avg": torch.zeros(16, 512)}, path)
    return stylegan.load_generator(path)


@pytest.mark.parametrize("name", ["wplus", "w", "mixed", "replaced", "zeroed"])
def test_forward_equals_the_reference(name, case, prior):
    call = case.call(name)
    codes = call.inputs["codes"]
    ws = codes if codes.ndim == 3 else codes[:, None]
    if call.spec["start_from_latent_avg"]:
        ws = ws + expand_latent_avg(call.inputs["latent_avg"], CONFIG)
    options = call.spec.get("kwargs", {})
    if "latent_mask" in options:
        style = call.inputs.get("inject", torch.zeros_like(ws))
        ws = mix_styles(
            ws, style, prior, layers=options["latent_mask"], alpha=options.get("alpha", 1.0)
        )[:, 0]
    with torch.no_grad():
        img = prior.synthesis(ws).img
    if options.get("resize", True):
        img = F.adaptive_avg_pool2d(img, (256, 256))
    call.check("latent", ws, **case.tolerance)
    call.check("img", img, **case.tolerance)
