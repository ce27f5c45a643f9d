"""The public namespace holds what it says, and importing it does no work."""

import subprocess
import sys

import fewshot_smis


def test_every_exported_name_is_there() -> None:
    assert sorted(fewshot_smis.__all__) == sorted(fewshot_smis._WHERE)
    for name in fewshot_smis.__all__:
        assert getattr(fewshot_smis, name).__doc__


def test_importing_the_command_line_does_not_import_torch() -> None:
    code = "import sys, fewshot_smis.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
