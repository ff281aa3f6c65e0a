"""Many small scans of several patients and days, for the tests of cohorts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from chests import AIR, LESION, LUNG, SLICES, chest, save_scan
from dicomfiles import Stack, write


def with_lesion(voxels: int) -> np.ndarray:
    """A chest whose lesion has so many voxels, in one row of each slice at most."""
    found = chest()
    found[found == LESION] = LUNG
    for z in range(SLICES):
        count = min(25, max(0, voxels - 25 * z))
        found[34, 12 : 12 + count, z] = LESION
    return found


def save_scans(folder: Path, *sizes: int) -> list[Path]:
    """`scan1.nii.gz` and so on, with lesions of these sizes [voxels of 3.2 mm3]."""
    folder.mkdir(parents=True, exist_ok=True)
    return [save_scan(folder / f"scan{n}.nii.gz", with_lesion(size)) for n, size in enumerate(sizes, 1)]


def save_series(folder: Path, voxels: int, patient: str, day: str, **tags: Any) -> list[Path]:
    """A DICOM series of a chest, taken of somebody on a day such as `20200401`."""
    slices = np.ascontiguousarray(with_lesion(voxels)[::-1, ::-1].transpose(2, 1, 0))
    positions = np.array([[0, 0, 5.0 * k] for k in range(len(slices))])
    dates = {"StudyDate": day, "PatientID": patient, "PatientName": f"{patient}^Jane"}
    return write(folder, Stack(slices, positions, spacing=(0.8, 0.8)), **{**dates, **tags})


def save_localiser(folder: Path, patient: str) -> list[Path]:
    """An overview picture, as every study begins with one."""
    stack = Stack(np.full((1, 32, 32), AIR, np.int16), np.zeros((1, 3)))
    return write(folder, stack, PatientID=patient, ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER"))


class Here:
    """A worker that answers in this process, which is faster."""

    def __init__(self, *_: str) -> None:
        pass

    def start(self) -> None:
        pass

    def call(self, function: Callable[..., object], *arguments: object, **_: object) -> object:
        return function(*arguments)

    def end(self) -> None:
        pass
