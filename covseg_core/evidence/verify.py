"""Repeat the evaluation in an evidence bundle on the same data, and say whether the numbers are the same.

Nothing is taken from the bundle but models, splits and settings: the scores in it are what is checked, and lie nowhere
where an evaluation could find and believe them.

A bundle is somebody else's. It is unpacked and read in a process with limits of memory and time, its models may hold
nothing but what our export writes, and they are scored in another such process, whose memory follows from the models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from covseg_core.data.library.datasets import Dataset
from covseg_core.data.reading.archives import Limits as Unpacked
from covseg_core.data.reading.archives import extract_zip
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.cross_validation.evaluate import evaluate_each
from covseg_core.evaluation.cross_validation.folds import folds_of
from covseg_core.evaluation.cross_validation.merge import merge
from covseg_core.evaluation.empty_policy import with_policy
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evidence.agreement import RunCheck, Verification, compare
from covseg_core.evidence.bundle import (
    COMPARISON,
    EVALUATION,
    FOLDS_VERSION,
    MANIFEST,
    NAMED_VERSIONS,
    VERSION,
    Manifest,
)
from covseg_core.evidence.recipient import find_data
from covseg_core.files import read_json, safe_name, sha256_file
from covseg_core.isolation import Fault, Limits, isolated, most_memory, size_of
from covseg_core.prediction.case_lungs import find_lungs
from covseg_core.prediction.inference import memory_needed
from covseg_core.prediction.model_file import check_model_file
from covseg_core.progress import Progress
from covseg_core.runs import Run
from covseg_core.temporary import TemporaryFolder

MOST_FILES = 10_000
UNPACKED = (64 * 2**20, 20)
"""Bytes that a bundle may become, and so many more for each byte of it: weights hardly shrink in a zip."""
MEMORY = (900 * 2**20, 16)
"""Bytes of address space in which models are scored: 750 MiB are Python and libraries; and so many more for each voxel
of the largest scan here. What the models take is counted, and no more than a bundle of its size may take."""
WORKERS = 1
"""Batches that a model computes at the same time: each takes memory of its own."""
SECONDS = (120.0, 1e-4)
"""Of processor time in which they are scored, and so many more for each pixel that a model is asked about: some twenty
times what the thesis's network takes."""
WRITTEN = "a bundle as it was written"


@dataclass(frozen=True)
class _Claims:
    """What a bundle says, and what it takes to check that."""

    path: Path
    comparison: Comparison
    runs: tuple[Run, ...]
    stored: dict[str, Evaluation]
    """Run -> its own scores."""
    memory: int
    """Bytes of address space that the models take."""


def verify_bundle(path: Path, progress: Progress | None = None) -> Verification:
    """Check every file of a bundle, find its data here by their hashes, and score its models again.

    Models of folds are scored fold by fold and put together again; each fold's own scores are checked as well.

    Parameters
    ----------
    path : a zip made by `write_bundle`
    progress : called with the slices done and the slices there are

    Raises
    ------
    CovsegError : not a bundle, a file in it is not what the manifest says, it contradicts itself, or a model in it is
        none that covseg exports
    ScanError : reading or scoring it takes more memory or time than it may
    DatasetError : the data are not here, or are not the same
    """
    with TemporaryFolder() as folder:
        try:
            name, limits = str(path), Limits.of(size_of(path))
            claims, dataset = isolated(_read, path, folder / "bundle", named=name, limits=limits)
            for run in claims.runs:  # with our own model of our own data, which need no limits
                find_lungs(dataset, run.config.prepare)
            limits = _scoring_limits(claims, dataset)
            return isolated(_verification, claims, dataset, named=name, limits=limits, progress=progress)
        except Fault as fault:
            last = str(fault).strip().splitlines()[-1]
            raise CovsegError(path, f"cannot be evaluated: {last}", WRITTEN) from None


def _read(path: Path, folder: Path) -> tuple[_Claims, Dataset]:
    """Unpack a bundle and check all of it but its numbers."""
    extract_zip(path, folder, Unpacked(MOST_FILES, UNPACKED[0] + UNPACKED[1] * size_of(path)))
    manifest = _manifest(path, folder)
    _check_files(path, folder, manifest)
    comparison = read_json(folder / COMPARISON, Comparison)
    _check_comparison(path, comparison)
    dataset = find_data(path, manifest.data)
    runs = _open(path, folder, manifest)
    memory = sum(_memory_of_model(path, run) for run in runs)
    return _Claims(path, comparison, runs, _take_scores(runs), memory), dataset


def _verification(claims: _Claims, dataset: Dataset, progress: Progress | None = None) -> Verification:
    """Score the models again."""
    if not claims.comparison.evaluations[0].folds:
        return Verification(dataset.name, _runs(claims, dataset, progress))
    return Verification(dataset.name, _folds(claims, dataset, progress), claims.runs[0].config.split.folds)


def _scoring_limits(claims: _Claims, dataset: Dataset) -> Limits:
    """For these models on these scans."""
    slices = sum(case.slices for case in dataset.cases)
    pixels = sum(slices * run.config.prepare.size**2 for run in claims.runs)
    models = min(MEMORY[0] + claims.memory, Limits.of(size_of(claims.path)).memory)
    voxels = max((math.prod(case.shape) for case in dataset.cases), default=0)
    memory = min(models + MEMORY[1] * voxels, most_memory())
    return Limits(memory, SECONDS[0] + SECONDS[1] * pixels)


