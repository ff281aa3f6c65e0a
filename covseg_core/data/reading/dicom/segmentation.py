"""DICOM segmentations (SEG): what their segments are called, and segments as a mask on a scan's grid.

Frames are placed by their positions, one by one, so that it does not matter which slices have a frame, in which order
they come, whether the gantry was tilted, or which way rows and columns run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from nibabel import orientations
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels

from covseg_core.data.reading.dicom.grid import near
from covseg_core.data.reading.dicom.headers import Header
from covseg_core.data.reading.dicom.series import Series
from covseg_core.data.reading.dicom.stored import is_packed
from covseg_core.data.reading.quiet import quiet
from covseg_core.data.reading.volumes import Volume, make_volume
from covseg_core.errors import CovsegError, PairingError, ScanError

_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
"""SOP classes: segmentation, and label map segmentation."""
_LPS = np.array([-1.0, -1.0, 1.0])
_OFF = 0.1
"""Share of the smallest voxel size by which a frame may lie beside the grid, as for masks from NIfTI."""


@dataclass(frozen=True)
class Segment:
    """One of the structures that a SEG outlines."""

    number: int
    words: tuple[str, ...]
    """Its label, its description and the name of its type; typed in by somebody, so not to be shown or kept."""


@dataclass(frozen=True)
class Segmentation:
    """What a SEG says about itself."""

    path: Path
    series_uids: frozenset[str]
    """Of the series that it refers to; empty if it refers to none."""
    frame_uid: str
    """Of the frame of reference."""
    segments: tuple[Segment, ...]


def is_segmentation(header: Header) -> bool:
    """Whether a file is a SEG."""
    return header.sop_class in _CLASSES


def read_segmentation(path: Path) -> Segmentation:
    """Read what a SEG says about itself, without its pixels.

    Raises
    ------
    ScanError : the file cannot be read, or has no segment
    """
    try:
        with quiet():
            tags = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            series = [str(item.SeriesInstanceUID) for item in tags.get("ReferencedSeriesSequence") or ()]
            segments = tuple(map(_segment, tags.SegmentSequence))
            found = Segmentation(path, frozenset(series), str(tags.get("FrameOfReferenceUID") or ""), segments)
    except Exception:  # whatever pydicom meets in a damaged file; its text may quote the file
        raise _damaged(path) from None
    if not segments:
        raise ScanError(path, "a DICOM SEG without segments", "at least one")
    return found


def load_segments(
    segmentation: Segmentation, numbers: Collection[int], scan: Volume, series: Series | None
) -> tuple[Volume, int]:
    """Segments as one mask on the scan's grid.

    Planes of the scan that were interpolated are so here, too, unless there is a frame for them.

    Parameters
    ----------
    numbers : of the segments
    scan : as it was read
    series : that the scan was read from; None if it is no DICOM, and only positions can tell whether both fit

    Returns
    -------
    mask : uint8 0/1; its `labels` are the numbers of segments that have a voxel
    interpolated : how many planes have been filled from their neighbours

    Raises
    ------
    ScanError : the file cannot be read
    PairingError : it belongs to another series, or does not lie on the scan's grid
    """
    path = segmentation.path
    _check_series(segmentation, series, scan)
    try:
        with quiet():
            tags = pydicom.dcmread(path, force=True)
        _check_size(tags, scan, path)
        with quiet():
            stored, framed, labels = _placed(tags, numbers, scan, path)
    except (CovsegError, MemoryError):
        raise
    except Exception:
        raise _damaged(path) from None
    filled = _fill(stored, framed, series)
    to_ras = orientations.io_orientation(scan.geometry.affine)
    voxels = np.ascontiguousarray(orientations.apply_orientation(stored, to_ras).T)
    return make_volume(voxels, scan.geometry, path, labels), filled


def _segment(item: Dataset) -> Segment:
    kind = (item.get("SegmentedPropertyTypeCodeSequence") or [Dataset()])[0]
    words = (item.get("SegmentLabel"), item.get("SegmentDescription"), kind.get("CodeMeaning"))
    return Segment(int(item.SegmentNumber), tuple(str(word or "") for word in words))


def _damaged(path: Path) -> ScanError:
    return ScanError(path, "a damaged or truncated DICOM SEG", "a complete file")


def _check_series(segmentation: Segmentation, series: Series | None, scan: Volume) -> None:
    if series is None:
        return
    own = series.headers[0]
    if segmentation.series_uids and own.series_uid and own.series_uid not in segmentation.series_uids:
        raise PairingError(segmentation.path, "a DICOM SEG of another series", f"one of the series in {scan.path}")
    if segmentation.frame_uid and own.frame_uid and own.frame_uid != segmentation.frame_uid:
        found = "a DICOM SEG in another frame of reference"
        raise PairingError(segmentation.path, found, f"that of the series in {scan.path}")


def _check_size(tags: Dataset, scan: Volume, path: Path) -> None:
    """Before memory is taken: the file must hold what it promises, and frames must fit into the scan."""
    rows, columns, frames = (int(tags.get(name) or 0) for name in ("Rows", "Columns", "NumberOfFrames"))
    syntax = str(tags.file_meta.get("TransferSyntaxUID") or "") if hasattr(tags, "file_meta") else ""
    if is_packed(syntax):
        raise ScanError(path, "a DICOM SEG with packed pixels", "one that is not compressed, or with RLE")
    if max(rows, columns) > max(scan.geometry.shape):
        raise PairingError(path, f"frames of {columns} x {rows} pixels", f"the grid of {scan.path}")
    bits = rows * columns * frames * int(tags.BitsAllocated)
    packed = pydicom.uid.UID(syntax).is_encapsulated if syntax else False
    if min(rows, columns, frames) < 1 or (not packed and bits > 8 * len(tags.PixelData)):
        raise _damaged(path)


def _placed(
    tags: Dataset, numbers: Collection[int], scan: Volume, path: Path
) -> tuple[np.ndarray, set[int], tuple[int, ...]]:
    """Mask in the order of the scan's file, (i, j, k) uint8; planes k that have a frame; segments that have a voxel."""
    stored = np.zeros(scan.geometry.shape, np.uint8, order="F")
    place = _Placing(scan, path)
    groups = _groups(tags)
    map_of_labels = tags.SegmentationType == "LABELMAP"
    used = [n for n, group in enumerate(groups) if map_of_labels or _number(group) in numbers]
    half = int(tags.get("MaximumFractionalValue") or 1) / 2 if tags.SegmentationType == "FRACTIONAL" else 0
    framed: set[int] = set()
    labels: set[int] = set()
    for n, frame in zip(used, iter_pixels(tags, indices=used) if used else (), strict=True):
        marked = np.isin(frame, list(numbers)) if map_of_labels else frame > 0 if not half else frame >= half
        voxels = place.voxels(groups[n], marked)
        framed.update(place.planes)
        stored[tuple(voxels.T)] = 1
        if len(voxels):
            labels.update(np.unique(frame[marked]).tolist() if map_of_labels else [_number(groups[n])])
    return stored, framed, tuple(sorted(labels))


