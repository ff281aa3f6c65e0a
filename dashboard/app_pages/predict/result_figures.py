"""A prediction's figures, as the page shows them: headline, a row a model, a row a lung. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from covseg_core.config import METRICS
from covseg_core.prediction.ask import Answers
from covseg_core.prediction.expected_dice import EXPLAINED
from covseg_core.prediction.output.report import Report
from dashboard.app_pages.predict.offered_models import TARGETS
from dashboard.formatting import sentence


def names(answers: Answers) -> list[str]:
    """What the models are called: by their metric, if that tells them apart."""
    metrics = [METRICS[answer.model.metric].label for answer in answers.models]
    return metrics if len(set(metrics)) == len(metrics) else list(answers.runs)


def headline(report: Report) -> dict[str, str]:
    """What one looks for first, by label with its unit."""
    ml, unit = report.scan.voxel_ml, "voxels" if report.scan.voxel_ml is None else "mL"
    cells = {f"{TARGETS[report.target]} [{unit}]": quantity(report.mask.voxels, ml)}
    if len(report.models) > 1:
        low, high = (quantity(voxels, ml) for voxels in report.range_voxels)
        cells[f"Range over {len(report.models)} models [{unit}]"] = low if low == high else f"{low} to {high}"
    if report.lungs:
        parts = {"Right lung": report.lungs.right, "Left lung": report.lungs.left, "Both lungs": report.lungs.both}
        cells |= {f"{name} infected [%]": percent(part.share) for name, part in parts.items()}
    if report.target == "infection":
        cells["Lesions"] = f"{report.mask.lesions:,}"
    if report.expected_dice and report.expected_dice.words:
        cells["Expected Dice"] = report.expected_dice.words
    cells["Slices with a mask"] = f"{len(report.mask.positive_slices)} of {report.scan.shape[0]}"
    return cells


def explained(report: Report) -> list[str]:
    """What makes the figures of the headline add up, a sentence each; of an empty mask what it does not say."""
    ml, unit = report.scan.voxel_ml, "voxels" if report.scan.voxel_ml is None else "mL"
    size, found = report.mask.voxels, []
    if report.nothing:
        found.append(sentence(report.nothing))
    if report.expected_dice:
        reason = report.expected_dice.reason
        found.append(sentence(report.expected_dice.sentence) if reason else EXPLAINED)
    if report.nothing:
        return found
    if report.lungs and report.lungs.both.voxels:
        both = report.lungs.both
        inside, whole = quantity(both.infection_voxels, ml), quantity(both.voxels, ml)
        outside = size - both.infection_voxels
        found.append(
            f"{inside} of {whole} {unit} of lung are infected"
            + (f"; {quantity(outside, ml)} {unit} of the mask lie outside of the lungs." if outside else ".")
        )
    if len(report.models) > 1:
        low, high = report.range_voxels
        if not low <= size <= high:
            which = "smaller" if size < low else "larger"
            found.append(
                f"The mask of all is {which} than that of each model: what is in it is decided voxel by voxel, "
                "not by the models' volumes."
            )
    return found


def models_table(report: Report, called: Sequence[str]) -> pd.DataFrame:
    """A row a model."""
    ml = report.scan.voxel_ml
    masks = [model.mask for model in report.models]
    table = {
        "Model": list(called),
        "Voxels" if ml is None else "Volume [mL]": [mask.voxels if ml is None else mask.voxels * ml for mask in masks],
        "Share of lungs [%]": [None if mask.lung_share is None else 100 * mask.lung_share for mask in masks],
        "Lesions": [mask.lesions for mask in masks],
        "Slices": [len(mask.positive_slices) for mask in masks],
        "Threshold": [model.threshold for model in report.models],
        "Smallest [mm³]": [model.minimum_mm3 for model in report.models],
        "Peak": [model.peak for model in report.models],
        "Run": [model.run for model in report.models],
    }
    if report.lungs is None:
        del table["Share of lungs [%]"]
    if report.threshold is not None:  # it is that of all
        del table["Threshold"], table["Smallest [mm³]"]
    return pd.DataFrame(table)


def lungs_table(report: Report) -> pd.DataFrame:
    """A row a lung; none without a lung model."""
    if report.lungs is None:
        return pd.DataFrame()
    ml = report.scan.voxel_ml
    unit = "voxels" if ml is None else "mL"
    rows = {"Right": report.lungs.right, "Left": report.lungs.left, "Both": report.lungs.both}
    return pd.DataFrame(
        {
            "Lung": list(rows),
            f"Size [{unit}]": [quantity(part.voxels, ml) for part in rows.values()],
            f"Infected [{unit}]": [quantity(part.infection_voxels, ml) for part in rows.values()],
            "Infected [%]": [percent(part.share) for part in rows.values()],
        }
    )


def quantity(voxels: int, ml: float | None) -> str:
    """mL where the size of a voxel is known, else voxels; without the unit.

    >>> quantity(1234, None), quantity(1234, 0.001), quantity(123400, 0.001), quantity(3, 0.001)
    ('1,234', '1.2', '123', '<0.1')
    """
    if ml is None:
        return f"{voxels:,}"
    if voxels and voxels * ml < 0.05:
        return "<0.1"
    return f"{voxels * ml:.1f}" if voxels * ml < 99.95 else f"{voxels * ml:,.0f}"


def percent(share: float | None) -> str:
    """Without the sign; a dash where there is no lung."""
    return "-" if share is None else f"{100 * share:.1f}"
