"""The DICOM files under a folder, and the few tags of each that tell series and positions apart.

Ten thousand files of which one is a CT must not take long: of a file that is no DICOM, 132 bytes are read; of the
others, neither the pixels nor any tag that is not listed here.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from covseg_core.data.reading.dicom import decoding
from covseg_core.data.reading.dicom.stored import is_packed
from covseg_core.data.reading.quiet import quiet
from covseg_core.errors import ScanError

# pydicom checks values and warns of bad ones for nothing here, and logs a traceback for pixels that it cannot read.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

_REFUSED = {errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE}
"""Errors of the disk or the system, as opposed to those of a file's content."""
_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of DICOMDIR files."""
_TAGS = (
    "SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID FrameOfReferenceUID SeriesNumber PatientID Modality "
    "ImageType Rows Columns SamplesPerPixel NumberOfFrames BitsAllocated ImagePositionPatient ImageOrientationPatient "
    "PixelSpacing SliceThickness SpacingBetweenSlices InstanceNumber AcquisitionNumber TemporalPositionIdentifier "
    "AcquisitionDateTime AcquisitionTime ConvolutionKernel RescaleSlope RescaleIntercept RescaleType "
    "LossyImageCompression"
).split()


@dataclass(frozen=True)
class Header:
    """What one file says about itself; None, 0 or "" for what is missing or makes no sense."""

    path: Path
    size: int
    """Of the file [bytes]."""
    instance_uid: str
    series_uid: str
    study_uid: str
    frame_uid: str
    """Of the frame of reference: positions of files with one such UID can be compared."""
    series_number: str
    patient: str
    """Hash of the patient's id; "" without one."""
    sop_class: str
    modality: str
    image_type: tuple[str, ...]
    syntax: str
    """UID of the transfer syntax."""
    rows: int
    columns: int
    samples: int
    frames: int
    position: tuple[float, ...] | None
    """Centre of the first pixel [mm], LPS+."""
    orientation: tuple[float, ...] | None
    """Direction along a row, then along a column; unit vectors, LPS+."""
    spacing: tuple[float, float] | None
    """Distance of rows, then of columns [mm]."""
    thickness: float
    """Distance of slices as the file says, else their thickness [mm]; 0 if unknown."""
    number: int | None
    acquisition: tuple[str, ...]
    """What can differ between the phases of a scan: acquisition number, temporal position, time."""
    kernel: str
    rescale: tuple[str, str, str]
    """Slope, intercept and type, as text."""
    lossy: bool

    @property
    def series(self) -> str:
        """What files of one series share; without `series_uid`, what is left to go by."""
        return self.series_uid or f"{self.study_uid} {self.frame_uid} {self.series_number}"


@dataclass(frozen=True)
class Files:
    """What lies under a path."""

    headers: tuple[Header, ...]
    others: int
    """Files that are no DICOM, or a DICOMDIR."""
    damaged: tuple[Path, ...]
    """Files that start as DICOM does and cannot be read."""


def read_headers(path: Path) -> Files:
    """Read the headers of all DICOM files in a folder, at any depth, or of one file.

    Links to folders are not followed, and of what is not an ordinary file (pipes, devices) nothing is read.

    Raises
    ------
    ScanError : `path` does not exist or cannot be read
    """
    return headers_of(files_below(path), path)


