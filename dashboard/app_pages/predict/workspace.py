"""Scans that somebody wants a mask of, each with all that is made from it in a folder of its own, for an hour.

The ids are secrets of one browser session: they stand in no URL and in no list. Arrays lie on disk and are mapped into
memory, so that sessions cost disk, not memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import streamlit as st

from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.reading.dicom import Series
from covseg_core.data.reading.opening import SeriesChoice
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import CovsegError
from covseg_core.paths import data_root
from covseg_core.prediction.output.report import Report
from covseg_core.prediction.passport import Passport, make_passport
from covseg_core.prediction.probabilities import Probabilities
from covseg_core.prediction.scan import Scan, read_scan
from covseg_core.runs.operating_point import Thresholds
from dashboard.services import tasks, uploads
from dashboard.services.upload_receiver import Sent

KEPT_SECONDS = 3600.0
"""How long a desk is kept after somebody has last looked at it."""
SWEEP_SECONDS = 300.0


@dataclass(frozen=True, eq=False)
class Result:
    """What the chosen models say."""

    answers: tuple[Probabilities, ...]
    lungs: Probabilities | None = None
    """Of the lung model."""
    sides: np.ndarray | None = None
    """(Z, Y, X) uint8 on disk: which lung each voxel is in."""
    seg_problem: str = ""
    """Why a DICOM series can have no DICOM SEG."""

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the models, without the lung model's."""
        return tuple(answer.model.run for answer in self.answers)

    @property
    def asked(self) -> tuple[str, ...]:
        """Ids of all models."""
        return (*self.runs, self.lungs.model.run) if self.lungs else self.runs


@dataclass(frozen=True, eq=False)
class Outcome:
    """Masks and figures of a result, at one setting."""

    asked: tuple[str, ...]
    thresholds: Thresholds
    report: Report
    masks: dict[str, np.ndarray] = field(repr=False)
    """One bit a voxel: of each model by run id, and the vote's, as ""."""


@dataclass(eq=False)
class Desk:
    """One scan, its passport once it was read, and what models say about it."""

    name: str
    """As the user calls it."""
    file: Path
    scale: Scale | None = None
    """None to detect it."""
    series: str | None = None
    """Key of the DICOM series, once one was chosen."""
    choices: tuple[Series, ...] = ()
    """Series to choose from, if there are several."""
    source: tuple[str, str] | None = None
    """Dataset and case, if it is of a dataset."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    checked: Scan | None = None
    passport: Passport | None = None
    problem: str = ""
    """What is in the way of reading it, in a sentence: its scale is unknown."""
    answers: dict[str, Probabilities] = field(default_factory=dict)
    """By run id, of all models that were ever asked."""
    result: Result | None = None
    opened: bool = False
    """Whether a result was shown before: the first time, the viewer goes to the largest slice."""
    task: str | None = None
    used: float = field(default_factory=time.time)
    outcome: Outcome | None = None
    """The last one that was asked for."""
    written: tuple[Outcome, dict[str, str]] | None = None
    """What the files in `output` are of, and their SHA-256 by name."""
    writing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def folder(self) -> Path:
        """Where all of it is kept."""
        return desks_root() / self.id

    @property
    def output(self) -> Path:
        """What is downloaded."""
        return self.folder / "out"

    def touch(self) -> None:
        """Somebody looks at it: it stays for another hour."""
        self.used = time.time()
        with contextlib.suppress(OSError):  # the disk was tidied by hand; what needs a file will say so
            os.utime(self.folder)


def desks_root() -> Path:
    """Folder of all desks."""
    return data_root() / "predictions"


def take_upload(sent: Sequence[Sent]) -> Desk:
    """Put files from the browser on a desk; raises `CovsegError` if there is no room for them, or nothing in them."""
    upload = uploads.new_upload()
    try:
        upload.add(sent)
        desk = Desk(_called(sent), Path())
        desk.folder.mkdir(parents=True)
        desk.file = desk.folder / "scan"
        os.replace(upload.files[0] if len(sent) == 1 else upload.folder, desk.file)
    finally:
        upload.discard()
    return _desks().add(desk)


def _called(sent: Sequence[Sent]) -> str:
    """One file by its name, several by their folder's, or by their number."""
    if len(sent) == 1:
        return PurePosixPath(sent[0].name).name
    tops = {PurePosixPath(file.name).parts[0] if "/" in file.name else "" for file in sent}
    return tops.pop() if len(tops) == 1 and "" not in tops else f"{len(sent)} files"


