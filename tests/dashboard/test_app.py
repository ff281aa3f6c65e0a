"""Data and training, in its states, without a browser."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pages
import pytest
from streamlit.testing.v1 import AppTest

from covseg_core import runs
from covseg_core.config import THESIS, RunConfig, SplitConfig
from covseg_core.data.library import datasets, download, importing
from covseg_core.data.splitting.split import Split, make_split, split_report
from covseg_core.errors import CovsegError, DatasetError
from covseg_core.runs import host, jobs, time_estimate
from covseg_core.runs.time_estimate import Measurement, Network
from dashboard.services import tasks

CPU = "1 CPU (2 cores), tensorflow, float32"


@pytest.fixture(autouse=True)
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """Networks that were to be timed; without the process that would do it."""
    asked: list[Network] = []

    def measure(network: Network, check: Callable[[], None]) -> None:
        asked.append(network)

    monkeypatch.setattr(time_estimate, "measure", measure)
    return asked


def open_app(**query: str) -> AppTest:
    return pages.open_page(**query)


def run(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception
    return app


def button(app: AppTest, label: str) -> AppTest:
    """Click it."""
    [found] = [button for button in app.button if button.label == label]
    found.click()
    return run(app)


def settled(app: AppTest) -> AppTest:
    """After the task of the page has ended, as its fragment would see it."""
    deadline = time.monotonic() + 60
    while "import" in app.session_state and time.monotonic() < deadline:
        time.sleep(0.05)
        run(app)
    assert "import" not in app.session_state, "the import does not end"
    return app


def texts(app: AppTest) -> str:
    return "\n".join(element.value for kind in (app.markdown, app.caption, app.info) for element in kind)


def progress(app: AppTest) -> str:
    return " ".join(bar.proto.text for bar in app.get("progress"))


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def small_sample(name: str) -> datasets.Dataset:
    return importing.import_sample(name, scans=3, size=64)


def make_run(id: str, state: runs.State, dataset: str = "sample", **status: object) -> runs.Run:
    config = RunConfig(
        id=id,
        experiment="first",
        dataset=dataset,
        fingerprint="0" * 64,
        metric="dice",
        preset="quick",
        created="2026-01-02T03:04:05.000006+00:00",
    )
    run = runs.create_run(config, Split(SplitConfig(), {"a": (0,)}, {"b": (0,)}, {"c": (0,)}))
    run.write_status(dataclasses.replace(run.status, **{"state": state, "epochs": 10, **status}))
    return run


def sent(folder: Path) -> list[tuple[str, bytes, str]]:
    """A folder as a browser sends it."""
    files = sorted(folder.rglob("*.nii.gz"))
    return [(str(file.relative_to(folder.parent)), file.read_bytes(), "application/gzip") for file in files]


def upload(app: AppTest, files: list[tuple[str, bytes, str]]) -> AppTest:
    app.file_uploader[0].set_value(files)
    return run(app)


def test_a_newcomer_is_told_what_to_do() -> None:
    """Without data the page is the first thing somebody sees of covseg: it must offer a way on, not empty tables."""
    app = open_app()
    assert app.title[0].value == "Data and training"
    assert app.button[0].label == "Use sample data"
    assert [tab.label for tab in app.tabs] == ["Upload scans and masks", "Public data set"]
    assert not app.dataframe
    assert "covseg " not in " ".join(code.value for code in app.code), "nobody has to open a terminal"


def test_one_click_gives_a_dataset_that_can_be_trained_on() -> None:
    app = button(open_app(), "Use sample data")
    made = datasets.load_dataset("sample")
    slices = sum(case.slices for case in made.cases)
    assert metrics(app)["Cases"] == str(len(made.cases)) == "6"
    assert metrics(app)["Slices"] == str(slices)
    assert 0 < int(metrics(app)["Positive slices"]) < slices, "a U-Net has nothing to learn from"
    table = app.dataframe[0].value
    assert list(table["Case"]) == [case.id for case in made.cases]
    assert list(table["Warnings"]) == ["; ".join(case.warnings) for case in made.cases]
    assert "sample is ready" in app.success[0].value
    assert app.query_params["dataset"] == "sample"
    assert not run(app).success, "news is told once"


def test_the_click_does_what_the_command_line_does() -> None:
    """Somebody who goes from the one to the other must get the same scans."""
    button(open_app(), "Use sample data")
    by_click = datasets.load_dataset("sample").fingerprint
    datasets.delete_dataset("sample")
    assert importing.import_sample("sample").fingerprint == by_click


def test_what_goes_wrong_is_one_line_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(name: str) -> None:
        raise DatasetError(name, "no space left on device", "about 20 MB")

    monkeypatch.setattr(importing, "import_sample", full_disk)
    app = button(open_app(), "Use sample data")
    assert [error.value for error in app.error] == ["sample: no space left on device; expected about 20 MB"]
    assert app.button[0].label == "Use sample data", "the user can try again"


def test_a_broken_dataset_does_not_hide_the_others() -> None:
    small_sample("good")
    broken = datasets.datasets_root() / "broken"
    broken.mkdir()
    (broken / "dataset.json").write_text('{"name": "brok')
    app = open_app()
    assert app.selectbox(key="dataset").options == ["good"]
    assert "broken" in app.warning[0].value


def test_a_folder_is_uploaded_named_and_imported(phantom_files: Path, data_folder: Path) -> None:
    """All that somebody without a terminal can do with their own scans."""
    app = upload(open_app(), sent(phantom_files))
    assert "6 scans, 6 infection masks, 6 lung masks" in texts(app)
    name = app.text_input[0]
    assert name.value == phantom_files.name, "of the folder"
    name.set_value("mine")
    app.checkbox[0].check()
    button(app, "Import")
    settled(app)
    assert "mine is ready: 6 cases" in app.success[0].value
    assert len(datasets.load_dataset("mine").cases) == 6
    assert not list((data_folder / "uploads").iterdir()), "the second copy is gone"
    assert not app.file_uploader[0].value, "nothing stays in the server's memory"


def test_pseudonyms_are_a_box_and_the_key_stays_in_the_folder(phantom_files: Path) -> None:
    """Without it a folder that is called as its patient is would be the name of the case."""
    app = upload(open_app(), sent(phantom_files))
    app.text_input[0].set_value("mine")
    app.checkbox[0].check()
    [box] = [box for box in app.checkbox if box.label == "Pseudonyms instead of the files' names"]
    assert not box.value
    box.check()
    settled(button(app, "Import"))
    dataset = datasets.load_dataset("mine")
    assert [case.id for case in dataset.cases] == [f"case-00{number}" for number in range(1, 7)]
    assert "phantom" not in (dataset.folder / "dataset.json").read_text()
    assert "phantom_001" in (dataset.folder / "pseudonyms.json").read_text()


def test_an_import_that_fails_can_be_mended_without_sending_again(phantom_files: Path) -> None:
    app = upload(open_app(), sent(phantom_files))
    settled(button(app, "Import"))
    [error] = app.error
    assert "expected labels above 0, or the option “Take infection masks without any infection”" in error.value
    assert "--" not in error.value, "an option of the command line"
    app.checkbox[0].check()
    settled(button(app, "Import"))
    assert datasets.list_datasets() == [phantom_files.name]


def test_masks_without_scans_are_named_and_not_imported(phantom_files: Path) -> None:
    app = upload(open_app(), [file for file in sent(phantom_files) if "phantom_002/ct" not in file[0]])
    assert "phantom_002" in app.warning[0].value
    [start] = [button for button in app.button if button.label == "Import"]
    assert start.disabled


def test_a_broken_file_shows_a_message() -> None:
    app = upload(open_app(), [("scan_1.nii", b"hello", ""), ("mask_1.nii", b"hello", "")])
    settled(button(app, "Import"))
    assert [error.value for error in app.error] == ["scan_1.nii: not NIfTI; expected a .nii or .nii.gz file"]


def test_a_name_that_is_taken_adds_and_says_so(phantom_files: Path) -> None:
    small_sample("mine")
    app = upload(open_app(), sent(phantom_files))
    app.text_input[0].set_value("mine")
    run(app)
    assert "Dataset mine exists: these cases are added to its 3." in app.info[0].value
    app.checkbox[0].check()
    settled(button(app, "Import"))
    assert "is in dataset mine already" in app.error[0].value
    assert len(datasets.load_dataset("mine").cases) == 3


def test_discarding_removes_the_files(phantom_files: Path, data_folder: Path) -> None:
    app = upload(open_app(), sent(phantom_files))
    button(app, "Discard")
    assert not list((data_folder / "uploads").iterdir())
    assert "received" not in texts(app)


def test_a_cancelled_import_leaves_nothing_behind(
    phantom_files: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And meanwhile another browser can work."""
    started, go_on = threading.Event(), threading.Event()
    real = importing.import_dataset

    def slow(*args: object, **more: object) -> object:
        started.set()
        go_on.wait(30)
        return real(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(importing, "import_dataset", slow)
    app = upload(open_app(), sent(phantom_files))
    app.checkbox[0].check()
    button(app, "Import")
    assert started.wait(10)
    other = open_app()
    assert not other.get("progress"), "the progress of one browser is not another's"
    assert other.file_uploader
    button(app, "Cancel")
    go_on.set()
    settled(app)
    assert "Nothing was imported" in app.success[0].value
    assert [path for path in data_folder.rglob("*") if path.is_file()] == []


def test_two_browsers_do_not_share_an_upload(phantom_files: Path) -> None:
    first, second = open_app(), open_app()
    upload(first, sent(phantom_files))
    assert "received" not in texts(run(second))
    upload(second, sent(phantom_files)[:3])
    assert "6 scans" in texts(run(first))
    assert "1 scan," in texts(run(second))


def test_the_public_data_set_is_downloaded_with_progress(monkeypatch: pytest.MonkeyPatch, phantom_files: Path) -> None:
    def download_slowly(source: str, progress: Callable[[int, int], None]) -> list[Path]:
        progress(500_000_000, 1_000_000_000)
        assert arrived.wait(30)
        return sorted(phantom_files.glob("phantom_00[13]"))

    arrived = threading.Event()
    monkeypatch.setattr(download, "download", download_slowly)
    app = button(open_app(), "Download")
    deadline = time.monotonic() + 10
    while "500 of 1,000 MB" not in progress(app) and time.monotonic() < deadline:
        run(app)
    assert "500 of 1,000 MB" in progress(app)
    arrived.set()
    settled(app)
    assert metrics(app)["Cases"] == "2"
    assert datasets.list_datasets() == ["zenodo"]


def test_the_split_is_shown_as_it_will_be() -> None:
    dataset = small_sample("sample")
    app = open_app()
    expected = split_report(make_split(dataset, SplitConfig()), dataset)
    table = app.dataframe[1].value
    assert list(table["Slices"]) == [part.slices for part in expected.parts]
    assert list(table["Patients"]) == [1, 1, 1]
    [split] = [control for control in app.segmented_control if control.label == "Split"]
    split.set_value("slice")
    run(app)
    assert "3 patients are on more than one side" in app.warning[0].value
    assert list(app.dataframe[1].value["Patients"]) == [3, 3, 2]


def test_too_few_patients_is_said_and_nothing_can_be_started() -> None:
    importing.import_sample("sample", scans=2, size=64)
    app = open_app()
    assert "at least 3 patients" in app.error[0].value
    assert "Start training" not in [button.label for button in app.button]


def test_time_is_measured_without_being_asked_where_nothing_is_known(measurements: list[Network]) -> None:
    small_sample("sample")
    app = open_app()
    deadline = time.monotonic() + 10
    while not measurements and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [network.model.filters for network in measurements] == [16], "of the chosen network"
    run(app)
    assert len(measurements) == 1, "not at every click"
    assert "**Time:**" not in texts(app), "no figure that nobody has"


def test_a_known_time_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch, measurements: list[Network]) -> None:
    small_sample("sample")
    monkeypatch.setattr(time_estimate, "measurements", lambda: (Measurement(host(), "other", 0.75e9, CPU, 1.0, 10.0),))
    app = open_app()
    assert f"**Device:** {CPU}" in texts(app)
    assert "for 3 trainings of 16 epochs" in texts(app)
    assert "scaled from another network" in texts(app)
    assert measurements == []
    [preset] = [control for control in app.segmented_control if control.label == "Preset"]
    preset.set_value("paper")
    run(app)
    assert "for 3 trainings of 100 / 250 epochs" in texts(app)
    button(app, "Measure")
    assert [network.prepare.resize for network in measurements] == ["thesis"]