def headers_of(paths: Iterable[Path], path: Path) -> Files:
    """As `read_headers`, of files that were found already; `path` is what the user named, for errors."""
    headers, others, damaged = [], 0, []
    for file in paths:
        try:
            with quiet():
                header = _header(file)
        except Exception as error:  # whatever pydicom meets in a damaged file; its text may quote the file
            if isinstance(error, OSError) and error.errno in _REFUSED:
                raise ScanError(path, f"cannot be read ({error.strerror})", "readable files") from None
            damaged.append(file)
            continue
        if header is None or header.sop_class == _DIRECTORY:
            others += 1
        else:
            headers.append(header)
            if len(headers) == 1 and is_packed(header.syntax):
                decoding.start()
    return Files(tuple(headers), others, tuple(damaged))


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file that starts like this may be DICOM; without the 128 bytes of preamble, its first tag tells."""
    if start[128:132] == b"DICM":
        return True
    group, element = int.from_bytes(start[:2], "little"), int.from_bytes(start[2:4], "little")
    return (group == 2 and element <= 1) or (group == 8 and element <= 0x18)


def files_below(path: Path) -> Iterator[Path]:
    """The file itself, or all regular files of a folder, at any depth and by name.

    Raises
    ------
    ScanError : `path` does not exist or cannot be read
    """
    if not path.exists():
        raise ScanError(path, "no such file or folder")
    if not path.is_dir():
        yield path
        return

    def refuse(error: OSError) -> None:
        raise ScanError(path, f"cannot be read ({error.strerror or error})", "readable folders") from None

    for folder, folders, names in os.walk(path, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            if file.exists() and stat.S_ISREG(file.stat().st_mode):
                yield file


def _header(path: Path) -> Header | None:
    """None for a file that is no DICOM; raises anything for a damaged one."""
    with open(path, "rb") as stream:
        start = stream.read(132)
        if not looks_like_dicom(start):
            return None
        preamble = start[128:132] == b"DICM"
        stream.seek(0)
        read_preamble(stream, force=True)
        # `dcmread` would unpack a file that is packed as a whole, whatever it becomes. Nobody writes CT like that.
        if _read_file_meta_info(stream).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            raise ValueError("deflated")
        stream.seek(0)
        tags = pydicom.dcmread(stream, stop_before_pixels=True, force=not preamble, specific_tags=_TAGS)
    header = _understood(path, tags)
    if header.sop_class or header.modality or header.rows:
        return header
    if preamble:
        raise ValueError("no tag that is known")
    return None


def _understood(path: Path, tags: Dataset) -> Header:
    slope, intercept, kind = (_text(tags, name) for name in ("RescaleSlope", "RescaleIntercept", "RescaleType"))
    spacing = _numbers(tags, "PixelSpacing", 2)
    between, thickness = (_numbers(tags, name, 1) or (0.0,) for name in ("SpacingBetweenSlices", "SliceThickness"))
    patient = _text(tags, "PatientID")
    times = ("AcquisitionNumber", "TemporalPositionIdentifier", "AcquisitionDateTime", "AcquisitionTime")
    return Header(
        path=path,
        size=path.stat().st_size,
        instance_uid=_text(tags, "SOPInstanceUID"),
        series_uid=_text(tags, "SeriesInstanceUID"),
        study_uid=_text(tags, "StudyInstanceUID"),
        frame_uid=_text(tags, "FrameOfReferenceUID"),
        series_number=_text(tags, "SeriesNumber"),
        patient=hashlib.sha256(patient.encode()).hexdigest() if patient else "",
        sop_class=_text(tags, "SOPClassUID"),
        modality=_text(tags, "Modality").upper(),
        image_type=tuple(part.strip().upper() for part in _text(tags, "ImageType").split("\\")),
        syntax=str(getattr(tags.file_meta, "TransferSyntaxUID", "")) if hasattr(tags, "file_meta") else "",
        rows=_integer(tags, "Rows") or 0,
        columns=_integer(tags, "Columns") or 0,
        samples=_integer(tags, "SamplesPerPixel") or 1,
        frames=_integer(tags, "NumberOfFrames") or 1,
        position=_numbers(tags, "ImagePositionPatient", 3),
        orientation=_directions(_numbers(tags, "ImageOrientationPatient", 6)),
        spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness=abs(between[0]) or abs(thickness[0]),
        number=_integer(tags, "InstanceNumber"),
        acquisition=tuple(_text(tags, name) for name in times),
        kernel=_text(tags, "ConvolutionKernel").split("\\")[0].strip(),
        rescale=(slope, intercept, kind.strip().upper()),
        lossy=_text(tags, "LossyImageCompression") == "01",
    )


def _value(tags: Dataset, name: str) -> Any:
    try:
        return tags.get(name)
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, NotImplementedError):
        return None  # text where a number belongs, an unknown character set


def _text(tags: Dataset, name: str) -> str:
    value = _value(tags, name)
    if value is None:
        return ""
    parts = value if isinstance(value, pydicom.multival.MultiValue | list | tuple) else [value]
    return "\\".join(str(part) for part in parts).strip("\0 ")


def _integer(tags: Dataset, name: str) -> int | None:
    try:
        return int(_value(tags, name))
    except (TypeError, ValueError, OverflowError):
        return None


def _numbers(tags: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """Exactly so many finite numbers, or None."""
    try:
        numbers = tuple(float(part) for part in np.atleast_1d(_value(tags, name)))
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _directions(cosines: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Two unit vectors at a right angle, rounding mended; None for what is not nearly that."""
    if cosines is None:
        return None
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not all(0.99 < length < 1.01 for length in lengths) or abs(row @ column) > 0.01:
        return None
    row = row / lengths[0]
    column = column - (column @ row) * row
    return (*row.tolist(), *(column / np.linalg.norm(column)).tolist())
