"""What every job shares: the device, the prior, the run directory, progress and failures."""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from fewshot_smis.data.files import write_json
from fewshot_smis.runs import Run, sha256
from stylegan import Prior, load_generator, prepare
from stylegan.errors import BackendError, ConfigError, DataError, FewshotError
from stylegan.parallel import is_follower

Item = TypeVar("Item")

DEMO = Path(__file__).parent.parent / "demo"
LABELER = "labeler.safetensors"  # in a run of `label`


def pick_device(name: str) -> torch.device:
    """Return the device `name` means; "auto" is CUDA where there is one.

    Raises:
        BackendError: The device does not exist on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"--device {name}: not a device; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendError(f"--device {name}: this machine has no CUDA device; use --device cpu")
    return device


def demo_prior() -> Path:
    """Return the generator of synthetic faces that comes with the package."""
    return DEMO / "prior.safetensors"


def demo_model() -> Path:
    """Return the trained model of synthetic faces that comes with the package."""
    return DEMO / "model"


def demo_judge() -> Path:
    """Return the judge of synthetic faces that comes with the package."""
    return DEMO / "judge.safetensors"


def open_weights(path: Path | None, device: torch.device) -> Prior:
    """Load the generator at `path`, or the embedded one, as it is: its weights can be tuned."""
    return load_generator(demo_prior() if path is None else path, device=device)


def open_prior(path: Path | None, device: torch.device) -> Prior:
    """Load the generator at `path`, or the embedded one, prepared to draw."""
    return prepare(open_weights(path, device))


def open_run(job: Any, name: str) -> Run:
    """Create the run directory of a job, or open the one it resumes, and record the job in it."""
    if getattr(job, "resume", None) is not None:
        run = Run.resume(job.resume)
        run.save_config({"command": name, **job.to_dict()})
        return run
    run = Run.at(job.out, name) if job.out is not None else Run.create(job.runs, name)
    run.save_config({"command": name, **job.to_dict()})
    return run


def carry_out(job: Any, name: str, work: Callable[[Any, Any], dict[str, Any]]) -> str:
    """Do the work of a job in its run directory, and return the line that tells the user.

    The result, or the failure, is recorded in the run; a run that failed before its first
    checkpoint through a user's mistake is removed again. A job whose `makes_run` is False has
    no run directory; its result is the message. Where torchrun starts several processes, the
    first alone has the run, and the others work in silence.
    """
    if not job.makes_run:
        return facts_text(work(job, None))
    if job.parallel and is_follower():
        work(job, None)
        return ""
    run = open_run(job, name)
    try:
        result = work(job, run)
    except BaseException as error:
        run.log(f"failed: {type(error).__name__}: {error}")
        run.save_meta(status="failed")
        if isinstance(error, FewshotError) and run.latest_checkpoint() is None:
            shutil.rmtree(run.path)
        raise
    run.save_meta(peak_memory_gb=peak_memory())
    run.finish(result)
    return f"{facts_text(result)}\ndone: {run.path}"


def peak_memory() -> float:
    """Return the most memory that this process has held, in GB: CUDA's where it was used.

    0 where the system does not tell.
    """
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 1e9, 3)
    try:
        import resource
    except ImportError:  # on Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)


def facts_text(facts: dict[str, Any]) -> str:
    """Lay out facts, a line each."""
    width = max(len(name) for name in facts)
    lines = []
    for name, value in facts.items():
        shown = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
        lines.append(f"{name:<{width}}  {shown}")
    return "\n".join(lines)


def progress(
    items: Iterable[Item], total: int, text: str, *, unit: str = "it", scale: int = 1
) -> Iterator[Item]:
    """Show a progress bar on standard error; an item counts as `scale` of the `unit`."""
    scaled = {"unit": unit, "unit_scale": scale} if scale > 1 else {"unit": unit}
    yield from tqdm(items, total=total, desc=text, dynamic_ncols=True, mininterval=0.5, **scaled)


@contextmanager
def counter(total: int, text: str) -> Iterator[Callable[..., None]]:
    """Show a progress bar and yield what moves it on by one, called with anything.

    There is no bar where there is nothing to count.
    """
    hidden = total == 0
    with tqdm(total=total, desc=text, dynamic_ncols=True, mininterval=0.5, disable=hidden) as bar:

        def tick(*_: Any) -> None:
            bar.update()

        yield tick


def run_file(path: Path, name: str, what: str) -> Path:
    """Return the file `name` of a run directory, or `path` itself where it is a file.

    Raises:
        DataError: There is no such file or directory, or the run holds none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path}: no such run directory or file; it should hold {what}")
    if not (path / name).is_file():
        raise DataError(f"{path}: holds no {name}, the {what}; is it the run of another command?")
    return path / name


def prior_of(run: Path, override: Path | None) -> Path:
    """Return the generator a run was made with, unless `override` names one.

    Raises:
        ConfigError: The run does not name a prior, or the file has moved.
    """
    if override is not None:
        return override
    folder = run if run.is_dir() else run.parent
    record = folder / "prior.json"
    if not record.is_file():
        raise ConfigError(f"{folder}: does not name its prior; give it by --prior FILE")
    path = Path(json.loads(record.read_text())["path"])
    path = path if path.is_absolute() else folder / path
    if not path.is_file():
        raise ConfigError(f"{folder}: its prior {path} is gone; give it by --prior FILE")
    return path


def labeler_of(run: Path, override: Path | None) -> Path:
    """Return the labeler file of a training run: the one it was trained with, or `override`.

    Raises:
        ConfigError: The run names no labeler, or the file has moved.
        DataError: `override` holds none.
    """
    if override is not None:
        return run_file(override, LABELER, "fitted labeler")
    if (run / LABELER).is_file():
        return run / LABELER
    record = run / "inputs.json"
    if not record.is_file():
        raise ConfigError(f"{run}: does not name its labeler; give it by --labeler RUN")
    path = Path(json.loads(record.read_text()).get("labeler", {}).get("path", LABELER))
    if not path.is_file():
        raise ConfigError(f"{run}: its labeler {path} is gone; give it by --labeler RUN")
    return path


def record_prior(run: Run, path: Path | None) -> None:
    """Note in the run which generator it was made with."""
    source = demo_prior() if path is None else path
    record = {"path": str(source.resolve()), "sha256": sha256(source)}
    write_json(run.path / "prior.json", record)
