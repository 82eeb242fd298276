"""Files appear whole or not at all: temporary file beside the target, fsync, rename. A folder has one writer."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unetkit.core.errors import MachineError, RunError

# Temporary files end so, and start with a dot: a reader of folders passes over them, and a later run removes them.
PARTIAL = ".unetkit-partial"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path (same folder, same suffix) to write; on success fsync it and rename it to `path`.

    On any error, or on a kill, `path` is what it was before. Raises MachineError: full disk, unwritable folder.
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=PARTIAL + path.suffix, dir=path.parent)
        os.close(handle)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files for their owner alone; results are ordinary files
    temporary = Path(name)
    try:
        with disk_errors(path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic`, for a result that is a folder: an empty hidden one beside `path` to fill, renamed at the end.

    A folder that stands at `path` is replaced by it: whether it may be is for the caller to say. Between the two
    renames of a replacement there is none for a moment. Raises MachineError: full disk, unwritable folder.
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", suffix=PARTIAL + path.suffix, dir=path.parent))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o777 & ~umask)
    old = temporary.with_name(f"{temporary.name}-old")
    try:
        with disk_errors(path):
            yield temporary
            for inner, _, names in os.walk(temporary):
                for name in names:
                    _sync(Path(inner, name))
                _sync(Path(inner))
            if path.exists():
                path.rename(old)
            temporary.rename(path)
            _sync(path.parent)
    finally:
        if old.exists() and not path.exists():  # the second rename failed: what was there stays
            old.rename(path)
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically. Raises MachineError for a full disk or an unwritable folder."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file (UTF-8) atomically. Raises MachineError as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON (indented, ends with a newline) atomically. Raises MachineError as `write_bytes`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file of a run. `what` says what it is, for the error. Raises RunError: absent or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{path}: {what} is missing; is {Path(path).parent} a folder that `unetkit train` wrote?"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: {what} is damaged ({error}); train again into a new folder") from None


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into one MachineError with the fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            why = "the disk is full" if error.errno == errno.ENOSPC else f"the disk takes no more ({error.strerror})"
            raise MachineError(f"{path}: {why}; free some space and run the same command again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise MachineError(
                f"{path}: cannot write here ({error.strerror}); choose a folder you may write to"
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise MachineError(
                f"{path}: a file stands where a folder is needed ({error.filename}); choose another name"
            ) from error
        why = error.strerror or str(error)
        raise MachineError(f"{path}: cannot be written ({why}); check the path, or choose another") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process. The kernel lets go when the process ends, however it ends.

    Raises RunError where another process holds it, MachineError where it cannot be written.
    """
    folder = Path(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{folder}: another process is at work in this folder; wait for it, or choose another -o"
            ) from None
        yield
    finally:
        os.close(handle)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left half-written in `folder` (call it while holding the folder)."""
    for path in Path(folder).glob(f".*{PARTIAL}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Make the system write a file or the names in a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
