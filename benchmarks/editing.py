"""How well are photographs edited by their maps? On rendered faces, whose maps are exact.

    python -m benchmarks.editing --labeler runs/00002-label --count 20

Each face is given the hair, mouth or glasses of another, or more hair: an exact map it should
have. It is inverted, its map painted so, and edited as `fewshot-smis edit` does. Printed and saved
are, with their spread over the faces:

- the mIoU (over the classes painted) and the accuracy of the map of the picture where the exact
  one was changed, before and after the edit: by the labeler of the inverted and the edited
  picture, and by the judge, which trained on renders, of the face and the blended result;
- the perceptual distance (lite0, not LPIPS) from the face outside the change, of the inverted and
  of the edited picture, before it is blended into the photograph, which makes it 0;
- identity: the distance of dlib's descriptors between face and blended result, beside those of the
  inverted picture and of different faces; and lite0's deep features, a proxy;
- seconds a face.

With --pairs FOLDER real photographs and their maps take the faces' place, and hair is grown.
Writes editing.json and editing.png.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.edit_cases import GROWN, HAIR, OVER, Case, make_cases
from benchmarks.measure import machine
from fewshot_smis.data import (
    Classes,
    colorize,
    load_pairs,
    resize_label,
    sheets,
    to_uint8,
    write_image,
)
from fewshot_smis.data.files import write_json
from fewshot_smis.editing import EditSettings, blend, edit, feathered, find_change
from fewshot_smis.inversion import invert
from fewshot_smis.jobs.base import demo_judge, demo_model, labeler_of, prior_of
from fewshot_smis.jobs.edit import Kit, load_distances
from fewshot_smis.labelers import label_samples, load_labeler
from fewshot_smis.metrics.editing import kept, painted_iou
from fewshot_smis.metrics.judge import Judge, load_judge
from fewshot_smis.tuning import tune_prior
from fewshot_smis.walks import grow_class
from stylegan import Prior, load_generator, prepare
from stylegan.errors import BackendError
from stylegan.seeding import stream
from tools.detectors import detect
from tools.identity import describe_person

Facts = dict[str, float]


def real_cases(folder: Path, size: int, limit: int) -> list[Case]:
    """Return edits of real photographs with dense CelebAMask-HQ maps: hair is grown."""
    pairs = load_pairs(folder, limit=limit)
    cases = []
    for pair, img, label in zip(pairs.pairs, pairs.images(size), pairs.labels(size), strict=True):
        wanted = grow_class(label, HAIR, round(GROWN * size), over=OVER)
        faces = detect(to_uint8(img))
        cases.append(Case(pair.name, "grown hair", img, label, wanted, faces[0] if faces else None))
    return cases


class Result:
    """What the edit of a batch of cases gave."""

    def __init__(self, cases: list[Case], kit: Kit, plain: Prior, args: argparse.Namespace) -> None:
        self.cases, prior = cases, kit.prior
        size, number = prior.img_resolution, len(cases)
        self.photos = torch.stack([case.img for case in cases])
        self.label, self.wanted = (
            torch.stack([getattr(case, name) for case in cases]) for name in ("label", "wanted")
        )
        clock = time.perf_counter()
        found = invert(
            self.photos,
            prior,
            gen=stream(0, "benchmark/invert"),
            perceptual=kit.perceptual,
            steps=args.inversion_steps,
        )
        self.seconds = {"inversion": (time.perf_counter() - clock) / number}
        clock = time.perf_counter()
        if args.tune:
            tuned = tune_prior(
                *(plain, found.ws, self.photos),
                gen=stream(0, "benchmark/tune"),
                steps=args.tune * number,
                perceptual=kit.perceptual,
            )
            prior = prepare(tuned)
            self.seconds["tuning"] = (time.perf_counter() - clock) / number
            clock = time.perf_counter()
        self.before = label_samples(kit.labeler, prior, found.ws, size)
        painted = torch.where(self.wanted != self.label, self.wanted, self.before)
        self.change = find_change(self.before, painted)
        edited = edit(
            *(self.photos, found.ws, self.change, kit.labeler, prior),
            gen=stream(0, "benchmark/spread"),
            perceptual=kit.perceptual,
            identity=kit.identity,
            settings=EditSettings(steps=args.steps),
        )
        self.seconds["edit"] = (time.perf_counter() - clock) / number
        self.after = label_samples(kit.labeler, prior, edited.ws, size)
        with torch.no_grad():
            self.inverted, self.edited = (
                prior.synthesis(ws).img.clamp(-1, 1) for ws in (found.ws, edited.ws)
            )
        self.blended = blend(self.photos, self.edited, feathered(self.change))


def judge_maps(judge: Judge, images: Tensor, size: int) -> Tensor:
    """Return the maps [N,size,size] that the judge sees in pictures [N,3,H,W]."""
    return resize_label(judge.labels(images).cpu(), size)


def measure(result: Result, kit: Kit, judge: Judge) -> list[Facts]:
    """Return the figures of each case of a batch."""
    size, classes = kit.prior.img_resolution, kit.labeler.num_classes
    maps = {
        "labeler_before": result.before,
        "labeler_after": result.after,
        "judge_before": judge_maps(judge, result.photos, size),
        "judge_after": judge_maps(judge, result.blended, size),
    }
    change = result.change
    distances = {"perceptual": kit.perceptual, "identity": kit.identity}
    left = {
        "inverted": kept(result.inverted, result.photos, change, **distances),
        "edited": kept(result.edited, result.photos, change, **distances),
        "blended": kept(result.blended, result.photos, change, **distances),
    }
    found = []
    for i, case in enumerate(result.cases):
        where = case.wanted != case.label
        facts = {}
        for name, label in maps.items():
            seen, wanted = label[i][where], case.wanted[where]
            facts[f"miou_{name}"] = painted_iou(seen, wanted, classes)
            facts[f"accuracy_{name}"] = float((seen == wanted).float().mean())
        for name in ("inverted", "edited"):
            facts[f"outside_lite0_{name}"] = float(left[name].perceptual[i])
            facts[f"outside_rms_{name}"] = float(left[name].pixels[i])
        facts["proxy_blended"] = float(left["blended"].identity[i])
        facts |= people(case, result.inverted[i], result.edited[i], result.blended[i])
        found.append(facts | {f"seconds_{k}": v for k, v in result.seconds.items()})
    return found


def people(case: Case, inverted: Tensor, edited: Tensor, blended: Tensor) -> Facts:
    """Return how far dlib thinks the persons in three pictures are from that of the case."""
    if case.landmarks is None:
        return {}
    own = describe_person(to_uint8(case.img), case.landmarks)
    pictures = {"inverted": inverted, "edited": edited, "blended": blended}
    try:
        seen = {k: describe_person(to_uint8(img), case.landmarks) for k, img in pictures.items()}
    except BackendError:
        return {}
    return {f"dlib_{name}": float(np.linalg.norm(own - other)) for name, other in seen.items()}


def others(cases: list[Case]) -> float:
    """Return dlib's median distance between the persons of different cases."""
    known = [(c.img, c.landmarks) for c in cases if c.landmarks is not None]
    seen = [describe_person(to_uint8(img), marks) for img, marks in known]
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    return float(np.median(pairs)) if pairs else float("nan")


