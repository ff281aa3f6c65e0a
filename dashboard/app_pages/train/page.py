"""Data and training: bring scans, look at them, choose settings, start."""

import streamlit as st

from covseg_core.data.library.datasets import Dataset
from dashboard import navigation
from dashboard.app_pages.train import add_data, again, settings_form
from dashboard.app_pages.train import dataset as dataset_view
from dashboard.components import dataset_choice, news
from dashboard.services.datasets import load_datasets
from dashboard.services.model_catalog import listed_runs, shipped_runs


def main() -> None:
    st.title("Data and training")
    st.caption("U-Nets that outline COVID-19 lesions on chest CT. For research; not for diagnosis.")
    again.fill()
    add_data.finish()
    news.show()
    datasets, problems = load_datasets()
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    if not datasets:
        show_ready()
        add_data.show_first()
    else:
        dataset = choose(datasets)
        dataset_view.show(dataset)
        settings_form.show(dataset)
    show_runs()


def show_ready() -> None:
    """Who has no data yet may have a scan, and need not train anything."""
    if shipped_runs():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("Trained models are ready.")
            navigation.link(navigation.PREDICT, "Predict a scan now")


@st.fragment(run_every=5)
def show_runs() -> None:
    """Where runs are; it looks again every five seconds, since trainings start and end without this page."""
    found, _ = listed_runs()
    if not found:
        return
    newest = [one.id for one in found if one.config.experiment == found[0].config.experiment]
    with st.container(horizontal=True):
        label = "Live curves of the newest experiment"
        navigation.link(navigation.MONITOR, label, query_params={"runs": ",".join(newest)})
        navigation.link(navigation.RUNS, "All runs")


def choose(datasets: list[Dataset]) -> Dataset:
    """The dataset; beside it, how to bring more and how to delete it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = dataset_choice.choose(datasets, width=400)
        if st.button("Delete", icon=":material/delete:", help="Asks first"):
            dataset_view.confirm_delete(dataset)
    add_data.show_more()
    return dataset


main()
