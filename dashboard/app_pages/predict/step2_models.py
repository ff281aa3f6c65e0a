"""Step 2 of the Quick prediction page: which models, and whether lungs are measured too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from covseg_core.config import Target
from covseg_core.prediction.ask import Answers, lacking_lungs
from covseg_core.prediction.engines import Precision, has_bfloat16
from covseg_core.runs import Run
from covseg_core.runs.bfloat16 import read_check
from covseg_core.runs.lung_model import LUNGS
from dashboard.app_pages.predict import model_facts, offered_models, passport
from dashboard.app_pages.predict.workspace import Workspace
from dashboard.formatting import plain
from dashboard.services import tasks, url_state
from dashboard.services.model_catalog import ListedRun

MIRROR = "predict-mirror"
"""In the session: whether mirror images are asked about, too."""


@dataclass(frozen=True)
class Chosen:
    """What is to be asked."""

    models: list[ListedRun]
    lungs: ListedRun | None
    mirror: bool
    precision: Precision = "float32"

    @property
    def runs(self) -> list[Run]:
        return [one.run for one in self.models]

    def answered(self, answers: Answers | None) -> bool:
        """Whether these are their answers."""
        asked = tuple(run.id for run in self.runs) + ((self.lungs.id,) if self.lungs else ())
        if answers is None or answers.asked != asked:
            return False
        return (answers.mirror, answers.precision) == (self.mirror, self.precision)

    @property
    def lacks_lungs(self) -> list[str]:
        """What the models are called that look at the lungs alone, where no lung model is chosen to find them."""
        lacking = lacking_lungs(self.runs, self.lungs.run if self.lungs else None)
        return [one.label for one in self.models if one.run in lacking]


def show_models(models: list[ListedRun], space: Workspace | None) -> Chosen:
    """Something sensible is chosen already."""
    st.subheader("2. Models")
    targets = [target for target in offered_models.TARGETS if any(one.config.target == target for one in models)]
    target = targets[0]
    if len(targets) > 1:
        target = st.segmented_control(
            "What to outline", targets, default=target, format_func=offered_models.TARGETS.__getitem__, required=True
        )
    offered = {one.id: one for one in models if one.config.target == target}
    shown = [run for run in (space.answers.runs if space and space.answers else ()) if run in offered]
    everything = {one.id for one in models}
    if missing := url_state.gone("runs", everything, "Another model is chosen instead."):
        st.warning(plain(missing), icon=":material/search_off:")
    default = url_state.read("runs", shown or offered_models.preselected(list(offered.values())), offered)
    ids = st.multiselect(
        "Models",
        list(offered),
        default,
        format_func=lambda id: model_facts.label(offered[id]),
        key=f"models-{target}",
        placeholder="Choose at least one",
        wrap=True,
        help="Several models are combined to one mask, by the mean of their probabilities or by a vote.",
    )
    url_state.write(runs=ids)
    _about([offered[id] for id in ids])
    chosen_models = [offered[id] for id in ids]
    chosen = Chosen(chosen_models, _lungs(models, target), _mirror(space), _precision(chosen_models))
    if twins := offered_models.same_models(chosen.models):
        st.warning(twins, icon=":material/warning:")
    elif len(ids) == 1 and len(offered) > 1:
        st.caption("Add models to see how far they agree.")
    if lacking := chosen.lacks_lungs:
        needs = "looks at the lungs alone and needs" if len(lacking) == 1 else "look at the lungs alone and need"
        st.warning(plain(f"{' and '.join(lacking)} {needs} a lung model."), icon=":material/warning:")
    if space and space.scan:
        passport.show_unusual(space.scan, [*chosen.models, *([chosen.lungs] if chosen.lungs else [])])
    return chosen


def _about(models: Sequence[ListedRun]) -> None:
    """What speaks for the chosen models."""
    if not models:
        return
    with st.popover("About these models", icon=":material/info:"):
        for model in models:
            found = model_facts.facts(model)
            score = "never scored" if found.dice is None else f"mean Dice {found.dice:.3f} on {found.on}"
            st.markdown(f"**{plain(model.id)}**  \nScore: {plain(score)}  \nTrained on {plain(found.learned)}")
            if found.card and st.button("Model card", key=f"card-{model.id}", icon=":material/description:"):
                _card(found.card)


@st.dialog("Model card", width="large")
def _card(path: Path) -> None:
    """Its text, and its pictures below it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pictures = re.compile(r"!\[(.*?)\]\((.+?)\)")
    st.markdown("\n".join(line for line in lines if not pictures.search(line)))
    for line in lines:
        for caption, name in pictures.findall(line):
            st.image(str(path.parent / name), caption)


def _lungs(models: Sequence[ListedRun], target: Target) -> ListedRun | None:
    """The lung model beside models of the infection; the shipped one unless it is turned off."""
    offered = {one.id: one for one in models if one.config.target == "lung"}
    if target == "lung" or not offered:
        return None
    choices = [None, *offered]
    id = st.selectbox(
        "Lung model",
        choices,
        choices.index(LUNGS) if LUNGS in offered else 0,
        format_func=lambda id: offered[id].label if id else "None",
        help="Tells which share of each lung is infected, and leaves out what lies beyond the chest.",
    )
    return offered[id] if id else None


def _mirror(space: Workspace | None) -> bool:
    """Whether mirror images are to be asked about, too; at first as in the link, or as it was last."""
    if MIRROR not in st.session_state:
        last = "yes" if space and space.answers and space.answers.mirror else "no"
        st.session_state[MIRROR] = url_state.read("mirror", last, ("yes", "no")) == "yes"
    mirror = st.toggle(
        "Mirror images too",
        key=MIRROR,
        help="Each slice is also shown mirrored left to right, and the two answers are averaged. Takes twice the time.",
    )
    url_state.write(mirror="yes" if mirror else None)
    return mirror


def _precision(models: Sequence[ListedRun]) -> Precision:
    """Offered only where this processor gains by it, and all models have passed the check."""
    checks = [read_check(one.run) for one in models]
    if not checks or not all(check and check.passed for check in checks) or not has_bfloat16():
        return "float32"
    fast = st.toggle(
        "Compute in bfloat16",
        key="predict-bfloat16",
        help=(
            "Half the time on this processor. On their validation slices the models' masks stay the same (Dice of at "
            "least 0.995); single probabilities differ a little."
        ),
    )
    return "bfloat16" if fast else "float32"


def ask_to_go(space: Workspace | None, chosen: Chosen) -> bool:
    """Whether Predict was pressed; it cannot be where there is nothing to do."""
    running = space is not None and (task := tasks.get(space.task)) is not None and task.state == "running"
    done = space is not None and chosen.answered(space.answers)
    unready = "" if chosen.models else "Choose a model first."
    unready = "Choose a lung model first." if chosen.lacks_lungs else unready
    unready = "Choose a scan first." if space is None else unready
    disabled = bool(unready) or running or done
    go = st.button("Predict", icon=":material/bolt:", type="primary", disabled=disabled)
    if disabled and not running:
        st.caption(unready or "Done: the mask is below.")
    return go
