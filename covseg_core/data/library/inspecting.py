"""Reading the files of one case and checking that they are what their names say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from covseg_core.data.library.datasets import Case
from covseg_core.data.library.pairing import Group
from covseg_core.data.reading.volumes import (
    PLACEHOLDER_SPACING,
    Volume,
    grid_mismatch,
    grid_warning,
    load_mask,
    load_scan,
)
from covseg_core.data.slices.intensity import Scale, detect_scale
from covseg_core.errors import PairingError, ScanError
from covseg_core.files import sha256_file

if TYPE_CHECKING:  # what reads DICOM takes its time, and most imports need none
    from covseg_core.data.library.dicom_files import DicomFiles, Mask, Seg
    from covseg_core.data.reading.dicom import Series

LITTLE = 0.002
"""Below this share of the lung, an infection is pointed out."""


@dataclass(frozen=True, eq=False)
class Inspected:
    """A case, and those of its volumes that came as DICOM, by role: they are to be stored as NIfTI."""

    case: Case
    made: dict[str, Volume] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    """Of what `made` comes from: of a scan as `Opened.sha256`, of a mask over its SEG and its segments' numbers."""


def inspect_case(
    group: Group,
    labels: Sequence[int] | None = None,
    scale: Scale | None = None,
    allow_empty: bool = False,
    dicom: DicomFiles | None = None,
) -> Inspected:
    """Read a case's scan and masks; check them against what a chest CT is and against each other.

    Parameters
    ----------
    group : the files
    labels : of the infection mask, those that count; None for all above 0; of a DICOM SEG, numbers of segments
    scale : of the grey values; None to detect it
    allow_empty : take an infection mask without any infection
    dicom : what is known of files that are not NIfTI

    Returns
    -------
    Inspected : of the case, file names and hashes are still those of nothing, for the files are not in a dataset yet

    Raises
    ------
    ScanError : a file that is not a chest CT or a mask, or a mask without labels
    PairingError : a mask on another grid than the scan
    """
    from covseg_core.data.classical_lungs import check_chest

    files = _Files(group, dicom)
    scan, warnings = files.scan, files.warnings
    scale = scale or detect_scale(scan.voxels, group.scan)
    warnings += check_chest(scan.voxels, scale, group.scan)
    labels = group.labels if group.labels is not None else labels
    infection = _load_infection(group.infection, files, labels, allow_empty) if group.infection else None
    lung = _load_lung(group.lung, files) if group.lung else None
    if infection is not None and lung is not None:
        warnings += _compare(infection, lung)
    known = not group.stacked and scan.spacing != PLACEHOLDER_SPACING
    if not known and not group.stacked:
        warnings.append("spacing of 1 mm in all three directions is taken as unknown: no mm or mL")
    case = Case(
        id=group.id,
        patient=group.patient,
        stacked=group.stacked,
        scan="",
        infection=None,
        lung=None,
        labels=tuple(sorted(set(labels)))
        if labels is not None and infection is not None and "infection" not in files.made
        else None,
        shape=_triple(scan.voxels.shape),
        spacing=scan.spacing,
        spacing_known=known,
        orientation=scan.geometry.orientation,
        scale=scale,
        infection_voxels=_count(infection),
        lung_voxels=_count(lung),
        sha256={},
        warnings=tuple(warnings),
    )
    return Inspected(case, files.made, files.sha256)


