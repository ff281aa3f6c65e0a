"""Whether a second evaluation says what the first has said: every number of a model and its baselines, and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from covseg_core.evaluation.measures import Counts
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.scores import Scores
from covseg_core.evaluation.wording import plural

ROUNDING = 1e-3
"""Shares that differ by less agree: other processors round otherwise, which can move single voxels at the border."""
FACTS = (
    "run", "metric", "model_sha256", "target", "dataset", "fingerprint", "part", "split", "leaky", "seen_patients",
    "policy", "threshold", "units", "folds",
)  # fmt: skip
"""What has to be the same besides the numbers, or the numbers are of something else than is said."""
SIZES = ("slices", "positive_slices", "scans", "patients", "epochs", "training_seconds")

Numbers = dict[tuple[object, ...], float | None]


@dataclass(frozen=True)
class RunCheck:
    """How a model's numbers came out the second time."""

    run: str
    """Of folds: `<experiment>-<metric>`."""
    same: bool
    """Every voxel count of every slice is equal, and so is all else, also in the `stored`."""
    slices: int
    differing_slices: int
    dice: float | None
    """Pooled, now."""
    claimed_dice: float | None
    """Pooled, in the bundle."""
    largest_difference: float
    """Of any share, distance or volume, of any slice, scan, mean or pooled, baselines included; of the last two
    relative to the larger value."""
    facts: tuple[str, ...] = ()
    """Names of `FACTS` that differ."""
    fold: int = 0
    """Which one this is of, from 1; 0 for a run by itself and for all folds together."""
    stored: tuple[RunCheck, ...] = ()
    """The same for the run's own `evaluation.json`; of folds for that of each."""

    @property
    def agrees(self) -> bool:
        """Whether any difference is within rounding, also in the `stored`."""
        own = self.same or (self.largest_difference <= ROUNDING and not self.facts)
        return own and all(one.agrees for one in self.stored)

    @property
    def whole(self) -> tuple[RunCheck, ...]:
        """Itself, and what is `stored`."""
        return (self, *self.stored)

    @property
    def all_facts(self) -> tuple[str, ...]:
        """What differs besides numbers, here or in what is `stored`."""
        return tuple(dict.fromkeys(fact for one in self.whole for fact in one.facts))

    @property
    def where(self) -> str:
        """Where it does not agree: `fold 2`; empty if nowhere, or if there is only one place."""
        wrong = [one.fold for one in self.stored if not one.agrees]
        if any(wrong):
            return f"fold{'s' * (len(wrong) > 1)} {_listed([str(fold) for fold in wrong])}"
        if not self.agrees and any(one.fold for one in self.stored):
            return "all folds together"
        differing = self.largest_difference > ROUNDING or self.facts
        return "evaluation.json" if wrong and not differing else ""

    @property
    def result(self) -> str:
        """A few words, for a table."""
        if self.same:
            return "same"
        if self.agrees:
            return "within rounding"
        place = f" in {self.where}" if self.where else ""
        return f"differs{place}" + (f": {', '.join(self.all_facts)}" if self.all_facts else "")


@dataclass(frozen=True)
class Verification:
    """What came out."""

    dataset: str
    runs: tuple[RunCheck, ...]
    """A model each, in the bundle's order."""
    folds: int = 0
    """Of the cross-validation, be they in the bundle or not; 0 for runs."""

    @property
    def same(self) -> bool:
        return all(check.same for check in self.runs)

    @property
    def agrees(self) -> bool:
        return all(check.agrees for check in self.runs)

    @property
    def sentence(self) -> str:
        """The result in plain words."""
        folds = len(self.runs[0].stored) if self.folds else 0
        part = f"{folds} of " if folds < self.folds else ""
        what = plural(len(self.runs), "model") + (f" of {part}{plural(self.folds, 'fold')}" if folds else "")
        what += f" on {plural(self.runs[0].slices, 'slice')}"
        if self.same:
            also = ", of each fold and of all together" if folds else ""
            return f"The numbers are the same: {what}, every voxel count equal{also}."
        most = max(one.largest_difference for check in self.runs for one in check.whole)
        if self.agrees:
            return f"The numbers agree within rounding: {what}, largest difference {most:.1e}."
        wrong = [check for check in self.runs if not check.agrees]
        names = _listed([check.run + (f" ({check.where})" if check.where else "") for check in wrong])
        verb = "differs" if len(wrong) == 1 else "differ"
        how = [f"by up to {most:.3g}"] if most > ROUNDING else []
        if facts := dict.fromkeys(fact for check in wrong for fact in check.all_facts):
            how.append(f"in {_listed(list(facts))}")
        return f"The numbers are NOT the same: {names} {verb} {' and '.join(how)}."


