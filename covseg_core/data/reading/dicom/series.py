"""Which series lie in a folder, and which of them can be used as a CT scan."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from covseg_core.data.reading.dicom.grid import BadGrid, Grid, make_grid, normal
from covseg_core.data.reading.dicom.headers import Header, read_headers
from covseg_core.data.reading.dicom.parts import Part, is_localiser, split
from covseg_core.data.reading.dicom.pixels import can_decode
from covseg_core.data.reading.dicom.stored import is_packed
from covseg_core.data.reading.nifti import MAX_BYTES
from covseg_core.data.reading.volumes import MIN_SIDE

Plane = Literal["axial", "coronal", "sagittal", "oblique"]

_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary capture: a table of doses, for one, unless it has a position."""
_CT = {
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",  # legacy converted enhanced CT
    _CAPTURE,  # if its modality is CT
    "",
}
_NAMES = {
    "PT": "PET",
    "MR": "magnetic resonance",
    "SEG": "a segmentation",
    "SR": "a structured report",
    "RTSTRUCT": "contours",
    "RTDOSE": "a dose",
    "CR": "a radiograph",
    "DX": "a radiograph",
    "US": "ultrasound",
    "PR": "a presentation state",
    "OT": "another kind of picture",
}
_NOT_HU = {"Z_EFF", "ED", "EDW", "MGML", "PCT", "OD"}
"""Rescale types of maps that are made from a CT and are none."""
_PROJECTIONS = {"MIP", "MINIP", "PROJECTION IMAGE", "MAX_IP", "MIN_IP", "VOLUME_RENDER"}
_MOSTLY = 0.9
"""Cosine from which a normal counts as along an axis: 26 degrees."""
_RATIO = 1000
"""Packed pixels do not shrink further: a slice without any noise and structure to about a hundredth."""
_MOST_PIXELS = 4096 * 4096
"""Of a slice."""
_FEW_PIXELS = 1024 * 1024
"""A slice that is not larger can be damaged, but is no danger."""
_TILT = 0.5
"""Gantry tilt that is worth a word [degrees]."""


@dataclass(frozen=True, eq=False)
class Series:
    """Files that make one volume, or the reason why they do not."""

    key: str
    """Eight hexadecimal digits of the SHA-256 of the SeriesInstanceUID, with `-2`, `-3` ... for further parts of it."""
    files: tuple[Path, ...] = field(repr=False)
    """Ordered by position, from the feet, the front or the right of the patient."""
    modality: str
    """As in the files, e.g. `CT`; "" without the tag."""
    rows: int
    columns: int
    slices: int
    """Planes of the volume; those that had to be interpolated count."""
    spacing: tuple[float, float, float] | None
    """Distance of slices, rows and columns [mm]; None if it is not known."""
    plane: Plane | None
    kernel: str
    problem: str
    """Why it cannot be used; "" if it can."""
    warnings: tuple[str, ...]
    """One line each."""
    grid: Grid | None = field(repr=False)
    headers: tuple[Header, ...] = field(repr=False)
    """Of `files`; they remain when a zip's files are gone."""
    other_kind: bool = False
    """Whether it has a problem since it is something else than slices of a CT, such as an overview or a report."""

    @property
    def patient(self) -> str:
        """Hash of the patient's id; "" without one."""
        return self.headers[0].patient

    @property
    def label(self) -> str:
        """One line to choose by; nothing in it was typed in by anybody."""
        if not self.rows:
            return f"{self.modality or 'of no kind'}, {len(self.files)} file{'s' if len(self.files) != 1 else ''}"
        parts = [self.plane or "no position", f"{self.slices} slice{'s' if self.slices != 1 else ''}"]
        parts.append(f"{self.columns} x {self.rows}")
        if self.spacing:
            parts.append(" x ".join(f"{size:.2f}" for size in reversed(self.spacing)) + " mm")
        parts += [f"kernel {self.kernel}"] if self.kernel else []
        return ", ".join(parts if self.modality in ("CT", "") else [self.modality, *parts])

    @property
    def interpolated(self) -> tuple[int, ...]:
        """Planes that are not in the files, counted as `files` is ordered."""
        return self.grid.made if self.grid else ()


@dataclass(frozen=True)
class Found:
    """What lies in a folder."""

    series: tuple[Series, ...]
    """Usable ones first, then the largest."""
    others: int
    """Files that are no DICOM."""
    damaged: int
    """Files that start as DICOM does and cannot be read."""


def find_series(path: Path) -> list[Series]:
    """The series in a folder, at any depth, or in one file; usable ones first.

    Raises
    ------
    ScanError : the path does not exist or cannot be read
    """
    return list(search(path).series)


def search(path: Path) -> Found:
    """As `find_series`, with the number of files that belong to none."""
    files = read_headers(path)
    return Found(series_of(files.headers), files.others, len(files.damaged))


def series_of(files: Iterable[Header]) -> tuple[Series, ...]:
    """The series that files make; usable ones first, then the largest."""
    groups: dict[str, list[Header]] = {}
    for header in files:
        groups.setdefault(header.series, []).append(header)
    series = []
    for name, headers in groups.items():
        key = hashlib.sha256(name.encode()).hexdigest()[:8]
        parts = split(headers)
        series += [_series(key if n == 1 else f"{key}-{n}", part) for n, part in enumerate(parts, 1)]
    series.sort(key=lambda one: (bool(one.problem), -one.slices, one.key))
    return tuple(series)