class _Files:
    """The files of a case, read one after the other."""

    def __init__(self, group: Group, dicom: DicomFiles | None) -> None:
        self.group, self.dicom = group, dicom
        self.made: dict[str, Volume] = {}
        self.sha256: dict[str, str] = {}
        self.warnings: list[str] = []
        self.series: Series | None = None
        self.scan = self._scan()

    def _scan(self) -> Volume:
        if self.dicom is None or self.group.scan not in self.dicom.scans:
            return load_scan(self.group.scan)
        from covseg_core.data.reading.opening import SeriesChoice, open_series

        found = self.dicom.scans[self.group.scan]
        masks = filter(None, (self.group.infection, self.group.lung))
        meant = {uid for mask in masks if (seg := self.dicom.segs.get(mask)) for uid in seg.segmentation.series_uids}
        keys = [one.key for one in found.series if not one.problem and one.headers[0].series_uid in meant]
        try:
            opened = open_series(found, self.group.scan, keys[0] if len(keys) == 1 else None)
        except SeriesChoice as error:
            labels = "; ".join(series.label for series in error.series[:20])
            expected = "one of them in the case's folder, or a DICOM SEG that refers to it"
            raise ScanError(self.group.scan, f"{error.found} ({labels})", expected) from None
        self.series = opened.series
        self.made["scan"], self.sha256["scan"] = opened.volume, opened.sha256
        self.warnings += opened.warnings
        return opened.volume

    def mask(self, path: Path, role: Mask, labels: Sequence[int] | None) -> Volume:
        """A mask on the scan's grid."""
        seg = self.dicom.segs.get(path) if self.dicom else None
        return self._segments(seg, role, labels) if seg else self._nifti(path, labels)

    def _nifti(self, path: Path, labels: Sequence[int] | None) -> Volume:
        scan, by_order = self.scan, self.scan.geometry.header is not None
        mask = load_mask(path, labels, like=scan.geometry if by_order else None)
        if not by_order and mask.geometry.placeholder:  # nobody knows in which order the slices were stacked
            raise PairingError(path, "a header without a position", f"the grid of the DICOM series in {scan.path}")
        mismatch = grid_mismatch(scan, mask)
        if mismatch is not None:
            raise PairingError(path, mismatch, f"the grid of {scan.path}")
        warning = grid_warning(scan, mask)
        if warning is not None:
            self.warnings.append(warning.encode(errors="replace").decode())
        return mask

    def _segments(self, seg: Seg, role: Mask, labels: Sequence[int] | None) -> Volume:
        from covseg_core.data.reading.dicom.segmentation import load_segments

        every = seg.numbers[role]
        numbers = sorted(number for number in every if labels is None or number in labels)
        mask, filled = load_segments(seg.segmentation, numbers, self.scan, self.series)
        file = sha256_file(seg.segmentation.path)
        self.made[role] = mask
        self.sha256[role] = hashlib.sha256(f"{file} {role} {numbers}".encode()).hexdigest()
        if filled:
            planes = "one plane" if filled == 1 else f"{filled} planes"
            self.warnings.append(f"the {role} mask is interpolated in {planes}, as the scan is")
        if seg.passed_over:
            words = "segment" if seg.passed_over == 1 else "segments"
            self.warnings.append(f"{seg.passed_over} {words} of a DICOM SEG passed over: neither infection nor lung")
        return replace(mask, labels=every if labels is not None else mask.labels)


def _load_infection(path: Path, files: _Files, labels: Sequence[int] | None, allow_empty: bool) -> Volume:
    mask, warnings = files.mask(path, "infection", labels), files.warnings
    if not mask.voxels.any():
        if not allow_empty:
            found = f"labels {', '.join(map(str, mask.labels))}" if mask.labels else "no labels, only zeros"
            wanted = f"at least one of {', '.join(map(str, labels))}" if labels and mask.labels else "labels above 0"
            raise ScanError(path, found, f"{wanted}, or --allow-empty")
        warnings.append("no infection")
    if labels is None and len(mask.labels) > 1:
        listed = ", ".join(map(str, mask.labels))
        warnings.append(f"labels {listed} of the mask all count as infection (--labels chooses)")
    return mask


def _load_lung(path: Path, files: _Files) -> Volume:
    mask = files.mask(path, "lung", None)
    if not mask.voxels.any():
        raise ScanError(path, "no labels, only zeros", "labels above 0")
    return mask


def _compare(infection: Volume, lung: Volume) -> list[str]:
    """Warnings about how the two masks lie: masks of two patients can share a grid."""
    total, inside = np.count_nonzero(infection.voxels), np.count_nonzero(infection.voxels & lung.voxels)
    share = total / np.count_nonzero(lung.voxels)
    warnings = []
    if inside * 2 < total:
        warnings.append(f"{1 - inside / total:.0%} of the infection is outside the lung mask: are both of this scan?")
    if 0 < share < LITTLE:
        warnings.append(f"almost no infection ({share:.2%} of the lung)")
    return warnings


def _count(mask: Volume | None) -> tuple[int, ...] | None:
    """Voxels of each slice."""
    return None if mask is None else tuple(int(np.count_nonzero(plane)) for plane in mask.voxels)


def _triple(shape: tuple[int, ...]) -> tuple[int, int, int]:
    z, y, x = shape
    return z, y, x
