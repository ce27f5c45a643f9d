"""The shape of the house: who may import whom, and what library code does not do."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("stylegan", "encoders", "fewshot_smis", "tools")
MAX_LINES = 450

# A file of fewshot_smis may import from its own room and from rooms to its left.
ROOMS = (
    {"data", "faces"},
    {"perceptual", "losses", "optim", "codes"},
    {"inversion", "tuning"},
    {"labelers"},
    {"encoding", "training"},
    {"synthesis", "refinement", "editing", "directions", "walks", "prior_figures"},
    {"baselines", "metrics"},
    {"runs"},
    {"app"},
    {"jobs", "presets"},
    {"cli"},
    {"__main__"},
)
# Rooms that see less than what is to their left: name -> what they may not import.
NARROW = {
    "fewshot_smis.labelers": ("encoders",),
    "fewshot_smis.baselines": ("stylegan.stylegan2", "encoders", "fewshot_smis.training"),
}
ONLY_IN_TOOLS = {"dlib", "face_alignment"}
NOWHERE = {"torchvision"}

FILES = [p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py"))]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        if node.module == "stylegan.ops":  # its functions are named as its files
            return [node.module]
        inner = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if is_module(name) else str(node.module) for name in inner]
    return []


def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            yield from modules_of(node)


def room(module: str) -> int:
    parts = module.split(".")
    if len(parts) == 1:
        return len(ROOMS) - 3  # the package itself hands on the verbs; only the cli is further
    for number, names in enumerate(ROOMS):
        if parts[1] in names:
            return number
    raise ValueError(f"{module} has no room; give it one in ROOMS and in CONTRIBUTING.md")


def fault(importer: str, imported: str) -> str | None:
    """Say why `importer` may not import `imported`, None where it may."""
    here, there = importer.split(".")[0], imported.split(".")[0]
    if there in NOWHERE or (there in ONLY_IN_TOOLS and here != "tools"):
        return "no part of the library may, or only tools"
    if there not in PACKAGES:
        return None
    if PACKAGES.index(there) > PACKAGES.index(here):
        return f"{there} is to the right of {here}"
    for narrow, banned in NARROW.items():
        if importer.startswith(narrow) and imported.startswith(banned):
            return f"{narrow} sees none of {', '.join(banned)}"
    if imported.startswith("stylegan.ops.") and not importer.startswith("stylegan.ops"):
        return "outside stylegan/ops take names from stylegan.ops"
    if here == there == "fewshot_smis" and room(imported) > room(importer):
        return "that room is further right"
    return None


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_left(path):
    importer = module_name(path)
    found = [(name, fault(importer, name)) for name in imports(ast.parse(path.read_text()))]
    assert [f"imports {name}: {why}" for name, why in found if why] == []


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_library_neither_prints_nor_asserts(path):
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assert):
            found.append(f"line {node.lineno}: assert")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("print", "exit"):
            found.append(f"line {node.lineno}: {node.func.id}()")
    assert found == []


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_file_is_one_idea_long(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize(
    ("importer", "imported", "reason"),
    [
        ("stylegan.training", "fewshot_smis.runs", "to the right"),
        ("fewshot_smis.data.pairs", "fewshot_smis.runs", "further right"),
        ("fewshot_smis.labelers.dense", "encoders.psp", "sees none"),
        ("fewshot_smis.training", "stylegan.ops.bias_act", "from stylegan.ops"),
        ("fewshot_smis.jobs.train", "fewshot_smis.cli", "further right"),
        ("fewshot_smis.perceptual", "torchvision.models", "no part"),
        ("fewshot_smis.faces.raster", "dlib", "only tools"),
    ],
)
def test_wrong_arrows_are_seen(importer, imported, reason):
    assert reason in fault(importer, imported)


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("fewshot_smis.training", "fewshot_smis.labelers.dense"),
        ("fewshot_smis.cli", "fewshot_smis.jobs.train"),
        ("tools.landmarks", "dlib"),
        ("stylegan.ops.bias_act", "stylegan.ops.build"),
        ("fewshot_smis.runs", "json"),
    ],
)
def test_right_arrows_pass(importer, imported):
    assert fault(importer, imported) is None


def test_imports_are_found_wherever_they_stand():
    source = "import a.b\ndef f():\n    from stylegan import errors\n    from c import d\n"
    assert sorted(imports(ast.parse(source))) == ["a.b", "c", "stylegan.errors"]


def test_a_file_without_a_room_is_refused():
    with pytest.raises(ValueError, match="has no room"):
        room("fewshot_smis.utils")


def test_newest_changelog_heading_is_the_version():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == version


def test_constraints_pin_every_core_dependency_and_name_no_host():
    text = (ROOT / "constraints.txt").read_text()
    pinned = {m.lower() for m in re.findall(r"^([A-Za-z0-9_.-]+)==\S+$", text, re.M)}
    project = (ROOT / "pyproject.toml").read_text()
    core = re.search(r"^dependencies = \[(.+?)^\]", project, re.M | re.S)
    assert set(re.findall(r'"([a-z0-9-]+)', core[1])) <= pinned
    assert "://" not in text
