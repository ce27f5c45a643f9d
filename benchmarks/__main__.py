"""All benchmarks in turn, each in a process of its own, and the page that shows them.

    python -m benchmarks [--device cpu] [--quick]

Figures of other machines are kept: whatever lies in benchmarks/results is on the page.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS

NAMES = (
    "ops",
    "generator",
    "discriminator",
    "labels",
    "inversion",
    "encoder",
    "prior_training",
    "faces",
    "memory",
)
PAGE = Path("docs/benchmarks.md")
HEAD = """# Benchmarks

How fast this is beside *the way public code runs*: float32, NCHW, a kernel a sample in one grouped
convolution, `upfirdn2d` as zero insertion and a convolution, whole pictures where features are
wanted, labels picture by picture and class by class (`benchmarks/yardstick.py`, which computes the
same numbers). Works that are compared run in turns, after a warm-up; a ratio is the median over the
rounds, with the smallest and the largest in brackets. `make bench` measures all of it on a CPU (in
less than 20 minutes on two cores) and writes this page; `python -m benchmarks.gpu` measures a GPU.

The limits of a machine stand first: nothing that only moves memory can beat its copy bandwidth, and
nothing that multiplies its matrix peak. The yardstick's convolutions already run at the better part
of the float32 peak of most CPUs, which bounds what float32 can gain; wide 3x3 convolutions pass
that bound by Winograd's way of multiplying less. bfloat16 gains where a processor multiplies it
faster than float32 (AMX, AMD's AVX512-BF16), and is chosen by itself there alone.

On a CPU freed memory is kept, for both, as the commands do (`stylegan/memory.py`). The yardstick,
which makes more and larger tensors, gains the more by it; public code does without.
"""


def sections(results: Path) -> list[str]:
    """Return the page's text, a section for each machine."""
    machines: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for file in sorted(results.glob("*.json"), key=_place):
        content = json.loads(file.read_text())
        machines.setdefault(_machine_line(content["machine"]), []).append((file.stem, content))
    text = [HEAD]
    for line, files in machines.items():
        text.append(f"## {line}\n")
        for name, content in files:
            text.append(
                f"From `{RESULTS}/{name}.json`, commit {content['machine']['commit'][:7]}:\n"
            )
            text.append(table(content["figures"]))
            failed = content.get("failures", {})
            text += [f"{part} has no figures: {why}\n" for part, why in failed.items()]
    return text


def _place(file: Path) -> tuple[bool, int, str]:
    name = file.stem.removesuffix("-cpu").removesuffix("-cuda")
    known = name in NAMES
    return (not known, NAMES.index(name) if known else 0, file.stem)


def _machine_line(machine: dict[str, Any]) -> str:
    if machine["gpu"]:
        return f"{machine['gpu']}, torch {machine['torch']}"
    flags = ", ".join(machine["cpu_flags"]) or "no flags"
    return f"{machine['cpu']} ({flags}), {machine['threads']} threads, torch {machine['torch']}"


def table(figures: list[dict[str, Any]]) -> str:
    """Return figures as a table."""
    lines = ["| work | measured | aim | in detail |", "|---|---|---|---|"]
    for f in figures:
        low, high = f["spread"] or (None, None)
        spread = "" if low is None else f" ({low:.3g} to {high:.3g})"
        aim = "" if f["aim"] is None else f"{f['aim']:g} {f['unit']}"
        unit = "MiB" if "memory" in f["work"] else "s"
        detail = ", ".join(f"{name} {value:.3g} {unit}" for name, value in f["details"].items())
        notes = "; ".join(part for part in (detail, f["note"]) if part)
        lines.append(f"| {f['work']} | {f['value']:.3g} {f['unit']}{spread} | {aim} | {notes} |")
    return "\n".join(lines) + "\n"


def write_page(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the page from all results there are."""
    page.write_text("\n".join(sections(results)))


def main() -> None:
    """Run what is asked for; a benchmark that fails is named, and the rest goes on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, help="benchmarks; by default all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="see that they work; keeps nothing")
    args = parser.parse_args()
    failed = []
    for name in args.names:
        start = time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}", "--device", args.device]
        if args.quick:
            command += ["--quick", "--rounds", "1", "--out", "/dev/null"]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    if not args.quick:
        write_page()
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
