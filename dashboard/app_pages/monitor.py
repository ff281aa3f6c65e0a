"""Live curves: what the selected runs have learned so far, while they learn."""

import charts
import histories
import preview_panel
import run_panel
import state
import streamlit as st
from histories import Known, Seen

from covseg_core.errors import CovsegError
from covseg_core.runs import ACTIVE

LOOK = 2.0  # seconds between two looks at runs that train
IDLE = 10.0  # the same while none does: somebody may resume one elsewhere

SCORES: dict[charts.Score, str] = {"own": "Own metric", "accuracy": "Accuracy", "iou": "IoU", "dice": "Dice"}
AXES: dict[charts.Axis, str] = {"epoch": "Epoch", "time": "Time"}


def main() -> None:
    st.title("Live curves")
    known, problems = histories.known_runs()
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    if not known:
        show_empty_state()
        return
    run_panel.ask_before_deleting(known)
    selected = choose_runs(known)
    if not selected:
        st.info("Choose at least one run to see its curves.", icon=":material/info:")
        return
    choose_view()
    active = any(item.status.state in ACTIVE for item in look(selected)[0])
    pace = LOOK if active else IDLE
    names = run_panel.names(selected, st.context.timezone)
    st.fragment(show_live, run_every=pace)(selected, names, {item.id for item in known}, active)
    st.subheader("What the model sees")
    preview_panel.show(selected, names)


def show_empty_state() -> None:
    with st.container(border=True):
        st.subheader("No run yet")
        st.markdown("Curves appear here as soon as a training is started.")
        st.page_link("app_pages/train.py", label="Go to data and training", icon=":material/database:")


def choose_runs(known: list[Known]) -> list[Known]:
    """The runs of the link, else those of the newest experiment; the choice goes back to the link."""
    ids = [item.id for item in known]
    newest = [item.id for item in known if item.config.experiment == known[0].config.experiment]
    names = run_panel.names(known, st.context.timezone)
    asked = state.read("runs", newest)
    if "monitor_runs" not in st.session_state:
        st.session_state.monitor_runs = [id for id in asked if id in ids]
        if missing := [id for id in asked if id not in ids]:
            st.warning(f"Not here any more: {', '.join(missing)}", icon=":material/search_off:")
    else:
        # a run that was deleted meanwhile is no option any more
        kept = [id for id in st.session_state.monitor_runs if id in ids]
        if kept != st.session_state.monitor_runs:
            st.session_state.monitor_runs = kept
    chosen = st.multiselect("Runs", ids, format_func=names.__getitem__, key="monitor_runs", placeholder="Choose runs")
    state.write(runs=chosen)
    by_id = {item.id: item for item in known}
    st.session_state.monitor_slots = charts.slots(chosen, st.session_state.get("monitor_slots", {}))
    return [by_id[id] for id in chosen]


def choose_view() -> None:
    """Widgets outside of the fragment: nothing that refreshes touches them."""
    score, axis, smoothing, log = st.columns([4, 2, 3, 2], vertical_alignment="bottom")
    score.segmented_control(
        "Score",
        list(SCORES),
        format_func=SCORES.__getitem__,
        default="own",
        key="monitor_score",
        required=True,
        help="On the validation slices. Scores of different metrics cannot be compared with each other.",
    )
    axis.segmented_control(
        "X axis", list(AXES), format_func=AXES.__getitem__, default="epoch", key="monitor_axis", required=True
    )
    smoothing.slider("Smoothing", 0.0, 0.95, 0.0, 0.05, key="monitor_smoothing")
    log.toggle("Logarithmic loss", key="monitor_log")


def view() -> charts.View:
    kept = st.session_state
    return charts.View(
        kept.monitor_score, kept.monitor_axis, kept.monitor_smoothing, kept.monitor_log, kept.get("monitor_zoom", {})
    )


def look(selected: list[Known]) -> tuple[list[Seen], list[str]]:
    """The runs as they stand, and one line for each that cannot be read."""
    seen, problems = [], []
    for item in selected:
        try:
            seen.append(histories.look(item))
        except CovsegError as error:
            problems.append(str(error))
    return seen, problems


def show_live(selected: list[Known], names: dict[str, str], known: set[str], was_active: bool) -> None:
    """Curves and runs; looks again by itself."""
    if {run.id for run in histories.runs.list_runs()} != known:
        st.rerun()  # a run was started or deleted elsewhere
    seen, problems = look(selected)
    if any(item.status.state in ACTIVE for item in seen) != was_active:
        st.rerun()  # at another pace from now on
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    show_curves(seen, names)
    run_panel.show_runs(seen, names)


def show_curves(seen: list[Seen], names: dict[str, str]) -> None:
    slots = st.session_state.monitor_slots
    curves = [charts.Curve(names[item.id], item.config.metric, item.history, slots[item.id]) for item in seen]
    if not any(len(curve.history) for curve in curves):
        st.info("The first point of each curve appears when its first epoch ends.", icon=":material/hourglass_top:")
        return
    now = view()

    def zoom() -> None:
        for box in st.session_state.monitor_curves.selection.box[-1:]:
            st.session_state.monitor_zoom = charts.zoomed(now, curves, box)

    st.plotly_chart(
        charts.draw(curves, now),
        key="monitor_curves",
        on_select=zoom,
        selection_mode="box",
        config={"modeBarButtonsToRemove": ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"]},
        alt="Loss and score of the selected runs by epoch, training and validation",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        hint = "Draw a box in a figure to zoom in."
        if same := charts.alike(curves):
            hint += f" One curve hides another: {' and '.join(same)} have learned the same, with one loss and seed."
        st.caption(hint, width="stretch")
        if now.zoom:
            st.button(
                "Show everything", icon=":material/zoom_out_map:", on_click=st.session_state.pop, args=("monitor_zoom",)
            )


main()
