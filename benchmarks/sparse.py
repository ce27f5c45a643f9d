"""Five-shot models of landmarks and of scribbles: do drawings of held-out marks keep their places?

    python -m benchmarks.sparse --steps 1000

Trains both models on the five shipped pictures by the commands a user has (or takes finished ones,
--landmarks RUN --scribbles RUN), draws the marks of twelve other faces, and refines the drawings.
Printed and saved are, as encoded and as refined, with their spread over the maps:

- landmarks: the distance of each drawn point from where dlib finds it in the picture, and from
  where the labeler does, in percent of the distance of the outer eye corners; beside it dlib's
  own error on the faces the marks were taken from, below which the first cannot fall;
- scribbles: the share of scribbled pixels whose class a dense labeler of the same five pictures
  sees in the picture.

Writes sparse.json and sparse-landmarks.png, sparse-scribbles.png: map, encoded, refined, 2 styles.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import machine
from fewshot_smis.data import (
    Classes,
    colorize,
    load_label_maps,
    load_pairs,
    read_image,
    resize_label,
    sheets,
    to_tensor,
    to_uint8,
    write_image,
)
from fewshot_smis.data.files import write_json
from fewshot_smis.encoding import encode
from fewshot_smis.jobs.base import DEMO, carry_out, labeler_of
from fewshot_smis.jobs.invert import InvertJob, run_invert
from fewshot_smis.jobs.label import LabelJob, codes_of, run_label
from fewshot_smis.jobs.synthesize import read_codes
from fewshot_smis.jobs.train import TrainEncoderJob, open_model, run_train
from fewshot_smis.labelers import Labeler, fit_labeler, label_samples, load_labeler
from fewshot_smis.refinement import refine
from fewshot_smis.synthesis import mix_styles, sample_styles
from stylegan import Prior
from stylegan.seeding import stream
from tools.detectors import Points, detect

SPARSE = DEMO / "sparse"
BACKGROUND = 19  # of scribbles; 0 in dense maps
EYES = (36, 45)  # outer corners


def centers(label: Tensor, count: int = 68) -> Points:
    """Return where the marks 1 .. count stand in `label` [h,w], [count,2] in [0, 1]; NaN if not.

    x and y, as shares of the map's width and height.
    """
    height, width = label.shape
    found = np.full((count, 2), np.nan)
    for number in range(count):
        y, x = torch.nonzero(label == number + 1, as_tuple=True)
        if len(x):
            found[number] = (
                (float(x.float().mean()) + 0.5) / width,
                (float(y.float().mean()) + 0.5) / height,
            )
    return found


def landmark_percent(found: Points, drawn: Points) -> float:
    """Return the mean distance of points [68,2] that both have, in percent of the outer eyes'."""
    unit = np.hypot(*(drawn[EYES[1]] - drawn[EYES[0]]))
    return 100 * float(np.nanmean(np.hypot(*(found - drawn).T))) / float(unit)


def detected(img: Tensor, near: Points) -> Points | None:
    """Return the points [68,2] in [0, 1] of the face in `img` [3,H,W] that is nearest to `near`."""
    picture = to_uint8(img)
    scale = np.array([picture.shape[1], picture.shape[0]])
    faces = [points / scale for points in detect(picture)]
    return min(faces, key=lambda points: float(np.nansum(np.abs(points - near))), default=None)


def landmark_facts(images: Tensor, labels: Tensor, maps: list[Tensor]) -> dict[str, list[float]]:
    """Return the distances of drawn points, one a picture: by dlib, NaN without a face; labeler."""
    by_dlib, by_labeler = [], []
    for img, label, drawn in zip(images, labels, maps, strict=True):
        wanted = centers(drawn)
        found = detected(img, wanted)
        by_dlib.append(np.nan if found is None else landmark_percent(found, wanted))
        by_labeler.append(landmark_percent(centers(label), wanted))
    return {"dlib_percent": by_dlib, "labeler_percent": by_labeler}


def scribble_facts(seen: Tensor, maps: list[Tensor]) -> dict[str, list[float]]:
    """Return the share of scribbled pixels that the dense maps `seen` [N,h,w] agree with."""
    shares = []
    for label, drawn in zip(seen, maps, strict=True):
        at = resize_label(label[None], tuple(drawn.shape))[0]
        wanted = torch.where(drawn == BACKGROUND, 0, drawn)
        shares.append(float((at == wanted)[drawn != 0].float().mean()))
    return {"agreement": shares}


