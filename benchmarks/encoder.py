"""An encoder training step: IR-SE-50, 19 dense classes, 256 px, batch 2, the paper's recipe.

    python -m benchmarks.encoder [--device cuda]

A step samples the prior, labels the samples, encodes the maps and takes a step of Ranger.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import (
    Figure,
    Settings,
    at_peak,
    count_operations,
    interleaved,
    main,
    matrix_peak,
    ratio,
)
from benchmarks.networks import plainly, random_generator
from benchmarks.yardstick import dense_labels, plain_encoder
from encoders import EncoderConfig, MaskEncoder, build_encoder
from fewshot_smis.data import Classes, one_hot, resize_label
from fewshot_smis.labelers.dense import DenseLabeler
from fewshot_smis.labelers.prototypes import unit
from fewshot_smis.optim import Ranger
from fewshot_smis.training import PRESETS, train_encoder
from stylegan import Generator, prepare
from stylegan.precision import resolve_precision
from stylegan.seeding import sample_z, stream

CLASSES = 19
AIM = 6.0


def public_steps(encoder: MaskEncoder, prior: Generator, proto: Tensor) -> Callable[[], None]:
    """Return the work of one step the public way: float32, whole pictures, map by map."""
    encoder.train()
    optimizer = Ranger(encoder.parameters(), 1e-4)
    device = proto.device
    gen = stream(0, "benchmark", device)

    def step() -> None:
        with torch.no_grad():
            ws = prior.mapping(sample_z(2, prior.z_dim, gen))
            feat = prior.synthesis(ws, "random", (64,), gen).feats[64]
            label = resize_label(dense_labels(feat, proto), encoder.input_size)
            onehot = one_hot(label, CLASSES)
        loss = F.mse_loss(encoder(onehot), ws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the ratio of a step."""
    device, size = settings.device, 64 if settings.quick else 256
    prior = random_generator(size, device, quick=settings.quick)
    channels = prior.config.channels[64]
    proto = unit(torch.randn(CLASSES, channels, generator=stream(0, "benchmark"))).to(device)
    labeler = DenseLabeler(Classes.generic(CLASSES), proto, resolution=64)
    config = EncoderConfig(
        in_channels=CLASSES, num_ws=prior.num_ws, input_size=size, width=8 if settings.quick else 64
    )
    ours, public = (build_encoder(config, prior.mapping.w_avg.cpu()).to(device) for _ in range(2))
    reports = train_encoder(
        ours, labeler, prepare(prior), steps=10**6, settings=PRESETS["reference"]
    )
    works = {
        "ours": lambda: next(reports),
        "yardstick": public_steps(plain_encoder(public), plainly(prior), proto),
    }
    dtype = resolve_precision("auto", device)
    name = str(dtype).removeprefix("torch.")
    times = interleaved(works, settings, rounds=min(settings.rounds, 4))
    title = f"encoder step, IR-SE-50, {CLASSES} classes, {size} px, batch 2, {name}"
    limit = at_peak(count_operations(works["ours"]), times, matrix_peak(dtype, settings))
    yield ratio(title, times, aim=AIM, note=limit)


if __name__ == "__main__":
    main("encoder", measure, __doc__)
