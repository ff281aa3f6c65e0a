"""What is remembered of a cohort: `cohort.json`, written after each scan, and who works on it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from covseg_core.data.slices.intensity import Scale
from covseg_core.errors import CovsegError, SettingError
from covseg_core.files import cached_sha256, read_json, to_json, write_bytes
from covseg_core.prediction.cohort.figures import Figures
from covseg_core.prediction.combination import Combine
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.output.report import NOTICE
from covseg_core.prediction.request import Request
from covseg_core.runs import Run
from covseg_core.runs.operating_point import thresholds_of
from covseg_core.version import __version__

COHORT = "cohort.json"
_LOCK = ".cohort.lock"
VERSION = 1
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that takes no more."""


@dataclass(frozen=True)
class Asked:
    """A model."""

    run: str
    sha256: str
    """Of `model.onnx`."""


@dataclass(frozen=True)
class Settings:
    """What has to be the same for all scans of a cohort."""

    models: tuple[Asked, ...]
    lungs: Asked | None
    threshold: str
    """In words."""
    scale: Scale | None
    combine: Combine
    mirror: bool
    precision: Precision
    keep_beyond: bool
    keep_patient: bool
    pseudonyms: bool
    covseg: str
    """Version."""


@dataclass(frozen=True)
class Row:
    """One scan."""

    name: str
    """Of its folder."""
    state: Literal["done", "failed", "same"]
    patient: str = ""
    """`patient-1` and so on; empty where the files do not say who it is."""
    day: int | None = None
    """Since the patient's first scan of this cohort; None where the files do not say."""
    stamp: str = ""
    """Of its files, to tell whether they have changed."""
    sha256: str = ""
    same_as: str = ""
    """The scan with the same voxels, which was predicted instead."""
    problem: str = ""
    """Why it failed, in one line that names no file."""
    figures: Figures | None = None
    """Of a scan that is done."""


@dataclass(frozen=True)
class Cohort:
    """Many scans, and what was found in each."""

    notice: str
    version: int
    settings: Settings
    rows: tuple[Row, ...] = ()
    """In the order of the scans' files."""
    notes: tuple[str, ...] = ()
    """What was passed over, one line each."""
    stopped: str = ""
    """Why it is not finished, in one line; empty once it is."""

    @property
    def done(self) -> list[Row]:
        return [row for row in self.rows if row.state == "done"]

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.state == "failed"]


class NoRoom(CovsegError):
    """The disk is full."""


def settings_of(request: Request, pseudonyms: bool) -> Settings:
    """What `cohort.json` says of a request."""
    at = request.given or thresholds_of(request.runs)
    words = at.words.rstrip(": ")
    each = "; ".join(f"{one.threshold:g}, {one.minimum_mm3:g}, {one.peak:g}" for one in at.each)
    return Settings(
        tuple(map(_asked, request.runs)),
        _asked(request.lungs) if request.lungs else None,
        f"{words} ({each})" if each else words,
        request.scale,
        request.combine,
        request.mirror,
        request.precision,
        request.keep_beyond,
        request.keep_patient,
        pseudonyms,
        __version__,
    )


def _asked(run: Run) -> Asked:
    return Asked(run.id, cached_sha256(run.onnx))


def read_cohort(folder: Path, settings: Settings | None = None) -> Cohort | None:
    """The cohort of a folder; None if there is none.

    Raises
    ------
    CovsegError : the file is damaged
    SettingError : it was made with other settings than these
    """
    path = folder / COHORT
    if not path.is_file():
        return None
    cohort = read_json(path, Cohort)
    if settings is not None and cohort.settings != settings:
        names = [name for name, value in vars(settings).items() if vars(cohort.settings)[name] != value]
        different = ", ".join(name.replace("_", " ") for name in names)
        raise SettingError(folder, f"a cohort with other settings ({different})", "the same, or another folder")
    return cohort


def write_cohort(folder: Path, cohort: Cohort) -> None:
    """Whole or not at all; raises as `write_file`."""
    write_file(folder / COHORT, to_json(cohort))


def write_file(path: Path, content: bytes) -> None:
    """A file of a cohort, whole or not at all; raises `NoRoom` where the disk is full, else `CovsegError`."""
    try:
        write_bytes(path, content)
    except OSError as error:
        if error.errno in FULL:
            raise no_room(path, error) from None
        raise CovsegError(path, f"cannot be written ({error.strerror or error})") from None


def no_room(path: Path, error: OSError) -> NoRoom:
    """The line that ends a cohort on a full disk."""
    return NoRoom(
        path, f"cannot be written ({error.strerror or error})", "room on the disk; the same call goes on then"
    )


def empty_cohort(settings: Settings) -> Cohort:
    """One without scans."""
    return Cohort(NOTICE, VERSION, settings)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Make a cohort's folder and keep it from other processes; half-made folders of killed ones are removed.

    Raises
    ------
    SettingError : another process works in it, or it cannot be used
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise SettingError(folder, "another process works in it", "one at a time") from None
    except OSError as error:
        raise SettingError(folder, f"cannot be used ({error.strerror or error})", "a folder of yours") from None
    try:
        for left in (*folder.glob(".covseg-*"), *folder.glob("*/.covseg-*")):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
