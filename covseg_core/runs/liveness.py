"""Whether the worker of a run lives: told by a lock that it holds as long as it lives, never by the clock.

Who starts a worker takes the lock before, and hands it over with the process, so that there is no moment at which a run
in the queue is nobody's. The kernel lets the lock go with the last process that has it, however that ends.

Asking takes no lock, so it cannot keep a worker from its own. Where the file system knows no locks, the process itself
is looked for, by its number and its start since the machine was started, which no step of the clock changes.
"""

from __future__ import annotations

import fcntl
import functools
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

LOCK = ".worker.lock"
"""Name of the lock's file in a run's folder."""
SILENT_AFTER = 90.0
"""Seconds of looking on, by a clock that only runs, after which a worker counts as dead of which nothing else can be
told: it is on another computer and the file system has no locks that work across computers. A worker writes every 5 s,
and a network file system shows it after 60 s at the latest."""

_FLOCK = "hhqqi4x"
"""`struct flock` of Linux: type, whence, start, length, process."""
_seen: dict[Path, tuple[float, float]] = {}
"""Folder -> last heartbeat that was seen, and since when by the monotonic clock [s]."""


class WorkerLock:
    """The lock of a run's worker: `take` it, or `adopt` one that was handed over. It ends with the process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.fd = -1

    def take(self, patience: float = 0.0) -> bool:
        """Take it; whether it could be taken within so many seconds. On a file system without locks it always can."""
        end = time.monotonic() + patience
        while not self._taken():
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        return True

    def adopt(self, fd: int) -> bool:
        """Take over the descriptor that the parent process has locked; whether it is of this file."""
        try:
            if not os.path.samestat(os.fstat(fd), os.stat(self.path)):
                return False
        except OSError:
            return False
        os.set_inheritable(fd, False)  # processes that the worker starts may outlive it
        self.fd = fd
        return _flock(fd, fcntl.LOCK_EX) and _record_lock(fd, fcntl.LOCK_EX)

    def hand_over(self) -> None:
        """Keep no part in it: it belongs to the process that has inherited the descriptor."""
        os.close(self.fd)
        self.fd = -1

    def release(self) -> None:
        """Let go, no matter who else has inherited it."""
        for lock in (_flock, _record_lock):
            lock(self.fd, fcntl.LOCK_UN)
        self.hand_over()

    def _taken(self) -> bool:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # flock is what workers of version 0.1 hold; it cannot be asked about without being taken
            taken = _flock(self.fd, fcntl.LOCK_EX) and _record_lock(self.fd, fcntl.LOCK_EX)
            if taken and os.path.samestat(os.fstat(self.fd), os.stat(self.path)):
                return True
        except FileNotFoundError:  # the run was deleted in between
            pass
        except BaseException:
            self.hand_over()
            raise
        self.hand_over()
        return False


def lives(folder: Path, on: str, process: str, heartbeat: float) -> bool:
    """Whether a run has a living worker, or a living process that is about to start one.

    Parameters
    ----------
    on, process, heartbeat : of its status
    """
    held = lock_held(folder)
    if held or process_lives(process):
        return True
    here = on == host() or process.startswith(f"{_boot()}/")
    if here and (held is False or process):
        return False
    return not _silent(folder, heartbeat)


def lock_held(folder: Path) -> bool | None:
    """Whether somebody holds the lock of a run's worker; None where the file system or the machine cannot tell."""
    if sys.platform != "linux":
        return None
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False  # no worker was ever started
    except OSError:
        return None
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK
    except OSError:
        return None
    finally:
        os.close(fd)


def old(folder: Path) -> bool:
    """Whether a run's status was written long ago by the file system's own clock: those of other machines may be wrong.

    Not enough to call a run lost; where the lock is free and SLURM has no job, what is written still has to arrive.
    """
    try:
        os.close(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666))
        os.utime(folder / LOCK)
        return os.stat(folder / LOCK).st_mtime - os.stat(folder / "status.json").st_mtime >= SILENT_AFTER
    except OSError:
        # of somebody else's folder nothing but looking on can tell
        return _silent(folder, 0.0)


def this_process() -> str:
    """What tells this process from any other, on any machine, at any time: `boot/number/start`."""
    return f"{_boot()}/{os.getpid()}/{_start(os.getpid())}"


def process_lives(process: str) -> bool:
    """Whether the process of that name still runs; one of another machine never does here."""
    boot, number, start = process.split("/") if process.count("/") == 2 else ("", "0", "")
    return boot == _boot() and start == _start(int(number))


def host() -> str:
    """Name of this machine, since a checkpoints folder can be shared by several."""
    return socket.gethostname()


def _silent(folder: Path, heartbeat: float) -> bool:
    """Whether this process has been looking on for long enough without a new heartbeat."""
    now = time.monotonic()
    last, since = _seen.get(folder, (None, now))
    if last != heartbeat:
        _seen[folder] = heartbeat, now
        return False
    return now - since >= SILENT_AFTER


@functools.cache
def _boot() -> str:
    """Of this start of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return host().replace("/", "-")


def _start(number: int) -> str:
    """When a process was started, in ticks since the machine was; empty if it does not run."""
    try:
        if sys.platform != "linux":
            process = psutil.Process(number)
            return "" if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
        # the name, in brackets, may hold anything; after it come the state and, as the 20th, the start
        fields = Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] in b"ZX" else fields[19].decode()
    except (OSError, psutil.Error, IndexError):
        return ""


def _flock(fd: int, how: int) -> bool:
    """Lock or unlock the whole file; False if another has it."""
    return _got(lambda: fcntl.flock(fd, how | fcntl.LOCK_NB))


def _record_lock(fd: int, how: int) -> bool:
    """The same by the one kind of lock that can be asked about, belongs to the descriptor and goes over the network."""
    if sys.platform != "linux":
        return True
    kind = fcntl.F_UNLCK if how == fcntl.LOCK_UN else fcntl.F_WRLCK
    return _got(lambda: fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)))


def _got(lock: Callable[[], object]) -> bool:
    try:
        lock()
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True  # this file system knows no such lock
    return True
