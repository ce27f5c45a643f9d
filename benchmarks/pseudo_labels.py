"""How well samples of the prior are labelled after one and five shots, in the eyes of the judge.

    fewshot-smis faces render shots --count 25 --size 128 --seed 300000
    fewshot-smis invert --images shots --steps 100 --out shots-codes
    python -m benchmarks.pseudo_labels --shots shots --codes shots-codes

The shots are a folder of rendered faces with exact maps, their codes those of `invert`; each repeat
takes other shots. Rows: the paper's prototypes at both feature sizes, linear heads without and with
tuning of the prior, and as a bound what the heads learn from samples, whose codes are exact, with
the judge's labels. Writes pseudo_labels.json.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.measure import machine
from fewshot_smis.codes import load_codes
from fewshot_smis.data import Classes, load_pairs
from fewshot_smis.data.files import write_json
from fewshot_smis.jobs.base import demo_judge, open_weights, run_file
from fewshot_smis.labelers import HeadSettings, Labeler, fit_labeler, label_samples
from fewshot_smis.metrics.judge import Judge, load_judge
from fewshot_smis.metrics.segmentation import agreement, confusion
from stylegan import Prior, prepare
from stylegan.seeding import sample_z, stream

SHOTS = (1, 5)


class Given(NamedTuple):
    """Labelled pictures: codes [N,L,D], maps [N,H,W], and what the codes should draw [N,3,H,W]."""

    ws: Tensor
    labels: Tensor
    images: Tensor

    def rows(self, first: int, count: int) -> "Given":
        """Return `count` of them."""
        return Given(*(part[first : first + count] for part in self))


def fits(
    given: Given, exact: Given, prior: Prior, classes: Classes
) -> Iterator[tuple[str, Labeler]]:
    """Yield each row's name and its labeler."""
    ws, labels, images = given
    for size in (32, 64):
        found = fit_labeler(prior, ws, labels, classes, method="prototypes", resolution=size)
        yield f"prototypes, {size} px", found
    for tuning in (0, HeadSettings().tuning):
        settings = HeadSettings(tuning=tuning)
        found = fit_labeler(prior, ws, labels, classes, linear=settings, images=images)
        yield f"linear, {tuning} steps of tuning", found
    yield "linear, exact codes", fit_labeler(prior, exact.ws, exact.labels, classes)


@torch.no_grad()
def judged(prior: Prior, judge: Judge, count: int, name: str) -> Given:
    """Return samples, labelled by the judge."""
    ws = prior.mapping(sample_z(count, prior.z_dim, stream(0, f"pseudo labels/{name}")))
    images = torch.cat([prior.synthesis(part).img for part in torch.split(ws, 8)])
    return Given(ws, judge.labels(images), images)


def miou(labeler: Labeler, prior: Prior, test: Given) -> float:
    """Return the mIoU, in percent, between a labeler's maps of samples and the judge's."""
    num = labeler.num_classes
    counts = torch.zeros(num, num, dtype=torch.long)
    for ws, label in zip(torch.split(test.ws, 20), torch.split(test.labels, 20), strict=True):
        found = label_samples(labeler, prior, ws, (label.shape[1], label.shape[2]))
        counts += confusion(found, label, num)
    return 100 * agreement(counts).miou


def main() -> None:
    """Fit all rows to the shots of each repeat, and write their scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shots", type=Path, required=True, help="folder of images/, labels/")
    parser.add_argument("--codes", type=Path, required=True, help="run of `invert` on them")
    parser.add_argument("--prior", type=Path, help="generator; by default the embedded one")
    parser.add_argument("--judge", type=Path, help="segmenter; by default the embedded one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()

    prior = open_weights(args.prior, torch.device("cpu"))
    ready = prepare(prior)
    judge = load_judge(args.judge or demo_judge())
    pairs, side = load_pairs(args.shots), prior.img_resolution
    names, ws = load_codes(run_file(args.codes, "codes.safetensors", "codes of the shots"), prior)
    order = [names.index(pair.name) for pair in pairs.pairs]
    given = Given(ws[order], pairs.labels(side), pairs.images(side))
    exact = judged(ready, judge, args.repeats * max(SHOTS), "shots")
    test = judged(ready, judge, args.samples, "test")
    table: dict[str, dict[str, object]] = {}
    for count in SHOTS:
        scores: dict[str, list[float]] = {}
        for repeat in range(args.repeats):
            first = repeat * max(SHOTS)
            shots = given.rows(first, count), exact.rows(first, count)
            for name, labeler in fits(*shots, prior, pairs.classes):
                scores.setdefault(name, []).append(round(miou(labeler, ready, test), 1))
                print(count, name, scores[name][-1], flush=True)
        for name, found in scores.items():
            row = {
                "mean": round(statistics.mean(found), 1),
                "std": round(statistics.stdev(found), 1),
            }
            table[f"{count} shot, {name}"] = {**row, "repeats": found}
            print(f"{count} shot, {name:30}", row, flush=True)
    content = {"machine": machine(torch.device("cpu")), "pseudo_label_miou": table}
    write_json(args.out / "pseudo_labels.json", content)


if __name__ == "__main__":
    main()
