"""Data and training: bring scans, look at them, choose settings, start."""

import streamlit as st

from covseg_core.data.library.datasets import Dataset
from dashboard import navigation
from dashboard.app_pages.train import add_data, again, settings_form
from dashboard.app_pages.train import dataset as dataset_view
from dashboard.services import url_state
from dashboard.services.datasets import load_datasets


def main() -> None:
    st.title("Data and training")
    st.caption("U-Nets that outline COVID-19 lesions on chest CT. For research; not for diagnosis.")
    again.fill()
    add_data.finish()
    show_news()
    datasets, problems = load_datasets()
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    if not datasets:
        add_data.show_first()
    else:
        dataset = choose(datasets)
        dataset_view.show(dataset)
        settings_form.show(dataset)
    navigation.link(navigation.RUNS, "All runs")


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
        st.session_state.dataset = url_state.read("dataset", newest, by_name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Dataset", list(by_name), key="dataset", width=400)
        if st.button("Delete", icon=":material/delete:", help="Asks first"):
            dataset_view.confirm_delete(by_name[name])
    url_state.write(dataset=name)
    add_data.show_more()
    return by_name[name]


main()
