"""What a reader opens in an evidence bundle: tables, figures, and a page that says what all of it is."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from covseg_core.evaluation import data_frames, wording
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.significance.verdict import Verdict
from covseg_core.figures import differences, page, pages, scans
from covseg_core.figures.learning_curves import Curve, View, columns, draw
from covseg_core.runs import Run


def exhibits(
    models: Sequence[Model], comparison: Comparison, found: Verdict, folds: Sequence[Comparison] = ()
) -> dict[str, bytes]:
    """Files by their path in the bundle.

    Parameters
    ----------
    models : in the order of the comparison
    found : the verdict on it
    folds : of models that are folds, the comparison of each fold
    """
    files = {"README.txt": _readme(models, comparison).encode()}
    files |= {f"tables/{name}": content for name, content in data_frames.files(comparison).items()}
    if folds:
        files["tables/folds.csv"] = scores_of_folds(models[0].folds, folds).to_csv(index=False).encode()
    return files | {f"figures/{name}": content for name, content in _figures(models, comparison, found).items()}


def scores_of_folds(numbers: Sequence[int], folds: Sequence[Comparison]) -> pd.DataFrame:
    """A row for each fold and predictor: on how much it was tested, its score in its own metric, pooled measures."""
    rows = []
    for number, comparison in zip(numbers, folds, strict=True):
        first = comparison.evaluations[0]
        size = {name: getattr(first, name) for name in ("patients", "scans", "slices", "positive_slices")}
        own = dict(zip(wording.model_names(comparison), comparison.evaluations, strict=True))
        for name, scores in wording.predictors(comparison).items():
            learned = own.get(name)
            about = {
                "fold": number,
                "predictor": name,
                "run": learned.run if learned else "",
                **size,
                "own_train_validation": learned.own.train_validation if learned else None,
                "own_test": learned.own.test if learned else None,
            }
            rows.append(about | scores.pooled)
    return pd.DataFrame(rows)


def _figures(models: Sequence[Model], comparison: Comparison, found: Verdict) -> dict[str, bytes]:
    names = wording.model_names(comparison)
    figures = {"dice.html": scans.html(comparison), "curves.html": _curves(models, names)}
    if len(models) > 1:
        figures["differences.html"] = page(differences.figure(found, names, MEASURES["dice"].label))
    return figures


def _curves(models: Sequence[Model], names: Sequence[str]) -> bytes:
    """Of runs all in one figure; of folds a figure for each model, with a colour for each fold."""
    figures, together = {}, []
    for slot, (name, model) in enumerate(zip(names, models, strict=True)):
        numbered = zip(model.folds, model.runs, strict=False)
        if curves := [_curve(f"Fold {number}", run, number - 1) for number, run in numbered]:
            figures[f"{name}: {model.id}"] = draw(curves, View())
        else:
            together.append(_curve(name, model.runs[0], slot))
    return pages(figures) if figures else page(draw(together, View()))


def _curve(name: str, run: Run, slot: int) -> Curve:
    return Curve(name, run.config.metric, columns(run.history()), slot)


def _readme(models: Sequence[Model], comparison: Comparison) -> str:
    """What the zip is, for who opens it by hand."""
    folded = any(model.folds for model in models)
    notes = dict.fromkeys(note for one in comparison.evaluations for note in one.notes)
    lines = [
        "Evidence for a comparison of models that outline COVID-19 lesions on chest CT, made by covseg.",
        "For research use only: not for diagnosis.",
        "",
        wording.header(comparison),
        *(
            f"{name}: {'folds' if one.folds else 'run'} {one.run}, "
            f"pooled Dice {wording.number(one.model.pooled['dice'], 'dice', 4) or 'undefined'}"
            for name, one in zip(wording.model_names(comparison), comparison.evaluations, strict=True)
        ),
        *(f"- {note}" for note in notes),
        "",
        "manifest.json    SHA-256 of every file here and of every scan and mask that was used; software",
        "comparison.json  every number: by slice, by scan, pooled" + (", over all folds" if folded else ""),
        "tables/          the same as CSV" + ("; folds.csv has each fold by itself" if folded else ""),
        "figures/         curves and scores, to be opened in a browser",
        f"runs/            settings, split, curves, weights and scores of each {'fold' if folded else 'model'}",
        "",
        "Cases and patients have numbers instead of names: `covseg verify` recognises them by the SHA-256 of scans.",
        "With the same data imported, `covseg verify` on this file repeats the evaluation and compares every number in",
        "comparison.json and in the evaluation.json of each run. Tables and figures are drawn from these.",
    ]
    return "\n".join(lines) + "\n"
