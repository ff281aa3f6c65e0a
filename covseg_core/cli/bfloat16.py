"""`covseg bfloat16`."""

from __future__ import annotations

import dataclasses

import click

from covseg_core.cli.output import console, json_option, print_json, progress_bar, table
from covseg_core.runs import open_runs


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@json_option
def bfloat16(run_ids: tuple[str, ...], as_json: bool) -> int:
    """Compare each RUN with itself in bfloat16 on its validation slices, and store the result in the run.

    RUN can be an experiment, which stands for all its runs. A run that passes can be used with
    `covseg predict --precision bfloat16`, in half the time, on processors with AVX512_BF16 or AMX. Exit code 1 if one
    does not pass.
    """
    from covseg_core.evaluation.stored_predictions.bfloat16_check import check_bfloat16

    checks = {}
    for run in dict.fromkeys(run for id in run_ids for run in open_runs(id)):
        with progress_bar(f"Comparing, {run.id}", quiet=as_json) as progress:
            checks[run.id] = check_bfloat16(run, progress)
    if as_json:
        print_json([{"run": id, "passed": check.passed} | dataclasses.asdict(check) for id, check in checks.items()])
    else:
        numbers = ["masks agree", "Dice in float32", "in bfloat16", "slices"]
        rows = table("run", *numbers, "passed", folded=["run"], right=numbers)
        for id, check in checks.items():
            scores = f"{check.agreement:.4f}", f"{check.score:.4f}", f"{check.score_bfloat16:.4f}"
            rows.add_row(id, *scores, str(check.slices), "yes" if check.passed else "no")
        console().print(rows)
    return int(not all(check.passed for check in checks.values()))
