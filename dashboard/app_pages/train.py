"""Data and training: the datasets there are, sample data with one click, and the runs with their states."""

import listing
import streamlit as st

from covseg_core.data import importing
from covseg_core.data.datasets import Dataset
from covseg_core.errors import CovsegError

SAMPLE = "sample"


def main() -> None:
    st.title("Data and training")
    st.caption("U-Nets that outline COVID-19 lesions on chest CT. For research; not for diagnosis.")
    show_news()
    datasets, problems = listing.load_datasets()
    for problem in problems:
        st.warning(problem, icon=":material/warning:")
    if datasets:
        show_datasets(datasets)
        show_next_step(max(datasets, key=lambda dataset: dataset.created).name)
    else:
        show_empty_state()
    st.subheader("Runs")
    show_runs()


def show_news() -> None:
    """Say, once, what the last click did."""
    if news := st.session_state.pop("news", None):
        st.success(news, icon=":material/check_circle:")
    if trouble := st.session_state.pop("trouble", None):
        st.error(trouble, icon=":material/error:")


def show_empty_state() -> None:
    with st.container(border=True):
        st.subheader("Start with some data")
        st.markdown(
            "There is no dataset yet. covseg learns from chest CT scans in which somebody has outlined the infection. "
            "To try everything out first, take **sample data**: six synthetic chest scans with lesions and their "
            "masks, made on this computer in a few seconds."
        )
        sample_button(primary=True)
    with st.expander("I have scans and masks", icon=":material/folder_open:"):
        st.markdown(
            "NIfTI files (`.nii`, `.nii.gz`), in a folder per case with `ct.nii.gz`, `infection_mask.nii.gz` and, if "
            "there is one, `lung_mask.nii.gz`; or scans and masks side by side, matched by the case number in their "
            "names. In a terminal, where covseg is installed:"
        )
        st.code("covseg data add my-scans FOLDER", language="bash")
    with st.expander("I want the public data set", icon=":material/download:"):
        st.markdown(
            "20 CT scans of COVID-19 patients with infection and lung masks, outlined by radiologists "
            "([Zenodo 3757476](https://zenodo.org/records/3757476), for non-commercial use). In a terminal:"
        )
        st.code("covseg data download zenodo", language="bash")


def show_datasets(datasets: list[Dataset]) -> None:
    st.subheader("Datasets")
    st.dataframe(
        listing.dataset_table(datasets),
        hide_index=True,
        column_config={
            "Positive slices": st.column_config.NumberColumn(help="Slices on which some infection is outlined"),
            "Warnings": st.column_config.NumberColumn(help="Oddities found on import; listed below"),
            "Added": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
        },
    )
    if warnings := listing.warnings(datasets):
        with st.expander(f"Warnings ({len(warnings)})", icon=":material/warning:"):
            st.dataframe(warnings, hide_index=True)
    if all(dataset.name != SAMPLE for dataset in datasets):
        sample_button(primary=False)


def show_next_step(dataset: str) -> None:
    with st.container(border=True):
        st.markdown(
            "**Next:** train a U-Net three times on the same split, once for each metric: accuracy, IoU, Dice. "
            "In a terminal, where covseg is installed:"
        )
        st.code(f"covseg train {dataset} --metric all --preset quick", language="bash")
        st.caption("Training runs in a process of its own: closing this page or the dashboard does not end it.")


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
    if ids := listing.comparable(table):
        st.markdown("The newest experiment is finished. To score its models on the same test scans:")
        st.code(f"covseg evaluate {' '.join(ids)}", language="bash")


def sample_button(primary: bool) -> None:
    """One click: what `covseg data sample sample` does."""
    if not st.button("Use sample data", icon=":material/science:", type="primary" if primary else "secondary"):
        return
    with st.spinner("Making six synthetic chest scans with lesions and masks", show_time=True):
        try:
            dataset = importing.import_sample(SAMPLE)
            st.session_state.news = f"Dataset {dataset.name} is ready: {len(dataset.cases)} cases."
        except CovsegError as error:
            st.session_state.trouble = str(error)
    st.rerun()


main()
