"""Scores in which cases and patients have pseudonyms: for all that is given away.

The one place that knows where names stand in an evaluation. What is in order of the names is in order of the
pseudonyms then, since an order would tell something about them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.library.pseudonyms import Pseudonyms
from covseg_core.errors import DatasetError
from covseg_core.evaluation.evaluate import NO_SURFACES, UNKNOWN_SIZE
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.scores import Scores
from covseg_core.evaluation.seen import SAME_NAME
from covseg_core.evaluation.significance.verdict import Pair, Verdict
from covseg_core.evaluation.studies.source_matrix import Cell, Shift

_NAMING = re.compile(f"((?:{UNKNOWN_SIZE}|{NO_SURFACES}) |.*{SAME_NAME}: )(.+?)(: .*|\\. If so.*)")
"""A note that may name cases or patients: what stands before, the names, what comes after."""


def pseudonyms_of(scored: Comparison | Cell) -> Pseudonyms:
    """What the cases of the dataset that was scored on are called outside.

    Raises
    ------
    DatasetError : it is gone or has changed: its cases cannot be numbered any more
    """
    fingerprint = scored.fingerprint if isinstance(scored, Cell) else scored.evaluations[0].fingerprint
    dataset = load_dataset(scored.dataset, fingerprint)
    if dataset.fingerprint != fingerprint:
        raise _changed(scored.dataset)
    return Pseudonyms.of(dataset)


def pseudonymous(comparison: Comparison, names: Pseudonyms | None = None) -> Comparison:
    """A comparison as it may be given away.

    Parameters
    ----------
    names : of its dataset, if they are known already

    Raises
    ------
    DatasetError : as `pseudonyms_of`
    """
    names = names or pseudonyms_of(comparison)
    return dataclasses.replace(
        comparison, evaluations=tuple(pseudonymous_evaluation(one, names) for one in comparison.evaluations)
    )


def pseudonymous_evaluation(evaluation: Evaluation, names: Pseudonyms) -> Evaluation:
    """One of its models; raises as `pseudonymous`."""
    if evaluation.fingerprint != names.true_fingerprint:
        raise _changed(evaluation.dataset)
    return dataclasses.replace(
        evaluation,
        fingerprint=names.fingerprint,
        seen_patients=tuple(sorted(map(names.patient, evaluation.seen_patients))),
        model=_scores(evaluation.model, names),
        baselines=tuple(_scores(scores, names) for scores in evaluation.baselines),
        notes=tuple(_note(note, names) for note in evaluation.notes),
        seeds=tuple(dataclasses.replace(seed, model=_scores(seed.model, names)) for seed in evaluation.seeds),
    )


def pseudonymous_verdict(verdict: Verdict, names: Pseudonyms) -> Verdict:
    """The same verdict: computed anew of other names, intervals would differ in their last digits."""
    patients = [names.patient(name) for name in verdict.patients]
    order = sorted(range(len(patients)), key=patients.__getitem__)

    def pair(one: Pair) -> Pair:
        return dataclasses.replace(one, differences=tuple(one.differences[place] for place in order))

    return dataclasses.replace(
        verdict, patients=tuple(patients[place] for place in order), pairs=tuple(map(pair, verdict.pairs))
    )


def pseudonymous_shift(shift: Shift) -> Shift:
    """Models by datasets; each dataset has names of its own. Raises as `pseudonyms_of`."""
    names = {cell.dataset: pseudonyms_of(cell) for cell in shift.cells}
    cells = (_cell(cell, names[cell.dataset]) for cell in shift.cells)
    return dataclasses.replace(shift, cells=tuple(cells))


def _changed(name: str) -> DatasetError:
    return DatasetError(name, "has changed since the evaluation", "the same scans and masks, to number its cases")


def _scores(scores: Scores, names: Pseudonyms) -> Scores:
    scans = (
        dataclasses.replace(scan, case=names.cases[scan.case], patient=names.patient(scan.patient))
        for scan in scores.scans
    )
    slices = (
        dataclasses.replace(one, case=names.cases[one.case], patient=names.patient(one.patient))
        for one in scores.slices
    )
    return dataclasses.replace(
        scores,
        scans=tuple(sorted(scans, key=lambda scan: scan.case)),
        slices=tuple(sorted(slices, key=lambda one: (one.case, one.z))),
    )


def _cell(cell: Cell, names: Pseudonyms) -> Cell:
    def key(name: str) -> str:
        case, _, patient = name.partition(" ")
        return f"{names.cases[case]} {names.patient(patient)}"

    return dataclasses.replace(
        cell,
        fingerprint=names.fingerprint,
        doubts=tuple(_note(doubt, names) for doubt in cell.doubts),
        values=dict(sorted((key(name), value) for name, value in cell.values.items())),
    )


def _note(note: str, names: Pseudonyms) -> str:
    """A sentence with pseudonyms where it lists cases, or patients."""
    found = _NAMING.fullmatch(note)
    if found is None:
        return note
    before, listed, after = found.groups()
    of: Callable[[str], str] = names.patient if SAME_NAME in before else lambda id: names.cases.get(id, id)
    return before + ", ".join(sorted(map(of, listed.split(", ")))) + after
