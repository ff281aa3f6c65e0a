"""Which seed the pictures and panels of the Compare page are of, where models have several."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from covseg_core.evaluation import comparable
from covseg_core.evaluation.empty_policy import with_policy
from covseg_core.evaluation.model import Model
from covseg_core.evaluation.results import Comparison
from covseg_core.evaluation.seeds.seeded_model import members, numbers

SEED = "compare-seed"


def choose(comparison: Comparison, chosen: Sequence[Model]) -> tuple[Comparison, list[Model]]:
    """One seed of each model with its own scores; what was given where no model has several."""
    if not any(model.seeds for model in chosen):
        return comparison, list(chosen)
    there = numbers(max(chosen, key=lambda model: len(model.seeds)))
    place = st.selectbox(
        "Seed of slices and failures",
        range(len(there)),
        format_func=lambda place: str(there[place]),
        key=SEED,
        width=200,
        help="Tables and verdict are over all seeds; slices, failures and evidence are of one seed of each model.",
    )
    shown = [members(model)[min(place, len(members(model)) - 1)] for model in chosen]
    found, why = comparable.compared(shown)
    if found is None:  # scores were taken away since the tables were made
        st.info(why, icon=":material/rule:")
        st.stop()
    return with_policy(found, comparison.evaluations[0].policy), shown
