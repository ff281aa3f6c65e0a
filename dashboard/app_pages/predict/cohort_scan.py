"""One scan of a cohort in the viewer, with its mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.isolation import Limits, isolated
from covseg_core.prediction.cohort.again import Seen, look_again
from covseg_core.prediction.cohort.names import read_sources
from covseg_core.prediction.cohort.state import Row
from dashboard.app_pages.predict.cohort_space import CohortSpace
from dashboard.components import slice_viewer
from dashboard.formatting import plain

SCANS = 2
"""Scans that are kept ready, for all who look."""


def show(space: CohortSpace, row: Row) -> None:
    """Read it again, and show it where its mask is largest."""
    st.subheader(plain(row.name))
    if row.state == "failed":
        st.error(plain(f"{row.name} was not predicted: {row.problem}."), icon=":material/error:")
        return
    try:
        seen = _seen(str(space.output), row.name, row.sha256)
    except CovsegError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    if row.figures and row.figures.warnings:
        st.caption(f":material/warning: {plain('; '.join(row.figures.warnings))}")
    slice_viewer.show(scene(f"{space.id}/{row.name}", seen), "cohort")


def scene(id: str, seen: Seen) -> slice_viewer.Scene:
    """Slices and volume; nothing can be set, since masks are as they were written."""
    voxels, mask, lungs = seen.scan.volume.voxels, seen.mask, seen.lungs

    def plane(z: int) -> np.ndarray:
        return mask[z][::-1, ::-1]

    areas = [int(np.count_nonzero(one)) for one in mask]
    return slice_viewer.Scene(
        id=id,
        zs=range(len(voxels)),
        scale=seen.scan.scale,
        spacing=seen.scan.volume.spacing[1:],
        ct=lambda z: voxels[z][::-1, ::-1],
        truth=None,
        layers=[slice_viewer.Layer("Mask", lambda z: plane(z).astype(np.float32), plane, together=True)],
        threshold_fixed=True,
        start=int(np.argmax(areas)) if any(areas) else None,
        outline=None if lungs is None else lambda z: lungs[z][::-1, ::-1],
        thickness=seen.scan.volume.spacing[0],
        edition=seen.scan.sha256,
        marked=id,
    )


@st.cache_resource(max_entries=SCANS, show_spinner="Reading the scan")
def _seen(output: str, name: str, sha256: str) -> Seen:
    """By another process; its arrays are mapped from there."""
    folder = Path(output)
    source = read_sources(folder).scans.get(name)
    size = sum(file.stat().st_size for file in _files(Path(source.place))) if source else 0
    try:
        return isolated(look_again, folder, name, named=name, limits=Limits.of(size))
    except CovsegError as error:
        raise type(error)(name, error.found, error.expected) from None


def _files(place: Path) -> list[Path]:
    return [file for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file()]
