"""Ask ensembles about scans that no member was trained on, and learn what their agreement says of their Dice.

The masks are those that `predict` makes of the same file, by the same call, so that what is learned holds for it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.reading.volumes import load_mask
from covseg_core.errors import DatasetError, RunError, ScanError
from covseg_core.evaluation.expected_quality.ensembles import Ensemble, check_ensembles, names_of
from covseg_core.evaluation.expected_quality.relation import (
    FEWEST_PATIENTS,
    LEVEL,
    covered,
    fit,
    left_out,
    margin,
    mean_distance,
    mean_of_others,
    sample_of,
    tells_something,
)
from covseg_core.evaluation.measures import count, overlap
from covseg_core.evaluation.seen import Seen, Standing
from covseg_core.files import cached_sha256
from covseg_core.prediction.ask import OpenModel
from covseg_core.prediction.decide import COMBINED, Prediction
from covseg_core.prediction.engines import Precision
from covseg_core.prediction.expected_dice import EMPTY, VERSION, KnownScan, Part, Quality, Way, keep_quality, member_of
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.masks.agreement import agreement
from covseg_core.prediction.predict import predict_scan
from covseg_core.prediction.request import asked_for
from covseg_core.prediction.scan import read_scan
from covseg_core.progress import Progress, part_of
from covseg_core.runs import Run

_ORDER: dict[Standing, Part | None] = {
    "trained": None,
    "left out": None,
    "validation": "validation",
    "test": "test",
    "new": "new",
}
"""What a case is to an ensemble: the first of these that it is to any member; None where it cannot be used."""


@dataclass(frozen=True)
class _Unseen:
    """A case, and an ensemble that was not trained on it."""

    case: Case
    members: Ensemble
    part: Part


def measure_quality(
    ensembles: Sequence[Ensemble], dataset_name: str | None = None, progress: Progress | None = None
) -> Quality:
    """Learn the relation of agreement to Dice, and keep it with the ensembles for predictions to come.

    Used are all cases that no member was trained on: test and validation cases of the runs' own dataset, as its masks
    are now, and cases that came to it later; of another dataset all that are of other patients. A case counts once: by
    the ensemble that tests it, else by one that validated on it.

    Parameters
    ----------
    ensembles : one; or one for each fold of a cross-validation, which learn together. At least five runs each
    dataset_name : another dataset than the runs' own
    progress : called with the slices done, over all members, and those there are

    Returns
    -------
    quality : where it is refused because agreement tells nothing about Dice, that is what it says, and it is kept, too

    Raises
    ------
    RunError : as `check_ensembles`; a run without a usable model; or too few patients that no member was trained on
    DatasetError : the dataset is not there, or has no mask of the target
    """
    check_ensembles(ensembles)
    config = ensembles[0][0].config
    dataset = load_dataset(dataset_name or config.dataset)
    chosen = _unseen(ensembles, dataset)
    patients = {one.case.patient for one in chosen}
    if len(patients) < FEWEST_PATIENTS:
        raise _too_few(ensembles, dataset, len(patients))
    scans, notes = _asked(chosen, dataset, progress)
    lungs = asked_for(ensembles[0]).lungs
    quality = Quality(
        version=VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        target=config.target,
        ensembles=tuple(tuple(member_of(run) for run in members) for members in ensembles),
        dataset=dataset.reference,
        fingerprint=dataset.fingerprint,
        way=Way(lungs_sha256=cached_sha256(lungs.onnx) if lungs else ""),
        scans=tuple(scans),
        refused="",
        level=LEVEL,
        notes=tuple(notes),
    )
    quality = related(quality)
    keep_quality(ensembles, quality)
    return quality


def related(quality: Quality) -> Quality:
    """With what its scans tell, or why they tell nothing."""
    patients = quality.patients
    if patients < FEWEST_PATIENTS:
        found = (
            f"masks of {patients} patient{'s' * (patients != 1)} are known, and at least {FEWEST_PATIENTS} are needed"
        )
        return replace(quality, refused=found)
    sample = sample_of(quality.scans)
    expected = left_out(sample)
    error, of_mean = (mean_distance(sample, found) for found in (expected, mean_of_others(sample)))
    scans = tuple(replace(scan, expected=float(dice)) for scan, dice in zip(quality.scans, expected, strict=True))
    quality = replace(quality, scans=scans, error=error, error_of_mean=of_mean)
    if not tells_something(sample, expected):
        return replace(
            quality,
            refused=f"how far these models agree says no more about Dice than the mean of {patients} patients does",
        )
    relation = fit(sample)
    return replace(
        quality,
        agreement=tuple(relation.agreement.tolist()),
        dice=tuple(relation.dice.tolist()),
        margin=margin(np.abs(sample.dice - expected), sample),
        coverage=covered(sample),
    )


def _unseen(ensembles: Sequence[Ensemble], dataset: Dataset) -> list[_Unseen]:
    """Cases by the ensemble that is asked about them, so that each ensemble's models are opened once."""
    target = ensembles[0][0].config.target
    cases = [case for case in dataset.cases if target in case.files]
    if not cases:
        raise DatasetError(dataset.name, f"no case has a mask of the {target}", "at least one")
    seen = [[Seen(run, dataset) for run in members] for members in ensembles]
    found: list[tuple[int, _Unseen]] = []
    for case in sorted(cases, key=lambda case: case.id):
        if case.stacked:  # unrelated slices: no scan
            continue
        parts = [_part(case, each) for each in seen]
        best = next((part for part in ("test", "validation", "new") if part in parts), None)
        if best is None:
            continue
        # of several that never saw it, as on another dataset, each takes its turn
        able = [number for number, part in enumerate(parts) if part == best]
        number = able[len(found) % len(able)]
        found.append((number, _Unseen(case, ensembles[number], best)))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _part(case: Case, members: Sequence[Seen]) -> Part | None:
    standings = {one.standing(case) for one in members}
    return _ORDER[next(standing for standing in _ORDER if standing in standings)]


