"""`doctor` names what runs and why, and compiles anew when told to."""

import pytest
from click.testing import CliRunner

from fewshot_smis.cli import main
from stylegan.ops import build


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    build.backend.cache_clear()
    yield
    monkeypatch.undo()
    build.backend.cache_clear()


def page(*args: str) -> dict[str, str]:
    result = CliRunner().invoke(main, ["doctor", *args])
    assert result.exit_code == 0, result.output
    rows = (line.split("  ", 1) for line in result.output.strip().splitlines())
    return {name: value.strip() for name, value in rows}


def test_it_says_why_a_backend_is_off(monkeypatch):
    monkeypatch.setenv(build.VARIABLE, "reference")
    facts = page()
    assert facts["operators, cpu"] == "reference (FEWSHOT_SMIS_OPS=reference)"
    assert facts["cache"] == str(build.cache_folder())
    assert facts["precision auto"] in ("float32", "bfloat16")
    assert {"compiler", "ninja", "nvcc", "torch", "cuda", "amx bf16", "avx512"} <= set(facts)


def test_it_names_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    build.fingerprint.cache_clear()
    facts = page()
    build.fingerprint.cache_clear()
    assert "the kernels need no-such-compiler" in facts["operators, cpu"]
    assert facts["compiler"] == "no-such-compiler not found"


def test_rebuild_compiles_after_a_failure(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled = []

    def compile_into(folder, device):
        compiled.append(device)
        raise RuntimeError("no space left")

    monkeypatch.setattr(build, "lacks", lambda device: "no card" if device == "cuda" else "")
    monkeypatch.setattr(build, "compile_into", compile_into)
    assert "did not compile" in page()["operators, cpu"]
    build.backend.cache_clear()
    assert "doctor --rebuild" in page()["operators, cpu"]
    assert compiled == ["cpu"]
    build.backend.cache_clear()
    page("--rebuild")
    assert compiled == ["cpu", "cpu"]