def _memory_of_model(path: Path, run: Run) -> int:
    """Bytes of address space; an error names the file in the bundle, not where it was unpacked."""
    try:
        check_model_file(run.onnx)
        return memory_needed(run.onnx, run.config.prepare, WORKERS)
    except RunError as error:
        raise CovsegError(path, f"runs/{run.id}/{run.onnx.name}: {error.found}", error.expected) from None


def _runs(claims: _Claims, dataset: Dataset, progress: Progress | None) -> tuple[RunCheck, ...]:
    """Runs that were compared on one test part."""
    claimed = claims.comparison.evaluations
    _check_names(claims.path, [one.run for one in claimed], [run.id for run in claims.runs])
    found = evaluate_runs(claims.runs, None, claimed[0].policy, progress, WORKERS, dataset)
    checks = []
    for number, (run, one) in enumerate(zip(claims.runs, claimed, strict=True)):
        stored = claims.stored.get(run.id)  # there is none in a bundle whose models were scored without being kept
        own = [] if stored is None else [compare(stored, _under(found, stored, number))]
        checks.append(compare(one, found.evaluations[number], own))
    return tuple(checks)


def _folds(claims: _Claims, dataset: Dataset, progress: Progress | None) -> tuple[RunCheck, ...]:
    """Models of the folds of a cross-validation."""
    claimed = claims.comparison.evaluations
    models = {model.id: model for model in folds_of(claims.runs)}
    _check_names(claims.path, sorted(one.run for one in claimed), sorted(models))
    ordered = [models[one.run] for one in claimed]
    _check_names(claims.path, [run.id for model in ordered for run in model.runs], [run.id for run in claims.runs])
    _check_tested_once(claims.path, ordered[0])
    parts = evaluate_each(ordered, claimed[0].policy, progress, WORKERS, dataset)
    found = merge(ordered, parts)
    checks = []
    for number, (model, one) in enumerate(zip(ordered, claimed, strict=True)):
        each = []
        for run, part in zip(model.runs, parts, strict=True):
            stored = claims.stored.get(run.id)
            if stored is None:
                raise CovsegError(claims.path, f"lacks runs/{run.id}/{EVALUATION}", "the scores of every fold")
            each.append(compare(stored, _under(part, stored, number), fold=run.config.split.fold))
        checks.append(compare(one, found.evaluations[number], each))
    return tuple(checks)


def _under(found: Comparison, claimed: Evaluation, number: int) -> Evaluation:
    """One of the evaluations, under the policy that the claim was made under."""
    return with_policy(found, claimed.policy).evaluations[number]


def _manifest(path: Path, folder: Path) -> Manifest:
    """The manifest; its version is looked at first, since that of a later one may hold anything."""
    version = read_json(folder / MANIFEST, dict).get("version")
    if version not in (*NAMED_VERSIONS, VERSION, FOLDS_VERSION):
        raise CovsegError(path, f"bundle of version {version}", f"a version up to {FOLDS_VERSION}")
    return read_json(folder / MANIFEST, Manifest)


def _check_files(path: Path, folder: Path, manifest: Manifest) -> None:
    there = {str(file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file()} - {MANIFEST}
    if missing := sorted(manifest.files.keys() - there):
        raise CovsegError(path, f"lacks {missing[0]}", "a whole bundle")
    if added := sorted(there - manifest.files.keys()):
        raise CovsegError(path, f"{added[0]} is not in its manifest", WRITTEN)
    for name, digest in manifest.files.items():
        if sha256_file(folder / name) != digest:
            raise CovsegError(path, f"{name} was changed", WRITTEN)


def _check_comparison(path: Path, comparison: Comparison) -> None:
    """Its head, from which tables say what they are of, is no more than what its models say."""
    models = comparison.evaluations
    if not models:
        raise CovsegError(path, f"{COMPARISON} is of no model", WRITTEN)
    head = (comparison.dataset, comparison.part, comparison.leaky)
    if head != (models[0].dataset, models[0].part, any(one.leaky for one in models)):
        raise CovsegError(path, f"{COMPARISON} contradicts its models in dataset, part or leaks", WRITTEN)


def _open(path: Path, folder: Path, manifest: Manifest) -> tuple[Run, ...]:
    """Its runs, all made from the data that the manifest names."""
    runs = tuple(Run(folder / "runs" / safe_name(id, "run")) for id in manifest.runs)
    for run in runs:
        config = run.config
        if (config.dataset, config.fingerprint) != (manifest.data.name, manifest.data.fingerprint):
            raise CovsegError(path, f"run {run.id} is of other data than its manifest names", WRITTEN)
    return runs


def _take_scores(runs: Sequence[Run]) -> dict[str, Evaluation]:
    """Read and remove the evaluation in each run's folder, which would be believed otherwise."""
    found = {}
    for run in runs:
        if run.evaluation.exists():
            found[run.id] = read_json(run.evaluation, Evaluation)
            run.evaluation.unlink()
    return found


def _check_names(path: Path, claimed: list[str], there: list[str]) -> None:
    if claimed != there:
        raise CovsegError(path, f"{COMPARISON} is of {', '.join(claimed)}", f"its models: {', '.join(there)}")


def _check_tested_once(path: Path, model: Model) -> None:
    """A slice that several folds test would count as often."""
    tests = [{(id, z) for id, zs in run.split.test.items() for z in zs} for run in model.runs]
    if sum(map(len, tests)) != len(set().union(*tests)):
        raise CovsegError(path, f"folds of {model.id} test the same slices", "every slice in the test of one fold")
