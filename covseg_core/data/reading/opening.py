"""A scan from whatever a user has: NIfTI, DICOM as folder, file or zip, or a picture."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from covseg_core.data.reading.archives import Limits, extract_zip
from covseg_core.data.reading.dicom import Found, Series, load_series, search
from covseg_core.data.reading.dicom.headers import looks_like_dicom
from covseg_core.data.reading.pictures import is_picture, load_picture
from covseg_core.data.reading.volumes import Volume, load_scan
from covseg_core.errors import DatasetError, ScanError
from covseg_core.files import sha256_file
from covseg_core.temporary import TemporaryFolder

LIMITS = Limits(files=50_000, bytes=16 * 2**30)
"""Of a zip with one scan: a few thousand slices of half a MiB, and what else lies on a hospital's disc."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A scan, and where it comes from."""

    volume: Volume
    kind: Literal["nifti", "dicom", "picture"]
    sha256: str
    """Of the file; of a DICOM series over the SHA-256 of its files, by position: the same for a folder and its zip."""
    warnings: tuple[str, ...]
    """One line each; they name no file and no tag that describes a person."""
    series: Series | None = None
    """Of DICOM; its files are gone if they came in a zip."""
    interpolated: tuple[int, ...] = ()
    """Slices z that are not in the files but made from their neighbours."""


class SeveralScans(ScanError):
    """More than one scan lies where one was expected."""


class SeriesChoice(SeveralScans):
    """Several series can be used and none was chosen, or the one that was chosen is not there."""

    def __init__(self, path: Path, found: str, expected: str, series: Sequence[Series] = ()) -> None:
        super().__init__(path, found, expected)
        self.series = tuple(series)
        """Those that can be used."""


