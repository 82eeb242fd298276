"""Files appear whole or not at all; a folder has one writer; refusals of the disk are one message."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unetkit.core import files
from unetkit.core.errors import MachineError, RunError


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")

    def fail() -> None:
        with files.atomic(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from unetkit.core import files\n"
        "with files.atomic(Path(sys.argv[1])) as t:\n"
        "    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    files.remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the same command again"),
        (errno.EFBIG, "the disk takes no more (File too large); free some space and run the same command again"),
        (errno.EACCES, "cannot write here (Permission denied); choose a folder you may write to"),
        (errno.ENOTDIR, "a file stands where a folder is needed"),
    ],
)
def test_refusals_of_the_disk_are_one_message(tmp_path: Path, code: int, text: str) -> None:
    target = tmp_path / "plan.json"
    with pytest.raises(MachineError) as caught, files.disk_errors(target):
        raise OSError(code, os.strerror(code), str(target))
    assert str(target) in str(caught.value)
    assert text in str(caught.value)


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="a file stands where a folder is needed"):
        files.write_text(tmp_path / "file" / "a.txt", "x")


def test_two_processes_cannot_hold_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from unetkit.core import files\n"
        "try:\n    with files.locked(Path(sys.argv[1])): pass\n"
        "except files.RunError as e: print(e)"
    )
    with files.locked(tmp_path):
        held = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "another process is at work in this folder" in held.stdout
    free = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert free.stdout == ""


def test_damaged_and_missing_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"plan\.json: the plan is missing; is .* a folder that `unetkit train` wrote\?"):
        files.read_json(tmp_path / "plan.json", "the plan")
    (tmp_path / "plan.json").write_text('{"a": ')
    with pytest.raises(RunError, match="the plan is damaged"):
        files.read_json(tmp_path / "plan.json", "the plan")


def test_json_is_written_with_ordinary_permissions(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"µ": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"µ": 1}
    assert (tmp_path / "a.json").stat().st_mode & 0o044 == 0o044


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"

    def write(text: str, fail: bool) -> None:
        with files.atomic_folder(target) as temporary:
            (temporary / "deep").mkdir()
            (temporary / "deep" / "x").write_text(text)
            assert not target.exists() or (target / "deep" / "x").read_text() == "first"
            if fail:
                raise RuntimeError

    for text, fail in (("half", True), ("first", False), ("half", True)):
        if fail:
            with pytest.raises(RuntimeError):
                write(text, fail)
        else:
            write(text, fail)
    assert (target / "deep" / "x").read_text() == "first"
    (tmp_path / f".a-x{files.PARTIAL}.zarr").mkdir()  # what a killed process leaves
    files.remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["a.zarr"]
    write("second", fail=False)
    assert (target / "deep" / "x").read_text() == "second"
    assert os.listdir(tmp_path) == ["a.zarr"]
