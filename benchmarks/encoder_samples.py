"""How many samples an encoder needs: the default recipe against the paper's, on held-out maps.

    python -m benchmarks.encoder_samples --labeler runs/00002-label \
        --maps fewshot_smis/demo/maps/labels --judge judge.safetensors --samples 8000

Both recipes train the same network from the same weights on samples of the same labeler. Pictures
are drawn from the held-out maps after 50 samples, 100, 200 and so on, and the mIoU between the maps
and what is seen in the pictures is noted: by the labeler, and by a judge that taught neither, where
one is given. Writes encoder_samples.json: both curves, and after how many samples the default is
as good as the paper's recipe was at its best.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import machine
from encoders import MaskEncoder
from fewshot_smis.data import load_label_maps
from fewshot_smis.encoding import encode
from fewshot_smis.jobs.base import open_prior, prior_of, run_file
from fewshot_smis.jobs.train import TrainEncoderJob, new_encoder
from fewshot_smis.labelers import Labeler, load_labeler
from fewshot_smis.metrics.judge import Judge, load_judge
from fewshot_smis.metrics.segmentation import agreement, consistency
from fewshot_smis.training import PRESETS, train_encoder
from stylegan import Prior

FIRST = 50  # samples before the first measurement; each next one doubles them


def points(samples: int) -> Iterator[int]:
    """Yield the numbers of samples to measure after: doubled ones, and the last.

    >>> list(points(250))
    [50, 100, 200, 250]
    """
    at = FIRST
    while at < samples:
        yield at
        at *= 2
    yield samples


@torch.no_grad()
def measure(
    encoder: MaskEncoder,
    maps: Sequence[Tensor],
    labeler: Labeler,
    prior: Prior,
    judge: Judge | None,
) -> dict[str, float]:
    """Return the mIoU of the pictures drawn from `maps`, in the labeler's eyes and the judge's."""
    found = {"labeler": round(consistency(maps, encoder, labeler, prior), 4)}
    if judge is not None:
        counts = sum(
            judge.counts(prior.synthesis(encode(label[None], encoder)).img, label[None])
            for label in maps
        )
        found["judge"] = round(agreement(torch.as_tensor(counts)).miou, 4)
    return found


def curve(
    preset: str,
    labeler: Labeler,
    prior: Prior,
    maps: Sequence[Tensor],
    judge: Judge | None,
    args: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Train by one recipe, and return what was measured after how many samples."""
    job = TrainEncoderJob(
        labeler=args.labeler, preset=preset, kind=args.kind, trunk=args.trunk, seed=args.seed
    )
    encoder, batch = new_encoder(job, labeler, prior), PRESETS[preset].batch
    rows = [{"samples": 0, **measure(encoder.eval(), maps, labeler, prior, judge)}]
    due = {-(-n // batch) for n in points(args.samples)}
    seconds = 0.0
    for report in train_encoder(
        encoder, labeler, prior, steps=max(due), settings=PRESETS[preset], seed=args.seed
    ):
        seconds += report.seconds
        if report.step in due:
            trained = report.encoder.eval()
            seen = measure(trained, maps, labeler, prior, judge)
            encoder.train()
            rows.append({"samples": report.step * batch, "seconds": round(seconds, 1), **seen})
            print(preset, json.dumps(rows[-1]), flush=True)
    return rows


def samples_to_reach(rows: list[dict[str, Any]], eyes: str, wanted: float) -> int | None:
    """Return after how many samples `rows` first reach `wanted`, None if they never do."""
    return next((row["samples"] for row in rows if row[eyes] >= wanted), None)


def main() -> None:
    """Train by both recipes and write their curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--labeler", type=Path, required=True, help="run of `label`")
    parser.add_argument("--maps", type=Path, required=True, help="folder of held-out label maps")
    parser.add_argument("--judge", type=Path, help="file of a segmenter trained on pictures")
    parser.add_argument("--samples", type=int, default=8000, help="for each recipe")
    parser.add_argument("--kind", default="backbone_wplus")
    parser.add_argument("--trunk", default="light")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()

    prior = open_prior(prior_of(args.labeler, None), torch.device("cpu"))
    labeler = load_labeler(run_file(args.labeler, "labeler.safetensors", "fitted labeler"))
    maps = [label for _, label in load_label_maps(args.maps, labeler.classes)]
    judge = None if args.judge is None else load_judge(args.judge)
    curves = {
        preset: curve(preset, labeler, prior, maps, judge, args)
        for preset in ("reference", "default")
    }
    reached = {}
    for eyes in ("labeler",) if judge is None else ("labeler", "judge"):
        best = max(curves["reference"], key=lambda row: row[eyes])
        reached[eyes] = {
            "reference_best": best[eyes],
            "reference_samples": best["samples"],
            "default_samples": samples_to_reach(curves["default"], eyes, best[eyes]),
        }
    content = {"machine": machine(torch.device("cpu")), "reached": reached, "curves": curves}
    (args.out / "encoder_samples.json").write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(reached, indent=2))


if __name__ == "__main__":
    main()
