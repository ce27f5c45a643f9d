"""The command line: every command builds a job and calls its run function.

A job's module is imported when its command is called, so that `--help` answers at once.
"""

import ast
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click

from fewshot_smis.jobs.options import CONTEXT, Job, UserErrors, job_options, resolve
from stylegan.memory import keep_freed_memory

TOOLS = "fewshot_smis.commands"
"""The entry points whose click commands are listed beside our own, as those of tools/ are."""


class Entry(NamedTuple):
    """Where a command's job is found, and its line in the help."""

    module: str
    job: str
    work: str
    text: str


COMMANDS = {
    "demo": Entry("demo", "DemoJob", "run_demo", "Show the whole method on synthetic faces."),
    "invert": Entry("invert", "InvertJob", "run_invert", "Photographs -> codes of the prior."),
    "label": Entry("label", "LabelJob", "run_label", "Labelled pictures -> labeler."),
    "train": Entry("train", "TrainEncoderJob", "run_train", "Labeler -> mask encoder."),
    "synthesize": Entry("synthesize", "SynthesizeJob", "run_synthesize", "Label maps -> pictures."),
    "refine": Entry("refine", "RefineJob", "run_refine", "Rough label maps -> better pictures."),
    "edit": Entry("edit", "EditJob", "run_edit", "Photograph, changed map -> edited photograph."),
    "learn-edit": Entry("edit", "LearnEditJob", "run_learn_edit", "Keep an edit by name."),
    "mix": Entry("mix", "MixJob", "run_mix", "Layouts x styles -> pictures, or a film."),
    "walk": Entry("mix", "WalkJob", "run_walk", "Film a class of a map as it grows."),
    "app": Entry("app", "AppJob", "run_app", "Draw in the browser."),
    "evaluate": Entry("evaluate", "EvaluateJob", "run_evaluate", "Judge drawn pictures."),
    "report": Entry("report.run", "ReportJob", "run_report", "Compare all systems, in tables."),
    "doctor": Entry("doctor", "DoctorJob", "run_doctor", "Say what runs on this machine, and why."),
}
PRIOR_COMMANDS = {
    "info": Entry("prior_info", "InfoJob", "run_info", "Say what a file of weights holds."),
    "sample": Entry("prior", "SamplePriorJob", "sample_prior", "Draw samples and their codes."),
    "train": Entry("prior_train", "TrainPriorJob", "run_train_prior", "Train on pictures."),
    "evaluate": Entry("prior_evaluate", "EvaluateJob", "run_evaluate", "Judge a generator."),
    "mixing": Entry("prior_figures", "MixingJob", "run_mixing", "Mix coarse, middle, fine styles."),
    "truncation": Entry("prior_figures", "TruncationJob", "run_truncation", "Sweep truncation."),
    "noise": Entry("prior_figures", "NoiseJob", "run_noise", "Show what noise adds, and where."),
    "interpolate": Entry("prior_figures", "InterpolateJob", "run_interpolate", "Film a walk."),
    "dataset": Entry("prior_data", "DatasetJob", "run_dataset", "Pack pictures for training."),
    "augment": Entry("prior_data", "AugmentJob", "run_augment", "Show what augmentation does."),
    "convert": Entry("prior_info", "ConvertJob", "run_convert", "Write in another format."),
}
FACES_COMMANDS = {
    "render": Entry("faces", "RenderJob", "run_render", "Render pictures, maps and landmarks."),
}
BASELINE_COMMANDS = {
    "train": Entry("baseline", "TrainBaselineJob", "run_train_baseline", "Train one on pairs."),
    "synthesize": Entry(
        "baseline", "SynthesizeBaselineJob", "run_synthesize_baseline", "Label maps -> pictures."
    ),
}
LABELS_COMMANDS = {
    "check": Entry("labels", "CheckJob", "run_check", "Say what maps hold, and what is odd."),
    "remap": Entry("labels", "RemapJob", "run_remap", "Change ids, merge classes, mend maps."),
    "view": Entry("labels", "ViewJob", "run_view", "Draw maps over their pictures."),
    "convert": Entry("labels", "ConvertJob", "run_convert", "Read another format."),
    "export": Entry("labels", "ExportJob", "run_export", "Write another format."),
}


