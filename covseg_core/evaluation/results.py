"""What an evaluation holds: the content of a run's `evaluation.json`."""

from __future__ import annotations

from dataclasses import dataclass

from covseg_core.config import Metric, SplitKind, Target
from covseg_core.evaluation.measures import Counts, EmptyPolicy
from covseg_core.evaluation.scores import Scores

VERSION = 1
THRESHOLD = 0.5
"""Probability from which a voxel belongs to the prediction."""


@dataclass(frozen=True)
class OwnScore:
    """The scores that the thesis reports: in the run's own metric, pooled over slices of the network's size."""

    metric: str
    """`pixel_accuracy`, `iou_foreground` or `dice_foreground`."""
    train_validation: float | None
    """None if the run's own dataset is gone or has changed."""
    test: float
    """On the slices of this evaluation."""
    train_validation_counts: Counts | None = None
    """What the two scores are made of, so that those of several folds can be pooled; None in older files."""
    test_counts: Counts | None = None


@dataclass(frozen=True)
class SeedScores:
    """One of several trainings of a model that differ in their seed."""

    number: int
    """Which one, from 1."""
    run: str
    """Its id; of folds that of all of them together."""
    seed: int
    own: OwnScore
    model: Scores


@dataclass(frozen=True)
class Evaluation:
    """A run, scored on one set of slices, beside the baselines on the same slices."""

    version: int
    created: str
    """ISO 8601, UTC."""
    run: str
    metric: Metric
    model_sha256: str
    """Of the run's `model.onnx`."""
    target: Target
    dataset: str
    fingerprint: str
    """Of the dataset."""
    part: str
    """`test`: the run's test part, or what the test parts of several runs share. `all`: all of another dataset."""
    split: SplitKind
    """How the run's own data were split."""
    leaky: bool
    """A patient of the evaluated slices was seen in training or validation: the scores are too good."""
    seen_patients: tuple[str, ...]
    policy: EmptyPolicy
    threshold: float
    slices: int
    positive_slices: int
    """Slices with at least one true voxel."""
    scans: int
    patients: int
    spacing_known: bool
    """False if the voxel size of any scan is unknown."""
    units: dict[str, str]
    """Of `distance` and `volume`: mm and mL, or px and voxels where the voxel size is unknown."""
    own: OwnScore
    training_seconds: float
    epochs: int
    """Epochs trained."""
    model: Scores
    baselines: tuple[Scores, ...]
    predictions: str | None
    """File in the run's folder with probabilities, (N, S, S) float16, row n for `model.slices[n]`; None if not kept."""
    notes: tuple[str, ...]
    """What a reader has to know, one sentence each."""
    folds: int = 0
    """Runs of a cross-validation that this is merged from, see `merge`; 0 for the evaluation of one run."""
    seeds: tuple[SeedScores, ...] = ()
    """Of a model that was trained several times: each of them. Then all scores above are means over these, and counts
    of voxels are sums."""

    @property
    def key(self) -> tuple[str, ...]:
        """Changes with every evaluation, and not with its policy: what is made of the predictions is kept by it."""
        return self.run, self.created, self.model_sha256, self.dataset, str(self.slices)


@dataclass(frozen=True)
class Comparison:
    """Several runs, scored on the same slices; the n, units and notes stand in each evaluation."""

    dataset: str
    part: str
    leaky: bool
    """For at least one of the runs."""
    evaluations: tuple[Evaluation, ...]

    @property
    def key(self) -> tuple[tuple[str, ...], ...]:
        """Changes with every evaluation, and with the policy: what is made of the scores is kept by it."""
        return tuple((*evaluation.key, evaluation.policy) for evaluation in self.evaluations)

    @property
    def baselines(self) -> tuple[Scores, ...]:
        """The same for all runs."""
        return self.evaluations[0].baselines