def compare(claimed: Evaluation, found: Evaluation, stored: Sequence[RunCheck] = (), fold: int = 0) -> RunCheck:
    """Every number of one evaluation against those of the other.

    Parameters
    ----------
    claimed, found : in the bundle, and now
    stored : how the evaluations of which this one is made, or which say the same, came out
    """
    ours, theirs = claimed.model.slices, found.model.slices
    differing = sum(
        (one.case, one.z, one.patient, one.counts) != (other.case, other.z, other.patient, other.counts)
        for one, other in zip(ours, theirs, strict=False)
    ) + abs(len(ours) - len(theirs))
    largest = max(
        _largest(dict(_numbers(claimed)), dict(_numbers(found))), _moved(dict(_counts(claimed)), dict(_counts(found)))
    )
    facts = tuple(name for name in FACTS if getattr(claimed, name) != getattr(found, name))
    same = not differing and largest < 1e-9 and not facts and all(one.same for one in stored)
    return RunCheck(
        claimed.run, same, len(found.model.slices), differing, found.model.pooled["dice"],
        claimed.model.pooled.get("dice"), largest, facts, fold, tuple(stored),
    )  # fmt: skip


def _numbers(evaluation: Evaluation) -> Iterator[tuple[tuple[object, ...], float | None]]:
    """Every number of a model and its baselines, each with a name."""
    for name in SIZES:
        yield (name,), float(getattr(evaluation, name))
    yield ("own", evaluation.own.metric, "train_validation"), evaluation.own.train_validation
    yield ("own", evaluation.own.metric, "test"), evaluation.own.test
    yield from _scores(("model",), evaluation.model)
    for scores in evaluation.baselines:
        yield from _scores(("baseline", scores.name), scores)


def _scores(head: tuple[object, ...], scores: Scores) -> Iterator[tuple[tuple[object, ...], float | None]]:
    for measure, value in scores.pooled.items():
        yield (*head, "pooled", measure), value
    for level, summaries in (("scans", scores.over_scans), ("slices", scores.over_slices)):
        for measure, summary in summaries.items():
            for name, value in vars(summary).items():
                yield (*head, level, measure, name), value
    for scan in scores.scans:
        yield (*head, scan.case, scan.patient, "slices"), float(scan.slices)
        yield (*head, scan.case, scan.patient, "whole"), float(scan.whole)
        for measure, value in scan.values.items():
            yield (*head, scan.case, scan.patient, measure), value
    for score in scores.slices:
        for measure, value in score.values.items():
            yield (*head, score.case, score.patient, score.z, measure), value


def _counts(evaluation: Evaluation) -> Iterator[tuple[tuple[object, ...], Counts]]:
    """Voxels behind the numbers, each with a name; what older files do not hold is left out."""
    own = evaluation.own
    for name, counts in (("train_validation", own.train_validation_counts), ("test", own.test_counts)):
        if counts is not None:
            yield ("own", name), counts
    for scores in (evaluation.model, *evaluation.baselines):
        for scan in scores.scans:
            yield (scores.name, scan.case), scan.counts
        for score in scores.slices:
            yield (scores.name, score.case, score.z), score.counts


def _largest(ours: Numbers, theirs: Numbers) -> float:
    """Difference of any two numbers of one name; all of it if one of them is missing."""
    if ours.keys() != theirs.keys():
        return 1.0
    return max((_difference(value, theirs[name]) for name, value in ours.items()), default=0.0)


def _moved(ours: dict[tuple[object, ...], Counts], theirs: dict[tuple[object, ...], Counts]) -> float:
    """Voxels that are counted otherwise, as a share of those that are true or predicted."""
    most = 0.0
    for name in ours.keys() & theirs.keys():
        one, other = ours[name], theirs[name]
        if one != other:
            voxels = max(abs(count - vars(other)[kind]) for kind, count in vars(one).items())
            most = max(most, voxels / max(1, other.tp + other.fp + other.fn))
    return most


def _difference(one: float | None, other: float | None) -> float:
    """Of shares as it is, of larger numbers relative to them; all of it where only one is defined."""
    if one is None or other is None:
        return 0.0 if one is other else 1.0
    return abs(one - other) / max(1.0, abs(one), abs(other))


def _listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
