"""Series and results on their way between an archive and this computer: all of them, or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from covseg_core.archive.search import Series, known_series
from covseg_core.archive.settings import Archive
from covseg_core.errors import ArchiveError, Cancelled, ScanError, SettingError
from covseg_core.isolation import Event
from covseg_core.progress import Progress

if TYPE_CHECKING:
    from pydicom import Dataset

_AS_STORED = (("application/dicom", "*"),)
"""Compressed images stay so: what comes is less, and is what the archive holds."""


def fetch_series(
    archive: Archive,
    study: str,
    series: str,
    folder: str | os.PathLike[str],
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> Series:
    """Bring a series here, as DICOM files in a new folder.

    Parameters
    ----------
    study, series : their Instance UIDs
    folder : must not be there yet; it is there once all images are
    progress : called with the images that have come, and those there are
    cancel : looked at after each image

    Raises
    ------
    SettingError : the folder is there already
    ArchiveError : as `connected`; there is no such series; images are missing, or are of another one
    Cancelled : `cancel` was set
    """
    from covseg_core.archive.connection import connected

    target = Path(folder).absolute()
    if target.exists():
        raise SettingError("output", f"{target} is there already", "a folder that is not")
    target.parent.mkdir(parents=True, exist_ok=True)
    coming = Path(tempfile.mkdtemp(prefix=".", suffix=f".{target.name}", dir=target.parent))
    try:
        with connected(archive) as client:
            known = known_series(client, study, series)
            if known is None:
                raise ArchiveError(archive.title, f"has no series {series} in study {study}")
            count = 0
            for image in client.iter_series(study, series, media_types=_AS_STORED):
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                if image.SeriesInstanceUID != series:
                    raise ArchiveError(archive.title, f"has sent an image of series {image.SeriesInstanceUID}")
                count += 1
                image.save_as(coming / f"{count:06d}.dcm")
                if progress is not None:
                    progress(count, known.images or count)
        if not count or count < (known.images or 0):
            raise ArchiveError(archive.title, f"{count} of {known.images or 'the'} images came", "all of them")
        os.rename(coming, target)
    finally:
        shutil.rmtree(coming, ignore_errors=True)
    return known


def send_files(archive: Archive, files: Sequence[str | os.PathLike[str]], progress: Progress | None = None) -> int:
    """Store DICOM files in an archive, one after another; how many.

    All are read before the first is sent. An archive files them by the patient and the study that they name.

    Raises
    ------
    ScanError : one is no DICOM file
    ArchiveError : as `connected`; or it does not take one: those before it are stored
    """
    from covseg_core.archive.connection import connected

    for path in files:
        _read(path)
    with connected(archive) as client:
        for number, path in enumerate(files, 1):
            image = _read(path)
            answer = client.store_instances([image])
            if answer.get("FailedSOPSequence"):
                code = answer.FailedSOPSequence[0].get("FailureReason", 0)
                raise ArchiveError(
                    archive.title,
                    f"does not take {path} (reason 0x{int(code):04X}), {number - 1} are stored",
                )
            if progress is not None:
                progress(number, len(files))
    return len(files)


def _read(path: str | os.PathLike[str]) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(path)
    except InvalidDicomError:
        raise ScanError(path, "no DICOM file", "a DICOM SEG or SR such as mask.dcm") from None
    except OSError as error:
        raise ScanError(path, error.strerror or str(error), "a file that can be read") from None
