"""A series as a volume."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from nibabel import orientations

from covseg_core.data.reading.dicom.grid import Grid
from covseg_core.data.reading.dicom.pixels import AIR, read_hu
from covseg_core.data.reading.dicom.series import Series
from covseg_core.data.reading.volumes import Geometry, Volume, check_plausible, make_volume
from covseg_core.errors import ScanError


def load_series(series: Series, path: Path | None = None) -> Volume:
    """Read the slices of a series into one volume.

    Parameters
    ----------
    series : a usable one
    path : what the user named, for the volume and for errors; None for the folder that holds the files

    Returns
    -------
    Volume : int16 HU, or float32 if slopes are no whole numbers; its geometry has no header, and (column, row, plane)
        as file axes

    Raises
    ------
    ScanError : the series has a problem; pixels that are missing, damaged or truncated; as `volumes.check_plausible`
    """
    path = path or Path(os.path.commonpath([file.parent for file in series.files]))
    if series.problem or series.grid is None:
        raise ScanError(path, f"series {series.key}: {series.problem}", "slices of a CT")
    geometry = Geometry((series.columns, series.rows, series.slices), series.grid.affine, None)
    voxels = _read(series, series.grid, geometry, path)
    volume = make_volume(voxels, geometry, path)
    check_plausible(volume)
    return volume


def _read(series: Series, grid: Grid, geometry: Geometry, path: Path) -> np.ndarray:
    """(Z, Y, X) C order: every slice goes straight to its place, so that there is never a second copy."""
    voxels, stack = _empty(geometry, np.int16)
    places = {plane.below: k for k, plane in enumerate(grid.planes) if plane.real}
    kept: dict[int, np.ndarray] = {}
    needed = {index for plane in grid.planes if not plane.real for index in (plane.below, plane.above)}
    wanted = [index for index in range(len(series.headers)) if index in places or index in needed]
    for index, values in zip(wanted, read_hu([series.headers[index] for index in wanted], path), strict=True):
        if not _fits(values) and stack.dtype != np.float32:
            voxels, stack = _widened(geometry, stack)
        if index in places:
            stack[places[index]] = values
        if index in needed:
            kept[index] = values.astype(np.float32)
    for k, plane in enumerate(grid.planes):
        if not plane.real:
            between = (1 - plane.weight) * kept[plane.below] + plane.weight * kept[plane.above]
            stack[k] = np.rint(between) if stack.dtype == np.int16 else between
    return voxels


def _empty(geometry: Geometry, kind: type[np.int16] | type[np.float32]) -> tuple[np.ndarray, np.ndarray]:
    """An array (Z, Y, X), and the same memory as (plane, row, column) of the files."""
    to_file = orientations.ornt_transform(
        np.array([[0, 1], [1, 1], [2, 1]]), orientations.io_orientation(geometry.affine)
    )
    axes = orientations.io_orientation(geometry.affine)[:, 0].astype(int)
    x, y, z = (geometry.shape[list(axes).index(axis)] for axis in range(3))
    voxels: np.ndarray = np.full((z, y, x), AIR, kind)
    return voxels, orientations.apply_orientation(voxels.T, to_file).T


def _fits(values: np.ndarray) -> bool:
    return values.dtype == np.int32 and int(values.max()) <= np.iinfo(np.int16).max


def _widened(geometry: Geometry, stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    voxels, wider = _empty(geometry, np.float32)
    wider[...] = stack
    return voxels, wider
