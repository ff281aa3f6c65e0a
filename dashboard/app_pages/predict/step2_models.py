"""Step 2 of the Quick prediction page: which models, and whether lungs are measured too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from covseg_core.config import Target
from covseg_core.runs import Run
from dashboard.app_pages.predict import passport, prediction_task
from dashboard.app_pages.predict.workspace import Desk
from dashboard.services import tasks, url_state
from dashboard.services.model_catalog import Finished


@dataclass(frozen=True)
class Chosen:
    """What is to be asked."""

    models: list[Finished]
    lungs: Finished | None

    @property
    def runs(self) -> list[Run]:
        return [one.run for one in self.models]

    @property
    def asked(self) -> tuple[str, ...]:
        """Ids, as `Result.asked` has them."""
        return tuple(run.id for run in self.runs) + ((self.lungs.run.id,) if self.lungs else ())


def show_models(models: list[Finished], desk: Desk | None) -> Chosen:
    """Something sensible is chosen already."""
    st.subheader("2. Models")
    targets = [target for target in prediction_task.TARGETS if any(one.config.target == target for one in models)]
    target = targets[0]
    if len(targets) > 1:
        target = st.segmented_control(
            "What to outline", targets, default=target, format_func=prediction_task.TARGETS.__getitem__, required=True
        )
    offered = {one.run.id: one for one in models if one.config.target == target}
    shown = [run for run in (desk.result.runs if desk and desk.result else ()) if run in offered]
    default = url_state.read("runs", shown or prediction_task.preselected(list(offered.values())), offered)
    ids = st.multiselect(
        "Models",
        list(offered),
        default,
        format_func=lambda id: prediction_task.label(offered[id]),
        key=f"models-{target}",
        placeholder="Choose at least one",
        wrap=True,
        help="Several models vote: a voxel is in the mask when more than half of them say so.",
    )
    url_state.write(runs=ids)
    chosen = Chosen([offered[id] for id in ids], _lungs(models, target))
    if twins := prediction_task.same_models(chosen.models):
        st.warning(twins, icon=":material/warning:")
    elif len(ids) == 1 and len(offered) > 1:
        st.caption("Add models to see how far they agree.")
    if desk:
        passport.show_unusual(desk, [*chosen.models, *([chosen.lungs] if chosen.lungs else [])])
    return chosen


def _lungs(models: Sequence[Finished], target: Target) -> Finished | None:
    """The lung model beside models of the infection; the shipped one unless it is turned off."""
    offered = {one.run.id: one for one in models if one.config.target == "lung"}
    if target == "lung" or not offered:
        return None
    choices = [None, *offered]
    id = st.selectbox(
        "Lung model",
        choices,
        choices.index(prediction_task.LUNGS) if prediction_task.LUNGS in offered else 0,
        format_func=lambda id: prediction_task.label(offered[id]) if id else "None",
        help="Tells which share of each lung is infected, and leaves out what lies beyond the chest.",
    )
    return offered[id] if id else None


def ask_to_go(desk: Desk | None, chosen: Chosen) -> bool:
    """Whether Predict was pressed; it cannot be where there is nothing to do."""
    running = desk is not None and (task := tasks.get(desk.task)) is not None and task.state == "running"
    done = desk is not None and desk.result is not None and desk.result.asked == chosen.asked
    unready = "Choose a scan first." if desk is None else "" if chosen.models else "Choose a model first."
    disabled = bool(unready) or running or done
    go = st.button("Predict", icon=":material/bolt:", type="primary", disabled=disabled)
    if disabled and not running:
        st.caption(unready or "Done: the mask is below.")
    return go
