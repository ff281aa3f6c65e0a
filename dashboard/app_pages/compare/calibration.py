"""How far probabilities can be believed, and what every threshold would find."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from covseg_core.errors import CovsegError
from covseg_core.evaluation import wording
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison, Evaluation
from covseg_core.evaluation.stored_predictions.calibration import (
    PrecisionRecall,
    Reliability,
    histogram,
    precision_recall,
    reliability,
)
from covseg_core.figures import calibration
from dashboard.app_pages.compare import stored_predictions

OPEN = "compare-trust"
"""The expander: what is in it is computed once it is open."""
READ = (
    "Over all voxels of the test part, on the networks' grids. On the dashed line, predicted and observed "
    "frequencies agree; below it the model is overconfident. ECE is the mean distance from the line, weighted by "
    "voxels; most voxels are background and lie in the lowest bin."
    " Stars are at the threshold of the tables. Voxels of one patient are not independent."
)


@st.fragment
def show(comparison: Comparison, chosen: Sequence[Model]) -> None:
    """Opening it reruns only this."""
    box = st.expander("Calibration and precision-recall", icon=":material/verified:", key=OPEN, on_change="rerun")
    if not box.open:
        return
    with box:
        try:
            names = wording.model_names(comparison)
            pairs = zip(chosen, comparison.evaluations, strict=True)
            curves = dict(zip(names, (_curves_of(model, evaluation) for model, evaluation in pairs), strict=True))
        except CovsegError as error:
            st.error(str(error), icon=":material/error:")
            return
        left, right = st.columns(2, gap="medium")
        config = {"displaylogo": False}
        trust = calibration.reliability_figure({name: both[0] for name, both in curves.items()})
        left.plotly_chart(trust, key="trust-reliability", config=config)
        threshold = comparison.evaluations[0].threshold
        found = calibration.precision_recall_figure({name: both[1] for name, both in curves.items()}, threshold)
        right.plotly_chart(found, key="trust-recall", config=config)
        digits, percent = st.column_config.NumberColumn(format="%.4f"), st.column_config.NumberColumn(format="%.1f")
        table = numbers(curves)
        formats = {name: percent if "%" in name else digits for name in table.columns[1:]}
        st.dataframe(table, hide_index=True, column_config=formats)
        st.caption(READ)


def numbers(curves: dict[str, tuple[Reliability, PrecisionRecall]]) -> pd.DataFrame:
    """A row a model."""
    return pd.DataFrame(
        [
            {
                "Model": name,
                "ECE": trust.ece,
                "ECE without the lowest bin": trust.ece_marked,
                "Voxels in the lowest bin [%]": 100 * trust.share[0],
                "Average precision": found.average,
                "Chance": found.prevalence,
            }
            for name, (trust, found) in curves.items()
        ]
    )


def _curves_of(model: Model, evaluation: Evaluation) -> tuple[Reliability, PrecisionRecall]:
    return _curves(evaluation.key, model, evaluation)


@st.cache_resource(max_entries=stored_predictions.MODELS, show_spinner="Counting probabilities")
def _curves(key: object, _model: Model, _evaluation: Evaluation) -> tuple[Reliability, PrecisionRecall]:
    counts = histogram(stored_predictions.scans(_model, _evaluation))
    return reliability(counts), precision_recall(counts)