def take_case(dataset: Dataset, case: Case) -> Desk:
    """Put a scan of a dataset on a desk; its file stays where it is."""
    desk = Desk(f"{dataset.name} / {case.id}", dataset.path(case, "scan"), case.scale, source=(dataset.name, case.id))
    desk.folder.mkdir(parents=True)
    return _desks().add(desk)


def check(desk: Desk) -> None:
    """Read the scan, in the desk's scale and of its series.

    If there are several series and none was chosen, the desk has `choices` then, and no scan.

    Raises
    ------
    ScanError : it cannot be used, or is in an `UnknownScale`; calls it by the name that the user knows
    """
    path = desk.folder / "voxels.npy"
    try:
        checked = read_scan(desk.file, desk.scale, desk.series)
        uploads.check_room(checked.volume.voxels.nbytes)
        path.unlink(missing_ok=True)  # another series may still be mapped
        np.save(path, checked.volume.voxels, allow_pickle=False)
    except SeriesChoice as error:
        desk.choices = error.series
        return
    except CovsegError as error:
        raise type(error)(desk.name, error.found, error.expected) from None
    except OSError as error:
        raise CovsegError(desk.name, f"cannot be put on disk ({error.strerror or error})") from None
    voxels = np.load(path, mmap_mode="r", allow_pickle=False)
    scan = replace(checked, volume=replace(checked.volume, voxels=voxels))
    desk.passport = make_passport(scan)
    desk.checked = scan


def reopen(desk: Desk) -> None:
    """Back to the choice among series; what was made of the one before is dropped."""
    if task := tasks.get(desk.task):
        task.cancel()
    desk.series = desk.scale = desk.checked = desk.passport = desk.result = desk.outcome = desk.written = None
    desk.task, desk.answers, desk.problem, desk.opened = None, {}, "", False
    shutil.rmtree(desk.output, ignore_errors=True)


def find(id: str | None) -> Desk | None:
    """The desk, if it is still there; it stays for another hour then."""
    return _desks().find(id)


def clear(desk: Desk) -> None:
    """Remove the scan and everything made from it, and stop what is being made."""
    _desks().remove(desk)


class _Desks:
    """All desks of this process."""

    def __init__(self) -> None:
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()

    def add(self, desk: Desk) -> Desk:
        self.sweep()
        with self._lock:
            self._desks[desk.id] = desk
        return desk

    def find(self, id: str | None) -> Desk | None:
        with self._lock:
            desk = self._desks.get(id or "")
        if desk is None or time.time() - desk.used > KEPT_SECONDS:
            return None
        desk.touch()
        return desk

    def remove(self, desk: Desk) -> None:
        with self._lock:
            self._desks.pop(desk.id, None)
        if task := tasks.get(desk.task):
            task.cancel()
        shutil.rmtree(desk.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what nobody has looked at for an hour, also what an earlier dashboard has left on disk."""
        oldest = time.time() - KEPT_SECONDS
        with self._lock:
            left = [desk for desk in self._desks.values() if desk.used < oldest]
        for desk in left:
            self.remove(desk)
        for folder in desks_root().glob("*"):
            try:
                if folder.stat().st_mtime < oldest and folder.name not in self._desks:
                    shutil.rmtree(folder)
            except OSError:
                continue


@st.cache_resource(show_spinner=False)
def _desks() -> _Desks:
    desks = _Desks()

    def tidy() -> None:
        while True:
            desks.sweep()
            time.sleep(SWEEP_SECONDS)

    threading.Thread(target=tidy, name="covseg-desks", daemon=True).start()
    return desks
