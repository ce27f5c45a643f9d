"""The three encoders of pSp against the reference, from weights under the public names."""

import argparse

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import EncoderConfig, MaskEncoder, load_encoder
from tests.parity.case import Call, Case, load_case


def onehot(call: Call) -> Tensor:
    return F.one_hot(call.inputs["labels"].long(), 19).permute(0, 3, 1, 2).float()


def check(case: Case, ws: Tensor) -> None:
    """Compare with the codes at the case's tolerance, 1e-4 and 1e-4 of the largest magnitude."""
    absmax = case.calls[0].spec["outputs"]["codes"]["absmax"]
    case.calls[0].check("codes", ws, rtol=case.tolerance["rtol"], atol=1e-4 * absmax)


@pytest.mark.parametrize(
    ("name", "num_ws"), [("psp_gradual_nc19_s14", 14), ("psp_gradual_nc19_s18", 18)]
)
def test_gradual_encoder_equals_the_reference(name, num_ws):
    case = load_case(name)
    with torch.device("meta"):
        encoder = MaskEncoder(EncoderConfig(in_channels=19, num_ws=num_ws))
    encoder.net.load_state_dict(case.weights, strict=True, assign=True)
    encoder.latent_avg = torch.zeros(num_ws, 512)
    with torch.no_grad():
        check(case, encoder.eval()(onehot(case.calls[0])))


@pytest.mark.parametrize("name", ["psp_backbone_w_nc19", "psp_backbone_wplus_nc19"])
def test_backbone_encoders_equal_the_reference(name, tmp_path):
    """Through a file as the reference's training writes it."""
    case = load_case(name)
    into_w = name == "psp_backbone_w_nc19"
    average = torch.linspace(-1, 1, 512).expand(1 if into_w else 18, 512).clone()
    checkpoint = {
        "state_dict": {f"encoder.{key}": value for key, value in case.weights.items()},
        "latent_avg": average,
        "opts": argparse.Namespace(
            start_from_latent_avg=True, learn_in_w=into_w, label_nc=19, input_nc=19, style_num=18
        ),
    }
    torch.save(checkpoint, tmp_path / "iteration_100000.pt")
    encoder = load_encoder(tmp_path / "iteration_100000.pt")
    with torch.no_grad():
        ws = encoder(onehot(case.calls[0]))
    assert ws.shape[1:] == (18, 512)
    offsets = ws - average
    if into_w:
        torch.testing.assert_close(ws, ws[:, :1].expand_as(ws), rtol=0, atol=0)
    check(case, offsets[:, 0] if into_w else offsets)
