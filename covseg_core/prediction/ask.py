"""Ask models about a scan: the one way to their answers, for the command line, the dashboard and Python."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.config import Target
from covseg_core.errors import RunError
from covseg_core.prediction.case_lungs import LUNG_THRESHOLD
from covseg_core.prediction.inference import Cancel, Segmenter
from covseg_core.prediction.masks.lung_sides import body_middle, clean_lungs, split_lungs
from covseg_core.prediction.model_info import model_info
from covseg_core.prediction.probabilities import Advance, Probabilities, answered, counter, segment
from covseg_core.prediction.scan import Scan
from covseg_core.prediction.spool import OnDisk, Spool
from covseg_core.prediction.threshold import reaching
from covseg_core.progress import Progress
from covseg_core.runs import Run


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
    lungs : a lung model, asked first: others may look at the lungs alone
    known : answers of this scan by run id that are there already; those that come are added, one by one
    progress : called with the slices done, over all models that were not known, and those there are
    cancel : looked at before each batch

    Raises
    ------
    RunError : a run without `model.onnx`, or with one that cannot be used; one that needs a lung model, without any
    ScanError : a model looks at the lungs alone, and the lung model finds none
    CovsegError : no room for the answers
    Cancelled : `cancel` was set
    """
    check_lungs(runs, lungs)
    asked = [lungs, *runs] if lungs else list(runs)
    answers = {} if known is None else known
    waiting = [run for run in asked if not _known(run, lungs, answers)]
    advance = counter(progress, cancel, len(scan.volume.voxels) * len(waiting))
    sides: np.ndarray | None = None
    for run in waiting:
        if lungs and run is not lungs:
            sides = answers[lungs.id].sides
        within = lungs.id if lungs and run.config.prepare.region == "lungs" else ""
        started = time.perf_counter()
        if (values := _twin(run, within, answers)) is not None:
            advance(len(values))
        else:
            values = _values(scan, run, spool, advance, cancel, sides)
        answers[run.id] = answered(scan, run, values, time.perf_counter() - started, sides, within)
        if run is lungs:
            found = spool.keep_array(lung_sides(scan, answers[run.id]))
            answers[run.id] = dataclasses.replace(answers[run.id], sides=found)
    return Answers(tuple(answers[run.id] for run in runs), answers[lungs.id] if lungs else None)


def check_lungs(runs: Sequence[Run], lungs: Run | None) -> None:
    """Raise `RunError` if one of the models looks at the lungs alone, and there is no lung model to find them."""
    for run in runs:
        if lungs is None and run.config.prepare.region == "lungs":
            raise RunError(run.id, "looks at the lungs alone, and no lung model was given", "a lung model beside it")


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


def _known(run: Run, lungs: Run | None, answers: Mapping[str, Probabilities]) -> bool:
    """Whether an answer is there, from the same lungs if the model looks at them alone."""
    answer = answers.get(run.id)
    if answer is None or (run is lungs and answer.sides is None):
        return False
    return not answer.within or (lungs is not None and answer.within == lungs.id)


def _twin(run: Run, within: str, answers: Mapping[str, Probabilities]) -> np.ndarray | OnDisk | None:
    """The answer of a model with the same weights about the same slices, taken over."""
    twin = model_info(run).twin
    for other in answers.values():
        if other.model.twin == twin and other.within == within:
            return other.values
    return None


def _values(
    scan: Scan, run: Run, spool: Spool, advance: Advance, cancel: Cancel | None, sides: np.ndarray | None
) -> np.ndarray | OnDisk:
    """(Z, S, S) float32: what a model says."""
    segmenter = Segmenter(run)  # of this function only, since a session keeps the memory of its largest batch
    shape = (len(scan.volume.voxels), segmenter.prepare.size, segmenter.prepare.size)
    return spool.keep(segment(scan, segmenter, advance, cancel, sides), shape)
