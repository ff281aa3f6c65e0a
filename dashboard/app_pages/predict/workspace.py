"""Scans that somebody wants a mask of, each with all that is made from it in a folder of its own, for an hour.

An id stands in the URL, so that a reload or another tab finds the scan and what was predicted; but only the browser
that brought the scan may open it, which a cookie tells. Arrays lie on disk and are read or
mapped into memory from there, so that sessions cost disk, not memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
import shutil
import threading
import time
import uuid
import weakref
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import streamlit as st

from covseg_core.archive.search import Series as ArchiveSeries
from covseg_core.archive.settings import Archive
from covseg_core.archive.transfer import fetch_series
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.reading.dicom import Series
from covseg_core.data.reading.opening import SeriesChoice
from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import CovsegError
from covseg_core.isolation import Limits, isolated, size_of
from covseg_core.paths import data_root
from covseg_core.prediction.ask import Answers, Key
from covseg_core.prediction.combination import Combine
from covseg_core.prediction.decide import Prediction
from covseg_core.prediction.probabilities import Probabilities
from covseg_core.prediction.scan import Scan, read_scan
from covseg_core.prediction.spool import Spool
from covseg_core.progress import Progress
from covseg_core.runs.operating_point import Thresholds
from dashboard.services import tasks, uploads
from dashboard.services.kept_spaces import KeptSpaces
from dashboard.services.upload_receiver import UploadedFile

KEPT_SECONDS = 3600.0
"""How long a workspace is kept after somebody has last looked at it."""
MOST = 200
"""Workspaces at most, and no more than an eighth of the descriptors that the system gives a process."""
UNKNOWN_IMAGES, IMAGE_BYTES = 1000, 2**20
"""Images of a series whose archive does not say how many there are, and what one may take, to limit the fetching."""
LONGEST_NAME = 60
"""Characters of a scan's name in files."""
MOST_BYTES = 64 * 2**30
"""Bytes of all workspaces together, scans and answers."""


@dataclass(frozen=True, eq=False)
class Decided:
    """The last prediction that was looked at, and what it was made of."""

    answers: Answers
    thresholds: Thresholds
    combine: Combine
    prediction: Prediction


@dataclass(frozen=True)
class Naming:
    """What the files say about who it is."""

    name: str = ""
    """What the sheet calls the scan, and with which files begin."""
    keep_patient: bool = False
    """Whether the DICOM SEG names patient and study."""


@dataclass(eq=False)
class Workspace:
    """One scan, and what models say about it."""

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
    browser: str = ""
    """Secret of the browser that brought it; empty if it keeps none."""
    scan: Scan | None = None
    """None until it was read."""
    problem: str = ""
    """What is in the way of reading it, in a sentence: its scale is unknown."""
    known: dict[Key, Probabilities] = field(default_factory=dict)
    """Of all models that were ever asked, with and without mirror images."""
    answers: Answers | None = None
    """Of the models that were asked last."""
    seg_problem: str = ""
    """Why a DICOM series can have no DICOM SEG, once models were asked."""
    opened: bool = False
    """Whether an answer was shown before: the first time, the viewer goes to the largest slice."""
    task: str | None = None
    used: float = field(default_factory=time.time)
    decided: Decided | None = None
    written: tuple[Prediction, Naming, dict[str, str]] | None = None
    """What the files in `output` are of, what they call it, and their SHA-256 by name."""
    writing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def folder(self) -> Path:
        """Where all of it is kept."""
        return workspaces_root() / self.id

    @property
    def output(self) -> Path:
        """What is downloaded."""
        return self.folder / "out"

    @functools.cached_property
    def spool(self) -> Spool:
        """Keeps answers in the folder, never in memory."""
        return Spool(self.folder / "answers", in_memory=0)

    @property
    def file_name(self) -> str:
        """What files about it are called at first: the case's id, or the name of the upload without its type."""
        if self.source:
            return self.source[1]
        stem = re.sub(r"(\.nii)?\.[A-Za-z0-9]{1,5}$", "", self.name)
        return for_files(stem)[:LONGEST_NAME] or "scan"

    @property
    def names_patient(self) -> bool:
        """Whether it is a DICOM series whose files are still there to be asked for patient and study."""
        return self.scan is not None and self.scan.kind == "dicom" and not zipfile.is_zipfile(self.file)

    def touch(self) -> None:
        """Somebody looks at it: it stays for another hour."""
        self.used = time.time()
        with contextlib.suppress(OSError):  # the disk was tidied by hand; what needs a file will say so
            os.utime(self.folder)

    def read(self) -> None:
        """Read the scan, in its scale and of its series, in another process; its voxels are mapped from there.

        If there are several series and none was chosen, there are `choices` then, and no scan.

        Raises
        ------
        ScanError : it cannot be used, or is in an `UnknownScale`; calls it by the name that the user knows
        """
        try:
            limits = Limits.of(size_of(self.file))
            self.scan = isolated(read_scan, self.file, self.scale, self.series, named=self.name, limits=limits)
        except SeriesChoice as error:
            self.choices = error.series
            return
        except CovsegError as error:
            raise type(error)(self.name, error.found, error.expected) from None
        except OSError as error:
            raise CovsegError(self.name, f"cannot be put on disk ({error.strerror or error})") from None

    def load(self) -> None:
        """`read`, unless another workspace has just this scan of a dataset: they share it then, and its descriptor."""
        _workspaces().load(self)

    def reopen(self) -> None:
        """Back to the choice among series; what was made of the one before is dropped."""
        if task := tasks.get(self.task):
            task.cancel()
        self.series = self.scale = self.scan = self.answers = self.decided = self.written = self.task = None
        self.known, self.problem, self.seg_problem, self.opened = {}, "", "", False
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.rmtree(self.folder / "answers", ignore_errors=True)

    def clear(self) -> None:
        """Remove the scan and everything made from it, and stop what is being made."""
        _workspaces().remove(self)


