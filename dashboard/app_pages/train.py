"""Data and training: bring scans, look at them, choose settings, start."""

import adding
import dataset_view
import listing
import state
import streamlit as st
import training_form

from covseg_core.data.datasets import Dataset


def main() -> None:
    st.title("Data and training")
    st.caption("U-Nets that outline COVID-19 lesions on chest CT. For research; not for diagnosis.")
    adding.finish()
    show_news()
    datasets, problems = listing.load_datasets()
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    if not datasets:
        adding.show_first()
    else:
        dataset = choose(datasets)
        dataset_view.show(dataset)
        training_form.show(dataset)
    st.subheader("Runs")
    show_runs()


def show_news() -> None:
    """Say, once, what the last click did."""
    if news := st.session_state.pop("news", None):
        st.success(news, icon=":material/check_circle:")
    if trouble := st.session_state.pop("trouble", None):
        st.error(trouble, icon=":material/error:")


def choose(datasets: list[Dataset]) -> Dataset:
    """The dataset of the URL, else the newest; beside it, how to bring more and how to delete it."""
    by_name = {dataset.name: dataset for dataset in sorted(datasets, key=lambda one: one.created, reverse=True)}
    newest = next(iter(by_name))
    if st.session_state.get("dataset") not in by_name:
        st.session_state.dataset = state.read("dataset", newest, by_name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Dataset", list(by_name), key="dataset", width=400)
        if st.button("Delete", icon=":material/delete:", help="Asks first"):
            dataset_view.confirm_delete(by_name[name])
    state.write(dataset=name)
    adding.show_more()
    return by_name[name]


@st.fragment(run_every=5)
def show_runs() -> None:
    """Looks again every five seconds, since trainings start, go on and end without this page."""
    table, problems = listing.run_table()
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    if table.empty:
        st.caption("No run yet. Runs appear here as soon as a training is started.")
        return
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "Epochs": st.column_config.ProgressColumn(format="percent", help="Share of the epochs that are done"),
            "Created": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
            "Experiment": None,
        },
    )
    runs = ",".join(listing.newest_experiment(table))
    st.page_link(
        "app_pages/monitor.py",
        label="Live curves of the newest experiment",
        icon=":material/monitoring:",
        query_params={"runs": runs},
    )


main()
