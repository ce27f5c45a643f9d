"""Labelling 8 feature maps of 64 px: 19 dense classes, 71 sparse ones, against the public way.

python -m benchmarks.labels [--device cuda]
"""

from collections.abc import Iterator

import torch

from benchmarks.measure import Figure, Settings, interleaved, main, ratio
from benchmarks.yardstick import dense_labels, sparse_labels
from fewshot_smis.data import Classes
from fewshot_smis.labelers.dense import DenseLabeler
from fewshot_smis.labelers.prototypes import PixelPrototypes, unit
from fewshot_smis.labelers.sparse import SparseLabeler
from stylegan.seeding import stream

POINTS = 1  # labelled pixels a class: landmarks of one shot
AIM = 20.0


@torch.no_grad()
def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the ratios of both kinds."""
    num, channels, size = (2, 16, 16) if settings.quick else (8, 512, 64)
    gen = stream(0, "benchmark")
    feat = torch.randn(num, channels, size, size, generator=gen).to(settings.device)
    proto = unit(torch.randn(71 * POINTS, channels, generator=gen)).to(settings.device)
    fast = feat.contiguous(memory_format=torch.channels_last)

    few = proto[:19]
    dense = DenseLabeler(Classes.generic(19), few, resolution=size)
    works = {"ours": lambda: dense({size: fast}), "yardstick": lambda: dense_labels(feat, few)}
    yield ratio(f"dense labels, 19 classes, batch {num}", interleaved(works, settings, rounds=3))

    ids = torch.arange(1, 71, device=settings.device).repeat(POINTS)
    proto = proto[: len(ids)]
    classes, points = Classes.generic(71, sparse=True), PixelPrototypes(proto, ids)
    labeler = SparseLabeler(classes, points, resolution=size, threshold=0.1)
    works = {
        "ours": lambda: labeler({size: fast}),
        "yardstick": lambda: sparse_labels(feat, proto, ids, 71, topk=3, threshold=0.1),
    }
    yield ratio(
        f"sparse labels, 71 classes, batch {num}", interleaved(works, settings, rounds=3), aim=AIM
    )


if __name__ == "__main__":
    main("labels", measure, __doc__)
