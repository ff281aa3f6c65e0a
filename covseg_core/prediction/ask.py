"""Ask models about a scan: the one way to their answers, for the command line, the dashboard and Python."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from covseg_core.config import Target
from covseg_core.errors import RunError, SettingError
from covseg_core.prediction.case_lungs import LUNG_THRESHOLD
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.inference import Cancel, Segmenter
from covseg_core.prediction.masks.lung_sides import body_middle, clean_lungs, split_lungs
from covseg_core.prediction.model_info import model_info
from covseg_core.prediction.probabilities import Advance, Probabilities, answered, counter, segment
from covseg_core.prediction.scan import Scan
from covseg_core.prediction.spool import OnDisk, Spool
from covseg_core.prediction.thin_slices import segment_some, stride
from covseg_core.prediction.threshold import reaching
from covseg_core.progress import Progress
from covseg_core.runs import Run
from covseg_core.runs.bfloat16 import read_check, require_check

OpenModel = Callable[[Run, Precision], Segmenter]
"""How a model is made ready; raises as `Segmenter`."""
Key = tuple[str, bool, Precision]
"""Of an answer that is known: the run's id, whether mirror images were asked, too, and in which precision."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What models say about one scan, before any threshold."""

    models: tuple[Probabilities, ...]
    """Of one target, to be combined."""
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
    def mirror(self) -> bool:
        """Whether the models, without the lung model, were asked about mirror images, too."""
        return any(answer.mirror for answer in self.models)

    @property
    def precision(self) -> Precision:
        """In which the models were asked, without the lung model."""
        return self.models[0].precision

    @property
    def seconds(self) -> float:
        """What it took to compute them."""
        return sum(answer.seconds for answer in self.all)


@dataclass(frozen=True)
class Question:
    """What one model is asked about a scan."""

    run: Run
    mirror: bool = False
    """About each slice mirrored left to right, too."""
    within: str = ""
    """As `Probabilities.within`."""
    precision: Precision = "float32"
    beside: bool = False
    """Of a lung model for the lungs of the scan, while others are asked about infection."""

    @property
    def key(self) -> Key:
        return self.run.id, self.mirror, self.precision

    @property
    def twin(self) -> tuple[object, ...]:
        """Equal for questions with the same answer."""
        return model_info(self.run).twin, self.mirror, self.within, self.precision, self.beside

    @property
    def views(self) -> int:
        """How often each slice is shown."""
        return 2 if self.mirror else 1


def ask(
    scan: Scan,
    runs: Sequence[Run],
    spool: Spool,
    lungs: Run | None = None,
    known: MutableMapping[Key, Probabilities] | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    mirror: bool = False,
    precision: Precision = "float32",
    open_model: OpenModel | None = None,
) -> Answers:
    """Ask every model about every slice of a scan, one model after another.

    A model of the same weights as one that was asked already is not asked again.

    Parameters
    ----------
    runs : the models, at least one
    spool : keeps the answers for as long as they are used
    lungs : a lung model, asked first: others may look at the lungs alone. Where slices are thin, it is asked about some
        of them only; see `thin_slices`
    known : answers of this scan that are there already; those that come are added, one by one
    progress : called with the slices done, over all models that were not known, and those there are; a mirror image is
        a slice of its own
    cancel : looked at before each batch
    mirror : ask about each slice mirrored left to right, too, which takes twice the time; the answer is the mean of
        both. The lung model is never asked so: models that look at the lungs alone have learned with its plain answer
    precision : to compute in; a lung model that has not passed the check for bfloat16 is asked in float32
    open_model : for who asks about many scans, and keeps models; None to open each for its question alone, since a
        session keeps the memory of its largest batch

    Raises
    ------
    RunError : a run without `model.onnx`, or with one that cannot be used; one that needs a lung model, without any
    ScanError : a model looks at the lungs alone, and the lung model finds none
    CovsegError : no room for the answers
    Cancelled : `cancel` was set
    """
    check_lungs(runs, lungs)
    check_precision(runs, precision)
    answers, open_model = {} if known is None else known, open_model or _open
    asked = _questions(runs, lungs, mirror, precision)
    waiting = [question for question in asked if not _known(question, answers)]
    advance = counter(progress, cancel, len(scan.volume.voxels) * sum(question.views for question in waiting))
    for question in waiting:
        run, within = question.run, question.within
        sides = answers[asked[0].key].sides if lungs and not question.beside else None
        started = time.perf_counter()
        if (values := _twin(question, answers)) is not None:
            advance(len(values) * question.views)
        else:
            values = _values(scan, question, open_model(run, question.precision), spool, advance, cancel, sides)
        seconds = time.perf_counter() - started
        answer = answered(scan, run, values, seconds, sides, within, question.mirror)
        answer = dataclasses.replace(answer, precision=question.precision)
        if question.beside:
            found = spool.keep_array(lung_sides(scan, answer))
            answer = dataclasses.replace(answer, sides=found)
        answers[question.key] = answer
    given = tuple(answers[question.key] for question in asked)
    return Answers(given[1:], given[0]) if lungs else Answers(given)


