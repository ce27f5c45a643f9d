"""`prior evaluate`: how good a generator is, by every measure of the StyleGAN papers."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_smis.data import sheets
from fewshot_smis.data.attributes import read_attributes
from fewshot_smis.data.collection import ImageCollection
from fewshot_smis.data.images import UInt8, to_uint8, write_image
from fewshot_smis.jobs.base import demo_prior, open_prior, pick_device, progress
from fewshot_smis.jobs.options import Job, opt
from fewshot_smis.metrics.attributes import (
    AttributeHeads,
    accuracy,
    as_binary,
    attribute_features,
    fit_heads,
)
from fewshot_smis.metrics.distribution import frechet_distance, kernel_distance
from fewshot_smis.metrics.features import SPACES, Lite0Space, load_space
from fewshot_smis.metrics.neighbours import nearest
from fewshot_smis.metrics.path_length import PATHS, Ends, path_lengths, trimmed_mean
from fewshot_smis.metrics.precision_recall import density_coverage, precision_recall
from fewshot_smis.metrics.separability import attribute_entropy, linear_svm, separability
from fewshot_smis.perceptual import NAMES, load_perceptual
from fewshot_smis.runs import Run, write_bytes
from stylegan.errors import ConfigError, DataError
from stylegan.seeding import sample_z, stream

MIN_PICTURES = 8
MAX_BLOCK = 500
HELD_OUT = 5  # each fifth picture judges the attribute heads
MIN_GAIN = 0.2  # of the errors of always guessing the commoner value, what a head has to avoid
SHOWN = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateJob(Job):
    """Judge a generator: distances to real pictures, path lengths, separability, copies."""

    prior: Path | None = opt(None, "Generator file; by default the embedded faces.")
    data: Path | None = opt(None, "Folder of real pictures, which all but ppl compare with.")
    metrics: str = opt(
        "fd,kd,pr,ppl,ls,nn",
        "Measures: Frechet and kernel distance, precision and recall, perceptual path length, "
        "linear separability (--data needs attributes.json), nearest neighbours.",
    )
    samples: int = opt(2000, "Samples and pictures compared.", min=MIN_PICTURES)
    path_samples: int = opt(1000, "Paths of each kind; the paper takes 100,000.", min=2)
    class_samples: int = opt(5000, "Samples for separability; the paper takes 200,000.", min=40)
    space: str = opt("lite0", "Feature space of fd, kd, pr and nn.", choices=SPACES)
    weights: Path | None = opt(None, "Weights of the space; Inception has none by itself.")
    perceptual: str = opt("lite0", "Distance along paths.", choices=NAMES[:-1])
    perceptual_weights: Path | None = opt(None, "Weights of that distance; LPIPS needs them.")
    psi: float = opt(1.0, "Truncation of the samples of fd, kd, pr and nn: 1 is none.")
    neighbours: int = opt(5, "Pictures shown beside a sample.", min=1)
    batch: int = opt(32, "Pictures at once.", min=1)

    def __post_init__(self) -> None:
        """Check the fields, and that the measures are known and have what they need."""
        super().__post_init__()
        unknown = [name for name in self.chosen if name not in MEASURES]
        if unknown:
            known = ",".join(MEASURES)
            raise ConfigError(f"--metrics: '{unknown[0]}' is unknown; choose from {known}")
        if self.data is None and self.chosen != ["ppl"]:
            raise ConfigError("--data is missing: all measures but ppl compare with pictures")

    @property
    def chosen(self) -> list[str]:
        """The measures asked for."""
        return [name.strip() for name in self.metrics.split(",")]


class Bench:
    """What the measures share; features are taken once, when the first measure needs them."""

    def __init__(self, job: EvaluateJob, run: Run) -> None:
        self.job, self.run = job, run
        self.device = pick_device(job.device)
        self.prior = open_prior(job.prior, self.device)
        self.attributes: list[dict[str, Any]] = []

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of what the generator draws, be it square or not."""
        img = self.draw(self.latents(1, "score"), torch.zeros(1, dtype=torch.long))
        return img.shape[2], img.shape[3]

    @cached_property
    def images(self) -> ImageCollection:
        """The real pictures."""
        if self.job.data is None:
            raise ConfigError("--data is missing")
        images = ImageCollection(self.job.data, self.size)
        if len(images) < MIN_PICTURES:
            raise DataError(
                f"{self.job.data}: {len(images)} pictures; give at least {MIN_PICTURES}, "
                "better 2,000"
            )
        return images

    @cached_property
    def count(self) -> int:
        """How many samples and pictures are compared."""
        return min(self.job.samples, len(self.images))

    @cached_property
    def real(self) -> Tensor:
        """Features [N, D] of the pictures."""
        space = load_space(self.job.space, self.job.weights, self.device)
        return torch.cat([space(img) for img in self.pictures(self.count)])

    @cached_property
    def fake(self) -> Tensor:
        """Features [N, D] of the samples."""
        space = load_space(self.job.space, self.job.weights, self.device)
        parts = self.parts(self.count, "samples")
        return torch.cat([space(self.draw(self.z[part], part, self.job.psi)) for part in parts])

    @cached_property
    def z(self) -> Tensor:
        """Latents [N, z_dim] of the samples."""
        return self.latents(self.count, "score")

    def latents(self, count: int, name: str) -> Tensor:
        """Return latents [count, z_dim] of the stream `name`."""
        gen = stream(self.job.seed, f"prior/{name}")
        return sample_z(count, self.prior.z_dim, gen).to(self.device)

    def conditions(self, part: Tensor) -> Tensor | None:
        """Return one-hot conditions of the samples numbered `part`, the classes in turn."""
        width = self.prior.c_dim
        return torch.eye(width, device=self.device)[part % width] if width else None

    def parts(self, count: int, text: str) -> Iterator[Tensor]:
        """Yield the numbers below `count` a batch at a time, under a progress bar."""
        parts = torch.split(torch.arange(count), self.job.batch)
        return progress(parts, len(parts), text)

    def pictures(self, count: int) -> Iterator[Tensor]:
        """Yield the first `count` pictures [N, 3, H, W] in [-1, 1], a batch at a time."""
        for part in self.parts(count, "pictures"):
            yield self.images.batch(part).to(self.device).float() / 127.5 - 1

    @torch.no_grad()
    def draw(self, z: Tensor, part: Tensor, psi: float = 1.0) -> Tensor:
        """Return the samples numbered `part` of `z` [N, z_dim], rounded to 8 bits as files are."""
        ws = self.prior.mapping(z, self.conditions(part), truncation_psi=psi)
        img = self.prior.synthesis(ws).img.float()
        return ((img.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def run_evaluate(job: EvaluateJob, run: Run) -> dict[str, Any]:
    """Write report.md and the sheets, and return every number."""
    bench = Bench(job, run)
    if job.data is not None:
        write_image(run.path / "samples.png", samples_sheet(bench))
    result: dict[str, Any] = {"prior": str(job.prior or demo_prior())}
    result |= {"size": "{} x {}".format(*bench.size), "seed": job.seed}
    if job.data is not None:
        result |= {"pictures": bench.count, "samples": bench.count, "psi": job.psi}
    measures: dict[str, float] = {}
    for name in job.chosen:
        measures |= MEASURES[name](bench)
        run.report({"measure": name, **measures})
    result |= {name: float(f"{value:.5g}") for name, value in measures.items()}
    if bench.attributes:
        result["attributes"] = bench.attributes
    write_bytes(run.path / "report.md", report(result).encode())
    return result


def samples_sheet(bench: Bench, rows: int = 8, columns: int = 4) -> UInt8:
    """Show the first samples, 32 or as many as there are, beside as many pictures."""
    num = min(rows * columns, bench.count // columns * columns)
    part = torch.arange(num)
    drawn = to_uint8(bench.draw(bench.z[part], part, bench.job.psi))
    pixels = list(bench.images.batch(part).permute(0, 2, 3, 1).numpy())
    return sheets.grid(
        [[*drawn[i : i + columns], *pixels[i : i + columns]] for i in range(0, num, columns)],
        col_titles=["sample"] * columns + ["picture"] * columns,
    )


def frechet(bench: Bench) -> dict[str, float]:
    """Return the Frechet distance of the samples, and that of two halves of the pictures."""
    name = f"frechet_distance_{bench.job.space}"
    return {
        name: frechet_distance(bench.real, bench.fake),
        f"{name}_between_halves_of_the_pictures": frechet_distance(
            bench.real[::2], bench.real[1::2]
        ),
    }


def kernel(bench: Bench) -> dict[str, float]:
    """Return the kernel distance of the samples and its standard error."""
    gen = stream(bench.job.seed, "prior/evaluate/blocks")
    block = min(MAX_BLOCK, bench.count // 4)
    found = kernel_distance(bench.real, bench.fake, gen, block=block)
    name = f"kernel_distance_{bench.job.space}"
    return {name: found.value, f"{name}_standard_error": found.error}


def overlap(bench: Bench) -> dict[str, float]:
    """Return precision, recall, density and coverage."""
    return {
        **precision_recall(bench.real, bench.fake)._asdict(),
        **density_coverage(bench.real, bench.fake)._asdict(),
    }


def paths(bench: Bench) -> dict[str, float]:
    """Return the perceptual path length in z and in w, of the full path and of its end."""
    job = bench.job
    distance = load_perceptual(job.perceptual, job.perceptual_weights)
    if isinstance(distance, torch.nn.Module):
        distance.to(bench.device)
    gen = stream(job.seed, "prior/evaluate/positions")
    full = torch.rand(job.path_samples, generator=gen).to(bench.device)
    z0, z1 = (bench.latents(job.path_samples, f"evaluate/{end}") for end in ("start", "end"))
    result = {}
    for space, along in PATHS.items():
        for where, t in (("full", full), ("end", torch.zeros_like(full))):
            lengths = [
                path_lengths(
                    bench.prior,
                    distance,
                    along,
                    Ends(z0[part], z1[part], bench.conditions(part)),
                    t[part],
                )
                for part in bench.parts(job.path_samples, f"paths {space} {where}")
            ]
            name = f"path_length_{space}_{where}_{job.perceptual}"
            result[name] = trimmed_mean(torch.cat(lengths))
    return result


def separate(bench: Bench) -> dict[str, float]:
    """Return linear separability in z and in w, over the attributes that lite0 can read."""
    linear_svm()  # missing packages are told before the samples are drawn
    space = load_space("lite0", None, bench.device)
    if not isinstance(space, Lite0Space) or bench.job.data is None:
        raise ConfigError("linear separability reads attributes in the lite0 space")
    names, heads = learn_attributes(bench, space)
    z = bench.latents(bench.job.class_samples, "evaluate/classes")
    ws, logits = [], []
    with torch.no_grad():
        for part in bench.parts(len(z), "classes"):
            img = bench.draw(z[part], part)
            logits.append(heads(attribute_features(img, space)))
            ws.append(bench.prior.mapping(z[part], bench.conditions(part))[:, 0])
    logit, w = torch.cat(logits), torch.cat(ws)
    kept = {record["name"]: record for record in bench.attributes}
    entropies = []
    for i, name in enumerate(progress(names, len(names), "separability")):
        pair = [attribute_entropy(latents, logit[:, i]) for latents in (z, w)]
        shown = {"in_samples": float((logit[:, i] > 0).double().mean())}
        shown |= {f"entropy_{k}": h for k, h in zip("zw", pair, strict=True)}
        kept[name] |= {key: round(value, 4) for key, value in shown.items()}
        entropies.append(pair)
    write_image(bench.run.path / "attributes.png", attribute_sheet(bench, z, logit, names))
    in_z, in_w = torch.tensor(entropies).t()
    return {"separability_z": separability(in_z), "separability_w": separability(in_w)}


def learn_attributes(bench: Bench, space: Lite0Space) -> tuple[list[str], AttributeHeads]:
    """Fit the heads, note how well each does on held-out pictures, and keep those that can read."""
    count = len(bench.images)
    files = bench.images.files
    folder = files[0].parent
    folder = folder.parent if folder.name == "images" else folder
    names, values = as_binary(read_attributes(folder, files), str(folder))
    features = torch.cat([attribute_features(img, space) for img in bench.pictures(count)])
    values = values.to(features.device)
    held = torch.arange(count, device=features.device) % HELD_OUT == 0
    heads = fit_heads(features[~held], values[~held])
    right = accuracy(heads(features[held]), values[held])
    share = values[held].double().mean(dim=0)
    guess = torch.maximum(share, 1 - share)
    reads = (right - guess) >= MIN_GAIN * (1 - guess)
    rows = torch.stack([right, guess, values.double().mean(dim=0)], dim=1).tolist()
    for name, row in zip(names, rows, strict=True):
        numbers = zip(("accuracy", "guessing", "in_pictures"), row, strict=True)
        bench.attributes.append({"name": name, **{key: round(x, 4) for key, x in numbers}})
    if not reads.any():
        raise DataError(
            f"{bench.job.data}: none of its attributes can be read from {count} pictures of "
            f"{max(bench.size)} px; give more pictures, or leave out ls"
        )
    kept = [name for name, can in zip(names, reads.tolist(), strict=True) if can]
    return kept, heads._replace(weight=heads.weight[:, reads], bias=heads.bias[reads])


def attribute_sheet(bench: Bench, z: Tensor, logit: Tensor, names: list[str]) -> UInt8:
    """Show, a row an attribute, the samples that surest have it and those that surest have not."""
    half = SHOWN // 2
    rows = []
    for i in range(len(names)):
        order = logit[:, i].argsort(descending=True).cpu()
        part = torch.cat([order[:half], order[-half:]])
        rows.append(list(to_uint8(bench.draw(z[part], part))))
    return sheets.grid(rows, row_titles=names, col_titles=["most"] * half + ["least"] * half)


def copies(bench: Bench) -> dict[str, float]:
    """Return how far samples are from their nearest pictures, as pictures are from each other.

    The sheet shows samples beside their nearest pictures, from the sample nearest to a picture to
    the one farthest away.
    """
    k = bench.job.neighbours
    found = nearest(bench.fake, bench.real, min(k, bench.count))
    among = nearest(bench.real, bench.real, 2).distance[:, 1]
    order = found.distance[:, 0].argsort().cpu()
    chosen = order[torch.linspace(0, len(order) - 1, SHOWN).round().long()]
    drawn = to_uint8(bench.draw(bench.z[chosen], chosen, bench.job.psi))
    rows, titles = [], []
    for sample, i in zip(drawn, chosen.tolist(), strict=True):
        pixels = bench.images.batch(found.rows[i].cpu()).permute(0, 2, 3, 1).numpy()
        rows.append([sample, *pixels])
        distances = "\n".join(f"{d:.2f}" for d in found.distance[i].tolist())
        titles.append(f"sample {i}\n{distances}")
    heads = ["sample", *(f"nearest {n}" for n in range(1, found.rows.shape[1] + 1))]
    sheet = sheets.grid(rows, row_titles=titles, col_titles=heads)
    write_image(bench.run.path / "neighbours.png", sheet)
    return {
        f"nearest_picture_{bench.job.space}": float(found.distance[:, 0].mean()),
        f"nearest_picture_{bench.job.space}_among_pictures": float(among.mean()),
        "nearest_picture_smallest_ratio": float(found.distance[:, 0].min() / among.mean()),
    }


MEASURES: dict[str, Callable[[Bench], dict[str, float]]] = {
    "fd": frechet,
    "kd": kernel,
    "pr": overlap,
    "ppl": paths,
    "ls": separate,
    "nn": copies,
}


def report(result: dict[str, Any]) -> str:
    """Lay out the numbers as Markdown tables."""
    lines = ["| measure | value |", "|---|---|"]
    lines += [f"| {k.replace('_', ' ')} | {v} |" for k, v in result.items() if k != "attributes"]
    if "attributes" in result:
        columns = ["name", "accuracy", "guessing", "in_pictures", "in_samples"]
        columns += ["entropy_z", "entropy_w"]
        heads = " | ".join(column.replace("_", " ") for column in columns)
        lines += ["", f"| {heads} |", "|---" * len(columns) + "|"]
        for record in result["attributes"]:
            lines.append(f"| {' | '.join(str(record.get(c, '-')) for c in columns)} |")
    return "\n".join(lines) + "\n"