def test_a_measurement_that_fails_does_not_keep_from_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: Network, check: Callable[[], None]) -> None:
        raise CovsegError("time of a training step", "cannot be measured (MemoryError)", "enough memory")

    monkeypatch.setattr(time_estimate, "measure", fail)
    small_sample("sample")
    app = open_app()
    deadline = time.monotonic() + 10
    while tasks.running("measure") and time.monotonic() < deadline:
        time.sleep(0.01)
    run(app)
    assert "MemoryError" in app.warning[-1].value
    assert "Start training" in [button.label for button in app.button]


def test_start_passes_the_settings_on_and_goes_to_the_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call as the command line's, so that the same choice gives the same run."""
    small_sample("sample")
    started: list[tuple[tuple, dict]] = []

    def train(*args: object, **more: object) -> list[runs.Run]:
        started.append((args, more))
        return [make_run("one", "queued", pid=1), make_run("two", "queued")]

    monkeypatch.setattr(jobs, "train", train)
    app = open_app()
    choose = {control.label: control for control in app.segmented_control}
    choose["Preset"].set_value("standard")
    choose["Split"].set_value("slice")
    run(app)  # the preset's own part of a slice stands there now
    next(control for control in app.segmented_control if control.label == "Part of a slice").set_value("lungs")
    fill = {field.label: field for field in app.number_input}
    fill["Epochs"].set_value(3)
    fill["Side of the slices (pixels)"].set_value(64)
    fill["Seed"].set_value(7)
    fill["Neighbouring slices on each side"].set_value(1)
    fill["Average of the weights"].set_value(0.99)
    fill["Learning rate"].set_value(5e-4)
    fill["Patience (epochs)"].set_value(4)
    next(control for control in app.segmented_control if control.label.startswith("Random")).set_value("strong")
    run(app)
    button(app, "Start training")
    [(args, more)] = started
    assert args == ("sample", THESIS, "standard", "slice", "infection")
    assert more == {
        "epochs": 3,
        "size": 64,
        "filters": None,
        "batch": None,
        "region": "lungs",
        "context": 1,
        "learning_rate": 5e-4,
        "schedule": "plateau",
        "patience": 4,
        "augmentation": "strong",
        "ema": 0.99,
        "leave_out": (),
        "seed": 7,
        "folds": 1,
        "seeds": 1,
        "start_from": None,
        "place": "local",
    }
    assert app.title[0].value == "Live curves"
    assert app.query_params["runs"] in ("one,two", ["one,two"])


