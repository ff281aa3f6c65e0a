"""Test predictions of a run, as its folder keeps them: probabilities of the network's own size, a row a slice.

Everybody who looks at them comes through here, so that each fault of the file has one text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from covseg_core.data.slices.slices import Grid, to_native
from covseg_core.errors import RunError
from covseg_core.evaluation.stored_scores import stored_scores
from covseg_core.files import Stamp, stamp
from covseg_core.runs import Run


class StoredPredictions(NamedTuple):
    """What a model predicts on its test part."""

    values: np.ndarray | JoinedRows | MeanRows
    """(N, S, S) float16 0..1, memory-mapped."""
    rows: dict[str, dict[int, int]]
    """Case id -> z -> row of `values`."""


class JoinedRows:
    """Rows of several arrays as if they were one array, (N, S, S) float16.

    Parameters
    ----------
    parts : (n, S, S) each
    places : part and row of each of the N
    """

    def __init__(self, parts: Sequence[np.ndarray | JoinedRows | MeanRows], places: Sequence[tuple[int, int]]) -> None:
        self._parts, self._places = parts, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        if isinstance(rows, slice):
            return np.stack([self._parts[part][row] for part, row in self._places[rows]])
        part, row = self._places[rows]
        return self._parts[part][row]


class MeanRows:
    """The means of several arrays, row by row, as if they were one array, (N, S, S) float16.

    Parameters
    ----------
    parts : (N, S, S) float16 each, with the same slices in the same rows
    """

    def __init__(self, parts: Sequence[np.ndarray | JoinedRows | MeanRows]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts[0])

    def __getitem__(self, rows: int | slice) -> np.ndarray:
        return np.stack([part[rows] for part in self._parts]).mean(0, dtype=np.float32).astype(np.float16)


def read_predictions(run: Run) -> StoredPredictions:
    """What a run predicts on its test part; the file is opened again only once it has changed.

    Raises
    ------
    RunError : the run was not evaluated yet, or its files do not fit each other
    """
    return _predictions(run, stamp(run.test_predictions), stamp(run.evaluation))


def load_values(run: Run, count: int) -> np.ndarray:
    """Probabilities of `count` test slices, (count, S, S) float16, memory-mapped; raises as `read_predictions`."""
    path, again = run.test_predictions, f"`covseg evaluate {run.id}` writes it again"
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise RunError(run.id, f"has no {path.name}", f"`covseg evaluate {run.id}` writes it") from None
    except (OSError, ValueError):
        raise RunError(path, "cannot be read", again) from None
    if len(values) != count:
        raise RunError(path, f"{len(values)} slices, but {count} scores in {run.evaluation.name}", again)
    return values


def joined(parts: Sequence[StoredPredictions]) -> StoredPredictions:
    """Predictions of several runs on slices that differ as one, ordered by case and slice."""
    places = sorted(
        (case, z, number, row)
        for number, part in enumerate(parts)
        for case, zs in part.rows.items()
        for z, row in zs.items()
    )
    rows: dict[str, dict[int, int]] = {}
    for place, (case, z, _, _) in enumerate(places):
        rows.setdefault(case, {})[z] = place
    return StoredPredictions(JoinedRows([part.values for part in parts], [place[2:] for place in places]), rows)


def native(stored: StoredPredictions, case: str, z: int, grid: Grid) -> np.ndarray:
    """(Y, X) float32, RAS+: what is stored of one slice, on the scan's own grid, from the model's."""
    row = stored.rows[case][z]
    return to_native(stored.values[row : row + 1].astype(np.float32), grid)[0]


@functools.lru_cache(maxsize=64)
def _predictions(run: Run, *stamps: Stamp | None) -> StoredPredictions:
    scores = stored_scores(run).model.slices
    rows: dict[str, dict[int, int]] = {}
    for row, score in enumerate(scores):
        rows.setdefault(score.case, {})[score.z] = row
    return StoredPredictions(load_values(run, len(scores)), rows)
