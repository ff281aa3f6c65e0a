"""Scans and masks of datasets, kept in memory within bounds and shared by all sessions.

Ids go in, arrays come out. Streamlit computes each entry once, however many sessions ask at the same time, and drops
the oldest above the bound. Errors are not kept. Arrays are shared: nobody may write to them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from covseg_core.config import Target
from covseg_core.data.library import datasets
from covseg_core.data.reading import volumes
from covseg_core.data.reading.volumes import Volume

SCANS = 4
"""Volumes in memory, and as many masks: 512 x 512 x 300 voxels are 157 MB and 79 MB."""


def volume(dataset: str, fingerprint: str, case_id: str) -> Volume:
    """A scan, RAS+; raises `DatasetError` or `ScanError`. The dataset's `fingerprint` says which version of it."""
    return _volume(str(datasets.dataset_folder(dataset)), fingerprint, case_id)


def truth(dataset: str, fingerprint: str, case_id: str, target: Target = "infection") -> np.ndarray:
    """A case's mask, (Z, Y, X) uint8 0/1, RAS+; raises as `volume`."""
    return _truth(str(datasets.dataset_folder(dataset)), fingerprint, case_id, target)


@st.cache_resource(max_entries=SCANS, show_spinner="Reading the scan")
def _volume(folder: str, fingerprint: str, case_id: str) -> Volume:
    dataset = datasets.load_dataset(Path(folder).name)
    return volumes.load_scan(dataset.path(dataset.case(case_id), "scan"))


@st.cache_resource(max_entries=SCANS, show_spinner="Reading the mask")
def _truth(folder: str, fingerprint: str, case_id: str, target: Target) -> np.ndarray:
    dataset = datasets.load_dataset(Path(folder).name)
    case = dataset.case(case_id)
    labels = case.labels if target == "infection" else None
    like = volumes.load_geometry(dataset.path(case, "scan"))
    return volumes.load_mask(dataset.path(case, target), labels, like).voxels