def test_a_setting_that_cannot_be_used_is_said_before_the_start() -> None:
    small_sample("sample")
    app = open_app()
    [size] = [field for field in app.number_input if field.label.startswith("Side")]
    size.set_value(50)
    run(app)
    assert "a multiple of 16" in app.error[0].value
    assert "Start training" not in [button.label for button in app.button]


def test_deleting_a_dataset_asks_first() -> None:
    small_sample("first")
    small_sample("second")
    make_run("one", "finished", dataset="first", epoch=10)
    app = button(open_app(dataset="first"), "Delete")
    assert datasets.list_datasets() == ["first", "second"], "not yet"
    assert "Delete **first** with its 3 cases?" in texts(app)
    assert "1 of its runs" in texts(app)
    button(app, "Delete it")
    assert datasets.list_datasets() == ["second"]
    assert app.selectbox(key="dataset").value == "second"
    assert "first is deleted" in app.success[0].value


def test_a_dataset_is_not_deleted_under_a_training() -> None:
    small_sample("first")
    make_run("one", "running", "first", epoch=5)
    app = button(open_app(), "Delete")
    assert "Stop them first" in app.error[0].value
    [delete] = [button for button in app.button if button.label == "Delete it"]
    assert delete.disabled


def test_a_preview_shows_the_fullest_slice_with_its_mask() -> None:
    dataset = small_sample("sample")
    case = dataset.cases[2]
    assert case.infection_voxels is not None
    app = open_app(dataset="sample", case=case.id)
    assert app.selectbox(key="preview-sample").value == case.id, "a link reproduces the view"
    [slider] = [slider for slider in app.select_slider if slider.label == "Slice"]
    assert slider.value == case.infection_voxels.index(max(case.infection_voxels))
    assert [image.proto.imgs[0].caption for image in app.get("image")] == ["CT", "True mask"]


def test_the_list_of_all_runs_is_one_click_away() -> None:
    small_sample("sample")
    assert not open_app().main.get("page_link"), "there are none yet"
    run = make_run("one", "finished")
    curves, runs = open_app().main.get("page_link")
    assert (curves.proto.page, curves.proto.label) == ("monitor", "Live curves of the newest experiment")
    assert f"runs={run.id}" in curves.proto.query_string
    assert (runs.proto.page, runs.proto.label) == ("runs", "All runs")


def test_who_has_no_data_yet_may_predict_at_once(checkpoints_folder: Path) -> None:
    """Trained models come with covseg: nobody has to train one to see what it does."""
    assert "Trained models are ready." not in texts(open_app())
    shipped = make_run("infection", "finished")
    (checkpoints_folder / "pretrained").mkdir()
    os.rename(shipped.folder, checkpoints_folder / "pretrained" / "infection")
    app = open_app()
    assert "Trained models are ready." in texts(app)
    [link] = app.get("page_link")
    assert (link.proto.page, link.proto.label) == ("predict", "Predict a scan now")
