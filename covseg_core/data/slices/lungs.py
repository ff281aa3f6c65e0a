"""Where the lungs of a case are: what `PrepareConfig.region = lungs` cuts slices to.

They come from the case's lung mask. Where there is none, `prediction.case_lungs` asks the lung model and leaves its
answer here, since only a model can tell. They are kept in the slice cache, as packed bits, with the hash of the model
that found them: another lung model finds them again.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import BadZipFile

import msgspec
import numpy as np

from covseg_core.data.reading.volumes import load_geometry, load_mask
from covseg_core.data.slices.boxes import bounding_box
from covseg_core.data.slices.originals import present, unchanged
from covseg_core.data.slices.slices import Box, Grid, to_masks
from covseg_core.errors import CovsegError, DatasetError
from covseg_core.files import Stamp, atomic_path, stamp
from covseg_core.paths import data_root

if TYPE_CHECKING:
    from covseg_core.data.library.datasets import Case, Dataset

VERSION = 1
"""Raise when the same lungs give another box."""
MARGIN = 0.05
"""Rim around the lungs in the box, as a share of the longer side of the lungs' own."""
REACH = 0.03
"""So far from the lungs, as a share of the side of the box, a pixel still counts as lung: models never agree on an
edge, and a lesion at the pleura is easily left out of a lung mask."""


def lung_box(lungs: np.ndarray, spacing: tuple[float, float]) -> Box | None:
    """The box of the lungs of all planes, with a rim.

    Parameters
    ----------
    lungs : (Z, Y, X), above 0 in the lungs
    spacing : (y, x) [mm]

    Returns
    -------
    Box, within the plane; None where there are no lungs
    """
    there = np.asarray(lungs.any(axis=0))
    if not there.any():
        return None
    rim = MARGIN * max((side.stop - side.start) * size for side, size in zip(bounding_box(there), spacing, strict=True))
    wide = bounding_box(there, [round(rim / size) for size in spacing])
    rows, columns = ((side.start, min(length, side.stop)) for side, length in zip(wide, there.shape, strict=True))
    return Box(rows, columns)


def near_lungs(lungs: np.ndarray, grid: Grid) -> np.ndarray:
    """Where a slice can show infection: in the lungs, and a little around them.

    Parameters
    ----------
    lungs : (Z, Y, X), above 0 in the lungs
    grid : with the box of these lungs

    Returns
    -------
    (Z, S, S) uint8 0/1, radiological view; a slice without lungs is empty
    """
    import cv2

    near = to_masks((lungs > 0).view(np.uint8), grid)
    reach = max(1, round(REACH * grid.size))
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    for plane in near:
        if plane.any():
            # closed first: a consolidated segment that was left out lies in a bay of the lung's outline
            closed = cv2.morphologyEx(plane, cv2.MORPH_CLOSE, element, borderType=cv2.BORDER_CONSTANT, borderValue=0)
            plane[:] = cv2.dilate(closed, element)
    return near


def known_lungs(case: Case, model: str = "") -> bool:
    """Whether the lungs of a case can be made from its mask, or are kept; with a model's hash, as found by that one."""
    if case.lung is not None:
        return True
    kept = _kept(_path(case), case.shape)
    return kept is not None and model in ("", kept.model)


def lungs_hash(case: Case) -> str:
    """What the lungs of a case follow from: the SHA-256 of its mask, or of the model that found them; else empty."""
    if case.lung is not None:
        return case.sha256["lung"]
    try:
        with open(_path(case), "rb") as file, np.load(file, allow_pickle=False) as kept:
            return str(kept["model"])  # without the lungs themselves: this is asked for with every use of the cache
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return ""


def case_lungs(dataset: Dataset, case: Case) -> np.ndarray:
    """The lungs of a case, from the cache or made from its mask.

    Returns
    -------
    (Z, Y, X) uint8 0/1, RAS+

    Raises
    ------
    DatasetError : it has no lung mask, and nobody has asked the lung model yet; or the mask is not as it was imported
    CovsegError : the cache cannot be written
    """
    if (kept := _kept(_path(case), case.shape)) is not None:
        return kept.lungs
    lungs = _from_mask(dataset, case)
    keep_lungs(case, lungs)
    return lungs


def case_box(dataset: Dataset, case: Case) -> Box:
    """The box that slices of a case are cut to; raises as `case_lungs`, and `DatasetError` where it shows no lungs."""
    path, spacing = _path(case), case.spacing[1:]
    try:
        box = _kept_box(path, case.shape, spacing, stamp(path))
    except FileNotFoundError:
        box = lung_box(case_lungs(dataset, case), spacing)
    if box is None:
        raise DatasetError(f"{dataset.name}/{case.id}", "no lungs in it", "a scan of the lungs for `region = lungs`")
    return box


def keep_lungs(case: Case, lungs: np.ndarray, model: str = "") -> None:
    """Keep the lungs of a case.

    Parameters
    ----------
    lungs : (Z, Y, X), above 0 in the lungs
    model : SHA-256 of the model that found them; empty where they are those of its mask

    Raises
    ------
    CovsegError : the cache cannot be written
    """
    try:
        with atomic_path(_path(case)) as temporary, open(temporary, "wb") as handle:
            np.savez(handle, lungs=np.packbits(lungs > 0, axis=-1), model=np.array(model))
    except OSError as error:
        expected = "room on disk"
        raise CovsegError(_path(case), f"cannot write the slice cache ({error.strerror or error})", expected) from error


@functools.lru_cache(maxsize=4096)
def _kept_box(path: Path, shape: tuple[int, int, int], spacing: tuple[float, float], _: Stamp | None) -> Box | None:
    kept = _kept(path, shape)
    if kept is None:
        raise FileNotFoundError(path)
    return lung_box(kept.lungs, spacing)


class _Kept(NamedTuple):
    lungs: np.ndarray
    """(Z, Y, X) uint8 0/1."""
    model: str
    """SHA-256 of the model that found them; empty where they are those of a mask."""


def _kept(path: Path, shape: tuple[int, int, int]) -> _Kept | None:
    """What is in the cache; None where there is nothing, or the file is not whole."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
            packed, model = kept["lungs"], str(kept["model"])
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return None
    whole = packed.shape == (*shape[:2], -(-shape[2] // 8)) and packed.dtype == np.uint8
    return _Kept(np.unpackbits(packed, axis=-1, count=shape[2]), model) if whole else None


def _from_mask(dataset: Dataset, case: Case) -> np.ndarray:
    if case.lung is None:
        raise DatasetError(f"{dataset.name}/{case.id}", "nothing is known of its lungs", "a lung mask, or a lung model")
    # only the header of the scan is read, for masks that have no position of their own
    like = load_geometry(present(dataset, case, "scan"))
    return load_mask(unchanged(dataset, case, "lung"), None, like).voxels


def _path(case: Case) -> Path:
    parts = [VERSION, "lungs", case.sha256["scan"], case.sha256.get("lung"), case.shape, case.spacing]
    return data_root() / "cache" / hashlib.sha256(msgspec.json.encode(parts)).hexdigest() / "lungs.npz"
