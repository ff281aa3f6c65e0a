"""Cohorts on the Quick prediction page, without a browser. What a user loses otherwise: a night's work by a reload."""

from __future__ import annotations

import io
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pages
import pytest
import streamlit as st
from chests import BRIGHT, chest, grey, make_run, save_scan
from cohorts import save_scans, save_series
from pages import well
from streamlit.testing.v1 import AppTest

from covseg_core.config import SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.files import write_json
from covseg_core.prediction.cohort.again import look_again
from covseg_core.runs import Run
from dashboard.app_pages.predict import cohort, cohort_files, cohort_scan, cohort_space, cohort_table, cohort_task
from dashboard.app_pages.predict.cohort_space import CohortSpace
from dashboard.services import tasks


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    st.cache_resource.clear()
    yield
    for space in list(cohort_space._spaces()._all.values()):
        space.clear()


@pytest.fixture(autouse=True)
def models(checkpoints_folder: Path) -> list[Run]:
    """Finished runs of the lesions, and of the lungs, which takes all of the body for them."""
    found = [
        make_run(checkpoints_folder, "lesions", BRIGHT),
        make_run(checkpoints_folder, "lung", grey(-900), target="lung"),
    ]
    for run in found:
        write_json(run.folder / "split.json", Split(SplitConfig(), {"a": (0,)}, {"b": (0,)}, {"c": (0,)}))
        write_json(run.folder / "status.json", {"state": "finished"})
    return found


def open_page(**query: str) -> AppTest:
    return pages.open_page("predict", **query)


def upload(app: AppTest, *paths: Path) -> AppTest:
    app.file_uploader[0].set_value([(path.name, path.read_bytes(), "application/octet-stream") for path in paths])
    return well(app.run())


def press(app: AppTest, label: str) -> AppTest:
    [button] = [button for button in app.button if button.label == label]
    assert not button.disabled, label
    return well(button.click().run())


def the_space(app: AppTest) -> CohortSpace:
    space = cohort_space.find(app.session_state[cohort.SPACE])
    assert space is not None
    return space


def ended(app: AppTest) -> AppTest:
    for _ in range(600):
        if not the_space(app).running:
            break
        time.sleep(0.05)
    return well(app.run())


def texts(app: AppTest) -> str:
    shown = [*app.caption, *app.markdown, *app.error, *app.warning, *app.info, *app.subheader]
    return "\n".join(str(one.value) for one in shown)


def test_from_files_to_table_and_zip(tmp_path: Path) -> None:
    app = open_page()
    assert app.segmented_control(key="predict-way").value == "One scan"
    well(app.segmented_control(key="predict-way").set_value("Cohort").run())
    assert app.query_params["many"] == "yes"
    assert "Choose scans first." in texts(app)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"nothing")
    upload(app, *save_scans(tmp_path / "in", 10, 90), save_scan(tmp_path / "a_mask.nii.gz", chest()), broken)
    assert "4 files uploaded" in texts(app)
    ended(press(app, "Predict all"))
    table = app.dataframe[0].value
    assert list(table["Scan"]) == ["broken", "scan1", "scan2"]
    assert list(table["Volume [mL]"])[1:] == pytest.approx([10 * 0.0032, 90 * 0.0032])
    assert list(table["Severity class"])[1:] == [1, 1]
    assert "Patient" not in table and "Agreement" not in table, "nothing is known of these"
    assert table["Not predicted"][0]
    assert {metric.label: metric.value for metric in app.metric}["Failed"] == "1"
    assert "Pan et al., Radiology 2020;295:715-721" in texts(app) and "lobes are not segmented" in texts(app)
    assert "1 mask passed over, by the names of files and folders." in texts(app)
    with cohort_files.cohort_zip(the_space(app)) as file, zipfile.ZipFile(io.BytesIO(file.read())) as archive:
        names = set(archive.namelist())
    assert {"cohort.csv", "cohort.html", "cohort.json", "scan1/mask.nii.gz", "scan2/report.html"} <= names
    assert not [name for name in names if "sources" in name or name.startswith(".")]
    press(app, "Try failed ones again")
    assert [button.label for button in ended(app).button if button.key == "cohort-go"] == ["Try failed ones again"]


def test_a_row_opens_in_the_viewer(tmp_path: Path) -> None:
    app = open_page(many="yes")
    upload(app, *save_scans(tmp_path / "in", 10, 90))
    ended(press(app, "Predict all"))
    space = the_space(app)
    assert "Choose a row" in texts(app)
    second = space.cohort.rows[1]
    scene = cohort_scan.scene("x", look_again(space.output, second.name))
    assert sum(int(scene.layers[0].mask(z).sum()) for z in scene.zs) == 90
    assert scene.start == 0 and scene.outline is not None and scene.thickness == 5
    np.testing.assert_array_equal(scene.ct(0), chest_plane(tmp_path / "in" / "scan2.nii.gz"))