def summary(facts: list[Facts]) -> dict[str, list[float]]:
    """Return mean and standard deviation of each figure over the faces that have it."""
    names = list(dict.fromkeys(name for fact in facts for name in fact))
    table = {}
    for name in names:
        values = np.array([fact[name] for fact in facts if np.isfinite(fact.get(name, np.nan))])
        if len(values):
            table[name] = [round(float(values.mean()), 4), round(float(values.std()), 4)]
    return table


def sheet_rows(result: Result, classes: Classes) -> list[list[Any]]:
    """Return a row of pictures a case."""
    columns = [
        to_uint8(result.photos),
        to_uint8(result.inverted),
        colorize(result.before, classes),
        colorize(result.change.label, classes),
        to_uint8(result.edited),
        colorize(result.after, classes),
        to_uint8(result.blended),
    ]
    return [list(row) for row in zip(*columns, strict=True)]


HEADS = ("face", "inverted", "its map", "painted", "edited", "map after", "blended")


def main() -> None:
    """Edit the faces, print the figures, save them and the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--labeler", type=Path, help="run of `label`; by default the embedded one")
    parser.add_argument("--prior", type=Path, help="by default the labeler's")
    parser.add_argument("--count", type=int, default=20, help="faces")
    parser.add_argument("--seed", type=int, default=300_000, help="of the renders")
    parser.add_argument("--pairs", type=Path, help="real photographs and maps instead of renders")
    parser.add_argument("--judge", type=Path, default=demo_judge(), help="a trained segmenter")
    parser.add_argument("--inversion-steps", type=int, default=150)
    parser.add_argument("--tune", type=int, default=0, help="steps of pivotal tuning a face")
    parser.add_argument("--steps", type=int, default=80, help="of the edit")
    parser.add_argument("--batch", type=int, default=5, help="faces optimised together")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()

    device = torch.device("cpu")
    file = labeler_of(demo_model(), args.labeler)
    plain = load_generator(prior_of(file, args.prior))
    prior = prepare(plain)
    kit = Kit(prior, load_labeler(file), *load_distances("lite0", device))
    judge = load_judge(args.judge)
    size = prior.img_resolution
    if args.pairs is None:
        cases = make_cases(args.count, size, args.seed)
    else:
        cases = real_cases(args.pairs, size, args.count)
    facts: list[Facts] = []
    rows: list[list[Any]] = []
    for i in range(0, len(cases), args.batch):
        result = Result(cases[i : i + args.batch], kit, plain, args)
        facts += measure(result, kit, judge)
        rows += sheet_rows(result, kit.labeler.classes)
        print(f"{len(facts)} of {len(cases)}", json.dumps(summary(facts)), flush=True)
    kinds = sorted({case.kind for case in cases})
    content = {
        "machine": machine(device),
        "options": {k: str(v) for k, v in vars(args).items() if k != "out"},
        "faces": len(cases),
        "all": summary(facts),
        "kinds": {
            kind: summary([f for f, c in zip(facts, cases, strict=True) if c.kind == kind])
            for kind in kinds
        },
        "dlib_between_faces": round(others(cases), 4),
    }
    write_json(args.out / "editing.json", content)
    titles = [f"{case.name}\n{case.kind}" for case in cases]
    write_image(
        args.out / "editing.png", sheets.grid(rows, row_titles=titles, col_titles=list(HEADS))
    )
    print(json.dumps(content["all"], indent=2))


if __name__ == "__main__":
    main()