def _series(key: str, part: Part) -> Series:
    first = part.headers[0]
    problem = next(filter(None, map(_other_kind, part.headers)), "")
    problem = problem or next(filter(None, map(_unfit, part.headers)), part.problem)
    warnings = [*part.warnings, *_remarks(part.headers)]
    grid = None
    if not problem:
        try:
            grid = _grid(part.headers)
            problem = _too_little(first, len(grid.planes))
            warnings += _grid_remarks(first, grid)
        except BadGrid as error:
            problem = str(error)
    step = float(np.linalg.norm(grid.affine[:3, 2])) if grid else first.thickness
    return Series(
        key=key,
        files=tuple(header.path for header in part.headers),
        modality=first.modality if re.fullmatch("[A-Z0-9_]{1,16}", first.modality) else "",
        rows=first.rows,
        columns=first.columns,
        slices=len(grid.planes) if grid else len(part.headers),
        spacing=(step, *first.spacing) if first.spacing and step else None,
        plane=_plane(first),
        kernel=first.kernel if re.fullmatch(r"[A-Za-z0-9_+.-]{1,16}", first.kernel) else "",
        problem=problem,
        warnings=tuple(warnings),
        grid=grid,
        headers=part.headers,
        other_kind=any(map(_other_kind, part.headers)) or (first.sop_class == _CAPTURE and not first.position),
    )


def _other_kind(header: Header) -> str:
    """What files like this one are, if they are no slices of a CT at all."""
    if header.modality not in ("CT", "") or header.sop_class not in _CT:
        name = _NAMES.get(header.modality, "another kind of object")
        return f"{name}, not a CT" if header.modality != "CT" else "an object about a CT, not its slices"
    if not (header.rows and header.columns):
        return "no picture"
    if header.samples != 1:
        return "a colour picture, not CT values"
    if is_localiser(header):
        return "a localiser (overview picture)"
    if _PROJECTIONS.intersection(header.image_type):
        return "projections, not slices"
    if header.rescale[2] in _NOT_HU:
        return "a map of other values than HU"
    return ""


def _unfit(header: Header) -> str:
    """Why files like this one cannot be used, though they are slices of a CT."""
    held = header.size * (_RATIO if is_packed(header.syntax) else 1)
    if header.rows * header.columns > min(_MOST_PIXELS, max(held, _FEW_PIXELS)):
        return f"slices of {header.columns} x {header.rows} pixels in files of {header.size:,} bytes"
    if header.frames > 1:
        return "several slices in one file (enhanced CT), which is not supported: export it as one file a slice"
    if not can_decode(header.syntax):
        return "pixels packed in a way that cannot be read"
    if header.position is None or header.orientation is None or header.spacing is None:
        return "slices without position, direction or pixel size"
    return ""


def _grid(headers: tuple[Header, ...]) -> Grid:
    first = headers[0]
    if not (first.orientation and first.spacing):
        raise BadGrid("slices without direction or pixel size")
    positions = np.array([header.position for header in headers], np.float64)
    return make_grid(positions, first.orientation, first.spacing, first.thickness or 1.0)


def _too_little(first: Header, slices: int) -> str:
    plane = _plane(first)
    if first.rows * first.columns * slices * 4 > MAX_BYTES:
        return f"{first.columns} x {first.rows} x {slices} voxels, more than can be read"
    if _axis(first) != 2 and slices < MIN_SIDE:
        return f"{slices if slices > 1 else 'one'} {plane} slice{'s' if slices > 1 else ''}: too few to make axial ones"
    return ""


def _remarks(headers: tuple[Header, ...]) -> list[str]:
    first, remarks = headers[0], []
    if not first.modality:
        remarks.append("no Modality tag: taken for a CT")
    if not any(header.rescale[0] or header.rescale[1] for header in headers):
        remarks.append("no rescale slope or intercept: values are used as they are stored")
    if any(header.lossy for header in headers):
        remarks.append("pixels were compressed with loss")
    if len(headers) == 1:
        known = f"its thickness, {first.thickness:g} mm" if first.thickness else "1 mm, as nothing says how thick it is"
        remarks.append(f"one slice only; its depth is taken to be {known}")
    return remarks


def _grid_remarks(first: Header, grid: Grid) -> list[str]:
    remarks = []
    if grid.made:
        where = ", ".join(f"{grid.depths[k]:.1f}" for k in grid.made[:10]) + (", ..." if len(grid.made) > 10 else "")
        remarks.append(
            f"missing or unequally spaced slices: {len(grid.made)} of {len(grid.planes)} planes are interpolated, "
            f"at {where} mm along the stack"
        )
    if grid.tilt > _TILT:
        remarks.append(f"the gantry was tilted by {grid.tilt:.1f} degrees; the mask keeps the tilted grid")
    plane = _plane(first)
    if plane != "axial":
        remarks.append(f"{plane} slices: the models see axial slices made from them, which are less sharp")
    return remarks


def _axis(header: Header) -> int:
    """Axis of the patient that the normal is nearest to: 0 across, 1 front to back, 2 along the body."""
    return int(np.abs(normal(header.orientation or (1, 0, 0, 0, 1, 0))).argmax())


def _plane(header: Header) -> Plane | None:
    if header.orientation is None:
        return None
    along = np.abs(normal(header.orientation))
    if along.max() < _MOSTLY:
        return "oblique"
    planes: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
    return planes[int(along.argmax())]
