"""Whole files or none, also when the disk is full (a real limit on file size stands in for it)."""

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fewshot_smis.data.files import (
    atomic_write,
    read_json,
    write_bytes,
    write_error,
    write_json,
)
from stylegan.errors import DataError


@contextmanager
def file_limit(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_full_disk_keeps_the_old_file_and_leaves_no_part(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with (
        file_limit(1000),
        pytest.raises(DataError, match=r"a\.bin: cannot write .*free some space"),
    ):
        write_bytes(path, b"x" * 5000)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_full_disk_while_torch_saves(tmp_path):
    refused = pytest.raises(DataError, match="free some space")
    with file_limit(5000), refused, atomic_write(tmp_path / "a.pt") as file:
        torch.save({"w": torch.zeros(10_000)}, file)
    assert names(tmp_path) == []


def test_other_failures_pass_through_and_leave_nothing(tmp_path):
    with pytest.raises(TypeError), atomic_write(tmp_path / "a") as file:
        file.writelines([b"half", "not bytes"])
    assert names(tmp_path) == []


def test_file_takes_its_name_only_when_whole(tmp_path):
    path = tmp_path / "a"
    with atomic_write(path) as file:
        file.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "change its permissions"),
        (errno.EEXIST, "choose another one"),
        (errno.EIO, "check the folder"),
    ],
)
def test_write_error_tells_the_fix(code, fix):
    text = str(write_error(Path("x/y"), OSError(code, os.strerror(code))))
    assert text.startswith("x/y: cannot write")
    assert fix in text


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match=r"no/a: cannot write \(No such file or directory\)"):
        write_bytes(tmp_path / "no" / "a", b"")


def test_json_round_trip(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5, None, "é"]})
    assert read_json(path) == {"a": [1, 2.5, None, "é"]}
    assert path.read_text().endswith("}\n")


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,}\n', "line 1, column"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_broken_json(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_json(path)


def test_missing_json(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match="Is a directory"):
        read_json(tmp_path)