def open_scan(path: str | os.PathLike[str], series: str | None = None) -> Opened:
    """Read a scan.

    Parameters
    ----------
    path : `.nii`, `.nii.gz`, PNG or JPG; a DICOM file, or a folder or zip with DICOM files at any depth, or with one
        NIfTI file; told apart by content, not by name. A zip is unpacked to a temporary folder, which is then removed.
    series : `Series.key` of the one to read, needed where several can be used

    Raises
    ------
    SeriesChoice : several series can be used and none was chosen, or `series` is none of them
    ScanError : nothing there can be read as a CT scan; the line says why
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "zip":
        return _open_zip(path, series)
    if kind in ("folder", "dicom"):
        return _open_folder(path, path, series)
    if series is not None:
        raise ScanError(path, f"series {series} asked for in a file without series", "a folder or zip of DICOM files")
    if kind == "picture":
        volume, warnings = load_picture(path)
        return Opened(volume, "picture", sha256_file(path), warnings)
    return Opened(load_scan(path), "nifti", sha256_file(path), ())


def kind_of(path: Path) -> Literal["folder", "zip", "dicom", "picture", "other"]:
    """What lies there, by the first bytes of its content; raises `ScanError` for what cannot be read."""
    if path.is_dir():
        return "folder"
    try:
        with open(path, "rb") as stream:
            start = stream.read(132)
    except FileNotFoundError:
        raise ScanError(path, "no such file or folder") from None
    except OSError as error:
        raise ScanError(path, f"cannot be read ({error.strerror or error})", "a scan") from None
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if looks_like_dicom(start):
        return "dicom"
    return "picture" if is_picture(start) else "other"


def unpack(path: Path, folder: Path) -> None:
    """Unpack a zip with scans into a new folder; raises `ScanError`, which tells no name of what is in it."""
    try:
        extract_zip(path, folder, LIMITS)
    except DatasetError as error:
        found = re.sub(r"(entry|entries) (['\"]).*\2", r"\1 with a forbidden name or kind", error.found)
        raise ScanError(path, found, error.expected) from None
    folder.mkdir(exist_ok=True)  # a zip without files


def _open_zip(path: Path, series: str | None) -> Opened:
    with TemporaryFolder() as temporary:
        unpack(path, temporary / "zip")
        return _open_folder(temporary / "zip", path, series)


def _open_folder(folder: Path, path: Path, key: str | None) -> Opened:
    """`path` is what the user named: no error or volume tells of other files."""
    try:
        found = search(folder)
    except ScanError as error:
        raise ScanError(path, error.found, error.expected) from None
    if not found.series:
        return _without_dicom(folder, path, found)
    return open_series(found, path, key)


def open_series(found: Found, path: Path, key: str | None = None) -> Opened:
    """Read one of the series that were found, which cannot be none; raises as `open_scan` does.

    Parameters
    ----------
    path : what the user named, for the volume and for errors
    key : `Series.key` of the one to read; None for the only one that can be used
    """
    series = _chosen(found, path, key)
    volume = load_series(series, path)
    made = series.interpolated if volume.geometry.orientation[2] in "SI" else ()
    return Opened(volume, "dicom", sha256_files(series.files), _warnings(found, series), series, made)


def sha256_files(files: Iterable[Path]) -> str:
    """Over the SHA-256 of files, in their order: `Opened.sha256` of a DICOM series."""
    total = hashlib.sha256()
    for file in files:
        total.update(bytes.fromhex(sha256_file(file)))
    return total.hexdigest()


def _without_dicom(folder: Path, path: Path, found: Found) -> Opened:
    """The one NIfTI file of a folder, or what is wrong."""
    expected = "DICOM slices, or one .nii or .nii.gz file"
    if found.damaged:
        raise ScanError(
            path, f"no readable DICOM slices, but {_files(found.damaged, 'damaged ')}", "complete DICOM files"
        )
    scans = [] if folder.is_file() else [file for file in folder.rglob("*") if _is_nifti(file)]
    if len(scans) > 1:
        raise SeveralScans(path, f"no DICOM files, but {len(scans)} NIfTI files", "one scan: name the file itself")
    if not scans:
        raise ScanError(path, f"no DICOM slices among {_files(found.others)}" if found.others else "no files", expected)
    try:
        volume = dataclasses.replace(load_scan(scans[0]), path=path)
    except ScanError as error:
        raise ScanError(path, error.found, error.expected) from None
    return Opened(volume, "nifti", sha256_file(scans[0]), ())


def _is_nifti(file: Path) -> bool:
    return file.name.endswith((".nii", ".nii.gz")) and not file.name.startswith(".") and file.is_file()


def _chosen(found: Found, path: Path, key: str | None) -> Series:
    """The series to read: the one asked for, or the only one that can be used."""
    usable = [series for series in found.series if not series.problem]
    if key is not None:
        matches = [series for series in found.series if series.key == key]
        if not matches:
            raise SeriesChoice(path, f"no series {key}", _listed(usable) or "a CT", usable)
        return matches[0]
    if not usable:
        reasons = "; ".join(f"{series.label}: {series.problem}" for series in found.series[:5])
        more = f"; and {len(found.series) - 5} more" if len(found.series) > 5 else ""
        raise ScanError(path, f"no usable CT series ({reasons}{more})", "axial slices of a chest CT")
    if len(usable) > 1:
        patients = len({series.patient for series in usable})
        whose = f" of {patients} patients" if patients > 1 else ""
        raise SeriesChoice(path, f"{len(usable)} series{whose} can be used", f"one of them: {_listed(usable)}", usable)
    return usable[0]


def _listed(usable: Sequence[Series]) -> str:
    listed = "; ".join(f"{series.key} ({series.label})" for series in usable[:20])
    return listed + (f"; and {len(usable) - 20} more" if len(usable) > 20 else "")


def _warnings(found: Found, series: Series) -> tuple[str, ...]:
    warnings = list(series.warnings)
    passed = [other for other in found.series if other is not series]
    if passed:
        reasons = sorted({other.problem or "not chosen" for other in passed})
        warnings.append(f"{len(passed)} other series passed over: {'; '.join(reasons[:5])}")
    if found.damaged:
        warnings.append(f"{_files(found.damaged, 'damaged DICOM ')} passed over: slices may be missing")
    if found.others:
        warnings.append(f"{_files(found.others)} without DICOM slices passed over")
    if any(other.patient != series.patient for other in passed if other.patient):
        warnings.append("files of more than one patient lie together: make sure that this is the right one")
    return tuple(warnings)


def _files(count: int, kind: str = "") -> str:
    return f"{count} {kind}file{'s' if count != 1 else ''}"
