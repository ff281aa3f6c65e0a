"""`covseg evaluate`."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, get_args

import click

from covseg_core.cli.output import console, json_option, print_json, progress_bar, table
from covseg_core.evaluation.measures import MEASURES, EmptyPolicy
from covseg_core.runs import open_run

if TYPE_CHECKING:
    from rich.table import Table

    from covseg_core.evaluation.result import Comparison, Evaluation
    from covseg_core.evaluation.scores import Scores


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@click.option("--dataset", metavar="NAME", help="Score on all of another dataset instead of the runs' test part.")
@click.option(
    "--empty",
    type=click.Choice(get_args(EmptyPolicy)),
    default="nan",
    show_default=True,
    help="What a measure is worth where truth and prediction are both empty: left out of means, or 1.",
)
@json_option
def evaluate(run_ids: tuple[str, ...], dataset: str | None, empty: EmptyPolicy, as_json: bool) -> None:
    """Score each RUN with every measure on the same test cases, beside the trivial baselines.

    docs/metrics.md defines the measures.
    """
    from covseg_core.evaluation.evaluate import evaluate_runs

    with progress_bar("Evaluating", quiet=as_json) as progress:
        comparison = evaluate_runs([open_run(id) for id in run_ids], dataset, empty, progress)
    if as_json:
        print_json(comparison)
    else:
        _print(comparison)


def _print(comparison: Comparison) -> None:
    """The thesis's table, then one yardstick for all: pooled, and per scan with its spread."""
    first, output = comparison.evaluations[0], console()
    output.print(_header(comparison, first), soft_wrap=True)
    output.print("\n[bold]Each in its own metric[/bold] (different metrics: not a ranking)")
    output.print(_own_table(comparison.evaluations))
    columns = {
        f"{letter} {evaluation.metric}": evaluation.model
        for letter, evaluation in zip(_letters(), comparison.evaluations, strict=False)
    } | {scores.name: scores for scores in comparison.baselines}
    output.print(f"\n[bold]Pooled over {first.slices} slices[/bold]")
    output.print(_table(columns, _pooled, first.units))
    output.print(f"\n[bold]Mean over {first.scans} scans ± standard deviation[/bold]")
    output.print(_table(columns, _over_scans, first.units))
    if same := _same_models(comparison.evaluations):
        output.print(f"- {same}", soft_wrap=True)
    for scores in comparison.baselines:
        output.print(f"- Baseline {scores.name}: {scores.description}.", soft_wrap=True)
    for note in dict.fromkeys(note for evaluation in comparison.evaluations for note in evaluation.notes):
        output.print(f"- {note}", soft_wrap=True)


def _same_models(evaluations: Sequence[Evaluation]) -> str:
    """A sentence on models that predict the same, since a reader would take it for a mistake of the table."""
    groups: dict[tuple[float | None, ...], list[str]] = {}
    for letter, evaluation in zip(_letters(), evaluations, strict=False):
        groups.setdefault(tuple(evaluation.model.pooled.values()), []).append(letter)
    same = ["".join(letters) for letters in groups.values() if len(letters) > 1]
    if not same:
        return ""
    return (
        f"{' and '.join(', '.join(letters) for letters in same)} predict the same: runs of one loss and one seed train "
        "alike, and the metric only picks their best epoch."
    )


def _header(comparison: Comparison, first: Evaluation) -> str:
    part = "test part" if comparison.part == "test" else "all slices"
    leak = ", LEAKY: patients seen in training" if comparison.leaky else ""
    return (
        f"{comparison.dataset}, {part}: n = {first.slices} slices ({first.positive_slices} with {first.target}), "
        f"{first.scans} scans, {first.patients} patients; split by {first.split}{leak}; "
        f"threshold {first.threshold:g}; empty pairs: {first.policy}"
    )


def _letters() -> Iterator[str]:
    """A to Z, then A1 and so on: short names of the runs in the tables' heads."""
    return (letter + suffix for suffix in ("", *map(str, range(1, 100))) for letter in string.ascii_uppercase)


def _own_table(evaluations: Sequence[Evaluation]) -> Table:
    rows = table("", "run", "metric", "training", "train + val.", "test", folded=["run"], right=["training"])
    for letter, evaluation in zip(_letters(), evaluations, strict=False):
        own = evaluation.own
        rows.add_row(
            letter,
            evaluation.run,
            own.metric,
            f"{evaluation.training_seconds / 60:.1f} min",
            "" if own.train_validation is None else f"{own.train_validation:.4f}",
            f"{own.test:.4f}",
        )
    return rows


def _table(columns: dict[str, Scores], cell: Callable[[Scores, str], str], units: dict[str, str]) -> Table:
    """A row for each measure that has a value anywhere, a column for each model and baseline."""
    measures = table("measure", *columns, right=list(columns))
    for name, measure in MEASURES.items():
        cells = [cell(scores, name) for scores in columns.values()]
        if any(cells):
            unit = f" in {units[measure.kind]}" if measure.kind in units else ""
            measures.add_row(measure.label + unit, *(text or "none" for text in cells))
    return measures


def _pooled(scores: Scores, measure: str) -> str:
    return _number(scores.pooled[measure], measure, digits=4)


def _over_scans(scores: Scores, measure: str) -> str:
    summary = scores.over_scans.get(measure)
    if summary is None:
        return ""
    spread = _number(summary.std, measure, digits=3)
    return _number(summary.mean, measure, digits=3) + (f" ± {spread}" if spread else "")


def _number(value: float | None, measure: str, digits: int) -> str:
    """A share with its digits; a distance or volume with at most one."""
    if value is None:
        return ""
    if MEASURES[measure].kind == "share":
        return f"{value:.{digits}f}"
    return f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
