"""`demo`: the whole method on the embedded synthetic faces, shown on one page."""

import dataclasses
import html
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fewshot_smis.data.files import read_json
from fewshot_smis.jobs.base import DEMO, carry_out, demo_model, peak_memory
from fewshot_smis.jobs.invert import InvertJob, run_invert
from fewshot_smis.jobs.label import LabelJob, run_label
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.jobs.synthesize import SynthesizeJob, run_synthesize
from fewshot_smis.jobs.train import TrainEncoderJob, run_train
from fewshot_smis.runs import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoJob(Job):
    """Show the whole method on synthetic faces: one labelled picture in, drawings to pictures out.

    Inverts one shipped picture, fits a labeler to its map, trains a small encoder, and draws
    held-out maps in four styles each; then the same from the landmarks of that one picture.
    """

    steps: int = opt(400, "Training steps of each encoder.", min=1)
    batch: int = opt(8, "Samples a step.", min=1)
    inversion_steps: int = opt(300, "Steps of the inversion.", min=1)


@dataclasses.dataclass(frozen=True)
class Part:
    """One half of the demo: its pairs, its held-out maps, and what it is called."""

    name: str
    title: str
    pairs: Path
    maps: Path


PARTS = (
    Part("dense", "Dense label maps", DEMO / "pairs", DEMO / "maps" / "labels"),
    Part(
        "landmarks", "Landmarks", DEMO / "sparse" / "landmarks", DEMO / "sparse" / "maps_landmarks"
    ),
)


def run_demo(job: DemoJob, run: Run) -> dict[str, Any]:
    """Write one run directory a step, and index.html with their sheets and figures."""
    common: dict[str, Any] = {"seed": job.seed, "device": job.device}
    seconds: dict[str, float] = {}

    def do(name: str, made: Any, work: Callable[[Any, Run], dict[str, Any]]) -> None:
        start = time.perf_counter()
        carry_out(made, name, work)
        seconds[name] = time.perf_counter() - start

    codes = run.path / "invert"
    invert = InvertJob(
        images=DEMO / "pairs", limit=1, steps=job.inversion_steps, out=codes, **common
    )
    do("invert", invert, run_invert)
    figures = {}
    for part in PARTS:
        label, train, draw = (run.path / f"{part.name}-{s}" for s in ("label", "train", "draw"))
        do(
            label.name,
            LabelJob(pairs=part.pairs, codes=codes, limit=1, out=label, **common),
            run_label,
        )
        training = TrainEncoderJob(
            labeler=label,
            kind="backbone_wplus",
            trunk="light",
            steps=job.steps,
            batch=job.batch,
            every=max(job.steps // 4, 1),
            validate=part.maps,
            out=train,
            **common,
        )
        do(train.name, training, run_train)
        do(
            draw.name,
            SynthesizeJob(run=train, labels=part.maps, out=draw, **common),
            run_synthesize,
        )
        figures[part.name] = read_json(train / "result.json")
    shipped = run.path / "shipped-draw"
    do(
        shipped.name,
        SynthesizeJob(run=demo_model(), labels=DEMO / "maps" / "labels", out=shipped, **common),
        run_synthesize,
    )
    memory = peak_memory()
    page = run.path / "index.html"
    page.write_text(demo_page(job, figures, seconds, memory), encoding="utf-8")
    scores = {
        f"{name}_{key}": round(values[key], 4)
        for name, values in figures.items()
        for key in ("miou_trained", "miou_untrained", "percent_trained", "percent_untrained")
        if key in values
    }
    total = round(sum(seconds.values()), 1)
    return {**scores, "seconds": total, "peak_memory_gb": round(memory, 2), "page": str(page)}


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1b1f; background: #fff; }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { margin-top: 2.2rem }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto; image-rendering: pixelated;
       border: 1px solid #ddd }
figcaption { color: #555; font-size: .92rem } table { border-collapse: collapse }
td, th { border-bottom: 1px solid #ddd; padding: .3rem .9rem .3rem 0; text-align: left }
"""


def demo_page(
    job: DemoJob,
    figures: dict[str, dict[str, Any]],
    seconds: dict[str, float],
    memory: float,
) -> str:
    """Return the page as HTML; its pictures are the sheets beside it."""
    parts = [
        "<h1>From one labelled picture to a model you can draw with</h1>",
        "<p>A generator of synthetic faces, one picture, its label map: inverted, labelled, and an "
        "encoder trained on pseudo-labelled samples. All on this machine, just now.</p>",
        figure("invert/sheet.png", "The picture, and what its code in the generator gives."),
    ]
    for part in PARTS:
        scores = figures[part.name]
        last = f"{part.name}-train/samples/step-{job.steps:06d}.png"
        parts += [
            f"<h2>{html.escape(part.title)}</h2>",
            figure(f"{part.name}-label/shots.png", "The one labelled picture."),
            figure(
                f"{part.name}-label/sheet.png",
                "Samples of the generator, and the labels found by what that picture taught.",
            ),
            figure(last, "Samples, their pseudo labels, and the encoder's reconstructions."),
            figure(f"{part.name}-draw/sheet.png", "Held-out maps, drawn in four styles each."),
            scores_text(job, scores),
        ]
    parts += [
        "<h2>The shipped model</h2>",
        figure(
            "shipped-draw/sheet.png",
            "The same held-out maps through the encoder that comes with the package.",
        ),
        "<h2>Time</h2><table><tr><th>step</th><th>seconds</th></tr>",
        *(f"<tr><td>{name}</td><td>{value:.1f}</td></tr>" for name, value in seconds.items()),
        f"</table><p>Peak memory {memory:.2f} GB.</p>",
    ]
    body = "\n".join(parts)
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>Few-shot semantic image synthesis</title><style>{STYLE}</style>{body}</html>\n"
    )


def scores_text(job: DemoJob, scores: dict[str, Any]) -> str:
    """Return how well an encoder keeps maps, and marks their places, as HTML."""
    text = (
        "<p>Agreement (mIoU) between held-out maps and the labeler's maps of the pictures drawn "
        f"from them: <b>{scores['miou_trained']:.3f}</b> after {job.steps} steps of {job.batch} "
        f"samples, {scores['miou_untrained']:.3f} untrained."
    )
    if "percent_trained" in scores:
        text += (
            " Marks are seen away from where they were drawn by "
            f"<b>{scores['percent_trained']:.2f} %</b> of the side, "
            f"{scores['percent_untrained']:.2f} % untrained."
        )
    return f"{text}</p>"


def figure(source: str, text: str) -> str:
    """Return a picture with its caption as HTML."""
    text = html.escape(text)
    return f"<figure><img src='{source}' alt='{text}'><figcaption>{text}</figcaption></figure>"