def _asked(chosen: Sequence[_Unseen], dataset: Dataset, progress: Progress | None) -> tuple[list[KnownScan], list[str]]:
    """What is known of each case, and notes on those that cannot be used."""
    scans: list[KnownScan] = []
    left_out: dict[str, list[str]] = {}
    # models of one ensemble, and the lung model, from scan to scan
    open_model = functools.lru_cache(max(len(one.members) for one in chosen) + 1)(_opened)
    sizes = [one.case.slices * len(one.members) for one in chosen]
    for number, one in enumerate(chosen):
        advance = part_of(progress, sum(sizes[:number]), sizes[number], sum(sizes))
        try:
            made = _predicted(one, dataset, advance, open_model)
        except ScanError as error:
            left_out.setdefault(error.found, []).append(one.case.id)
            continue
        if made.report.mask.voxels:
            scans.append(_known(one, dataset, made))
        else:
            left_out.setdefault(EMPTY, []).append(one.case.id)
    return scans, [f"Left out: {', '.join(ids)}: {reason}." for reason, ids in left_out.items()]


def _predicted(one: _Unseen, dataset: Dataset, progress: Progress | None, open_model: OpenModel) -> Prediction:
    """As `predict` does by default."""
    request = asked_for(one.members)
    scan = read_scan(dataset.path(one.case, "scan"), one.case.scale)
    return predict_scan(scan, request, progress=progress, open_model=open_model)


def _opened(run: Run, precision: Precision) -> Segmenter:
    return Segmenter(run, precision=precision)


def _known(one: _Unseen, dataset: Dataset, made: Prediction) -> KnownScan:
    target = made.report.target
    labels = one.case.labels if target == "infection" else None
    truth = load_mask(dataset.path(one.case, target), labels, made.scan.geometry).voxels
    agreed = agreement(mask for run, mask in made.packed.items() if run != COMBINED)
    assert agreed is not None  # an ensemble has several members
    dice = overlap(count(truth, made.mask), "one")["dice"]
    return KnownScan(one.case.id, one.case.patient, one.part, agreed, dice)


def _too_few(ensembles: Sequence[Ensemble], dataset: Dataset, patients: int) -> RunError:
    runs = [run for members in ensembles for run in members]
    people = "1 patient" if patients == 1 else f"{patients} patients"
    why = ["stacks of unrelated slices are no scans"] if any(case.stacked for case in dataset.cases) else []
    if dataset.name != runs[0].config.dataset:
        why.append("names that they have learned from are taken for the same people")
    but = f" ({'; '.join(why)})" if why else ""
    return RunError(
        names_of(runs),
        f"{people} of {dataset.name} with whom none of them was trained{but}",
        f"at least {FEWEST_PATIENTS}: a cross-validation (`--folds`), or `--dataset`",
    )
