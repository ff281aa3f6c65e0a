"""`covseg doubts`."""

from __future__ import annotations

import click

from covseg_core.cli.output import console, json_option, print_json, table
from covseg_core.evaluation import wording
from covseg_core.runs import open_runs


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@click.option("--cases", is_flag=True, help="Whole cases instead of slices.")
@click.option("--first", type=click.IntRange(1), default=20, show_default=True, help="So many rows.")
@json_option
def doubts(run_ids: tuple[str, ...], cases: bool, first: int, as_json: bool) -> None:
    """List the masks to look at first: those of which each RUN, which never saw them, is sure of something else.

    RUN can be an experiment, which stands for all its runs; with all folds of a cross-validation every case has its
    turn. The runs must have been evaluated. A mask may be wrong there, or the model: that takes a person to see.
    """
    from covseg_core.evaluation.stored_predictions.doubtful_masks import doubtful_cases, doubts_of

    runs = list(dict.fromkeys(run for id in run_ids for run in open_runs(id)))
    found = doubts_of(runs)
    rows = doubtful_cases(found) if cases else found
    if as_json:
        print_json(rows[:first])
        return
    numbers = ["slice", "agreement", "missing px", "surplus px"]
    lines = table("case", *numbers, folded=["case"], right=numbers)
    for doubt in rows[:first]:
        pixels = f"{doubt.missing:,.0f}", f"{doubt.surplus:,.0f}"
        lines.add_row(doubt.case, str(doubt.z + 1), f"{doubt.agreement:.3f}", *pixels)
    console().print(lines)
    of = wording.plural(len(rows), "case" if cases else "slice")
    click.echo(f"The most doubtful of {of}, by {wording.plural(len(runs), 'model')} that did not learn from them.")
