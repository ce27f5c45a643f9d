"""Run directories: what went in, what was done, what came out, and where to go on.

A run is a folder such as runs/00007-train-encoder, and holds:

- config.json: the resolved job
- meta.json: version, commit, command line, torch, device, times, status
- inputs.json: each input file or folder with its SHA-256
- log.txt: what the console showed
- metrics.jsonl: one object a report
- checkpoints/: step-005000.pt and so on, tensors and plain values only
- samples/: sheets made on the way
- result.json: the final numbers; written last, so its presence means "finished"
"""

import hashlib
import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewshot_smis.data.files import (
    atomic_write,
    read_json,
    write_bytes,
    write_error,
    write_json,
)
from stylegan.errors import ConfigError, DataError

__all__ = [
    "Run",
    "atomic_write",
    "plain",
    "planned_path",
    "read_json",
    "sha256",
    "write_bytes",
    "write_json",
]

_NUMBERED = re.compile(r"(\d{5})-.+")
_STEP = re.compile(r"step-(\d+)\.pt")
_SAFE = (Tensor, str, int, float, bool, bytes, type(None))


def plain(value: Any) -> Any:
    """Turn `value` into what JSON can hold: paths into text, tensors into lists, NaN into None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int | str | None):
        return value
    return str(value)


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file, or of a folder: of its files' names and contents.

    Raises:
        DataError: The file or folder is missing or unreadable.
    """
    path = Path(path)
    try:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())
            lines = [f"{sha256(p)} {p.relative_to(path).as_posix()}\n" for p in files]
            return hashlib.sha256("".join(lines).encode()).hexdigest()
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the path"
        ) from error
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    """Return what git says about the checkout this file is in, None where there is none."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _commit() -> dict[str, Any] | None:
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None  # installed elsewhere: a repository around it is not ours
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(status)}


def _version() -> str | None:
    try:
        return metadata.version("fewshot-smis")
    except metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _next_number(root: Path) -> int:
    names = [entry.name for entry in root.iterdir()] if root.is_dir() else []
    numbers = [int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))]
    return max(numbers, default=0) + 1


def planned_path(root: Path | str, name: str) -> Path:
    """Return the run directory that `Run.create` would make now; makes nothing."""
    return Path(root) / f"{_next_number(Path(root)):05d}-{_checked_name(name)}"


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"run name '{name}': use letters, digits, '-', '_' and '.' only")
    return name


def _claim(root: Path, name: str) -> Path:
    """Make the directory of the next free number, safe against others doing the same.

    The number is claimed by a hidden folder first, since two names under one number would not
    collide.
    """
    root.mkdir(parents=True, exist_ok=True)
    number = _next_number(root)
    while True:
        claim = root / f".{number:05d}"
        try:
            claim.mkdir()
        except FileExistsError:
            number += 1
            continue
        if number >= _next_number(root):
            path = root / f"{number:05d}-{name}"
            claim.rename(path)
            return path
        claim.rmdir()  # someone took the number between our look and our claim
        number = _next_number(root)


def _plain_state(value: Any, where: str) -> Any:
    """Return `value` rebuilt from dicts, lists and tuples, refusing what weights_only would."""
    if isinstance(value, Mapping):
        return {key: _plain_state(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_state(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return tuple(_plain_state(item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(value, _SAFE) and not isinstance(value, np.generic):
        return value
    raise TypeError(f"{where}: a checkpoint holds tensors and plain values, not {type(value)}")


class Run:
    """A run directory. Make one with `create` or `at`, or open one again with `resume`.

    Every file is written whole; where the disk is full a DataError names the file and the fix.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started = time.monotonic()

    @classmethod
    def create(cls, root: Path | str, name: str) -> "Run":
        """Make `root/00007-name` under the next free number.

        Raises:
            ConfigError: The name cannot be part of a path.
            DataError: The directory cannot be made.
        """
        _checked_name(name)
        try:
            path = _claim(Path(root), name)
        except OSError as error:
            raise write_error(Path(root), error) from error
        return cls(path)._begin(name)

    @classmethod
    def at(cls, path: Path | str, name: str = "") -> "Run":
        """Make the run directory `path`, which must not exist; `name` says what runs there.

        Raises:
            ConfigError: There is something at `path` already.
            DataError: The directory cannot be made.
        """
        path = Path(path)
        if path.exists():
            raise ConfigError(
                f"{path}: the output folder exists already, and nothing is overwritten; choose "
                "another --out, or remove it first"
            )
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise write_error(path, error) from error
        return cls(path)._begin(name or path.name)

    @classmethod
    def resume(cls, path: Path | str) -> "Run":
        """Open an unfinished run; reports past its newest checkpoint are taken back.

        Raises:
            ConfigError: The run is finished.
            DataError: `path` is not a run directory.
        """
        path = Path(path)
        if not (path / "meta.json").is_file():
            what = "not a run directory" if path.is_dir() else "no such run directory"
            raise DataError(f"{path}: {what}; --resume takes one that holds meta.json")
        if (path / "result.json").is_file():
            raise ConfigError(f"{path}: this run is finished (result.json); start a new one")
        run = cls(path)
        run._rewind()
        resumed = [*run.meta().get("resumed", []), _now()]
        run.save_meta(status="running", resumed=resumed, argv=sys.argv)
        return run

    def _begin(self, name: str) -> "Run":
        for folder in ("checkpoints", "samples"):
            (self.path / folder).mkdir()
        self.save_meta(
            name=name,
            version=_version(),
            git=_commit(),
            argv=sys.argv,
            python=sys.version.split()[0],
            torch=str(torch.__version__),
            cuda=torch.version.cuda,
            started=_now(),
            status="running",
        )
        return self

    def meta(self) -> dict[str, Any]:
        """Return what meta.json holds, empty before it is written."""
        path = self.path / "meta.json"
        return dict(read_json(path)) if path.is_file() else {}

    def save_meta(self, **facts: Any) -> None:
        """Add `facts` to meta.json, replacing those of the same name (device=, status=, ...)."""
        write_json(self.path / "meta.json", {**self.meta(), **plain(facts)})

    def save_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved job to config.json."""
        write_json(self.path / "config.json", plain(config))

    def config(self) -> dict[str, Any]:
        """Return what config.json holds.

        Raises:
            DataError: The run has none.
        """
        return dict(read_json(self.path / "config.json"))

    def save_inputs(self, inputs: Mapping[str, Path | str | None]) -> None:
        """Write inputs.json: for each named file or folder its path and SHA-256. None is left out.

        Raises:
            DataError: An input is missing or unreadable.
        """
        record = {
            name: {"path": str(Path(path).resolve()), "sha256": sha256(path)}
            for name, path in inputs.items()
            if path is not None
        }
        write_json(self.path / "inputs.json", record)

    def _append(self, name: str, line: str) -> None:
        path = self.path / name
        rest = memoryview(f"{line}\n".encode())
        try:
            with path.open("ab", buffering=0) as file:
                start = file.tell()
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                except OSError:
                    file.truncate(start)  # half a line would be worse than none
                    raise
        except OSError as error:
            raise write_error(path, error) from error

    def log(self, text: str) -> None:
        """Add a line, or several, to log.txt."""
        self._append("log.txt", text)

    def report(self, values: Mapping[str, Any]) -> None:
        """Add one object to metrics.jsonl: step, seconds, losses, learning rate."""
        self._append("metrics.jsonl", json.dumps(plain(values), allow_nan=False))

    def metrics(self) -> list[dict[str, Any]]:
        """Return the reports of metrics.jsonl; a line cut off by a crash is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        reports = []
        for line in lines:
            try:
                reports.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return reports

    def checkpoint(self, step: int, state: Mapping[str, Any], *, keep: int = 3) -> Path:
        """Write `state` to checkpoints/ and keep only the newest `keep` of them.

        Args:
            step: The step the state was taken after.
            state: Tensors and plain values, nested; read it with torch.load(weights_only=True).
            keep: How many checkpoints stay.

        Raises:
            DataError: It cannot be written; the older checkpoints stay.
            TypeError: The state holds something that weights_only would refuse.
        """
        content = _plain_state(state, "state")
        path = self.path / "checkpoints" / f"step-{step:06d}.pt"
        with atomic_write(path) as file:
            torch.save(content, file)
        for old in self._checkpoints()[:-keep]:
            old.unlink(missing_ok=True)
        return path

    def _checkpoints(self) -> list[Path]:
        found = [
            (int(match[1]), path)
            for path in (self.path / "checkpoints").glob("step-*.pt")
            if (match := _STEP.fullmatch(path.name))
        ]
        return [path for _, path in sorted(found)]

    def latest_checkpoint(self) -> Path | None:
        """Return the checkpoint of the highest step, None before the first."""
        found = self._checkpoints()
        return found[-1] if found else None

    def _rewind(self) -> None:
        """Take back reports of steps that will be done again."""
        latest = self.latest_checkpoint()
        match = _STEP.fullmatch(latest.name) if latest else None
        step = int(match[1]) if match else 0
        kept = [report for report in self.metrics() if report.get("step", 0) <= step]
        if (self.path / "metrics.jsonl").is_file():
            text = "".join(json.dumps(report) + "\n" for report in kept)
            write_bytes(self.path / "metrics.jsonl", text.encode())

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the final numbers to result.json, the last file of a run."""
        seconds = round(time.monotonic() - self._started, 3)
        self.save_meta(status="finished", finished=_now(), seconds=seconds)
        write_json(self.path / "result.json", plain(result))
