"""Cohorts that somebody has uploaded, each in a folder of its own, for a day after it was last looked at.

A cohort takes hours, and is looked at in the morning: that is why it stays longer than a single scan. As there, its id
stands in the URL, and only the browser that brought it may open it.
"""

from __future__ import annotations

import contextlib
import os
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
from dashboard.services.kept_spaces import KeptSpaces
from dashboard.services.upload_receiver import UploadedFile

KEPT_SECONDS = 24 * 3600.0
"""How long a cohort is kept after somebody has last looked at it, or it was worked on."""
MOST = 20
"""Cohorts at most; the oldest that nobody works on goes first."""
MOST_BYTES = 256 * 2**30
"""Bytes of all cohorts together, scans and masks; the same goes first."""


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
    return _spaces().find_again(id, browser)


class _Spaces(KeptSpaces[CohortSpace]):
    """All cohorts of this process."""

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

    def is_over(self, space: CohortSpace) -> bool:
        return super().is_over(space) and not space.running


@st.cache_resource(show_spinner=False)
def _spaces() -> _Spaces:
    found = _Spaces(cohorts_root, KEPT_SECONDS)
    found.sweep_for_ever("covseg-cohorts")
    return found
