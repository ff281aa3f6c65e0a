"""`covseg bundle` and `covseg verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from covseg_core.cli.output import console, json_option, print_json, progress_bar, table
from covseg_core.evaluation import wording
from covseg_core.runs import open_runs


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--output", metavar="ZIP", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write."
)
@json_option
def bundle(run_ids: tuple[str, ...], output: Path, as_json: bool) -> None:
    """Score each RUN on its test part and put the evidence into one zip.

    RUN can be an experiment, which stands for all its runs. Folds of a cross-validation are taken together; of several
    seeds give the runs of one.
    Settings, split, hashes of the data, software, weights, tables and figures; no image or mask of a patient, and no
    name: cases are called case-001 and so on.
    """
    from covseg_core.evaluation.comparison import evaluate, models_of
    from covseg_core.evidence.bundle import check_seeds, write_bundle

    runs = list(dict.fromkeys(run for id in run_ids for run in open_runs(id)))
    models = models_of(runs)
    check_seeds(models)  # before minutes are spent
    with progress_bar("Evaluating", quiet=as_json) as progress:
        comparison = evaluate(runs, progress=progress)
    manifest = write_bundle(models, comparison, output)
    if as_json:
        print_json(manifest)
        return
    size = output.stat().st_size / 1e6
    console().print(f"{output}: {len(manifest.files)} files, {size:.1f} MB", soft_wrap=True)
    if comparison.evaluations[0].folds:
        console().print(comparison.evaluations[0].notes[0], soft_wrap=True)


@click.command()
@click.argument("path", metavar="ZIP", type=click.Path(path_type=Path))
@json_option
def verify(path: Path, as_json: bool) -> None:
    """Repeat the evaluation in a bundle on the same data, and say whether the numbers are the same.

    Of a cross-validation each fold is checked, and all of them together. The scans and masks have to be
    imported, under any names. Exit code 0 if the numbers agree, else 1.
    """
    from covseg_core.evidence.verify import verify_bundle

    with progress_bar("Evaluating", quiet=as_json) as progress:
        result = verify_bundle(path, progress)
    if as_json:
        print_json({"same": result.same, "agrees": result.agrees, "sentence": result.sentence, "runs": result.runs})
    else:
        rows = table(
            "run", "pooled Dice in the bundle", "now", "differing slices", "largest difference", "result",
            folded=["run", "result"],
        )  # fmt: skip
        for check in result.runs:
            # of a run by itself the table has one row, unless its own file says something else
            for one in (check, *(part for part in check.stored if part.fold or not part.agrees)):
                name = f"  fold {one.fold}" if one.fold else one.run if one is check else "  evaluation.json"
                dice = (wording.number(value, "dice", 4) or "undefined" for value in (one.claimed_dice, one.dice))
                counts = f"{one.differing_slices} of {one.slices}"
                rows.add_row(name, *dice, counts, f"{one.largest_difference:.1e}", one.result)
        output = console()
        output.print(rows)
        output.print(result.sentence, soft_wrap=True)
    sys.exit(0 if result.agrees else 1)
