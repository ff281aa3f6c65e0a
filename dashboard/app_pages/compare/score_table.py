"""Every model with every metric as one table of text, and how to read it. Plain functions, no Streamlit."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from pandas.io.formats.style import Styler

from covseg_core.evaluation import wording
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.scores import Scores, Summary
from covseg_core.evaluation.seeds.over_seeds import Level, spread
from covseg_core.evaluation.wording import baseline_name, model_names, predictors

UNDEFINED = "none"


def legend(comparison: Comparison, level: Level) -> list[str]:
    """How to read the table of scores, a sentence each, as Markdown."""
    baselines = "; ".join(f"*{baseline_name(scores)}*, {scores.description}" for scores in comparison.baselines)
    found = [f"Baselines, which need no learning: {baselines}. *Best* includes them where n is the same."]
    found[0] += " The best model is in bold." * (len(comparison.evaluations) > 1)
    found.append(wording.TWO_IOUS)
    if seeds := wording.several_seeds(comparison):
        where = "after ±" if level == "pooled" else "in brackets"
        found.append(f"Scores are means over {seeds}; {where} stands their standard deviation over seeds.")
    if level == "pooled":
        return [*found, "All voxels of all slices count alike. HD95 and NSD have no pooled value."]
    empty = "undefined and left out" if comparison.evaluations[0].policy == "nan" else "counted as perfect"
    found.append(
        f"*n* is the number of values behind a mean. Where truth and prediction are both empty, Dice is {empty}."
    )
    if level == "slices":
        found.append("Slices of one scan are not independent: their n is not a sample size.")
    return found


def level_names(comparison: Comparison) -> dict[Level, str]:
    """How scores can be taken together, with n."""
    first = comparison.evaluations[0]
    scans, slices = wording.plural(first.scans, "scan"), wording.plural(first.slices, "slice")
    return {
        "pooled": f"Pooled over {slices}",
        "scans": f"Mean over {scans} ± SD",
        "slices": f"Mean over {slices} ± SD",
    }


def score_table(comparison: Comparison, level: Level) -> pd.DataFrame:
    """A row for each measure that has a value anywhere, a column for each model and baseline, as text.

    `n` is the number of values behind the models' means; a cell with another one says so. `Best` names who is best,
    baselines included, of those with this n: means over different n do not compare.
    """
    first, columns = comparison.evaluations[0], predictors(comparison)
    models = model_names(comparison)
    rows: list[dict[str, object]] = []
    shown: list[str] = []
    evaluations = dict(zip(models, comparison.evaluations, strict=True))
    for measure in MEASURES:
        values = {
            name: _value(scores, measure, level, _seeds(evaluations.get(name), measure, level))
            for name, scores in columns.items()
        }
        if not any(text for text, _, _ in values.values()):
            continue
        counts = [values[name][2] for name in models]
        n = max(counts, key=counts.count)
        cells = {
            name: (text or UNDEFINED) + ("" if own == n else f" (n {own})") for name, (text, _, own) in values.items()
        }
        best = "n differs"
        if len(set(counts)) == 1:
            best = _best(measure, {name: value for name, (_, value, own) in values.items() if own == n})
        rows.append({"Measure": wording.label(measure, first.units), "Best": best, "n": n, **cells})
        shown.append(measure)
    table = pd.DataFrame(rows, columns=["Measure", "Best", "n", *columns])
    table.attrs["measures"] = shown
    return table


def in_bold(table: pd.DataFrame, comparison: Comparison, level: Level) -> Styler:
    """The table with the best model of each measure in bold; none where all are alike, or n differs."""
    names = model_names(comparison)
    bold = pd.DataFrame("", table.index, table.columns)
    scores = [
        {
            name: _value(evaluation.model, measure, level, None)[1]
            for name, evaluation in zip(names, comparison.evaluations, strict=True)
        }
        for measure in table.attrs["measures"]
    ]
    for row, values in enumerate(scores):
        best = _best(table.attrs["measures"][row], values).split(", ")
        if table["Best"].iloc[row] != "n differs" and best != ["all"] and len(names) > 1:
            for name in names:
                if name.partition(" · ")[0] in best:
                    bold.iloc[row, bold.columns.get_loc(name)] = "font-weight: bold"
    return table.style.apply(lambda _: bold, axis=None)


def widths(table: pd.DataFrame) -> dict[str, int]:
    """Of the columns of a table of text [px]: the browser keeps those of the first text it has seen."""
    return {name: 24 + 7 * max(len(str(text)) for text in (name, *table[name])) for name in table.columns}


def _value(scores: Scores, measure: str, level: Level, seeds: Summary | None) -> tuple[str, float | None, int]:
    """Text, number and n of a cell; pooled values are over all slices. `seeds`: their spread, if there are several."""
    if level == "pooled":
        value = scores.pooled[measure]
        text = wording.number(value, measure, digits=4)
        return f"{text} {wording.over_seeds(seeds, measure, 4)}".strip(), value, len(scores.slices)
    summary = (scores.over_scans if level == "scans" else scores.over_slices).get(measure)
    over = wording.over_seeds(seeds, measure)
    text = wording.spread(summary, measure) + (f" ({over})" if over else "")
    return text, None if summary is None else summary.mean, summary.n if summary else 0


def _seeds(evaluation: Evaluation | None, measure: str, level: Level) -> Summary | None:
    """The spread over a model's seeds; baselines have none."""
    return spread(evaluation, measure, level) if evaluation else None


def _best(measure: str, values: dict[str, float | None]) -> str:
    """Short names of who is best; `all` if nobody differs."""
    key: dict[str, Callable[[float], float]] = {
        "higher": lambda value: -value,
        "lower": lambda value: value,
        "zero": abs,
    }
    costs = {name: key[MEASURES[measure].better](value) for name, value in values.items() if value is not None}
    best = [name.partition(" · ")[0] for name, cost in costs.items() if cost == min(costs.values())]
    return "all" if len(best) == len(costs) > 1 else ", ".join(best)
