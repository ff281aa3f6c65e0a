"""Reading the files of one case and checking that they are what their names say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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

LITTLE = 0.002
"""Below this share of the lung, an infection is pointed out."""


def inspect_case(
    group: Group, labels: Sequence[int] | None = None, scale: Scale | None = None, allow_empty: bool = False
) -> Case:
    """Read a case's scan and masks; check them against what a chest CT is and against each other.

    Parameters
    ----------
    group : the files
    labels : of the infection mask, those that count; None for all above 0
    scale : of the grey values; None to detect it
    allow_empty : take an infection mask without any infection

    Returns
    -------
    Case : its file names and hashes still those of nothing, for the files are not in a dataset yet

    Raises
    ------
    ScanError : a file that is not a chest CT or a mask, or a mask without labels
    PairingError : a mask on another grid than the scan
    """
    from covseg_core.data.classical_lungs import check_chest

    scan = load_scan(group.scan)
    scale = scale or detect_scale(scan.voxels, group.scan)
    warnings = list(check_chest(scan.voxels, scale, group.scan))
    labels = group.labels if group.labels is not None else labels
    infection = _load_infection(group.infection, scan, labels, allow_empty, warnings) if group.infection else None
    lung = _load_lung(group.lung, scan, warnings) if group.lung else None
    if infection is not None and lung is not None:
        warnings += _compare(infection, lung)
    known = not group.stacked and scan.spacing != PLACEHOLDER_SPACING
    if not known and not group.stacked:
        warnings.append("spacing of 1 mm in all three directions is taken as unknown: no mm or mL")
    return Case(
        id=group.id,
        patient=group.patient,
        stacked=group.stacked,
        scan="",
        infection=None,
        lung=None,
        labels=tuple(sorted(set(labels))) if labels is not None and infection is not None else None,
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


def _load_infection(
    path: Path, scan: Volume, labels: Sequence[int] | None, allow_empty: bool, warnings: list[str]
) -> Volume:
    mask = _load_mask(path, scan, labels, warnings)
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


def _load_lung(path: Path, scan: Volume, warnings: list[str]) -> Volume:
    mask = _load_mask(path, scan, None, warnings)
    if not mask.voxels.any():
        raise ScanError(path, "no labels, only zeros", "labels above 0")
    return mask


def _load_mask(path: Path, scan: Volume, labels: Sequence[int] | None, warnings: list[str]) -> Volume:
    """Read a mask on the scan's grid."""
    mask = load_mask(path, labels, like=scan.geometry)
    mismatch = grid_mismatch(scan, mask)
    if mismatch is not None:
        raise PairingError(path, mismatch, f"the grid of {scan.path}")
    warning = grid_warning(scan, mask)
    if warning is not None:
        warnings.append(warning.encode(errors="replace").decode())
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
