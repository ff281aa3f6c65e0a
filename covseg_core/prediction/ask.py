"""Ask models about a scan: the one way to their answers, for the command line, the dashboard and Python."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.config import Target
from covseg_core.prediction.inference import Cancel, Segmenter
from covseg_core.prediction.masks.lung_sides import body_middle, clean_lungs, split_lungs
from covseg_core.prediction.model_info import model_info
from covseg_core.prediction.probabilities import Advance, Probabilities, answered, counter, segment
from covseg_core.prediction.scan import Scan
from covseg_core.prediction.spool import Spool
from covseg_core.prediction.threshold import reaching
from covseg_core.progress import Progress
from covseg_core.runs import Run

LUNG_THRESHOLD = 0.5
"""Probability from which a voxel is lung, whatever the threshold of the infection."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What models say about one scan, before any threshold."""

    models: tuple[Probabilities, ...]
    """Of one target; they vote."""
    lungs: Probabilities | None = None
    """Of a lung model, beside those of models of infection."""

    @property
    def sides(self) -> np.ndarray | None:
        """(Z, Y, X) uint8, what the lung model says: 0 no lung, 1 the patient's right, 2 the left."""
        return self.lungs.sides if self.lungs else None

    @property
    def target(self) -> Target:
        return self.models[0].target

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the models, without the lung model's."""
        return tuple(answer.model.run for answer in self.models)

    @property
    def all(self) -> tuple[Probabilities, ...]:
        """The lung model's comes last."""
        return (*self.models, self.lungs) if self.lungs else self.models

    @property
    def asked(self) -> tuple[str, ...]:
        """Ids of all models."""
        return tuple(answer.model.run for answer in self.all)

    @property
    def seconds(self) -> float:
        """What it took to compute them."""
        return sum(answer.seconds for answer in self.all)


def ask(
    scan: Scan,
    runs: Sequence[Run],
    spool: Spool,
    lungs: Run | None = None,
    known: MutableMapping[str, Probabilities] | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Answers:
    """Ask every model about every slice of a scan, one model after another.

    A model of the same weights as one that was asked already is not asked again.

    Parameters
    ----------
    runs : the models, at least one
    spool : keeps the answers for as long as they are used
    lungs : a lung model, asked last
    known : answers of this scan by run id that are there already; those that come are added, one by one
    progress : called with the slices done, over all models that were not known, and those there are
    cancel : looked at before each batch

    Raises
    ------
    RunError : a run without `model.onnx`, or with one that cannot be used
    CovsegError : no room for the answers
    Cancelled : `cancel` was set
    """
    asked = [*runs, lungs] if lungs else list(runs)
    answers = {} if known is None else known
    waiting = [run for run in asked if run.id not in answers]
    advance = counter(progress, cancel, len(scan.volume.voxels) * len(waiting))
    for run in waiting:
        if (twin := _twin(scan, run, answers)) is not None:
            answers[run.id] = twin
            advance(len(twin.values))
        else:
            answers[run.id] = _answer(scan, run, spool, advance, cancel)
    if lungs and answers[lungs.id].sides is None:
        sides = spool.keep_array(lung_sides(scan, answers[lungs.id]))
        answers[lungs.id] = dataclasses.replace(answers[lungs.id], sides=sides)
    return Answers(tuple(answers[run.id] for run in runs), answers[lungs.id] if lungs else None)


def unanswered(runs: Sequence[Run], known: Mapping[str, Probabilities]) -> list[Run]:
    """The runs whose models have to be asked: without those that are known, and one of each that are the same."""
    seen = {answer.model.twin for answer in known.values()}
    waiting = []
    for run in runs:
        twin = model_info(run).twin
        if run.id not in known and twin not in seen:
            seen.add(twin)
            waiting.append(run)
    return waiting


def lung_sides(scan: Scan, lung: Probabilities) -> np.ndarray:
    """Which lung each voxel is in, by the answer of a lung model: (Z, Y, X) uint8, as `Answers.sides`."""
    mask = clean_lungs(reaching(lung, LUNG_THRESHOLD))
    return split_lungs(mask, body_middle(scan.volume.voxels, scan.scale, mask))


def _twin(scan: Scan, run: Run, answers: Mapping[str, Probabilities]) -> Probabilities | None:
    """The answer of a model with the same weights and slices, taken over."""
    twin = model_info(run).twin
    for other in answers.values():
        if other.model.twin == twin:
            return answered(scan, run, other.values, 0.0)
    return None


def _answer(scan: Scan, run: Run, spool: Spool, advance: Advance, cancel: Cancel | None) -> Probabilities:
    started = time.perf_counter()
    segmenter = Segmenter(run)  # of this function only, since a session keeps the memory of its largest batch
    shape = (len(scan.volume.voxels), segmenter.prepare.size, segmenter.prepare.size)
    values = spool.keep(segment(scan, segmenter, advance, cancel), shape)
    return answered(scan, run, values, time.perf_counter() - started)