def _groups(tags: Dataset) -> list[dict[str, Any]]:
    """What each frame says about itself: its own functional groups over the shared ones."""
    shared = (tags.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    own = tags.get("PerFrameFunctionalGroupsSequence") or [Dataset()]
    if len(own) != int(tags.NumberOfFrames):
        raise ValueError("frames without a group")
    return [{element.keyword: element.value for part in (shared, group) for element in part} for group in own]


def _number(group: dict[str, Any]) -> int:
    return int(group["SegmentIdentificationSequence"][0].ReferencedSegmentNumber)


class _Placing:
    """Where pixels of frames lie on the grid of a scan's file."""

    def __init__(self, scan: Volume, path: Path) -> None:
        self.scan, self.path = scan, path
        self.shape = np.array(scan.geometry.shape)
        affine = scan.geometry.affine
        self.to_index = np.linalg.inv(affine)
        self.sizes = nib.affines.voxel_sizes(affine)
        tolerance = np.full(3, _OFF * self.sizes.min())
        tolerance[2] = max(tolerance[2], near(self.sizes[2]))  # as far as the scan's own slices may be off it
        self.tolerance = tolerance
        self.planes: set[int] = set()
        """Planes k of the frame that was asked for last, where it lies in one."""

    def voxels(self, group: dict[str, Any], frame: np.ndarray) -> np.ndarray:
        """Voxels (N, 3) int of the pixels that are set.

        Raises
        ------
        PairingError : pixels beside the grid, or outside of it
        """
        position = np.array(group["PlanePositionSequence"][0].ImagePositionPatient, np.float64)
        cosines = np.array(group["PlaneOrientationSequence"][0].ImageOrientationPatient, np.float64)
        down, along = (float(size) for size in group["PixelMeasuresSequence"][0].PixelSpacing)
        rotation = self.to_index[:3, :3]
        first = self.to_index @ [*(position * _LPS), 1.0]
        column, row = rotation @ (cosines[:3] * along * _LPS), rotation @ (cosines[3:] * down * _LPS)
        steps = np.rint([column, row]).astype(int)
        start = np.rint(first[:3]).astype(int)
        corners = np.array([[x, y] for x in (0, frame.shape[1] - 1) for y in (0, frame.shape[0] - 1)])
        off = first[:3] + corners @ np.array([column, row]) - (start + corners @ steps)
        if not (np.isfinite(off).all() and (np.abs(off) * self.sizes <= self.tolerance).all()):
            found = f"frames up to {np.abs(off * self.sizes).max():.4g} mm beside the scan's voxels"
            raise PairingError(self.path, found, f"the grid of {self.scan.path}")
        rows, columns = np.nonzero(frame)
        found_voxels = start + np.stack([columns, rows], axis=1) @ steps
        if ((found_voxels < 0) | (found_voxels >= self.shape)).any():
            raise PairingError(self.path, "a segment that reaches out of the scan", f"the grid of {self.scan.path}")
        self.planes = set() if steps[:, 2].any() else {int(start[2])}
        return found_voxels


def _fill(stored: np.ndarray, framed: set[int], series: Series | None) -> int:
    """Fill planes that the scan has interpolated, by the same rule; returns how many have got a voxel."""
    if series is None or series.grid is None:
        return 0
    made = set(series.grid.made)
    real = [k for k in range(stored.shape[2]) if k not in made]
    filled = 0
    for k in sorted(made - framed):
        below = max((one for one in real if one < k), default=real[0])
        above = min((one for one in real if one > k), default=real[-1])
        weight = (k - below) / (above - below) if above > below else 0
        stored[..., k] = (1 - weight) * stored[..., below] + weight * stored[..., above] > 0.5
        filled += bool(stored[..., k].any())
    return filled
