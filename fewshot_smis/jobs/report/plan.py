"""What the report compares: its job, and the cells of its tables and figures."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from fewshot_smis.jobs.options import Job, opt
from stylegan.errors import ConfigError

SHOTS = (1, 5)
BASELINES = ("pix2pix", "pix2pixhd", "spade", "oasis")
FEW_SHOT = ("paper", "prototypes", "default", "refined")
ONLY_DENSE = ("prototypes", "refined")  # of sparse maps prototypes are the default
SYSTEMS = ("average", "judge", *FEW_SHOT, *BASELINES)
MAPS = ("dense,sparse", "dense", "sparse")
QUICK = {"repeats": 1, "pictures": 200, "held": 64, "seconds": 10, "width": 8}
WEIGHTS = (1, 10, 100)  # of the perceptual distance in OASIS; the table has it without
PATCHES = (1, 16, 286)  # of PatchGAN; the table has 70


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportJob(Job):
    """Train every system on one and on five rendered faces, and on all, judge them, write tables.

    A cell of the tables is a training within --seconds and its judgement, kept in its own folder:
    a report that was stopped goes on with the cells it lacks. The prior is the embedded one.
    """

    makes_run: ClassVar[bool] = False

    folder: Path = opt(
        Path("runs/report"), "Folder of the cells, and of the pictures: renders/ and held/."
    )
    docs: Path = opt(Path("docs/results"), "Folder of the tables and figures.")
    quick: bool = opt(False, "One repeat, few pictures, dense maps alone.")
    systems: str = opt("all", "Systems to carry out, separated by commas.")
    repeats: int = opt(5, "Repeats, each with other shots.", min=1)
    kinds: str = opt("dense,sparse", "Maps: dense, sparse, or both.", choices=MAPS)
    seconds: float = opt(120, "Time of each training; on a CPU, of the processor.", min=0)
    budget_seconds: float | None = opt(
        None, "Time of all cells together; decides --seconds, and starts no cell after it.", min=1
    )
    pictures: int = opt(1500, "Pictures to learn from, where all are used.", min=5)
    held: int = opt(300, "Pictures to be judged on.", min=8)
    width: int = opt(16, "Channels of the baselines at the full size.", min=1)
    workers: int = opt(1, "Processes that train cells side by side.", min=1)

    def __post_init__(self) -> None:
        """Check the fields; the quick form makes the work small where nothing less was said."""
        super().__post_init__()
        unknown = set(self.systems.split(",")) - {"all", *SYSTEMS}
        if unknown:
            raise ConfigError(
                f"--systems {', '.join(sorted(unknown))}: choose of {', '.join(SYSTEMS)}"
            )
        if self.quick:
            object.__setattr__(self, "kinds", "dense")
            for name, value in QUICK.items():
                object.__setattr__(self, name, min(value, getattr(self, name)))

    @property
    def styles(self) -> int:
        """Pictures of one map, for diversity."""
        return 6 if self.quick else 20


class Cell(NamedTuple):
    """A system and what it is given."""

    method: str  # a baseline, one of FEW_SHOT, "judge", "average", or "inversion"
    kind: str = "dense"  # or "sparse"
    shots: int = 0  # 0: all pictures
    repeat: int = 0
    options: str = ""  # of a baseline, as name=value

    @property
    def name(self) -> str:
        """The cell's folder."""
        parts = [self.method, self.kind, f"{self.shots}shot" if self.shots else "all"]
        return "-".join([*parts, str(self.repeat), *filter(None, [self.options])])

    @property
    def first(self) -> int:
        """Number of the first of its shots among the pictures."""
        return self.repeat * max(SHOTS)


def inversion(repeat: int) -> Cell:
    """Return the cell that finds the codes of a repeat's shots, which few-shot systems need."""
    return Cell("inversion", shots=max(SHOTS), repeat=repeat)


def waves(job: ReportJob) -> list[list[Cell]]:
    """Return what is to be carried out, wave by wave: what a wave needs, those before it make.

    Whole repeats come first, so that a report that is stopped early is a smaller report.
    """
    plan: list[list[Cell]] = [[] for _ in range(job.repeats + 2)]
    chosen = set(SYSTEMS if job.systems == "all" else job.systems.split(","))
    if "refined" in chosen:  # draws with what the default has learned
        chosen.add("default")
    if chosen & set(FEW_SHOT):
        chosen.add("inversion")
    for cell in cells(job):
        if cell.method in chosen:
            plan[first_wave(job, cell)].append(cell)
    return plan


def first_wave(job: ReportJob, cell: Cell) -> int:
    """Return the number of the first wave in which all that a cell needs is there."""
    if cell.method == "inversion":
        return cell.repeat
    if cell.options:
        return job.repeats + 1
    if cell.method == "refined":  # needs the default, which needs the codes
        return cell.repeat + 2
    return cell.repeat + 1 if cell.shots else 0


def cells(job: ReportJob) -> Iterator[Cell]:
    """Yield all cells of the tables and figures, repeat by repeat."""
    for method in ("average", "judge", *BASELINES):
        yield Cell(method)
    for repeat in range(job.repeats):
        yield inversion(repeat)
        yield from repeated(job, repeat)
    if not job.quick:
        for weight in WEIGHTS:
            yield Cell("oasis", options=f"perceptual_weight={weight}")
        for patch in PATCHES:
            yield Cell("pix2pix", options=f"patch={patch}")


def repeated(job: ReportJob, repeat: int) -> list[Cell]:
    """Return the cells of one repeat: every system on every kind of maps, few and many shots."""
    return [
        Cell(method, kind, shots, repeat)
        for kind in job.kinds.split(",")
        for shots in SHOTS
        for method in (*FEW_SHOT, *BASELINES)
        if kind == "dense" or method not in ONLY_DENSE
    ]
