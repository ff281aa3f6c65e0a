"""What somebody has brought and what is made of it, each in a folder of its own that goes a while after the last look.

Ids stand in URLs, and only the browser that brought something may open it in a new session.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from dashboard.services import tasks

SWEEP_SECONDS = 300.0


class Space(Protocol):
    """A folder with what belongs to it."""

    id: str
    browser: str
    """Secret of the browser that brought it; empty if it keeps none."""
    task: str | None
    """Work on it, which ends with it."""
    used: float
    """When somebody has last looked at it, as `time.time`."""

    @property
    def folder(self) -> Path: ...

    def touch(self) -> None:
        """Somebody looks at it."""


S = TypeVar("S", bound=Space)


class KeptSpaces(Generic[S]):
    """All spaces of one kind, in this process and on disk.

    Parameters
    ----------
    root : folder of their folders
    seconds : how long they stay after the last look
    """

    def __init__(self, root: Callable[[], Path], seconds: float) -> None:
        self._root, self._seconds = root, seconds
        self._all: dict[str, S] = {}
        self._lock = threading.Lock()

    def find(self, id: str | None) -> S | None:
        """The space, if it is still there; it stays for as long again then."""
        with self._lock:
            space = self._all.get(id or "")
        if space is None or self.is_over(space):
            return None
        space.touch()
        return space

    def find_again(self, id: str, browser: str) -> S | None:
        """As `find`, for a new session of the browser that brought it; nobody else's."""
        space = self.find(id)
        return space if space and browser and space.browser == browser else None

    def is_over(self, space: S) -> bool:
        """Whether its time has run out."""
        return time.time() - space.used > self._seconds

    def remove(self, space: S) -> None:
        """Stop the work on it, and remove its folder."""
        with self._lock:
            self._all.pop(space.id, None)
        if task := tasks.get(space.task):
            task.cancel()
        shutil.rmtree(space.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what nobody has looked at for long, also what an earlier dashboard has left on disk."""
        oldest = time.time() - self._seconds
        with self._lock:
            left = [space for space in self._all.values() if self.is_over(space)]
            known = set(self._all)
        for space in left:
            self.remove(space)
        for folder in self._root().glob("*"):
            with contextlib.suppress(OSError):
                if folder.name not in known and folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder)

    def sweep_for_ever(self, name: str) -> None:
        """From now on, in a thread of this name."""

        def tidy() -> None:
            while True:
                self.sweep()
                time.sleep(SWEEP_SECONDS)

        threading.Thread(target=tidy, name=name, daemon=True).start()
