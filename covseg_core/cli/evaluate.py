"""`covseg evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

import click

from covseg_core.cli.output import console, json_option, names_option, print_json, progress_bar, table
from covseg_core.evaluation import wording
from covseg_core.evaluation.empty_policy import order_change
from covseg_core.evaluation.measures import MEASURES, EmptyPolicy
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.scores import Scores
from covseg_core.evaluation.seeds.over_seeds import own_spread, spread
from covseg_core.evaluation.significance.verdict import Verdict, cells, verdict
from covseg_core.runs import open_runs

if TYPE_CHECKING:
    from rich.table import Table


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
@click.option("--classical", is_flag=True, help="Score Otsu, region growing, watershed and k-means, too.")
@json_option
@names_option
def evaluate(
    run_ids: tuple[str, ...], dataset: str | None, empty: EmptyPolicy, classical: bool, as_json: bool, names: bool
) -> None:
    """Score each RUN with every measure on the same test cases, beside the trivial baselines.

    RUN can be an experiment, which stands for all its runs. Folds of a cross-validation are taken together, and so are
    the seeds of a metric: scores are means over them, with their standard deviation.
    docs/reference/metrics.md defines the measures.
    """
    from covseg_core.evaluation.comparison import evaluate as evaluate_models
    from covseg_core.evaluation.pseudonymous import pseudonymous, pseudonymous_verdict, pseudonyms_of

    runs = [run for id in run_ids for run in open_runs(id)]
    with progress_bar("Evaluating", quiet=as_json) as progress:
        comparison = evaluate_models(runs, dataset, empty, progress)
    if classical:
        from covseg_core.evaluation.classical_methods import with_methods

        with progress_bar("Classical methods", quiet=as_json) as progress:
            comparison = with_methods(comparison, progress)
    if as_json:
        found = verdict(comparison)
        if not names:
            of = pseudonyms_of(comparison)
            comparison, found = pseudonymous(comparison, of), pseudonymous_verdict(found, of)
        print_json({**vars(comparison), "verdict": found})
    else:
        _print(comparison)


def _print(comparison: Comparison) -> None:
    """The thesis's table, then one yardstick for all: pooled, and per scan with its spread."""
    first, output = comparison.evaluations[0], console()
    output.print(wording.header(comparison), soft_wrap=True)
    output.print("\n[bold]Each in its own metric[/bold] (different metrics: not a ranking)")
    output.print(_own_table(comparison))
    columns: dict[str, Evaluation | Scores] = {
        f"{letter} {evaluation.metric}": evaluation
        for letter, evaluation in zip(wording.letters(), comparison.evaluations, strict=False)
    }
    columns |= {scores.name: scores for scores in comparison.baselines}
    seeds = wording.several_seeds(comparison)
    over = f", mean over {seeds} ± standard deviation over them" if seeds else ""
    output.print(f"\n[bold]Pooled over {wording.plural(first.slices, 'slice')}{over}[/bold]")
    output.print(_table(columns, _pooled, first.units))
    over = "; in brackets the standard deviation over seeds" if seeds else ""
    output.print(f"\n[bold]Mean over {wording.plural(first.scans, 'scan')} ± standard deviation{over}[/bold]")
    output.print(_table(columns, _over_scans, first.units))
    _print_verdict(verdict(comparison))
    output.print("")
    if same := wording.same_models(comparison.evaluations):
        output.print(f"- {same}", soft_wrap=True)
    for scores in comparison.baselines:
        output.print(f"- Baseline {scores.name}: {scores.description}.", soft_wrap=True)
    output.print(f"- {wording.TWO_IOUS}", soft_wrap=True)
    if changed := order_change(comparison):
        output.print(f"- {changed}", soft_wrap=True)
    for note in dict.fromkeys(note for evaluation in comparison.evaluations for note in evaluation.notes):
        output.print(f"- {note}", soft_wrap=True)


def _print_verdict(found: Verdict) -> None:
    """A sentence a pair, and the numbers behind it."""
    if not found.pairs:
        return
    output = console()
    output.print(f"\n[bold]Which is better? {MEASURES[found.measure].label} by patient[/bold]")
    for pair in found.pairs:
        output.print(f"- {pair.sentence}", soft_wrap=True)
    heads = ["pair", "difference", "95 % interval", "n", "p", "corrected p", "patients needed"]
    rows = table(*heads, right=heads[1:])
    for pair in found.pairs:
        rows.add_row(f"{pair.first} - {pair.second}", *(text or "none" for text in cells(pair)))
    output.print(rows)
    for note in found.notes:
        output.print(f"- {note}", soft_wrap=True)


def _own_table(comparison: Comparison) -> Table:
    several = bool(wording.several_seeds(comparison))
    heads = ["", "run", "metric", "training", "train + val.", "test", *(["seeds"] if several else [])]
    rows = table(*heads, folded=["run"], right=["training", "seeds"])
    for letter, evaluation in zip(wording.letters(), comparison.evaluations, strict=False):
        own = evaluation.own
        spread = wording.over_seeds(own_spread(evaluation), "dice", 4)
        rows.add_row(
            letter,
            evaluation.run,
            own.metric,
            f"{evaluation.training_seconds / 60:.1f} min",
            "" if own.train_validation is None else f"{own.train_validation:.4f}",
            f"{own.test:.4f} {spread}".strip(),
            *([str(max(1, len(evaluation.seeds)))] if several else []),
        )
    return rows


def _table(
    columns: dict[str, Evaluation | Scores], cell: Callable[[Evaluation | Scores, str], str], units: dict[str, str]
) -> Table:
    """A row for each measure that has a value anywhere, a column for each model and baseline."""
    measures = table("measure", *columns, right=list(columns))
    for name in MEASURES:
        cells = [cell(column, name) for column in columns.values()]
        if any(cells):
            measures.add_row(wording.label(name, units), *(text or "none" for text in cells))
    return measures


def _pooled(column: Evaluation | Scores, measure: str) -> str:
    seeds = spread(column, measure, "pooled") if isinstance(column, Evaluation) else None
    text = wording.number(_scores(column).pooled[measure], measure, digits=4)
    return f"{text} {wording.over_seeds(seeds, measure, 4)}".strip()


def _over_scans(column: Evaluation | Scores, measure: str) -> str:
    seeds = spread(column, measure, "scans") if isinstance(column, Evaluation) else None
    text, over = wording.spread(_scores(column).over_scans.get(measure), measure), wording.over_seeds(seeds, measure)
    return f"{text} ({over})" if over else text


def _scores(column: Evaluation | Scores) -> Scores:
    return column.model if isinstance(column, Evaluation) else column
