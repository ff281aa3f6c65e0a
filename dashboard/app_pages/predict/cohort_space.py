"""Cohorts that somebody has uploaded, each in a folder of its own, for a day after it was last looked at.

A cohort takes hours, and is looked at in the morning: that is why it stays longer than a single scan. As there, its id
stands in the URL, and only the browser that brought it may open it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.files import cached_json
from covseg_core.isolation import size_of
from covseg_core.paths import data_root
from covseg_core.prediction.cohort.state import COHORT, Cohort
from dashboard.services import tasks, uploads
from dashboard.services.upload_receiver import UploadedFile

KEPT_SECONDS = 24 * 3600.0
"""How long a cohort is kept after somebody has last looked at it, or it was worked on."""
MOST = 20
"""Cohorts at most; the oldest that nobody works on goes first."""
MOST_BYTES = 256 * 2**30
"""Bytes of all cohorts together, scans and masks; the same goes first."""
_SWEEP_SECONDS = 300.0


@dataclass(eq=False)
class CohortSpace:
    """Uploaded scans, and what was predicted."""

    browser: str
    """Secret of the browser that brought them; empty if it keeps none."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    files: int = 0
    """How many were uploaded."""
    task: str | None = None
    used: float = field(default_factory=time.time)

    @property
    def folder(self) -> Path:
        """Where all of it is kept."""
        return cohorts_root() / self.id

    @property
    def uploads(self) -> Path:
        """What was uploaded."""
        return self.folder / "scans"

    @property
    def output(self) -> Path:
        """What is predicted, as `covseg predict` writes it."""
        return self.folder / "cohort"

    @property
    def cohort(self) -> Cohort | None:
        """As far as it is; None before the first scan has ended."""
        try:
            return cached_json(self.output / COHORT, Cohort)
        except CovsegError:
            return None

    @property
    def running(self) -> bool:
        """Whether somebody works on it."""
        task = tasks.get(self.task)
        return task is not None and task.state == "running"

    def touch(self) -> None:
        """Somebody looks at it: it stays for another day."""
        self.used = time.time()
        with contextlib.suppress(OSError):  # the disk was tidied by hand; what needs a file will say so
            os.utime(self.folder)

    def clear(self) -> None:
        """Remove the scans and everything made from them, and stop what is being made."""
        _spaces().remove(self)


def cohorts_root() -> Path:
    """Folder of all cohorts."""
    return data_root() / "cohorts"


def take_uploads(uploaded: Sequence[UploadedFile], browser: str) -> CohortSpace:
    """A cohort of files from the browser; raises `CovsegError` if there is no room for them."""
    upload = uploads.new_upload()
    try:
        upload.add(uploaded)
        space = CohortSpace(browser, files=len(uploaded))
        cohorts_root().mkdir(mode=0o700, parents=True, exist_ok=True)
        space.folder.mkdir(mode=0o700)
        os.replace(upload.folder, space.uploads)
    finally:
        upload.discard()
    return _spaces().add(space)


def find(id: str | None) -> CohortSpace | None:
    """The cohort, if it is still there; it stays for another day then."""
    return _spaces().find(id)


def find_again(id: str, browser: str) -> CohortSpace | None:
    """As `find`, for a new session of the browser that brought it; nobody else's."""
    space = _spaces().find(id)
    return space if space and browser and space.browser == browser else None


class _Spaces:
    """All cohorts of this process."""

    def __init__(self) -> None:
        self._all: dict[str, CohortSpace] = {}
        self._lock = threading.Lock()

    def add(self, space: CohortSpace) -> CohortSpace:
        with self._lock:
            self._all[space.id] = space
            idle = [one for one in self._all.values() if one is not space and not one.running]
            sizes = {one.id: size_of(one.folder) for one in self._all.values()}
        for one in sorted(idle, key=lambda one: one.used):
            if len(sizes) <= MOST and sum(sizes.values()) <= MOST_BYTES:
                break
            self.remove(one)
            del sizes[one.id]
        return space

    def find(self, id: str | None) -> CohortSpace | None:
        with self._lock:
            space = self._all.get(id or "")
        if space is not None:
            space.touch()
        return space

    def remove(self, space: CohortSpace) -> None:
        with self._lock:
            self._all.pop(space.id, None)
        if task := tasks.get(space.task):
            task.cancel()
        shutil.rmtree(space.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what nobody has looked at for a day, also what an earlier dashboard has left on disk."""
        oldest = time.time() - KEPT_SECONDS
        with self._lock:
            left = [space for space in self._all.values() if space.used < oldest and not space.running]
            known = set(self._all)
        for space in left:
            self.remove(space)
        for folder in cohorts_root().glob("*"):
            with contextlib.suppress(OSError):
                if folder.name not in known and folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder)


@st.cache_resource(show_spinner=False)
def _spaces() -> _Spaces:
    found = _Spaces()

    def tidy() -> None:
        while True:
            found.sweep()
            time.sleep(_SWEEP_SECONDS)

    threading.Thread(target=tidy, name="covseg-cohorts", daemon=True).start()
    return found