def train(name: str, codes: Path, args: argparse.Namespace) -> Path:
    """Fit a labeler to the five pictures with these marks and train an encoder on it."""
    folder = args.work / name
    if (folder / "train" / "result.json").is_file():
        return folder / "train"
    common: dict[str, Any] = {"seed": args.seed}
    if not (folder / "label" / "result.json").is_file():
        label = LabelJob(
            pairs=SPARSE / name, codes=codes, prior=args.prior, out=folder / "label", **common
        )
        carry_out(label, "label", run_label)
    job = TrainEncoderJob(
        labeler=folder / "label",
        kind="backbone_wplus",
        trunk="light",
        steps=args.steps,
        consistency=args.consistency,
        every=max(args.steps // 2, 1),
        out=folder / "train",
        **common,
    )
    carry_out(job, "train", run_train)
    return folder / "train"


def inverted(args: argparse.Namespace) -> Path:
    """Invert the five pictures, unless that was done."""
    folder: Path = args.work / "invert"
    if not (folder / "result.json").is_file():
        job = InvertJob(
            images=DEMO / "pairs",
            prior=args.prior,
            steps=args.inversion_steps,
            seed=args.seed,
            out=folder,
        )
        carry_out(job, "invert", run_invert)
    return folder


def dense_labeler(codes: Path, prior: Prior) -> Labeler:
    """Fit the default labeler to the dense maps of the same five pictures."""
    pairs = load_pairs(DEMO / "pairs")
    names = json.loads((codes / "result.json").read_text())["loss"]
    ws = codes_of(pairs.names, list(names), read_codes(codes, prior))
    return fit_labeler(prior, ws, [pair.label for pair in pairs.pairs], pairs.classes)


@torch.no_grad()
def draw(ws: Tensor, prior: Prior) -> Tensor:
    """Draw codes [N,L,D]: pictures [N,3,H,W]."""
    return torch.cat([prior.synthesis(part).img for part in torch.split(ws, 8)])


def spread(values: list[float]) -> list[float]:
    """Return mean, standard deviation and number of the values that are there."""
    known = np.array(values)[np.isfinite(values)]
    if not len(known):
        return [float("nan"), float("nan"), 0]
    return [round(float(known.mean()), 3), round(float(known.std()), 3), len(known)]


def evaluate(name: str, run: Path, codes: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Draw the held-out maps as encoded and as refined, measure both, and write the sheet."""
    encoder, prior = open_model(run, args.prior, torch.device("cpu"))
    labeler = load_labeler(labeler_of(run, None))
    classes = Classes.load(run / "classes.json")
    maps = [label for _, label in load_label_maps(SPARSE / f"maps_{name}" / "labels", classes)]
    ws = torch.cat([encode(label[None], encoder) for label in maps])
    refined = refine(maps, ws, labeler, prior, gen=stream(args.seed, "refine/components"))
    judge = labeler if name == "landmarks" else dense_labeler(codes, prior)
    facts: dict[str, Any] = {
        "loss_encoded": spread(refined.before.tolist()),
        "loss_refined": spread(refined.after.tolist()),
    }
    pictures = {"encoded": ws, "refined": refined.ws}
    columns = {"map": [colorize(resize_label(x[None], 128)[0], classes) for x in maps]}
    for title, found in pictures.items():
        images, labels = draw(found, prior), label_samples(judge, prior, found)
        measured = (
            landmark_facts(images, labels, maps)
            if name == "landmarks"
            else scribble_facts(labels, maps)
        )
        facts[title] = {key: spread(values) for key, values in measured.items()}
        columns[title] = list(to_uint8(images))
    styles = sample_styles(2, prior, stream(args.seed, "benchmark/styles"))
    mixed = mix_styles(refined.ws, styles, prior)  # [N,2,L,D]
    for number in range(2):
        columns[f"style {number}"] = list(to_uint8(draw(mixed[:, number], prior)))
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    sheet = sheets.grid(rows, col_titles=list(columns))
    write_image(args.out / f"sparse-{name}.png", sheet)
    return facts


def detector_floor() -> list[float]:
    """Return dlib's own error in percent on the faces the held-out landmarks were taken from."""
    classes = Classes.load(SPARSE / "maps_landmarks" / "classes.json")
    errors = []
    for name, drawn in load_label_maps(SPARSE / "maps_landmarks" / "labels", classes):
        wanted = centers(drawn)
        face = to_tensor(read_image(DEMO / "maps" / "images" / f"{name}.png"))
        found = detected(face, wanted)
        errors.append(np.nan if found is None else landmark_percent(found, wanted))
    return spread(errors)


def main() -> None:
    """Train what is not there, evaluate both models, print and save the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--prior", type=Path, help="by default the embedded generator")
    parser.add_argument("--landmarks", type=Path, help="finished run of `train` for landmarks")
    parser.add_argument("--scribbles", type=Path, help="finished run of `train` for scribbles")
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    parser.add_argument(
        "--consistency", type=float, default=0.0, help="see `train`; 1000 steps take far longer"
    )
    parser.add_argument("--inversion-steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/sparse"), help="kept runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"))
    args = parser.parse_args()
    codes = inverted(args)
    facts: dict[str, Any] = {"landmarks": {}, "scribbles": {}}
    for name in facts:
        run = getattr(args, name) or train(name, codes, args)
        facts[name] = evaluate(name, run, codes, args)
        print(name, json.dumps(facts[name]), flush=True)
    facts["landmarks"]["dlib_floor_percent"] = detector_floor()
    content = {
        "machine": machine(torch.device("cpu")),
        "options": {k: str(v) for k, v in vars(args).items() if k not in ("out", "work")},
        **facts,
    }
    write_json(args.out / "sparse.json", content)
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
