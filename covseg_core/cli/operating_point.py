"""`covseg operating-point`."""

from __future__ import annotations

import dataclasses

import click

from covseg_core.cli.output import console, json_option, print_json, progress_bar, table
from covseg_core.evaluation import wording
from covseg_core.runs import open_runs


@click.command("operating-point")
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@click.option("--reset", is_flag=True, help="Remove the runs' operating points: back to threshold 0.5.")
@click.option("--few", is_flag=True, help="Also where the validation part has fewer than 5 scans.")
@json_option
def operating_point(run_ids: tuple[str, ...], reset: bool, few: bool, as_json: bool) -> None:
    """Pick the threshold, smallest lesion and peak of each RUN on its validation part, and store them in the run.

    RUN can be an experiment, which stands for all its runs.

    Prediction uses them from then on, unless --threshold, --min-size or --min-peak says otherwise. The test part has no
    say in it.
    """
    from covseg_core.evaluation.stored_predictions.operating_point_search import choose_point, forget_point

    runs = list(dict.fromkeys(run for id in run_ids for run in open_runs(id)))
    if reset:
        removed = [run.id for run in runs if forget_point(run)]
        if as_json:
            print_json({"removed": removed})
        for run in runs if not as_json else []:
            click.echo(f"{run.id}: " + ("back to threshold 0.5" if run.id in removed else "had no operating point"))
        return
    points = {}
    for run in runs:
        with progress_bar(f"Predicting validation, {run.id}", quiet=as_json) as progress:
            points[run.id] = choose_point(run, progress, few)
    if as_json:
        print_json([{"run": id} | dataclasses.asdict(point) for id, point in points.items()])
        return
    numbers = ["threshold", "smallest part", "peak", "at 0.5", "at the point", "scans"]
    rows = table("run", *numbers, folded=["run"], right=numbers)
    for id, point in points.items():
        size = f"{point.minimum:g} {point.unit}"
        scores = f"{point.score_at_half:.4f}", f"{point.score:.4f}"
        rows.add_row(id, f"{point.threshold:g}", size, f"{point.peak:g}", *scores, str(point.scans))
    console().print(rows)
    measures = dict.fromkeys(point.measure for point in points.values())
    click.echo(f"{'; '.join(measures)}. Stored in {wording.plural(len(points), 'run')}; prediction uses it.")
