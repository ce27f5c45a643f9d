"""The site's pages of the commands are what `--help` prints; its other pages name what exists."""

import importlib
import re

import pytest

from fewshot_smis.cli import main
from tests import help_pages

DOCS = help_pages.FOLDER.parent


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    return dict(help_pages.pages())


def test_pages_of_commands_are_what_help_prints(printed: dict[str, str]) -> None:
    stored = {path.stem: path.read_text() for path in help_pages.FOLDER.glob("*.md")}
    stale = [name for name in {*stored, *printed} if stored.get(name) != printed.get(name)]
    assert not stale, "`python -m tests.help_pages` writes docs/cli anew"


def test_every_command_has_its_section(printed: dict[str, str]) -> None:
    text = "\n".join(printed.values())
    for words in (*main.entries, *main.commands, "prior train", "align paste", "scribbles svg"):
        assert f"## fewshot-smis {words}\n" in text


def test_commands_of_the_tutorial_exist(printed: dict[str, str]) -> None:
    text = "\n".join(printed.values())
    lines = re.findall(r"^fewshot-smis (.+)$", (DOCS / "tutorial.md").read_text(), re.M)
    assert lines
    for line in lines:
        words = line.split()
        names = [n for n in (" ".join(words[:2]), words[0]) if f"## fewshot-smis {n}\n" in text]
        assert names, line
        section = text.split(f"## fewshot-smis {names[0]}\n")[1].split("\n## ")[0]
        for option in re.findall(r"--[a-z-]+", line):
            assert option in section, f"{line}: no {option}"


def test_modules_of_the_interface_exist() -> None:
    modules = [
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(r"automodule:: (\S+)", page.read_text())
    ]
    assert len(modules) == len(set(modules)) > 15
    for name in modules:
        assert importlib.import_module(name).__doc__
