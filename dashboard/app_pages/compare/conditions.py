"""Above the numbers of the Compare page: what they are of, and what a reader has to know before they are believed."""

from __future__ import annotations

import streamlit as st

from covseg_core.evaluation import comparable, wording
from covseg_core.evaluation.results import Comparison


def show(comparison: Comparison) -> None:
    """Badges, the warning of a leak, and notes."""
    first = comparison.evaluations[0]
    badges = [
        f":blue-badge[:material/database: {first.dataset}, "
        f"{'test part' if comparison.part == 'test' else 'all slices'}]",
        f":gray-badge[n = {wording.plural(first.slices, 'slice')}, {first.positive_slices} with {first.target}]",
        f":gray-badge[{wording.plural(first.scans, 'scan')}]",
        f":gray-badge[{wording.plural(first.patients, 'patient')}]",
        f":gray-badge[split by {wording.splits(comparison)}]",
        f":gray-badge[threshold {first.threshold:g}]",
    ]
    if seeds := wording.seeds(comparison):
        badges.append(f":gray-badge[{seeds}]")
    if comparison.leaky:
        badges.insert(1, ":red-badge[:material/warning: LEAKY]")
    st.markdown(" ".join(badges))
    if leak := comparable.leak(comparison):
        st.warning(leak, icon=":material/warning:")
    if notes := comparable.notes(comparison):
        st.info(" ".join(notes), icon=":material/info:")
