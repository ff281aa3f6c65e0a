"""Temporary folders below the data folder, which only this user may enter, and which no killed process leaves behind.

Scans lie in them. Each belongs to one process, by a lock that goes with the process: a folder whose lock is free was
left by one that was killed, and goes as soon as another is made.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

from covseg_core.paths import data_root

_LOCK = ".lock"


class TemporaryFolder:
    """A new empty folder, until `remove` or the end of a `with` statement; raises `OSError` where none can be made."""

    def __init__(self) -> None:
        sweep()
        root = _root()
        self.path = root / uuid.uuid4().hex
        self._lock = FileLock(root / f"{self.path.name}{_LOCK}")
        self._lock.acquire()
        self.path.mkdir(mode=0o700)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """With all that is in it; no matter if it is gone."""
        shutil.rmtree(self.path, ignore_errors=True)
        _forget(self._lock)
        if self.path.parent != temporary_root():
            self.path.parent.rmdir()


def sweep() -> None:
    """Remove what killed processes have left."""
    for path in sorted(temporary_root().glob(f"*{_LOCK}")):
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except (Timeout, OSError):
            continue
        shutil.rmtree(path.with_name(path.name.removesuffix(_LOCK)), ignore_errors=True)
        _forget(lock)


def temporary_root() -> Path:
    """Where all of them are."""
    return data_root() / "temporary"


def _root() -> Path:
    """It, made; the system's folder for temporary files where nothing may be written to the data folder."""
    root = temporary_root()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(root, os.W_OK):
            return root
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="covseg-"))


def _forget(lock: FileLock) -> None:
    """The file goes before the lock: who waits for it would else hold the lock of a folder that is no more."""
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
