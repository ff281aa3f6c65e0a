"""Repeat the evaluation in an evidence bundle on the same data, and say whether the numbers are the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from covseg_core.data.archives import Limits, extract_zip
from covseg_core.data.datasets import Dataset, list_datasets, load_dataset
from covseg_core.errors import CovsegError, DatasetError
from covseg_core.evaluation.bundle import COMPARISON, MANIFEST, VERSION, Data, Manifest
from covseg_core.evaluation.evaluate import Progress, evaluate_runs
from covseg_core.evaluation.result import Comparison, Evaluation
from covseg_core.evaluation.scores import Scores
from covseg_core.files import read_json, sha256_file
from covseg_core.runs import Run

LIMITS = Limits(files=10_000, bytes=8 * 2**30)
ROUNDING = 1e-3
"""Shares that differ by less agree: other processors round otherwise, which can move single voxels at the border."""


@dataclass(frozen=True)
class RunCheck:
    """How a model's numbers came out the second time."""

    run: str
    same: bool
    """Every voxel count of every slice is equal."""
    slices: int
    differing_slices: int
    dice: float | None
    """Pooled, now."""
    claimed_dice: float | None
    """Pooled, in the bundle."""
    largest_difference: float
    """Of any share, distance or volume, of any slice, scan, mean or pooled, baselines included; of the last two
    relative to the larger value."""

    @property
    def agrees(self) -> bool:
        """Whether any difference is within rounding."""
        return self.same or self.largest_difference <= ROUNDING


@dataclass(frozen=True)
class Verification:
    """What came out."""

    dataset: str
    runs: tuple[RunCheck, ...]

    @property
    def same(self) -> bool:
        return all(check.same for check in self.runs)

    @property
    def agrees(self) -> bool:
        return all(check.agrees for check in self.runs)

    @property
    def sentence(self) -> str:
        """The result in plain words."""
        slices, models = self.runs[0].slices, len(self.runs)
        what = f"{models} model{'s' * (models > 1)} on {slices:,} slices"
        if self.same:
            return f"The numbers are the same: {what}, every voxel count equal."
        most = max(check.largest_difference for check in self.runs)
        if self.agrees:
            return f"The numbers agree within rounding: {what}, largest difference {most:.1e}."
        wrong = ", ".join(check.run for check in self.runs if not check.agrees)
        return f"The numbers are NOT the same: {wrong} differ{'s' * (wrong.count(',') == 0)} by up to {most:.3g}."


def verify_bundle(path: Path, progress: Progress | None = None) -> Verification:
    """Check every file of a bundle, find its data here by their hashes, and score its models again.

    Parameters
    ----------
    path : a zip made by `write_bundle`
    progress : called with the slices done and the slices there are

    Raises
    ------
    CovsegError : not a bundle, a file in it is not what the manifest says
    DatasetError : the data are not here, or are not the same
    """
    with tempfile.TemporaryDirectory(prefix="covseg-verify-") as temporary:
        folder = Path(temporary) / "bundle"
        extract_zip(path, folder, LIMITS)
        manifest = read_json(folder / MANIFEST, Manifest)
        _check_files(path, folder, manifest)
        claimed = read_json(folder / COMPARISON, Comparison)
        dataset = find_data(path, manifest.data)
        runs = [Run(folder / "runs" / id) for id in manifest.runs]
        _forget_scores(runs)
        policy = claimed.evaluations[0].policy
        found = evaluate_runs(runs, None, policy, progress)
        pairs = zip(claimed.evaluations, found.evaluations, strict=True)
        return Verification(dataset.name, tuple(_compare(*pair) for pair in pairs))


def find_data(path: Path, data: Data) -> Dataset:
    """The dataset here whose files are those of the bundle.

    Raises
    ------
    DatasetError : none is; says what is missing
    """
    if data.name not in list_datasets():
        found = f"was made from dataset {data.name}, which is not here"
        raise DatasetError(path, found, f"its {len(data.cases)} cases, imported as {data.name} by `covseg data add`")
    dataset = load_dataset(data.name)
    if dataset.fingerprint != data.fingerprint:
        here = {case.id: dict(case.sha256) for case in dataset.cases}
        other = [id for id, files in data.cases.items() if here.get(id) != files]
        what = (
            f"{', '.join(other[:3])}{' and others' * (len(other) > 3)} differ" if other else "labels or scales differ"
        )
        raise DatasetError(path, f"dataset {data.name} here is not the bundle's: {what}", "the same scans and masks")
    return dataset


def _check_files(path: Path, folder: Path, manifest: Manifest) -> None:
    if manifest.version != VERSION:
        raise CovsegError(path, f"bundle of version {manifest.version}", f"version {VERSION}")
    there = {str(file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file()} - {MANIFEST}
    if missing := sorted(manifest.files.keys() - there):
        raise CovsegError(path, f"lacks {missing[0]}", "a whole bundle")
    if added := sorted(there - manifest.files.keys()):
        raise CovsegError(path, f"{added[0]} is not in its manifest", "a bundle as it was written")
    for name, digest in manifest.files.items():
        if sha256_file(folder / name) != digest:
            raise CovsegError(path, f"{name} was changed", "a bundle as it was written")


def _forget_scores(runs: Sequence[Run]) -> None:
    """An evaluation that lies in a run's folder would be believed for training and validation."""
    for run in runs:
        run.evaluation.unlink(missing_ok=True)


def _compare(claimed: Evaluation, found: Evaluation) -> RunCheck:
    pairs = list(zip(claimed.model.slices, found.model.slices, strict=False))
    differing = sum((one.case, one.z, one.counts) != (other.case, other.z, other.counts) for one, other in pairs)
    differing += abs(len(claimed.model.slices) - len(found.model.slices))
    ours, theirs = list(_numbers(claimed)), list(_numbers(found))
    largest = max((_difference(*pair) for pair in zip(ours, theirs, strict=False)), default=0.0)
    if len(ours) != len(theirs):
        largest = 1.0
    same = not differing and largest < 1e-9
    return RunCheck(
        claimed.run, same, len(claimed.model.slices), differing, found.model.pooled["dice"],
        claimed.model.pooled["dice"], largest,
    )  # fmt: skip


def _numbers(evaluation: Evaluation) -> Iterator[float | None]:
    """Every score of a model and its baselines, in one order."""
    yield evaluation.own.test
    for scores in (evaluation.model, *evaluation.baselines):
        yield from _scores(scores)


def _scores(scores: Scores) -> Iterator[float | None]:
    yield from scores.pooled.values()
    for summaries in (scores.over_scans, scores.over_slices):
        for name in sorted(summaries):
            yield from (summaries[name].mean, summaries[name].std, float(summaries[name].n))
    for rows in (scores.scans, scores.slices):
        for row in rows:
            yield from row.values.values()


def _difference(one: float | None, other: float | None) -> float:
    """Of shares as it is, of larger numbers relative to them; all of it where only one is defined."""
    if one is None or other is None:
        return 0.0 if one is other else 1.0
    return abs(one - other) / max(1.0, abs(one), abs(other))
