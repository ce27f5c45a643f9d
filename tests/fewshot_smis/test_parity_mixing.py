"""Style mixing behind the encoder equals the public pSp forward pass."""

import torch
import torch.nn.functional as F

from fewshot_smis.synthesis import mix_styles
from stylegan.rosinality import generator_from_rosinality
from stylegan.sizes import build_generator, generator_weights
from tests.parity.case import load_case


def test_codes_and_pictures_equal_the_reference():
    case = load_case("psp_forward_512_cm1")
    state = {k.removeprefix("decoder."): v for k, v in case.weights.items()}
    weights = generator_weights(generator_from_rosinality(state), case.name)
    prior = build_generator(weights, case.name)
    for call in case.calls:
        ws, options = call.inputs["codes"], call.spec.get("kwargs", {})
        if ws.ndim == 2:  # one w for all layers
            ws = ws[:, None].expand(-1, prior.num_ws, -1)
        if call.spec["start_from_latent_avg"]:
            ws = ws + call.inputs["latent_avg"]
        if "latent_mask" in options:
            style = call.inputs.get("inject", torch.zeros_like(ws))
            alpha = options.get("alpha", 1.0)
            ws = mix_styles(ws, style, prior, layers=options["latent_mask"], alpha=alpha)[:, 0]
        call.check("latent", ws, **case.tolerance)
        img = prior.synthesis(ws).img
        if options.get("resize", True):
            img = F.adaptive_avg_pool2d(img, 256)
        call.check("img", img, **case.tolerance)
