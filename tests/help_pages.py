"""The `--help` of every command as pages of the site; `python -m tests.help_pages` writes them."""

import importlib.metadata
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from unittest import mock

import click
from click.testing import CliRunner

from fewshot_smis.cli import TOOLS, main

FOLDER = Path(__file__).parent.parent / "docs" / "cli"
OWN_TOOLS = ("align", "landmarks", "scribbles")


def help_text(*words: str) -> str:
    """Return what `fewshot-smis WORDS --help` prints, as a section."""
    args = [*words, "--help"]
    result = CliRunner().invoke(main, args, terminal_width=90, prog_name="fewshot-smis")
    if result.exit_code:
        raise AssertionError(f"fewshot-smis {' '.join(args)}: {result.output}")
    title = " ".join(["fewshot-smis", *words])
    return f"## {title}\n\n```text\n{result.output.strip()}\n```\n"


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and text of each page: the commands of the table, each group, each tool.

    Of tools those of the project count, whatever else is installed.
    """
    points = EntryPoints(EntryPoint(name, f"tools.{name}:main", TOOLS) for name in OWN_TOOLS)
    with mock.patch.object(
        importlib.metadata, "entry_points", lambda *, group: points.select(group=group)
    ):
        alone = [help_text(*words) for words in ([], *([name] for name in main.entries))]
        yield "0-main", "# Main commands\n\n" + "\n".join(alone)
        for name in (*main.commands, *OWN_TOOLS):
            group = main.get_command(click.Context(main), name)
            inner = (
                group.list_commands(click.Context(group)) if isinstance(group, click.Group) else []
            )
            texts = [help_text(name), *(help_text(name, word) for word in inner)]
            yield name, f"# {name}\n\n" + "\n".join(texts)


def write_pages() -> None:
    """Write the pages into docs/cli, and remove those of commands that are gone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    written = {f"{name}.md": text for name, text in pages()}
    for path in FOLDER.glob("*.md"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    write_pages()
