"""This machine: a worker is a process in a session of its own, and waits for its turn by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from covseg_core.places.environment import environment
from covseg_core.places.place import LOCAL, Placed, write_placed

children: list[tuple[Path, subprocess.Popen[bytes]]] = []
"""Workers started by this process, and their runs' folders. They outlive it, but while it lives it must collect those
that end."""


def submit(folder: Path, lock: int, host: str) -> None:
    """Start the worker of a run that is in the queue.

    Parameters
    ----------
    lock : descriptor of its lock; it goes over to the new process
    host : name of this machine
    """
    collect()
    write_placed(folder, Placed(LOCAL, LOCAL, host))
    with open(folder / "worker.log", "ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "covseg_core.worker", str(folder), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock],
            env=environment(),
        )
    children.append((folder, worker))


def wait(folders: set[Path]) -> None:
    """Until the processes of these runs are gone: the last word is in the status a moment before."""
    for folder, worker in children:
        if folder in folders:
            worker.wait()
    collect()


def collect() -> None:
    """Let ended workers go, so that none stays as a zombie."""
    children[:] = [(folder, worker) for folder, worker in children if worker.poll() is None]
