"""`covseg gain`."""

from __future__ import annotations

import dataclasses

import click

from covseg_core.cli.output import console, json_option, print_json, progress_bar, table
from covseg_core.evaluation import wording
from covseg_core.runs import open_run


@click.command()
@click.argument("run_id", metavar="RUN")
@json_option
def gain(run_id: str, as_json: bool) -> None:
    """Did correcting masks help? RUN, which `covseg train --from` has trained, beside the run that it started from.

    Both are scored on the same test patients, with the masks of the revision that RUN has learned from.
    """
    from covseg_core.evaluation.studies.correction_gain import measure_gain

    with progress_bar("Scoring both", quiet=as_json) as progress:
        found = measure_gain(open_run(run_id), progress)
    if as_json:
        print_json({**dataclasses.asdict(found), "per_minute": found.per_minute, "sentence": found.sentence})
        return
    rows = table("", "run", "Dice, mean over scans", folded=["run"], right=["Dice, mean over scans"])
    for name, run, dice in zip(("before", "after"), (found.before, found.after), found.dice, strict=True):
        rows.add_row(name, run, "none" if dice is None else f"{dice:.4f}")
    console().print(rows)
    click.echo(found.sentence)
    work = found.work
    cases = wording.plural(len(work.cases), "case")
    click.echo(f"{cases} corrected: {work.added:,} voxels added, {work.removed:,} removed, {work.minutes:g} minutes")
    if found.per_minute is not None:
        click.echo(f"{found.per_minute:+.5f} Dice for each minute of correction")
    if found.warning:
        click.echo(f"warning: {found.warning}", err=True)