def chest_plane(path: Path) -> np.ndarray:
    from covseg_core.data.reading.volumes import load_scan

    return load_scan(path).voxels[0][::-1, ::-1]


def test_zips_stay_to_be_looked_at(tmp_path: Path) -> None:
    save_series(tmp_path / "disc" / "1", 10, "doe", "20200401")
    save_series(tmp_path / "disc" / "2", 90, "doe", "20200408")
    packed = Path(shutil.make_archive(str(tmp_path / "disc"), "zip", tmp_path / "disc"))
    app = open_page(many="yes")
    upload(app, packed)
    ended(press(app, "Predict all"))
    table = app.dataframe[0].value
    assert sorted(zip(table["Patient"], table["Day"], strict=True)) == [("patient-1", 0), ("patient-1", 7)]
    assert any("Over time: 1 patient" in expander.label for expander in app.expander)
    space = the_space(app)
    for row in space.cohort.rows:
        assert look_again(space.output, row.name).mask.sum() == row.figures.voxels


def test_it_survives_a_reload_for_its_browser_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "browser_of", lambda _: "mine")
    app = open_page(many="yes")
    upload(app, *save_scans(tmp_path / "in", 10))
    ended(press(app, "Predict all"))
    id = app.query_params["cohort"]
    again = open_page(cohort=id)
    assert list(again.dataframe[0].value["Scan"]) == ["scan1"]
    monkeypatch.setattr(cohort, "browser_of", lambda _: "somebody else's")
    other = open_page(cohort=id)
    assert not other.dataframe
    assert "is not here any more, or another browser has brought it" in texts(other)


def test_cancelled_it_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(many="yes")
    upload(app, *save_scans(tmp_path / "in", 10, 20, 30))
    whole = cohort_task.predict_uploads

    def stopped(*arguments: object, progress: Callable[[int, int], None]) -> None:
        def tell(done: int, total: int) -> None:
            progress(done, total)
            if done == 1:
                tasks.get(the_space(app).task).cancel()
                progress(done, total)

        whole(*arguments, progress=tell)

    monkeypatch.setattr(cohort_task, "predict_uploads", stopped)
    ended(press(app, "Predict all"))
    assert "It was cancelled. What is predicted stays" in texts(app)
    assert 1 <= len(the_space(app).cohort.rows) < 3
    monkeypatch.setattr(cohort_task, "predict_uploads", whole)
    ended(press(app, "Go on"))
    assert len(app.dataframe[0].value) == 3
    assert "Done: the table is below." in texts(app)


def test_other_models_make_another_cohort_of_the_same_scans(tmp_path: Path) -> None:
    app = open_page(many="yes")
    upload(app, *save_scans(tmp_path / "in", 10))
    ended(press(app, "Predict all"))
    before = the_space(app).cohort
    well(app.toggle(key="cohort-pseudonyms").set_value(True).run())
    ended(press(app, "Predict all"))
    assert [row.name for row in before.rows] == ["scan1"]
    assert list(app.dataframe[0].value["Scan"]) == ["scan-001"]


def test_what_holds_no_scan_is_said(tmp_path: Path) -> None:
    app = open_page(many="yes")
    upload(app, save_scan(tmp_path / "a_mask.nii.gz", chest()))
    ended(press(app, "Predict all"))
    assert "cohort: no scan, but 1 mask passed over" in texts(app).replace("\\", "")


def test_cohorts_go_after_a_day_and_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = cohort_space._spaces()
    old, new = (spaces.add(CohortSpace("mine")) for _ in range(2))
    for space in (old, new):
        space.folder.mkdir(parents=True)
    stranger = cohort_space.cohorts_root() / ("0" * 32)
    stranger.mkdir()
    past = time.time() - cohort_space.KEPT_SECONDS - 1
    os.utime(stranger, (past, past))
    old.used = past
    spaces.sweep()
    assert not old.folder.exists() and not stranger.exists() and new.folder.exists()
    monkeypatch.setattr(cohort_space, "MOST", 1)
    last = spaces.add(CohortSpace("mine"))
    assert not new.folder.exists()
    monkeypatch.setattr(cohort_space, "MOST", 9)
    monkeypatch.setattr(cohort_space, "MOST_BYTES", 10)
    last.folder.mkdir()
    (last.folder / "scan").write_bytes(bytes(11))
    assert cohort_space.find(last.id)
    spaces.add(CohortSpace("mine"))
    assert not last.folder.exists()


def test_the_table_leaves_out_what_nobody_knows() -> None:
    assert list(cohort_table.frame(_empty()).columns) == []


def _empty() -> cohort_table.Cohort:
    from covseg_core.prediction.cohort.state import Settings, empty_cohort

    return empty_cohort(Settings((), None, "", None, "mean", False, "float32", False, False, False, "0"))
