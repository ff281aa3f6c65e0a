"""`covseg leakage`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from covseg_core.cli.output import console, json_option, print_json, progress_bar, table
from covseg_core.errors import RunError
from covseg_core.evaluation import wording
from covseg_core.runs import open_runs

if TYPE_CHECKING:
    from covseg_core.evaluation.studies.leakage import Interval, Leakage


@click.command()
@click.argument("by_patient", metavar="RUN_BY_PATIENT")
@click.argument("by_slice", metavar="RUN_BY_SLICE")
@json_option
def leakage(by_patient: str, by_slice: str, as_json: bool) -> None:
    """By how much a split by slice raises the scores: two runs, or two experiments, that differ only in their split.

    `covseg train DATASET --metric dice --split both` makes them.
    """
    from covseg_core.evaluation.studies.leakage import by_metric, measure_leakage

    first, second = (by_metric(open_runs(id)) for id in (by_patient, by_slice))
    metrics = [metric for metric in first if metric in second]
    if not metrics and len(first) == len(second) == 1:
        pairs = [(*first.values(), *second.values())]
    else:
        pairs = [(first[metric], second[metric]) for metric in metrics]
    if not pairs:
        raise RunError(
            f"{by_patient} and {by_slice}", "no finished runs of one metric", "one experiment, trained twice"
        )
    found = []
    for one, other in pairs:
        with progress_bar(f"Measuring {one[0].config.metric}", quiet=as_json) as progress:
            found.append(measure_leakage(one, other, progress))
    if as_json:
        print_json(found)
        return
    for result in found:
        _print(result)


def _print(found: Leakage) -> None:
    from covseg_core.evaluation.studies.leakage import ALIKE

    output = console()
    output.print(f"\n[bold]{found.dataset}, {found.metric} model[/bold]")
    rows = table("", "by patient", "by slice", "by slice - by patient", right=["by patient", "by slice"])
    sides = (found.by_patient, found.by_slice)
    for measure in found.gaps:
        gap = found.gaps[measure]
        rows.add_row(
            wording.MEASURES[measure].label,
            *(_range(side.scores[measure]) for side in sides),
            _range(gap, sign=True),
        )
    for label, values in {
        "Similarity to nearest training slice, median": [f"{side.median_similarity:.3f}" for side in sides],
        f"Test slices with similarity above {ALIKE}": [f"{side.share_alike:.0%}" for side in sides],
        "Test slices next to a training slice": [f"{side.share_neighbours:.0%}" for side in sides],
        "n": [f"{wording.plural(side.slices, 'slice')}, {wording.plural(side.patients, 'patient')}" for side in sides],
    }.items():
        rows.add_row(label, *values, "")
    output.print(rows)
    output.print("- Pooled over the test slices; in brackets the 95 % interval, by patient.", soft_wrap=True)
    if not found.paired:
        output.print("- The two tests are not the same slices: with `--folds` they would be, and the gap surer.")
    for difference in found.differences:
        output.print(f"- Beside the split, {difference}", soft_wrap=True)


def _range(score: Interval, sign: bool = False) -> str:
    if score.value is None:
        return "none"
    digits = "+.3f" if sign else ".3f"
    inside = "" if score.low is None else f" [{score.low:{digits}}, {score.high:{digits}}]"
    return f"{score.value:{digits}}{inside}"
