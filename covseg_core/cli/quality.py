"""`covseg quality`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from covseg_core.cli.output import console, json_option, print_json, progress_bar, table
from covseg_core.errors import RunError
from covseg_core.runs import open_runs

if TYPE_CHECKING:
    from covseg_core.evaluation.expected_quality.ensembles import Ensemble
    from covseg_core.prediction.expected_dice import Quality


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@click.option("--dataset", help="Learn from the scans of another dataset than the runs' own.")
@json_option
def quality(run_ids: tuple[str, ...], dataset: str | None, as_json: bool) -> None:
    """Learn what Dice to expect of masks by an ensemble of models, from how far its members agree.

    RUN is an experiment with seeds: the seeds of each metric are an ensemble. Or several runs, at least five, which
    together are one. They are asked about scans with masks that none of them was trained on; `covseg predict` with
    exactly these models then says which Dice to expect.
    """
    from covseg_core.evaluation.expected_quality import measure_quality

    found = {}
    for name, ensembles in _ensembles(run_ids).items():
        with progress_bar(f"Asking {name}", quiet=as_json) as progress:
            found[name] = measure_quality(ensembles, dataset, progress)
    if as_json:
        print_json([{"name": name, **_figures(one)} for name, one in found.items()])
        return
    for name, one in found.items():
        _print(name, one)


def _ensembles(ids: Sequence[str]) -> dict[str, list[Ensemble]]:
    """By their name: those of an experiment, or all runs as one."""
    from covseg_core.evaluation.expected_quality import ensembles_of, names_of
    from covseg_core.evaluation.grouping import finished_models

    runs = list(dict.fromkeys(run for id in ids for run in open_runs(id)))
    if len(ids) > 1:
        return {names_of(runs): [tuple(runs)]}
    models = finished_models(runs)
    if not models:
        raise RunError(ids[0], "no seed is finished for all models", "at least five seeds: `covseg runs list`")
    return {model.id: ensembles_of(model) for model in models}


def _print(name: str, found: Quality) -> None:
    from covseg_core.evaluation.expected_quality import wording
    from covseg_core.evaluation.expected_quality.risk_coverage import risk_coverage

    output = console()
    members = " + ".join(str(len(each)) for each in found.ensembles)
    output.print(f"\n[bold]{name}[/bold]: {members} members", soft_wrap=True)
    for line in (wording.basis(found), wording.caution(found), wording.verdict(found), *found.notes):
        if line:
            click.echo(line)
    curve = None if found.refused else risk_coverage(found.scans)
    if curve is None:
        return
    heads = ["reviewed", "kept, by expected Dice", "at random", "by true Dice"]
    rows = table(*heads, right=heads)
    for share, expected, ideal in curve.rows():
        rows.add_row(f"{share:.0%}", f"{expected:.3f}", f"{curve.random:.3f}", f"{ideal:.3f}")
    click.echo("Mean Dice of the scans that are kept, when those with the lowest go to review:")
    output.print(rows)
    click.echo(wording.worth(curve))


def _figures(found: Quality) -> dict[str, object]:
    """Without the names of cases and patients, who are numbers."""
    from covseg_core.evaluation.expected_quality.risk_coverage import risk_coverage

    number = {patient: place for place, patient in enumerate(dict.fromkeys(one.patient for one in found.scans), 1)}
    scans = [
        {"patient": number[one.patient]} | {name: value for name, value in vars(one).items() if name not in _NAMES}
        for one in found.scans
    ]
    curve = risk_coverage(found.scans)
    more = {"risk_coverage": curve, "gain": curve.gain if curve else None}
    return {
        **{name: value for name, value in vars(found).items() if name not in ("scans", "notes")},
        **more,
        "scans": scans,
    }


_NAMES = ("case", "patient")