class LazyGroup(UserErrors):
    """A group that imports a command's job only when the command is called."""

    def __init__(self, *args: Any, entries: dict[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table, then the subgroups."""
        return [*self.entries, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Build the command of that name, or return None."""
        if name not in self.entries:
            return super().get_command(ctx, name)
        return build_command(f"{ctx.info_name}-{name}" if ctx.parent else name, name, self.entries)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the table's own texts, importing none."""
        rows = [(name, entry.text) for name, entry in self.entries.items()]
        rows += [
            (name, group.get_short_help_str(limit=80)) for name, group in self.commands.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class RootGroup(LazyGroup):
    """The group of all commands: those of the table, and those that entry points name."""

    @property
    def tools(self) -> dict[str, importlib.metadata.EntryPoint]:
        """The installed commands by name; none takes the name of one in the table."""
        points = sorted(importlib.metadata.entry_points(group=TOOLS))
        return {point.name: point for point in points if point.name not in self.entries}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the table, of the subgroups, then of the tools."""
        return [*super().list_commands(ctx), *self.tools]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Build or import the command of that name, or return None."""
        known = super().get_command(ctx, name)
        if known is not None or name not in self.tools:
            return known
        try:
            command: click.Command = self.tools[name].load()
        except (ImportError, AttributeError) as error:
            where = self.tools[name].value
            raise click.ClickException(f"{name}: {where} cannot be loaded ({error})") from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the tools apart, importing none."""
        super().format_commands(ctx, formatter)
        if self.tools:
            with formatter.section("Tools"):
                formatter.write_dl(
                    [(name, first_line(point.module)) for name, point in self.tools.items()]
                )


def first_line(module: str) -> str:
    """Return the first line of a module's docstring, read from its source without importing it."""
    with suppress(ImportError, OSError, SyntaxError):
        spec = importlib.util.find_spec(module)
        text = (
            ast.get_docstring(ast.parse(Path(spec.origin).read_text()))
            if spec and spec.origin
            else None
        )
        if text:
            return text.splitlines()[0]
    return f"From {module}."


def build_command(label: str, name: str, entries: dict[str, Entry]) -> click.Command:
    """Make the click command of an entry: the job's options, --config and --dry-run."""
    entry = entries[name]
    module = importlib.import_module(f"fewshot_smis.jobs.{entry.module}")
    job_type: type[Job] = getattr(module, entry.job)

    def command(config: Path | None, dry_run: bool, **flags: Any) -> None:
        resumed = flags.get("resume")
        if resumed is not None and config is None:
            config = resumed / "config.json"
        job = resolve(job_type, flags, config)
        if dry_run:
            click.echo(plan(job, label))
            return
        from fewshot_smis.jobs.base import carry_out

        message = carry_out(job, label, getattr(module, entry.work))
        if message:
            click.echo(message)

    made = click.command(name, help=(job_type.__doc__ or "").strip())(
        job_options(job_type)(command)
    )
    return made


def plan(job: Job, label: str) -> str:
    """Return the resolved job and the run directory it would make."""
    if not job.makes_run:
        return json.dumps(job.to_dict(), indent=2)
    from fewshot_smis.runs import planned_path

    place = job.out if job.out is not None else planned_path(job.runs, label)
    place = getattr(job, "resume", None) or place
    return f"{json.dumps(job.to_dict(), indent=2)}\nwould write to {place}"


@click.group(cls=RootGroup, entries=COMMANDS, context_settings=CONTEXT)
@click.version_option(package_name="fewshot-smis")
def main() -> None:
    """Turn drawings into photographs of a domain, from one to five labelled pictures.

    The usual order: invert, label, train, synthesize. Without --prior, each command uses the
    embedded generator of synthetic faces.
    """
    keep_freed_memory()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)


@main.group(cls=LazyGroup, entries=PRIOR_COMMANDS)
def prior() -> None:
    """Look into a generator, sample it, train it, convert it."""


@main.group(cls=LazyGroup, entries=FACES_COMMANDS)
def faces() -> None:
    """The synthetic faces that the embedded generator was trained on."""


@main.group(cls=LazyGroup, entries=BASELINE_COMMANDS)
def baseline() -> None:
    """Train and try pix2pix, pix2pixHD, SPADE, OASIS, which learn from labelled pictures alone."""


@main.group(cls=LazyGroup, entries=LABELS_COMMANDS)
def labels() -> None:
    """Check, mend, show and convert label maps."""
