"""A run under evaluation: what it predicts, its score in its own metric, and whom it has seen before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from covseg_core.config import METRICS
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.slices.cache import case_grid, prepared
from covseg_core.data.slices.slices import to_native
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.measures import Counts, count, overlap
from covseg_core.evaluation.results import THRESHOLD, Evaluation, OwnScore
from covseg_core.evaluation.seen import Seen
from covseg_core.files import atomic_path, read_json, sha256_file, write_json
from covseg_core.prediction.case_lungs import case_probabilities, find_lungs
from covseg_core.prediction.inference import Segmenter
from covseg_core.runs import Run

_CHUNK = 32
"""Slices that are resampled at a time."""


class Candidate:
    """One run, faced with the cases of a dataset one after another.

    Parameters
    ----------
    run : with a `model.onnx`
    dataset : the one to evaluate on
    workers : of its `Segmenter`

    Raises
    ------
    RunError : the run has no usable `model.onnx`
    """

    def __init__(self, run: Run, dataset: Dataset, workers: int | None = None) -> None:
        self.run, self.config, self.split, self.dataset = run, run.config, run.split, dataset
        self.segmenter = Segmenter(run, workers=workers)
        find_lungs(dataset, self.config.prepare)
        self.sha256 = sha256_file(run.onnx)
        self.seen = Seen(run, dataset)
        self._probabilities: list[np.ndarray] = []
        self._counts = Counts()

    def predict(self, case: Case, chosen: Sequence[int]) -> np.ndarray:
        """Masks on the scan's own grid, (len(chosen), Y, X) bool; the probabilities are remembered."""
        probabilities = self._segment(self.dataset, case, chosen)
        self._counts += self._agreement(self.dataset, case, chosen, probabilities)
        self._probabilities.append(probabilities.astype(np.float16))
        grid = case_grid(self.dataset, case, self.config.prepare)
        native = np.empty((len(chosen), *case.shape[1:]), bool)
        for start in range(0, len(chosen), _CHUNK):
            part = slice(start, start + _CHUNK)
            native[part] = to_native(probabilities[part], grid) >= THRESHOLD
        return native

    def learned(self) -> int:
        """Slices of training and validation that `own_score` has to predict first: none if it knows their score."""
        if self._known() is not None or self.seen.own_dataset() is None:
            return 0
        return sum(len(chosen) for part in (self.split.train, self.split.validation) for chosen in part.values())

    def own_score(self, advance: Callable[[int], None] = lambda slices: None) -> OwnScore:
        """In the run's own metric: on what was predicted, and on training and validation slices together.

        `advance` is called with the number of slices after each scan of the latter.
        """
        score, counts = self._train_validation(advance)
        return OwnScore(METRICS[self.config.metric].score, score, self._own_metric(self._counts), counts, self._counts)

    def keep(self, evaluation: Evaluation) -> None:
        """Write predictions and evaluation into the run's folder."""
        with atomic_path(self.run.test_predictions) as temporary:
            np.save(temporary, np.concatenate(self._probabilities), allow_pickle=False)
        write_json(self.run.evaluation, evaluation)

    def check_own(self) -> None:
        """Raise `RunError` unless the dataset is as it was when the run was made."""
        if not self.seen.own:
            found = f"dataset {self.dataset.name} has changed since the run was made"
            raise RunError(self.run.id, found, "the same scans, masks and labels")

    def _known(self) -> Counts | None:
        """What an earlier evaluation of these weights has counted on training and validation."""
        try:
            last = read_json(self.run.evaluation, Evaluation)
        except CovsegError:
            return None
        return last.own.train_validation_counts if last.model_sha256 == self.sha256 else None

    def _train_validation(self, advance: Callable[[int], None]) -> tuple[float | None, Counts | None]:
        """Computed once for these weights, since it takes longer than the test."""
        known = self._known()
        if known is not None:
            return self._own_metric(known), known
        dataset = self.seen.own_dataset()
        if dataset is None:
            return None, None
        counts = Counts()
        for part in (self.split.train, self.split.validation):
            for id, chosen in part.items():
                case = dataset.case(id)
                counts += self._agreement(dataset, case, chosen, self._segment(dataset, case, chosen))
                advance(len(chosen))
        return self._own_metric(counts), counts

    def _segment(self, dataset: Dataset, case: Case, chosen: Sequence[int]) -> np.ndarray:
        return case_probabilities(self.segmenter, dataset, case, chosen)

    def _agreement(self, dataset: Dataset, case: Case, chosen: Sequence[int], probabilities: np.ndarray) -> Counts:
        masks = prepared(dataset, case, self.config.prepare, self.config.target)
        return count(masks[list(chosen)], probabilities >= THRESHOLD)

    def _own_metric(self, counts: Counts) -> float:
        return overlap(counts, "one")[METRICS[self.config.metric].measure]