def for_files(name: str) -> str:
    """A name without what files cannot be called; it may be empty.

    >>> for_files("../Doe 7 (a)")
    'Doe-7-a'
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")


def workspaces_root() -> Path:
    """Folder of all workspaces."""
    return data_root() / "predictions"


def take_upload(uploaded: Sequence[UploadedFile]) -> Workspace:
    """A workspace of files from the browser; raises `CovsegError` if there is no room for them, or nothing in them."""
    upload = uploads.new_upload()
    try:
        upload.add(uploaded)
        space = Workspace(_called(uploaded), Path())
        space.folder.mkdir(parents=True)
        space.file = space.folder / "scan"
        os.replace(upload.files[0] if len(uploaded) == 1 else upload.folder, space.file)
    finally:
        upload.discard()
    return _workspaces().add(space)


def take_series(archive: Archive, series: ArchiveSeries, progress: Progress) -> Workspace:
    """A workspace of a series that is fetched from an archive, by another process; raises as `fetch_series`."""
    space = Workspace(f"{series.patient} {series.date}".strip() or archive.name, Path())
    space.folder.mkdir(parents=True)
    space.file = space.folder / "scan"
    limits = Limits.of((series.images or UNKNOWN_IMAGES) * IMAGE_BYTES)
    try:
        arguments = (archive, series.study, series.series, space.file)
        isolated(fetch_series, *arguments, named=archive.title, limits=limits, progress=progress)
    except BaseException:
        shutil.rmtree(space.folder, ignore_errors=True)
        raise
    return _workspaces().add(space)


def take_case(dataset: Dataset, case: Case) -> Workspace:
    """A workspace of a scan of a dataset; its file stays where it is."""
    path, source = dataset.path(case, "scan"), (dataset.name, case.id)
    space = Workspace(f"{dataset.name} / {case.id}", path, case.scale, source=source)
    space.folder.mkdir(parents=True)
    return _workspaces().add(space)


def find(id: str | None) -> Workspace | None:
    """The workspace, if it is still there; it stays for another hour then."""
    return _workspaces().find(id)


def find_again(id: str, browser: str) -> Workspace | None:
    """As `find`, for a new session of the browser that brought the scan; nobody else's."""
    return _workspaces().find_again(id, browser)


def _called(uploaded: Sequence[UploadedFile]) -> str:
    """One file by its name, several by their folder's, or by their number."""
    if len(uploaded) == 1:
        return PurePosixPath(uploaded[0].name).name
    tops = {PurePosixPath(file.name).parts[0] if "/" in file.name else "" for file in uploaded}
    return tops.pop() if len(tops) == 1 and "" not in tops else f"{len(uploaded)} files"


def _most() -> int:
    """How many workspaces there may be: each maps up to some files, and the pages need descriptors as well."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if allowed == resource.RLIM_INFINITY else max(1, min(MOST, allowed // 8))


def _total(spaces: Sequence[Workspace], sizes: dict[str, int]) -> int:
    """Bytes of workspaces; a scan that several share counts once."""
    scans = {id(space.scan): space.scan.volume.voxels.nbytes for space in spaces if space.scan is not None}
    return sum(scans.values()) + sum(sizes[space.id] for space in spaces)


class _Workspaces(KeptSpaces[Workspace]):
    """All workspaces of this process."""

    def __init__(self) -> None:
        super().__init__(workspaces_root, KEPT_SECONDS)
        self._scans: weakref.WeakValueDictionary[tuple[object, ...], Scan] = weakref.WeakValueDictionary()
        """Scans of datasets, while a workspace has them."""
        self._reading = [threading.Lock() for _ in range(16)]
        """By what is read: those who ask for the same at once wait for the first."""

    def load(self, space: Workspace) -> None:
        """See `Workspace.load`."""
        if space.source is None or not space.file.is_file():
            space.read()
        else:
            self._share(space)
        self.limit(space)

    def _share(self, space: Workspace) -> None:
        stamp = space.file.stat()  # a dataset that was deleted and made again under its name has other files
        key = (space.source, space.file, stamp.st_ino, stamp.st_mtime_ns, stamp.st_size, space.scale, space.series)
        with self._reading[hash(key) % len(self._reading)]:
            space.scan = self._scans.get(key)
            if space.scan is None:
                space.read()
            if space.scan is not None:
                self._scans[key] = space.scan

    def limit(self, kept: Workspace) -> None:
        """Remove the oldest while there are too many, or they are too large; `kept` stays whatever it is."""
        with self._lock:
            by_age = sorted((space for space in self._all.values() if space is not kept), key=lambda space: space.used)
        sizes = {space.id: size_of(space.folder) for space in [*by_age, kept]}
        while by_age and (len(by_age) + 1 > _most() or _total([*by_age, kept], sizes) > MOST_BYTES):
            self.remove(by_age.pop(0))

    def add(self, space: Workspace) -> Workspace:
        self.sweep()
        with self._lock:
            self._all[space.id] = space
        self.limit(space)
        return space


@st.cache_resource(show_spinner=False)
def _workspaces() -> _Workspaces:
    found = _Workspaces()
    found.sweep_for_ever("covseg-workspaces")
    return found