def check_lungs(runs: Sequence[Run], lungs: Run | None) -> None:
    """Raise `RunError` if one of the models looks at the lungs alone, and there is no lung model to find them."""
    for run in lacking_lungs(runs, lungs):
        raise RunError(run.id, "looks at the lungs alone, and no lung model was given", "a lung model beside it")


def check_precision(runs: Sequence[Run], precision: Precision) -> None:
    """Raise unless all models may be asked in this precision: `SettingError`, or `RunError` as `require_check` does."""
    if precision not in get_args(Precision):
        raise SettingError("precision", repr(precision), " or ".join(get_args(Precision)))
    if precision == "bfloat16":
        for run in runs:
            require_check(run)


def lacking_lungs(runs: Sequence[Run], lungs: Run | None) -> list[Run]:
    """The models that look at the lungs alone, where there is no lung model to find them."""
    return [] if lungs else [run for run in runs if run.config.prepare.region == "lungs"]


def unanswered(
    runs: Sequence[Run],
    lungs: Run | None,
    mirror: bool,
    known: Mapping[Key, Probabilities],
    precision: Precision = "float32",
) -> list[Question]:
    """What `ask` would have to ask: nothing that is known, and once what has the same answer."""
    waiting: dict[tuple[object, ...], Question] = {}
    for question in _questions(runs, lungs, mirror, precision):
        if not _known(question, known) and _twin(question, known) is None:
            waiting.setdefault(question.twin, question)
    return list(waiting.values())


def lung_sides(scan: Scan, lung: Probabilities) -> np.ndarray:
    """Which lung each voxel is in, by the answer of a lung model: (Z, Y, X) uint8, as `Answers.sides`."""
    mask = clean_lungs(reaching(lung, LUNG_THRESHOLD))
    return split_lungs(mask, body_middle(scan.volume.voxels, scan.scale, mask))


def _questions(runs: Sequence[Run], lungs: Run | None, mirror: bool, precision: Precision) -> list[Question]:
    """In the order in which they are asked."""
    if lungs is None:
        return [Question(run, mirror, precision=precision) for run in runs]
    cut = [lungs.id if run.config.prepare.region == "lungs" else "" for run in runs]
    models = [Question(run, mirror, within, precision) for run, within in zip(runs, cut, strict=True)]
    check = read_check(lungs) if precision == "bfloat16" else None
    return [Question(lungs, precision="bfloat16" if check and check.passed else "float32", beside=True), *models]


def _known(question: Question, answers: Mapping[Key, Probabilities]) -> bool:
    """Whether an answer is there, from the same lungs if the model looks at them alone."""
    answer = answers.get(question.key)
    return answer is not None and (answer.within, answer.beside) == (question.within, question.beside)


def _twin(question: Question, answers: Mapping[Key, Probabilities]) -> np.ndarray | OnDisk | None:
    """The answer of a model with the same weights about the same slices, taken over."""
    for other in answers.values():
        if (other.model.twin, other.mirror, other.within, other.precision, other.beside) == question.twin:
            return other.values
    return None


def _open(run: Run, precision: Precision) -> Segmenter:
    return Segmenter(run, precision=precision)


def _values(
    scan: Scan,
    question: Question,
    segmenter: Segmenter,
    spool: Spool,
    advance: Advance,
    cancel: Cancel | None,
    sides: np.ndarray | None,
) -> np.ndarray | OnDisk:
    """(Z, S, S) float32: what a model says."""
    shape = (len(scan.volume.voxels), segmenter.prepare.size, segmenter.prepare.size)
    every = stride(scan, segmenter.prepare) if question.beside else 1
    if every > 1:
        return spool.keep(segment_some(scan, segmenter, every, advance, cancel), shape)
    return spool.keep(segment(scan, segmenter, advance, cancel, sides, question.mirror), shape)
