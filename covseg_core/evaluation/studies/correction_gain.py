"""Did correcting masks help? A run before and after, on the same test patients, and what it took.

The run after started from the weights of the run before and learned from a later revision of its dataset. Both are
scored on the masks of that revision. A test mask that somebody changed after the run before was trained may have been
changed towards what that run says, so that it tests neither honestly: the gain then says which masks these are.
"""

from __future__ import annotations

from dataclasses import dataclass

from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.library.revision import Revision
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.significance.verdict import Pair, verdict
from covseg_core.files import cached_sha256, read_json, write_json
from covseg_core.progress import Progress
from covseg_core.runs import Run, open_run

FILE = "gain.json"
"""In the folder of the run after."""


@dataclass(frozen=True)
class Work:
    """What was corrected between two revisions, in cases that the run after has learned from."""

    cases: tuple[str, ...]
    minutes: float
    """As those who corrected said; 0 if nobody did."""
    added: int
    """Voxels."""
    removed: int


@dataclass(frozen=True)
class Gain:
    """What correction and further training have changed."""

    before: str
    """Run id."""
    after: str
    data: str
    """Dataset and revision whose masks both are scored on: `NAME@3`."""
    model_sha256: tuple[str, str]
    """Of the run before and the run after."""
    dice: tuple[float | None, float | None]
    """Mean over test scans, before and after."""
    pair: Pair
    """Dice by patient, after minus before."""
    work: Work
    doubtful: tuple[str, ...]
    """Test cases whose masks were changed after the run before was made."""

    @property
    def difference(self) -> float | None:
        """Mean over patients of the Dice after minus that before; None where it is undefined."""
        return self.pair.difference

    @property
    def per_minute(self) -> float | None:
        """Dice gained by a minute of work; None if no minutes are known."""
        if self.difference is None or not self.work.minutes:
            return None
        return self.difference / self.work.minutes

    @property
    def sentence(self) -> str:
        """The answer, as far as the test tells."""
        pair = self.pair
        if pair.same:
            return "No: both runs mark the same on every test slice."
        if pair.difference is None:
            return "It cannot be said: Dice is undefined for every test patient."
        by = f"{abs(pair.difference):.3f}"
        edges = ""
        if pair.low is not None and pair.high is not None:
            edges = f" (95 % interval {pair.low:+z.3f} to {pair.high:+z.3f})"
        if not pair.better:
            way = "better" if pair.difference >= 0 else "worse"
            return f"It cannot be told from chance: the run after is {way} by {by} Dice{edges}."
        answer, way = ("Yes", "better") if pair.better == pair.first else ("No", "worse")
        return f"{answer}: the run after is {way} by {by} Dice{edges}."

    @property
    def warning(self) -> str:
        """What makes the answer less than honest; empty if nothing does."""
        if not self.doubtful:
            return ""
        names = ", ".join(self.doubtful[:3]) + (f" and {len(self.doubtful) - 3} more" if len(self.doubtful) > 3 else "")
        return (
            f"The masks of {len(self.doubtful)} test case{'s' * (len(self.doubtful) > 1)} ({names}) were changed after "
            f"{self.before} was trained, perhaps towards what it says. They no longer test it honestly."
        )


def measure_gain(run: Run, progress: Progress | None = None) -> Gain:
    """Score a run that was trained from another one, and that other one, on the same test patients.

    The result is kept in the run's folder.

    Raises
    ------
    RunError : the run was not trained from another one, that one is gone or learned from other data; or as
        `evaluate_runs`
    DatasetError : the dataset is gone, or has not the revision any more that the run names
    """
    before = _before(run)
    dataset = load_dataset(run.config.data)
    # the run after comes first: the verdict's differences are first minus second
    found = evaluate_runs([run, before], dataset.reference, progress=progress)
    [pair] = verdict(found).pairs
    tested = {score.case for score in found.evaluations[0].model.slices}
    corrected = _corrected(dataset, before.config.revision)
    after, earlier = (evaluation.model.over_scans["dice"].mean for evaluation in found.evaluations)
    gain = Gain(
        before.id,
        run.id,
        dataset.reference,
        (cached_sha256(before.onnx), cached_sha256(run.onnx)),
        (earlier, after),
        pair,
        _work(run, corrected),
        tuple(case.id for case, _ in corrected if case.id in tested),
    )
    write_json(run.folder / FILE, gain)
    return gain


def stored_gain(run: Run) -> Gain | None:
    """What was measured before, if it is of these very models."""
    try:
        found, before = read_json(run.folder / FILE, Gain), open_run(run.config.parent)
        now = cached_sha256(before.onnx), cached_sha256(run.onnx)
    except (CovsegError, OSError):
        return None
    return found if (found.model_sha256, found.data) == (now, run.config.data) else None


def _before(run: Run) -> Run:
    config = run.config
    if not config.parent:
        raise RunError(run.id, "was not trained from another run", "one of `covseg train NAME --from RUN`")
    before = open_run(config.parent)
    if before.config.dataset != config.dataset:
        found = f"learned from {config.data}, {before.id} from {before.config.data}"
        raise RunError(run.id, found, "revisions of one dataset")
    return before


def _corrected(dataset: Dataset, since: int) -> list[tuple[Case, list[Revision]]]:
    """Cases with infection masks that are newer than a revision of the dataset."""
    newer = [
        (case, [one for one in case.revisions if one.role == "infection" and one.number > since and one.parent])
        for case in dataset.cases
    ]
    return [(case, revisions) for case, revisions in newer if revisions]


def _work(run: Run, corrected: list[tuple[Case, list[Revision]]]) -> Work:
    split = run.split
    learned = [(case, each) for case, each in corrected if case.id in split.train or case.id in split.validation]
    revisions = [one for _, each in learned for one in each]
    return Work(
        tuple(case.id for case, _ in learned),
        sum(one.minutes for one in revisions),
        sum(one.added for one in revisions),
        sum(one.removed for one in revisions),
    )
