"""Compare: the thesis's table, every model with every metric on the same test scans, and the slices themselves."""

import functools

import access
import comparing
import exporting
import scanchart
import slicebrowser
import state
import streamlit as st
import tasks
from comparing import Finished

from covseg_core.data.datasets import load_dataset
from covseg_core.evaluation import tables
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.result import Comparison
from covseg_core.runs import Run


def main() -> None:
    st.title("Compare")
    finished = comparing.finished_runs()
    if not finished:
        show_empty_state()
        return
    chosen = choose(finished)
    if not chosen:
        st.info("Choose at least one model above.", icon=":material/compare:")
        return
    comparison, why = comparing.stored_comparison(chosen, access.evaluation)
    if comparison is None:
        show_scoring(chosen, why)
        return
    show_conditions(comparison)
    show_own(comparison)
    show_scores(comparison)
    show_chart(comparison)
    case = slicebrowser.show(comparison, chosen)
    show_exports(comparison, chosen, case)


def show_empty_state() -> None:
    with st.container(border=True):
        st.markdown(
            "No training has finished yet. Train a U-Net with each of the three metrics, and they are compared here, "
            "on test scans that none of them has seen."
        )
        st.page_link("app_pages/train.py", label="Data and training", icon=":material/database:")
        st.page_link("app_pages/monitor.py", label="Live curves of running trainings", icon=":material/monitoring:")


def choose(finished: list[Finished]) -> list[Run]:
    """The models; the newest finished experiment unless the link says otherwise."""
    known = {one.run.id: one for one in finished}
    chosen = st.multiselect(
        "Models",
        list(known),
        default=state.read("runs", comparing.preselected(finished), known),
        format_func=lambda id: known[id].label,
        help="Finished runs, the newest experiment first",
    )
    state.write(runs=chosen)
    return [known[id].run for id in chosen]


def show_scoring(chosen: list[Run], why: str) -> None:
    """What is missing, and a button that makes it."""
    st.info(why, icon=":material/rule:")
    if task := tasks.get(st.session_state.get("compare-task")):
        if task.state == "running":
            tasks.show(task.id)
            return
        if task.state == "failed":
            st.error(task.error, icon=":material/error:")
        elif task.state == "cancelled":
            st.warning("Scoring was cancelled; nothing was changed.", icon=":material/cancel:")
    if st.button("Score these models on the same test scans", icon=":material/calculate:", type="primary"):
        st.session_state["compare-task"] = tasks.start(
            "evaluate", "Scoring", lambda progress, cancelled: bool(evaluate_runs(chosen, progress=progress))
        )
        st.rerun()


def show_conditions(comparison: Comparison) -> None:
    """On what the models were scored; what a reader has to know before the numbers."""
    first = comparison.evaluations[0]
    badges = [
        f":primary-badge[:material/database: {first.dataset}, "
        f"{'test part' if comparison.part == 'test' else 'all slices'}]",
        f":gray-badge[n = {tables.plural(first.slices, 'slice')}, {first.positive_slices} with {first.target}]",
        f":gray-badge[{tables.plural(first.scans, 'scan')}]",
        f":gray-badge[{tables.plural(first.patients, 'patient')}]",
        f":gray-badge[split by {first.split}]",
        f":gray-badge[threshold {first.threshold:g}]",
    ]
    if comparison.leaky:
        badges.insert(1, ":red-badge[:material/warning: LEAKY]")
    st.markdown(" ".join(badges))
    for warning in comparing.warnings(comparison):
        st.warning(warning, icon=":material/warning:")


def show_own(comparison: Comparison) -> None:
    st.subheader("Each model in its own metric")
    table = comparing.own_table(comparison)
    st.dataframe(
        table,
        hide_index=True,
        placeholder=comparing.UNDEFINED,
        column_config={
            "Training [min]": st.column_config.NumberColumn(format="%.1f"),
            "Train + validation": st.column_config.NumberColumn(format="%.4f"),
            "Test": st.column_config.NumberColumn(format="%.4f"),
        },
    )
    st.caption(comparing.NOT_A_RANKING)


def show_scores(comparison: Comparison) -> None:
    st.subheader("Every model, every metric, the same test slices")
    names = comparing.level_names(comparison)
    level = st.segmented_control(
        "Scores taken together", list(names), default="pooled", format_func=names.__getitem__, required=True
    )
    table = comparing.score_table(comparison, level)
    right = {name: st.column_config.TextColumn(alignment="right") for name in table.columns[1:-2]}
    st.dataframe(table, hide_index=True, height="content", column_config=right)
    for note in comparing.notes(comparison, level):
        st.caption(note)


def show_chart(comparison: Comparison) -> None:
    st.subheader("Dice of each test scan")
    st.plotly_chart(scanchart.figure(comparison), key="compare-chart", config={"displaylogo": False})
    if missing := scanchart.undefined(comparison):
        st.caption(
            f"No point where Dice is undefined, nothing being there and nothing predicted: {', '.join(missing)}."
        )


def show_exports(comparison: Comparison, chosen: list[Run], case: str | None) -> None:
    """Files are made when they are asked for."""
    st.subheader("Take away")
    name = f"covseg-{comparison.dataset}"
    threshold = float(st.session_state.get("threshold", comparison.evaluations[0].threshold))
    with st.container(horizontal=True):
        download = functools.partial(st.download_button, icon=":material/download:", on_click="ignore")
        download("Tables (CSV)", lambda: exporting.tables_zip(comparison), f"{name}-tables.zip")
        download("Dice per scan (HTML)", lambda: scanchart.html(comparison), f"{name}-dice.html")
        download(
            "Test predictions (.npy)",
            lambda: exporting.predictions_zip(comparison, chosen),
            f"{name}-predictions.zip",
            help="Probabilities of every model on every test slice, float16, at the network's size",
        )
        if case:
            download(
                "Masks of this scan (NIfTI)",
                lambda: exporting.masks_zip(comparison, chosen, load_dataset(comparison.dataset), case, threshold),
                f"{name}-{case}-masks.zip",
                help=f"mask_RUN.nii.gz of every model in the scan's own geometry, at threshold {threshold:g}",
            )
    st.caption("Figures save as PNG by the camera in their corner.")


main()
