"""`covseg shift`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from covseg_core.cli.output import console, json_option, names_option, print_json, progress_bar, table
from covseg_core.evaluation import wording
from covseg_core.runs import open_runs

if TYPE_CHECKING:
    from covseg_core.evaluation.studies.source_drop import Drops
    from covseg_core.evaluation.studies.source_matrix import Cell, Shift


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--dataset", "datasets", metavar="NAME", multiple=True, help="One more dataset; can be given several times."
)
@json_option
@names_option
def shift(run_ids: tuple[str, ...], datasets: tuple[str, ...], as_json: bool, names: bool) -> None:
    """Score each RUN on its own test part, on all of the other runs' datasets, and on each NAME; say how much is lost.

    What was scored before is not scored again. RUN can be an experiment, which stands for all its runs; folds of a
    cross-validation are taken together.
    """
    from covseg_core.evaluation.pseudonymous import pseudonymous_shift
    from covseg_core.evaluation.studies.source_drop import drops_of
    from covseg_core.evaluation.studies.source_matrix import by_model
    from covseg_core.evaluation.studies.source_shift import measure_shift, runs_by_model

    models = runs_by_model([run for id in run_ids for run in open_runs(id)])
    runs = [run for several in models.values() for run in several]
    with progress_bar("Scoring", quiet=as_json) as progress:
        found = by_model(measure_shift(runs, datasets, progress), models)
    drops = drops_of(found, models)
    if as_json:
        print_json({**vars(found if names else pseudonymous_shift(found)), **vars(drops)})
    else:
        _print(found, drops)


def _print(found: Shift, drops: Drops) -> None:
    output = console()
    letters = dict(zip(found.runs, wording.letters(), strict=False))
    rows = table("dataset", "Dice", *letters.values(), right=list(letters.values()))
    for dataset in found.datasets:
        cells = [found.cell(run, dataset) for run in found.runs]
        rows.add_row(dataset, "per scan", *(_mean(cell) for cell in cells))
        rows.add_row(
            "", "pooled", *("" if cell is None else wording.number(cell.pooled_dice, "dice", 3) for cell in cells)
        )
    output.print(rows)
    for run, letter in letters.items():
        output.print(f"- {letter}: {run}", soft_wrap=True)
    for drop in drops.drops:
        output.print(f"- {drop.sentence}", soft_wrap=True)
    for note in drops.notes:
        output.print(f"- {note}", soft_wrap=True)
    output.print("- Per scan: mean ± standard deviation (n); of stacks of unrelated slices, per slice.", soft_wrap=True)
    output.print("- Own: the model's own test part; else all of the dataset.", soft_wrap=True)
    for doubt in found.doubts:
        output.print(f"- {doubt}", soft_wrap=True)


def _mean(cell: Cell | None) -> str:
    if cell is None or cell.dice is None:
        return "none"
    return " ".join([wording.spread(cell.dice, "dice"), f"(n {cell.dice.n})", *cell.marks])
