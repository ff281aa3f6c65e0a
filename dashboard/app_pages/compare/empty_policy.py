"""What a slice counts on which nothing is and nothing was predicted: chosen on the Compare page, applied at once."""

from __future__ import annotations

from typing import cast, get_args

import streamlit as st

from covseg_core.evaluation.empty_policy import WORDS, order_change, with_policy
from covseg_core.evaluation.measures import EmptyPolicy
from covseg_core.evaluation.results import Comparison
from dashboard.services import url_state

POLICY = "compare-policy"
"""In the session: the policy that is chosen."""


def choose(comparison: Comparison) -> Comparison:
    """A control in the head of the table; the comparison under its policy. Nothing is evaluated again."""
    policies, evaluated = get_args(EmptyPolicy), comparison.evaluations[0].policy
    if POLICY not in st.session_state:
        st.session_state[POLICY] = url_state.read("empty", evaluated, policies)
    chosen = st.segmented_control(
        "Both masks empty",
        policies,
        format_func=lambda policy: WORDS[policy].capitalize(),
        required=True,
        key=POLICY,
        help="Where truth and prediction are both empty. Left out: Dice, IoU, HD95 and NSD are undefined there. "
        "Perfect: they are 1, and HD95 is 0. Pooled scores change only if a whole data set is empty",
    )
    policy = cast(EmptyPolicy, chosen or evaluated)
    url_state.write(empty=policy if policy != evaluated else None)
    return _under(comparison.key, policy, comparison)


def show_change(comparison: Comparison) -> None:
    """Say so if this choice decides which model is ahead."""
    if changed := _change(comparison.key, comparison):
        st.info(changed, icon=":material/swap_vert:")


@st.cache_resource(max_entries=8, show_spinner=False)
def _under(key: object, policy: EmptyPolicy, _comparison: Comparison) -> Comparison:
    return with_policy(_comparison, policy)


@st.cache_resource(max_entries=32, show_spinner=False)
def _change(key: object, _comparison: Comparison) -> str:
    return order_change(_comparison)
