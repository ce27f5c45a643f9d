"""Huge pages are asked for before the first tensor, and the user has the last word."""

import os
import subprocess
import sys

from stylegan.memory import VARIABLE, use_huge_pages


def test_the_user_has_the_last_word(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    use_huge_pages()
    assert os.environ[VARIABLE] == "1"
    monkeypatch.setenv(VARIABLE, "0")
    use_huge_pages()
    assert os.environ[VARIABLE] == "0"


def test_commands_ask_before_torch_is_imported():
    code = (
        "import os, sys, fewshot_smis.cli as cli\n"
        "early = 'torch' not in sys.modules\n"
        "cli.main(['labels', '--help'], standalone_mode=False)\n"
        f"sys.exit(0 if early and os.environ.get('{VARIABLE}') == '1' else 1)"
    )
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
