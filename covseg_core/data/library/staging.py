"""A place to build a dataset in, so that it appears whole or not at all.

`.import-<name>/` beside the datasets belongs to one process at a time, by a lock on a file in it. The lock goes with
the process, so a folder whose lock is free was left by a killed import and can be cleared away.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from covseg_core.errors import DatasetError

_PREFIX = ".import-"
_LOCK = "lock"
_PAUSE = 0.05
"""Seconds between two looks at whether the lock is free."""


@contextmanager
def staging(root: Path, name: str, patience: float = 1.0) -> Iterator[Path]:
    """Yield an empty folder under `root` that no other process has, and remove it at the end.

    What killed imports left under `root` goes first. At the end `root` and its parents are removed as well if they were
    made for this and stayed empty.

    Parameters
    ----------
    patience : how long to wait for another one of the same name to end [s]

    Raises
    ------
    DatasetError : another import of the same name is running
    """
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    _clear_dead(root)
    folder = root / f"{_PREFIX}{name}"
    try:
        with _owned(folder, max(1, round(patience / _PAUSE))):
            yield folder
    finally:
        for parent in made:
            _remove_if_empty(parent)


@contextmanager
def _owned(folder: Path, tries: int) -> Iterator[None]:
    """Hold the folder's lock; remove the folder before letting go of it, so that nobody else's is removed."""
    for left in reversed(range(tries)):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0)
        try:
            lock.acquire()
            break
        except (Timeout, FileNotFoundError):  # the latter: its owner has just removed it
            if not left:
                name = folder.name.removeprefix(_PREFIX)
                raise DatasetError(f"dataset {name}", "another import into it is running", "one at a time") from None
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _clear_dead(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*"):
        try:
            with _owned(folder, tries=1):
                pass
        except DatasetError:
            continue
    for folder in root.glob(".deleted-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
