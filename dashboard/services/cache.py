"""Scans, masks, models and files of runs, kept in memory within bounds and shared by all sessions.

Ids go in, arrays come out. Streamlit computes each entry once, however many sessions ask at the same time, and drops
the oldest above the bound. Errors are not kept. Arrays are shared: nobody may write to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import streamlit as st

from covseg_core import runs
from covseg_core.config import Target
from covseg_core.data.library import datasets
from covseg_core.data.reading import volumes
from covseg_core.data.reading.volumes import Volume
from covseg_core.errors import RunError
from covseg_core.evaluation.cross_validation.folded_run import FoldedRun, Planes
from covseg_core.evaluation.results import Evaluation
from covseg_core.files import Stamp, read_json, stamp
from covseg_core.prediction.inference import Segmenter
from covseg_core.runs import Run

SCANS = 4
"""Volumes in memory, and as many masks: 512 x 512 x 300 voxels are 157 MB and 79 MB."""
MODELS = 6
FILES = 64


class TestProbabilities(NamedTuple):
    """What a run predicts on its test part."""

    values: np.ndarray | Planes
    """(N, S, S) float16, memory-mapped."""
    rows: dict[str, dict[int, int]]
    """Case id -> z -> row of `values`."""


def volume(dataset: str, fingerprint: str, case_id: str) -> Volume:
    """A scan, RAS+; raises `DatasetError` or `ScanError`. The dataset's `fingerprint` says which version of it."""
    return _volume(str(datasets.dataset_folder(dataset)), fingerprint, case_id)


def truth(dataset: str, fingerprint: str, case_id: str, target: Target = "infection") -> np.ndarray:
    """A case's mask, (Z, Y, X) uint8 0/1, RAS+; raises as `volume`."""
    return _truth(str(datasets.dataset_folder(dataset)), fingerprint, case_id, target)


def evaluation(run_id: str) -> Evaluation | None:
    """A run's scores on its test part; None if it was not evaluated yet."""
    run = runs.open_run(run_id)
    found = stamp(run.evaluation)
    return _evaluation(str(run.folder), found) if found else None


def segmenter(run_id: str) -> Segmenter:
    """A run's model, loaded; raises `RunError` if there is none."""
    run = runs.open_run(run_id)
    return _segmenter(str(run.folder), stamp(run.onnx))


def test_probabilities(run_id: str) -> TestProbabilities:
    """What a run predicts on its test part; raises `RunError` if it was not evaluated yet."""
    run = runs.open_run(run_id)
    found = stamp(run.test_predictions), stamp(run.evaluation)
    if not all(found):
        raise RunError(run_id, "has no test predictions", f"`covseg evaluate {run_id}` writes them")
    return _test_probabilities(str(run.folder), found)


def predictions_of(run: Run) -> TestProbabilities:
    """The same of a model that may be several folds; rows are those of its evaluation, by case and slice."""
    if not isinstance(run, FoldedRun):
        return test_probabilities(run.id)
    parts = [test_probabilities(fold.id) for fold in run.folds.runs]
    places = sorted(
        (case, z, fold, row)
        for fold, part in enumerate(parts)
        for case, zs in part.rows.items()
        for z, row in zs.items()
    )
    rows: dict[str, dict[int, int]] = {}
    for number, (case, z, _, _) in enumerate(places):
        rows.setdefault(case, {})[z] = number
    return TestProbabilities(Planes([part.values for part in parts], [place[2:] for place in places]), rows)


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


@st.cache_resource(max_entries=FILES, show_spinner=False)
def _evaluation(folder: str, stamp: Stamp) -> Evaluation:
    return read_json(runs.Run(Path(folder)).evaluation, Evaluation)


@st.cache_resource(max_entries=MODELS, show_spinner="Loading the model")
def _segmenter(folder: str, stamp: Stamp | None) -> Segmenter:
    return Segmenter(runs.Run(Path(folder)))


@st.cache_resource(max_entries=FILES, show_spinner=False)
def _test_probabilities(folder: str, stamp: tuple[Stamp | None, ...]) -> TestProbabilities:
    run = runs.Run(Path(folder))
    scores = read_json(run.evaluation, Evaluation).model.slices
    try:
        values = np.load(run.test_predictions, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        raise RunError(run.test_predictions, "cannot be read", f"`covseg evaluate {run.id}` writes it again") from None
    if len(values) != len(scores):
        found = f"{len(values)} slices, but {len(scores)} scores in {run.evaluation.name}"
        raise RunError(run.test_predictions, found, f"`covseg evaluate {run.id}` writes both again")
    rows: dict[str, dict[int, int]] = {}
    for row, score in enumerate(scores):
        rows.setdefault(score.case, {})[score.z] = row
    return TestProbabilities(values, rows)
