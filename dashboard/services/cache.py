"""Scans and masks of datasets, kept in memory within bounds and shared by all sessions.

Cases go in, arrays come out, kept by the files' hashes: a corrected mask is another one, and its scan the same.
Streamlit computes each entry once, however many sessions ask at the same time, and drops the oldest above the bound.
Errors are not kept. Arrays are shared: nobody may write to them.
"""

from __future__ import annotations

import numpy as np
import streamlit as st

from covseg_core.config import Target
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.reading import volumes
from covseg_core.data.reading.volumes import Volume

SCANS = 4
"""Volumes in memory, and as many masks: 512 x 512 x 300 voxels are 157 MB and 79 MB."""


def volume(dataset: Dataset, case: Case) -> Volume:
    """A scan, RAS+; raises `DatasetError` or `ScanError`."""
    return _volume(str(dataset.path(case, "scan")), case.sha256["scan"])


def truth(dataset: Dataset, case: Case, target: Target = "infection") -> np.ndarray:
    """A case's mask, (Z, Y, X) uint8 0/1, RAS+; raises as `volume`."""
    labels = case.labels if target == "infection" else None
    path, scan = dataset.path(case, target), dataset.path(case, "scan")
    return _truth(str(path), case.sha256[target], labels, str(scan))


@st.cache_resource(max_entries=SCANS, show_spinner="Reading the scan")
def _volume(path: str, sha256: str) -> Volume:
    return volumes.load_scan(path)


@st.cache_resource(max_entries=SCANS, show_spinner="Reading the mask")
def _truth(path: str, sha256: str, labels: tuple[int, ...] | None, scan: str) -> np.ndarray:
    return volumes.load_mask(path, labels, volumes.load_geometry(scan)).voxels
