"""Quick prediction of a series of an archive, and its result back there. What a user loses otherwise: an afternoon of
exporting and uploading, or a result that is filed with nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from chests import BRIGHT, make_run
from orthanc import MISSING, Orthanc, running, stored, write_archives
from pages import open_page, well
from pydicom import dcmread
from streamlit.testing.v1 import AppTest

from covseg_core.archive.search import find_series
from covseg_core.archive.settings import archive_named
from covseg_core.archive.transfer import fetch_series
from dashboard.app_pages.predict import from_archive, workspace
from dashboard.app_pages.predict.step1_scan import ARCHIVE
from dashboard.services import tasks

pytest.importorskip("dicomweb_client", reason="needs the optional extra: pip install dicomweb-client")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    st.cache_resource.clear()
    yield
    for space in list(workspace._workspaces()._all.values()):
        space.clear()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("orthanc") / "it") as orthanc:
        yield orthanc


@pytest.fixture
def series(
    server: Orthanc, checkpoints_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """Study and series of a patient `anon-31` in the archive `lab`, and a model."""
    write_archives(tmp_path, monkeypatch, server.url)
    make_run(checkpoints_folder / "pretrained", "infection-dice", BRIGHT)
    return stored(tmp_path, "anon-31", "20200401")


def button(app: AppTest, label: str) -> object:
    return next(button for button in app.button if button.label == label)


def asked(name: str = "lab", patient: str = "anon-31") -> AppTest:
    """The page once an archive was asked."""
    app = open_page("predict")
    [way] = [group for group in app.button_group if group.label == "Where it is"]
    app = well(way.set_value(ARCHIVE).run())
    app.selectbox(key="archive").set_value(name)
    app.text_input(key="archive-patient").set_value(patient)
    return button(app, "Find").click().run()  # type: ignore[attr-defined,no-any-return]


def test_a_series_is_found_fetched_predicted_and_the_result_is_filed_beside_it(
    series: tuple[str, str], tmp_path: Path
) -> None:
    app = well(asked())
    [box] = [box for box in app.selectbox if box.label == "Series"]
    assert box.options[0].startswith("anon-31 · 20200401 · 6 images")
    app = well(button(app, "Fetch this series").click().run())  # type: ignore[attr-defined]
    space = workspace.find(app.session_state["workspace"])
    assert space is not None and space.scan is not None
    assert (space.scan.kind, space.name) == ("dicom", "anon-31 20200401")
    app = button(app, "Predict").click().run()  # type: ignore[attr-defined]
    while (task := tasks.get(space.task)) is not None and task.state == "running":
        time.sleep(0.05)
    app = well(app.run())
    assert space.answers is not None
    app.selectbox(key="archive-to").set_value("lab")
    app = well(button(app, "Send").click().run())  # type: ignore[attr-defined]
    assert "are stored in lab" in app.success[-1].value
    lab = archive_named("lab")
    [seg] = [one for one in find_series(lab, "anon-31", modality="SEG") if one.study == series[0]]
    fetch_series(lab, seg.study, seg.series, tmp_path / "back")
    [file] = (tmp_path / "back").iterdir()
    assert dcmread(file).PatientID == "anon-31"


def test_what_the_archive_does_not_have_or_refuses_is_one_line(series: tuple[str, str]) -> None:
    assert "No CT series" in asked(patient="somebody").info[-1].value
    app = asked("stranger")
    assert "refuses user" in app.error[0].value
    assert not app.exception


def test_a_server_that_goes_away_leaves_no_scan_behind(
    series: tuple[str, str], server: Orthanc, data_folder: Path
) -> None:
    app = well(asked())
    server.stop(kill=True)
    try:
        app = button(app, "Fetch this series").click().run()  # type: ignore[attr-defined]
        assert "does not answer" in app.error[0].value
        assert not any(path.is_dir() for path in workspace.workspaces_root().iterdir())
    finally:
        server.start()
    app = well(button(app, "Fetch this series").click().run())  # type: ignore[attr-defined]
    assert workspace.find(app.session_state["workspace"]) is not None


def test_without_archives_nobody_is_asked_about_them(series: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVSEG_ARCHIVES", "/nowhere/archives.toml")
    assert from_archive.names() == []
    [way] = [group for group in open_page("predict").button_group if group.label == "Where it is"]
    assert ARCHIVE not in way.options
