"""The Quick prediction page, without a browser, on models whose answers are known: bright voxels are infected."""

from __future__ import annotations

import dataclasses
import gc
import gzip
import json
import os
import re
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pages
import psutil
import pytest
import streamlit as st
from bombs import tall_nifti
from chests import AIR, LUNG, SIDE, TISSUE, grey
from known import save_line
from pages import well
from streamlit.testing.v1 import AppTest

from covseg_core.config import Metric, PrepareConfig, RunConfig, SplitConfig, Target
from covseg_core.data.library.datasets import Dataset, delete_dataset, load_dataset
from covseg_core.data.splitting.split import Split
from covseg_core.errors import CovsegError, ScanError
from covseg_core.files import sha256_file, write_json
from covseg_core.prediction.engines import has_bfloat16
from covseg_core.prediction.inference import Segmenter
from covseg_core.prediction.masks.lung_sides import LungPart, LungReport
from covseg_core.prediction.predict import predict as predict_scan
from covseg_core.runs import Run, create_run, open_run
from covseg_core.runs.bfloat16 import VERSION as BFLOAT16
from covseg_core.runs.bfloat16 import Bfloat16Check
from covseg_core.runs.operating_point import FILE, VERSION, OperatingPoint, Thresholds
from covseg_core.temporary import temporary_root
from dashboard.app_pages.predict import offered_models, result, result_figures, workspace
from dashboard.app_pages.predict.step3_result import OWN
from dashboard.formatting import plain
from dashboard.services import tasks, uploads

SLICES = 40


def chest(lungs: bool = True) -> np.ndarray:
    """(x, y, z) int16 HU: lungs with grey levels of every kind in one of them, most of them on slice 7."""
    voxels = np.full((SIDE, SIDE, SLICES), TISSUE, np.int16)
    voxels[:, :3] = AIR
    if lungs:
        voxels[5:20, 10:40] = voxels[28:43, 10:40] = LUNG
    levels = np.random.default_rng(0).integers(-600, 200, (8, 20, 4), np.int16)
    voxels[32:40, 12:32, 5:9] = levels
    voxels[30:42, 11:39, 7] = 200
    return voxels


def content(voxels: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    """A `.nii` file, turned and with a name in its header, as scanners write them."""
    image = nib.Nifti1Image(voxels[::-1, ::-1], np.diag([-0.8, -0.8, 2.5, 1.0]) if affine is None else affine)
    image.header["descrip"] = b"Doe^Jane"
    return image.to_bytes()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Workspaces and tasks are kept a process long, so that sessions share them."""
    st.cache_resource.clear()
    yield
    for space in list(workspace._workspaces()._all.values()):
        space.clear()


@pytest.fixture
def make(checkpoints_folder: Path) -> Callable[..., Run]:
    """A finished run: probability 1 from 200 HU on, 0 at `zero` HU, in between along a line."""

    def make_run(
        metric: Metric = "dice",
        zero: float = -1000,
        experiment: str = "first",
        target: Target = "infection",
        created: str = "2026-01-02T03:04:05+00:00",
        state: str = "finished",
    ) -> Run:
        id = f"{experiment}-{metric}"
        prepare = PrepareConfig(size=SIDE)
        config = RunConfig(id, experiment, "none", "0" * 64, metric, "quick", created, target, prepare)
        run = create_run(config, Split(SplitConfig(), {"a": (0,)}, {"b": (0,)}, {"c": (0,)}))
        run.write_status(dataclasses.replace(run.status, state=state, heartbeat=time.time()))
        if state == "finished":
            save_line(run.onnx, SIDE, grey(zero), 1 / (grey(200) - grey(zero)))
        return run

    return make_run


# --- driving the page


def open_page(**query: str) -> AppTest:
    return pages.open_page("predict", **query)


def send(app: AppTest, voxels: np.ndarray | bytes, name: str = "ct.nii", **how: np.ndarray) -> AppTest:
    sent = voxels if isinstance(voxels, bytes) else content(voxels, **how)
    app.file_uploader[0].set_value([(name, sent, "application/octet-stream")])
    return well(app.run())


def press(app: AppTest, label: str) -> AppTest:
    [button] = [button for button in app.button if button.label == label]
    assert not button.disabled, label
    return well(button.click().run())


def predict(app: AppTest) -> AppTest:
    press(app, "Predict")
    return ended(app)


def ended(app: AppTest) -> AppTest:
    """Once the task has ended."""
    space = the_workspace(app)
    for _ in range(600):
        if tasks.get(space.task).state != "running":
            break
        time.sleep(0.05)
    return well(app.run())


def the_workspace(app: AppTest) -> workspace.Workspace:
    space = workspace.find(app.session_state["workspace"])
    assert space is not None
    return space


def text(app: AppTest) -> str:
    return "\n".join(element.value for kind in ("markdown", "caption", "subheader") for element in app.get(kind))


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def button(app: AppTest, label: str):
    return next(button for button in app.button if button.label == label)


# --- before there is anything to see


def test_without_a_model_the_page_leads_to_the_training() -> None:
    app = open_page()
    assert "No model yet" in text(app)
    assert [link.proto.label for link in app.get("page_link")] == ["Go to Data and training"]
    assert not app.file_uploader, "a scan would be sent for nothing"


def test_while_the_first_model_is_trained_the_page_says_so(make: Callable[..., Run]) -> None:
    make(state="running")
    app = open_page()
    assert "A model is being trained" in text(app)
    assert [link.proto.label for link in app.main.get("page_link")] == ["Watch it learn"]
    assert [link.proto.label for link in app.sidebar.get("page_link")] == ["1 run trains"]


def test_a_newcomer_sees_two_steps_and_what_is_missing(make: Callable[..., Run]) -> None:
    make()
    app = open_page()
    assert [heading.value for heading in app.subheader] == ["1. Scan", "2. Models"]
    assert button(app, "Predict").disabled
    assert "Choose a scan first." in text(app)
    assert "not for diagnosis" in text(app)
    assert app.multiselect[0].value == ["first-dice"], "something sensible is chosen already"


# --- which models


def test_the_models_that_differ_are_chosen_from_the_newest_experiment(make: Callable[..., Run]) -> None:
    """A copy would count twice: a newcomer must not run into that."""
    make("dice", experiment="old", created="2025-01-02T03:04:05+00:00")
    for metric, zero in (("accuracy", -900), ("iou", -900), ("dice", -1000)):
        make(metric, zero, "twins")
    assert offered_models.preselected(offered_models.offered()) == ["twins-iou", "twins-dice"]
    for metric, zero in (("accuracy", -900), ("iou", -950), ("dice", -1000)):
        make(metric, zero, "three", created="2026-02-02T03:04:05+00:00")
    assert offered_models.preselected(offered_models.offered()) == ["three-accuracy", "three-iou", "three-dice"]
    assert offered_models.preselected([]) == []


def ship(run: Run, root: Path, name: str) -> None:
    """Make a run one of those that come with covseg."""
    (root / "pretrained").mkdir(exist_ok=True)
    write_json(run.folder / "config.json", dataclasses.replace(run.config, id=name, experiment=name))
    (run.folder / "status.json").unlink()
    (run.folder / "README.md").write_text("# Card\n\nMade for a test.\n")
    os.rename(run.folder, root / "pretrained" / name)


def test_a_run_of_ones_own_does_not_take_the_place_of_the_recommended_model(
    make: Callable[..., Run], checkpoints_folder: Path
) -> None:
    """A training on phantoms that has just ended says nothing about a patient."""
    ship(make(experiment="theirs"), checkpoints_folder, "infection")
    make(created="2026-02-02T03:04:05+00:00")
    app = open_page()
    assert app.multiselect[0].value == ["infection"]
    assert "infection · recommended" in app.multiselect[0].options
    assert "Score: never scored" in text(app)
    press(app, "Model card")
    assert "Made for a test." in text(app)


def test_the_list_of_models_tells_their_scores(make: Callable[..., Run]) -> None:
    run = make()
    point = OperatingPoint(
        VERSION, "", sha256_file(run.onnx), "validation", "mean Dice over scans", 0.5, 0, "mm3", 0.625, 0.6, 0.5, 0.6,
        scans=7, slices=70,
    )  # fmt: skip
    write_json(run.folder / FILE, point)
    app = open_page()
    assert app.multiselect[0].options[0].endswith(" · Dice 0.62")
    assert "mean Dice 0.625 on 7 scans (mean Dice over scans)" in unmarked(text(app))


def unmarked(markdown: str) -> str:
    return re.sub(r"\\(.)", r"\1", markdown)


def test_a_cross_validation_predicts_with_all_its_folds(make: Callable[..., Run]) -> None:
    """One fold alone has learned from fewer patients than there are."""
    for fold in range(1, 5):
        for metric in ("iou", "dice"):
            run = make(metric, -900 - fold, f"fold{fold}")
            split = SplitConfig(folds=4, fold=fold)
            write_json(run.folder / "config.json", dataclasses.replace(run.config, experiment="folds", split=split))
    assert offered_models.preselected(offered_models.offered()) == [
        "fold1-dice", "fold2-dice", "fold3-dice", "fold4-dice",
    ]  # fmt: skip


def test_what_is_unfinished_or_split_by_slice_is_not_chosen_before_the_user_does(make: Callable[..., Run]) -> None:
    make("dice", experiment="good")
    leaky = make("dice", experiment="leaky", created="2026-02-02T03:04:05+00:00")
    config = dataclasses.replace(leaky.config, split=SplitConfig("slice"))
    write_json(leaky.folder / "config.json", config)
    make("accuracy", experiment="half", created="2026-02-03T03:04:05+00:00")
    make("dice", experiment="half", created="2026-02-03T03:04:05+00:00", state="running")
    assert offered_models.preselected(offered_models.offered()) == ["good-dice"]


def test_models_that_are_one_and_the_same_are_told(make: Callable[..., Run]) -> None:
    for metric, zero in (("accuracy", -900), ("iou", -900), ("dice", -1000)):
        make(metric, zero)
    app = open_page(runs="first-accuracy,first-iou,first-dice")
    assert app.multiselect[0].value == ["first-accuracy", "first-iou", "first-dice"]
    assert "Accuracy and IoU have the same weights" in app.warning[0].value


def test_models_of_the_lung_are_offered_apart(make: Callable[..., Run]) -> None:
    """They outline something else, so they cannot be combined with the others."""
    make()
    make(experiment="lungs", target="lung")
    app = send(open_page(), chest())
    assert app.multiselect[0].value == ["first-dice"]
    assert app.multiselect[0].options == [offered_models.offered()[1].label]
    assert app.selectbox[0].value is None, "only the shipped lung model is asked without being chosen"
    [target] = [group for group in app.button_group if group.label == "What to outline"]
    well(target.set_value("lung").run())
    assert app.multiselect[0].value == ["lungs-dice"]
    assert next(iter(metrics(predict(app)))) == "Lungs [mL]"


def test_shipped_models_can_be_used(make: Callable[..., Run], checkpoints_folder: Path) -> None:
    run = make()
    (checkpoints_folder / "pretrained").mkdir()
    (run.folder / "status.json").unlink()
    os.rename(run.folder, checkpoints_folder / "pretrained" / run.id)
    assert "Infection [mL]" in metrics(predict(send(open_page(), chest())))


# --- the scan


def test_an_uploaded_scan_gets_a_passport(make: Callable[..., Run]) -> None:
    make()
    app = send(open_page(), chest(), "case_7*.nii")
    assert r"**case\_7\*.nii**" in text(app), "a name is no Markdown"
    passport = "Matrix 48 x 48 x 40 voxels|Spacing 0.80 x 0.80 x 2.50 mm|Orientation LPS|Scale HU"
    for entry in passport.split("|"):
        assert f":gray-badge[{entry}]" in text(app)
    assert not app.error
    assert not app.warning
    assert not button(app, "Predict").disabled


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (lambda: content(chest(lungs=False)), "no lungs found"),
        (lambda: content(chest())[:-1000], "expected a complete file"),
        (lambda: b"hello", "not NIfTI"),
        (lambda: b"", "empty"),
        (lambda: b"\0" * 128 + b"DICM" + b"\0" * 400, "no readable DICOM slices"),
    ],
    ids=["abdomen", "cut off", "text", "empty", "DICOM"],
)
def test_what_cannot_be_used_is_refused_in_one_line_and_removed(
    make: Callable[..., Run], data_folder: Path, sent: Callable[[], bytes], said: str
) -> None:
    make()
    app = send(open_page(), sent(), "scan.nii")
    [error] = [error.value for error in app.error]
    assert said in error
    assert "scan.nii" in error
    assert str(data_folder) not in error, "the user knows nothing of the folder it was put into"
    assert button(app, "Predict").disabled
    assert left_on_disk(data_folder) == []
    app = send(app, chest(), "good.nii")
    assert not app.error, "an error must not outlive its file"
    assert "good.nii" in text(app)


def left_on_disk(data_folder: Path) -> list[str]:
    return [path.name for name in ("uploads", "predictions") for path in (data_folder / name).rglob("*")]


def test_of_a_scan_in_an_unknown_scale_the_user_says_which_it_is(make: Callable[..., Run]) -> None:
    """Guessing would give a mask of nonsense; refusing would leave the user without one."""
    make()
    voxels = np.rint(grey(chest().astype(float))).astype(np.int16)
    voxels[:, :, 0] = -20
    app = send(open_page(), voxels)
    assert "values from -20 to 24" in app.warning[0].value
    assert button(app, "Predict").disabled
    assert button(app, "Use this scale").disabled
    well(app.radio[0].set_value("HU").run())
    app = press(app, "Use this scale")
    assert "Taken as HU" in app.warning[0].value, "that was the wrong one"
    well(app.radio[0].set_value("0-255").run())
    app = predict(press(app, "Use this scale"))
    assert ":gray-badge[Scale 0-255]" in text(app)
    assert the_workspace(app).answers is not None


def test_voxels_are_counted_where_their_size_is_not_known(make: Callable[..., Run]) -> None:
    make()
    app = predict(send(open_page(), chest(), affine=np.eye(4)))
    assert ":gray-badge[Spacing not known]" in text(app)
    voxels = int(metrics(app)["Infection [voxels]"].replace(",", ""))
    assert voxels == np.count_nonzero(expected(0.5, -1000))


def test_what_was_asked_before_is_marked_once_other_models_are_chosen(make: Callable[..., Run]) -> None:
    make("dice")
    make("iou", -950)
    app = predict(send(open_page(runs="first-dice"), chest()))
    assert not app.warning
    well(app.multiselect[0].set_value(["first-dice", "first-iou"]).run())
    [warning] = [warning.value for warning in app.warning]
    assert "are of what was asked before: first-dice." in warning
    app = predict(app)
    assert not app.warning
    well(app.multiselect[0].set_value([]).run())
    assert "first-dice and first-iou" in app.warning[0].value


def test_files_are_called_as_the_scan_unless_another_name_is_given(make: Callable[..., Run]) -> None:
    make()
    app = predict(send(open_page(), chest(), "Müller 7 (a).nii.gz".removesuffix(".gz")))
    [field] = app.text_input
    assert (field.label, field.value) == ("Name in files", "Müller-7-a")
    well(field.set_value("../study/042").run())
    naming = [button.proto for button in app.get("download_button")]
    assert naming
    space = the_workspace(app)
    sheet = result.download(space, Thresholds(), "report.html", naming=workspace.Naming("study-042"))
    assert b"<h1>Infection on a chest CT: study-042</h1>" in sheet
    assert b"study-042" not in result.download(space, Thresholds(), "report.html"), "a name is not kept in secret"


def test_figures_on_the_screen_add_up(make: Callable[..., Run]) -> None:
    """What is in the lungs, what is not, and why the mask of all is in no range."""
    make("dice")
    make("iou", -950)
    app = predict(send(open_page(runs="first-dice,first-iou"), chest()))
    report = the_workspace(app).decided.prediction.report
    low, high = report.range_voxels
    [told] = [caption.value for caption in app.caption if "of each model:" in caption.value] or [""]
    assert bool(told) == (not low <= report.mask.voxels <= high)
    outside = dataclasses.replace(report.mask, voxels=high + 1)
    found = result_figures.explained(dataclasses.replace(report, mask=outside))
    assert found == [
        "The mask of all is larger than that of each model: what is in it is decided voxel by voxel, not by the models'"
        " volumes."
    ]
    both = LungPart(1000, 1.6, 80, 0.128, 0.08)
    lungs = LungReport(None, "lung", "0" * 64, both, both, both, 0, 0, 0, 5, 0, 0, 100)
    inside = dataclasses.replace(report, mask=dataclasses.replace(report.mask, voxels=100), lungs=lungs, models=())
    assert result_figures.explained(inside) == [
        "0.1 of 1.6 mL of lung are infected; <0.1 mL of the mask lie outside of the lungs."
    ]


def test_an_empty_mask_is_no_proof(make: Callable[..., Run]) -> None:
    make(zero=199)
    voxels = chest()
    voxels[voxels >= 199] = TISSUE
    app = predict(send(open_page(), voxels))
    assert metrics(app)["Infection [mL]"] == "0.0"
    assert "No infection was found, which does not prove that there is none." in text(app)
    sheet = result.download(the_workspace(app), Thresholds(), "report.html")
    assert b"does not prove" in sheet


def test_a_scan_of_a_dataset_can_be_taken(make: Callable[..., Run], phantoms: str) -> None:
    make()
    app = open_page()
    [way] = [group for group in app.button_group if group.label == "Where it is"]
    well(way.set_value("From a dataset").run())
    app = press(app, "Take this scan")
    case = load_dataset(phantoms).cases[0]
    assert (app.query_params["dataset"], app.query_params["case"]) == (phantoms, case.id)
    space = the_workspace(predict(app))
    scene = result.scene(space, result.decided(space, Thresholds()), Thresholds())
    assert scene.truth is not None, "where the true mask is known, it is shown beside the model's"
    delete_dataset(phantoms)
    assert result.scene(space, result.decided(space, Thresholds()), Thresholds()).truth is None


def test_a_link_reproduces_scan_models_slice_and_threshold(make: Callable[..., Run], phantoms: str) -> None:
    for metric, zero in (("accuracy", -900), ("iou", -950), ("dice", -1000)):
        make(metric, zero)
    case = load_dataset(phantoms).cases[1]
    app = open_page(dataset=phantoms, case=case.id, runs="first-iou", z="5", threshold="0.7")
    app = predict(app)
    assert the_workspace(app).source == (phantoms, case.id)
    assert the_workspace(app).answers.runs == ("first-iou",)
    assert app.slider(key="threshold").value == 0.7
    assert app.select_slider(key="slice").value == 5


def test_a_link_to_what_is_gone_says_so(make: Callable[..., Run]) -> None:
    make()
    app = open_page(dataset="gone", case="nobody", runs="gone")
    assert "The link does not lead to a scan" in app.error[0].value
    assert app.multiselect[0].value == ["first-dice"]


# --- the result


def expected(threshold: float, zero: float) -> np.ndarray:
    """(x, y, z) bool: the mask of the model with this `zero`, by hand."""
    levels = np.rint(grey(chest().astype(float)))
    return np.clip((levels - grey(zero)) / (grey(200) - grey(zero)), 0, 1) >= threshold


def test_the_result_opens_on_the_slice_with_most_to_see(make: Callable[..., Run]) -> None:
    make()
    app = predict(send(open_page(), chest()))
    assert app.select_slider(key="slice").value == 7
    assert "3. Mask" in [heading.value for heading in app.subheader]
    assert button(app, "Predict").disabled, "it would do the same again"
    assert "Done" in text(app)


def with_point(run: Run, threshold: float, minimum: float = 0, peak: float = 0) -> None:
    """What validation would have found best."""
    rest = ("mm3", 0.8, 0.7, threshold, 0.75, 2, 20, peak)
    point = OperatingPoint(VERSION, "", sha256_file(run.onnx), "validation", "Dice", threshold, minimum, *rest)
    write_json(run.folder / FILE, point)


def test_the_sliders_start_at_the_operating_point_of_the_model(make: Callable[..., Run]) -> None:
    """What validation found best is used, and said, without anybody having to know it."""
    run = make()
    with_point(run, 0.35, 20, 0.95)
    app = predict(send(open_page(), chest()))
    assert sliders(app) == (0.35, 20, 0.95)
    assert "threshold 0.35, parts from 20 mm³ that reach 0.95: the operating point of the run" in text(app)
    space = the_workspace(app)
    assert space.decided is not None and space.decided.thresholds == Thresholds(0.35, 20, 0.95)
    app = well(app.slider(key="threshold").set_value(0.5).run())
    assert space.decided.thresholds == Thresholds(0.5, 20, 0.95)
    app = well(app.select_slider(key="peak").set_value(0.0).run())
    assert space.decided.thresholds == Thresholds(0.5, 20)


def sliders(app: AppTest) -> tuple[float, int, float]:
    """Where threshold, smallest lesion and peak stand."""
    return app.slider(key="threshold").value, app.slider(key="minimum").value, app.select_slider(key="peak").value


@pytest.mark.parametrize("at_once", [True, False])
def test_other_models_start_at_their_own_point_unless_a_slider_was_moved(
    make: Callable[..., Run], held: threading.Event, at_once: bool
) -> None:
    """All sliders, also after a while without any, as models that take their time leave the page."""
    runs = {"iou": make("iou"), "dice": make("dice", -900), "accuracy": make("accuracy", -800)}
    with_point(runs["iou"], 0.35, 20)
    with_point(runs["accuracy"], 0.65, 50, 0.9)
    app = send(open_page(), chest())

    def ask(metric: Metric) -> tuple[float, int, float]:
        app.multiselect[0].set_value([runs[metric].id]).run()
        held.set() if at_once else held.clear()
        press(app, "Predict")
        assert at_once or not app.slider
        held.set()
        ended(app)
        return sliders(app)

    assert ask("iou") == (0.35, 20, 0)
    assert ask("dice") == (0.5, 0, 0)
    assert ask("accuracy") == (0.65, 50, 0.9)
    assert the_workspace(app).decided.thresholds == Thresholds(0.65, 50, 0.9)
    well(app.slider(key="threshold").set_value(0.8).run())
    well(app.slider(key="minimum").set_value(100).run())
    well(app.select_slider(key="peak").set_value(0.97).run())
    delete = the_workspace(app).known.pop
    for run in runs.values():  # so that they are asked once more
        delete((run.id, False, "float32"))
    assert ask("iou") == (0.8, 100, 0.97), "what the user has set stays"
    assert ask("dice") == (0.8, 100, 0.97)


def test_models_with_points_of_their_own_are_used_at_these_until_the_user_wants_one_for_all(
    make: Callable[..., Run], tmp_path: Path
) -> None:
    """At 0.5 for all, what validation has found for each would be lost without a word."""
    runs = [make("accuracy", -900), make("iou", -700), make("dice", -1000)]
    for run, threshold in zip(runs, (0.3, 0.8, 0.9), strict=True):
        with_point(run, threshold)
    scan = tmp_path / "ct.nii"
    scan.write_bytes(content(chest()))
    app = predict(send(open_page(), scan.read_bytes()))
    assert not [slider for slider in app.slider if slider.key == "threshold"], "it would move nothing"
    assert "Dice: threshold 0.9, parts of any size" in text(app)
    expected = predict_scan(scan, runs, threshold=None)
    space = the_workspace(app)
    assert space.decided is not None and space.decided.prediction.report.mask == expected.report.mask
    [models] = [frame.value for frame in app.dataframe if "Threshold" in frame.value.columns]
    assert list(models["Threshold"]) == [0.3, 0.8, 0.9]
    saved = nib.Nifti1Image.from_bytes(gzip.decompress(result.download(space, space.decided.thresholds, "mask.nii.gz")))
    assert np.count_nonzero(np.asarray(saved.dataobj)) == expected.report.mask.voxels
    scene = result.scene(space, space.decided.prediction, space.decided.thresholds)
    masks = [expected.mask, *(expected.mask_of(run.id) for run in runs)]
    assert [layer.name for layer in scene.layers] == ["Mean of 3", "Accuracy", "IoU", "Dice"]
    for layer, mask in zip(scene.layers, masks, strict=True):
        shown = np.stack([layer.plane(z)[::-1, ::-1] >= np.float32(scene.threshold) for z in scene.zs])
        np.testing.assert_array_equal(shown, mask)
    app = well(app.toggle(key=OWN).set_value(False).run())
    assert app.slider(key="threshold").value == 0.5
    assert space.decided.thresholds == Thresholds()
    assert (
        space.decided.prediction.report.mask
        == predict_scan(scan, runs, threshold=0.5).report.mask
        != expected.report.mask
    )


def test_own_sizes_too_are_used_shown_and_downloaded(make: Callable[..., Run], tmp_path: Path) -> None:
    """Also where one of the models has no point, and after the user went to one threshold for all and back."""
    runs = [make("accuracy", -900), make("iou", -700), make("dice", -1000)]
    with_point(runs[0], 0.75, 500)
    with_point(runs[1], 0.7, 50)
    voxels = chest()
    voxels[[34, 39], [14, 25], 20] = 200  # specks of one voxel, 1.6 mm3
    scan = tmp_path / "ct.nii"
    scan.write_bytes(content(voxels))
    app = predict(send(open_page(), scan.read_bytes()))
    for words in (
        "Accuracy: threshold 0.75, parts from 500 mm³",
        "IoU: threshold 0.7, parts from 50 mm³",
        "Dice: threshold 0.5, parts of any size",
        r"Parts of the combined mask from 50 mm³ \(the median\).",
        "0.5 for first-dice, which has none",
    ):
        assert words in text(app), words
    expected = predict_scan(scan, runs, tmp_path / "by hand", threshold=None)
    space = the_workspace(app)
    own = space.decided
    assert own is not None and own.prediction.report.mask.voxels == expected.report.mask.voxels
    scene = result.scene(space, own.prediction, own.thresholds)
    masks = [expected.mask, *(expected.mask_of(run.id) for run in runs)]
    for layer, mask in zip(scene.layers, masks, strict=True):
        shown = np.stack([layer.plane(z)[::-1, ::-1] >= np.float32(scene.threshold) for z in scene.zs])
        np.testing.assert_array_equal(shown, mask, layer.name)
    assert [mask[20, 14, 34] for mask in masks] == [0, 0, 0, 1], "a speck is too small for the median of three"
    for name in ("mask.nii.gz", *(f"mask_{run.id}.nii.gz" for run in runs), "disagreement.nii.gz"):
        image = nib.Nifti1Image.from_bytes(gzip.decompress(result.download(space, own.thresholds, name)))
        np.testing.assert_array_equal(image.dataobj, nib.load(tmp_path / "by hand" / name).dataobj)
    report = json.loads(result.download(space, own.thresholds, "report.json"))
    assert [(model["threshold"], model["minimum_mm3"]) for model in report["models"]] == [
        (0.75, 500), (0.7, 50), (0.5, 0),
    ]  # fmt: skip
    app = well(app.toggle(key=OWN).set_value(False).run())
    app = well(app.slider(key="threshold").set_value(0.6).run())
    assert space.decided.thresholds == Thresholds(0.6)
    assert not [frame for frame in app.dataframe if "Threshold" in frame.value.columns], "it is that of all"
    app = well(app.toggle(key=OWN).set_value(True).run())
    assert space.decided.thresholds == own.thresholds


def test_models_that_share_a_point_have_no_toggle(make: Callable[..., Run]) -> None:
    runs = [make("accuracy", -900), make("iou", -700), make("dice", -1000)]
    for run in runs:
        with_point(run, 0.35, 20)
    app = predict(send(open_page(), chest()))
    assert not app.toggle or OWN not in [toggle.key for toggle in app.toggle]
    assert (app.slider(key="threshold").value, app.slider(key="minimum").value) == (0.35, 20)
    assert "the operating point of the runs" in text(app)


def test_points_of_many_models_are_in_the_table_alone(make: Callable[..., Run]) -> None:
    """Beside the figures they would push the masks off the screen."""
    runs = [
        make(metric, zero, experiment, created=f"2026-01-0{day}T03:04:05+00:00")
        for day, (experiment, zero) in enumerate((("first", -900), ("second", -700)), 1)
        for metric in ("accuracy", "iou", "dice")
    ]
    for number, run in enumerate(runs):
        with_point(run, 0.3 + number / 10)
    app = send(open_page(), chest())
    app.multiselect[0].set_value([run.id for run in runs]).run()
    app = predict(app)
    assert "parts of any size" not in text(app)
    [models] = [frame.value for frame in app.dataframe if "Threshold" in frame.value.columns]
    np.testing.assert_allclose(models["Threshold"], [0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_a_link_keeps_one_threshold_for_all(make: Callable[..., Run], phantoms: str) -> None:
    """Else a colleague who follows it sees other masks than those that were meant."""
    for metric, zero, threshold in (("accuracy", -900, 0.3), ("iou", -950, 0.8), ("dice", -1000, 0.9)):
        with_point(make(metric, zero), threshold)
    case = load_dataset(phantoms).cases[1].id
    runs = "first-accuracy,first-iou,first-dice"
    app = predict(open_page(dataset=phantoms, case=case, runs=runs, own="false", threshold="0.7"))
    assert app.slider(key="threshold").value == 0.7
    assert the_workspace(app).decided.thresholds == Thresholds(0.7)


def test_figures_and_downloads_follow_the_threshold(make: Callable[..., Run], tmp_path: Path) -> None:
    for metric, zero in (("accuracy", -900), ("iou", -700), ("dice", -1000)):
        make(metric, zero)
    scan = tmp_path / "ct.nii"
    scan.write_bytes(content(chest()))
    app = predict(send(open_page(), scan.read_bytes()))
    runs = [open_run(f"first-{metric}") for metric in ("accuracy", "iou", "dice")]
    for threshold in (0.5, 0.9):
        app = well(app.slider(key="threshold").set_value(threshold).run())
        space = the_workspace(app)
        truth = predict_scan(scan, runs, tmp_path / f"by hand {threshold}", threshold)
        report = json.loads(result.download(space, Thresholds(threshold), "report.json"))
        own = [model.mask.volume_ml for model in truth.report.models]
        assert float(metrics(app)["Infection [mL]"]) == pytest.approx(truth.report.mask.volume_ml, abs=0.05)
        low, high = map(float, metrics(app)["Range over 3 models [mL]"].split(" to "))
        assert (low, high) == (pytest.approx(min(own), abs=0.05), pytest.approx(max(own), abs=0.05))
        positive = len(truth.report.mask.positive_slices)
        assert metrics(app)["Slices with a mask"] == f"{positive} of {SLICES}"
        np.testing.assert_allclose(app.dataframe[0].value["Volume [mL]"], own)
        assert report["threshold"] == threshold
        assert report["scan"]["sha256"] == sha256_file(scan)
        assert "not for diagnosis" in report["notice"]
        for name in ("mask.nii.gz", *(f"mask_{run.id}.nii.gz" for run in runs)):
            image = nib.Nifti1Image.from_bytes(gzip.decompress(result.download(space, Thresholds(threshold), name)))
            by_hand = nib.load(tmp_path / f"by hand {threshold}" / name)
            np.testing.assert_array_equal(image.dataobj, by_hand.dataobj)
            np.testing.assert_array_equal(image.affine, nib.load(scan).affine)
    assert [download.label for download in app.get("download_button")] == [
        "Download mask", "Sheet to print", "Disagreement", "Accuracy", "IoU", "Dice", "Figures (CSV)", "Report (JSON)",
    ]  # fmt: skip
    assert "Doe" not in json.dumps(report)


def combine_control(app: AppTest):
    return [radio for radio in app.radio if radio.label == "Combine by"]


@pytest.mark.parametrize("points", [False, True])
def test_masks_figures_files_and_slices_follow_the_way_to_combine(
    make: Callable[..., Run], tmp_path: Path, points: bool
) -> None:
    """What is shown live must be the mask that is written, whichever way it was made of the models'."""
    runs = [make("accuracy", -900), make("iou", 60), make("dice", -1000)]
    for run, threshold in zip(runs, (0.3, 0.2, 0.9), strict=True):
        if points:
            with_point(run, threshold, 20)
    scan = tmp_path / "ct.nii"
    scan.write_bytes(content(chest()))
    app = predict(send(open_page(), scan.read_bytes()))
    [control] = combine_control(app)
    assert control.value == "mean" and control.options == ["Mean of probabilities", "Majority vote"]
    if not points:
        app = well(app.slider(key="threshold").set_value(0.9).run())
    space, sizes = the_workspace(app), {}
    for combine, rule in (("mean", "the mean of the models"), ("vote", "more than half of the models")):
        well(combine_control(app)[0].set_value(combine).run())
        assert rule in text(app)
        assert app.query_params.get("combine") == ("vote" if combine == "vote" else None)
        out = tmp_path / combine
        by_hand = predict_scan(scan, runs, out, None if points else 0.9, combine=combine)
        prediction, thresholds = space.decided.prediction, space.decided.thresholds
        assert prediction.report.combine == combine
        np.testing.assert_array_equal(prediction.mask, by_hand.mask)
        assert float(metrics(app)["Infection [mL]"]) == pytest.approx(by_hand.report.mask.volume_ml, abs=0.05)
        image = nib.Nifti1Image.from_bytes(gzip.decompress(result.download(space, thresholds, "mask.nii.gz", combine)))
        np.testing.assert_array_equal(image.dataobj, nib.load(out / "mask.nii.gz").dataobj)
        assert json.loads(result.download(space, thresholds, "report.json", combine))["combine"] == combine
        scene = result.scene(space, prediction, thresholds)
        assert scene.layers[0].name == f"{combine.capitalize()} of 3"
        for layer, mask in zip(scene.layers, [by_hand.mask, *(by_hand.mask_of(run.id) for run in runs)], strict=True):
            shown = np.stack([layer.plane(z)[::-1, ::-1] >= np.float32(scene.threshold) for z in scene.zs])
            np.testing.assert_array_equal(shown, mask, layer.name)
        sizes[combine] = by_hand.report.mask.voxels
    assert sizes["mean"] != sizes["vote"], "both would give the same: the test shows nothing"


def test_a_link_keeps_the_way_to_combine(make: Callable[..., Run], phantoms: str) -> None:
    for metric, zero in (("accuracy", -900), ("iou", -950), ("dice", -1000)):
        make(metric, zero)
    case = load_dataset(phantoms).cases[1].id
    app = predict(open_page(dataset=phantoms, case=case, combine="vote"))
    assert combine_control(app)[0].value == "vote"
    assert the_workspace(app).decided.prediction.report.combine == "vote"
    well(app.multiselect[0].set_value(["first-iou"]).run())
    app = predict(app)
    assert not combine_control(app), "one model has nothing to combine"
    well(app.multiselect[0].set_value(["first-iou", "first-dice"]).run())
    assert combine_control(predict(app))[0].value == "vote", "what the user has set stays"


@pytest.mark.parametrize("passed", [True, False, None])
@pytest.mark.skipif(not has_bfloat16(), reason="this processor does not compute in bfloat16")
def test_bfloat16_is_offered_for_models_that_have_passed_its_check(
    make: Callable[..., Run], tmp_path: Path, passed: bool | None
) -> None:
    """Others would change what they mark, and nobody would know why."""
    run = make()
    if passed is not None:
        agreement = 0.999 if passed else 0.9
        made = Bfloat16Check(BFLOAT16, "2026-01-01", sha256_file(run.onnx), 9, 0.5, agreement, 0.7, 0.7, 0.01)
        write_json(run.folder / "bfloat16.json", made)
    scan = tmp_path / "ct.nii"
    scan.write_bytes(content(chest()))
    app = send(open_page(), scan.read_bytes())
    offered = [toggle for toggle in app.toggle if toggle.label == "Compute in bfloat16"]
    assert bool(offered) == bool(passed)
    if not offered:
        return
    app = predict(app)
    space = the_workspace(app)
    assert space.answers.precision == "float32", "only once it is asked for"
    [fast] = [toggle for toggle in app.toggle if toggle.label == "Compute in bfloat16"]
    well(fast.set_value(True).run())
    assert not button(app, "Predict").disabled
    app = predict(app)
    assert space.answers.precision == "bfloat16"
    assert "Computed in bfloat16" in text(app)
    assert json.loads(result.download(space, Thresholds(), "report.json"))["models"][0]["precision"] == "bfloat16"


def test_mirror_images_are_asked_once_the_user_wants_them(
    make: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned on after a prediction, the page must not show the plain answers for the mirrored ones, nor the reverse."""
    run, shown = make(), []
    answer = Segmenter._answer
    monkeypatch.setattr(Segmenter, "_answer", lambda self, images: (shown.append(len(images)), answer(self, images))[1])
    scan = tmp_path / "ct.nii"
    scan.write_bytes(content(chest()))
    app = predict(send(open_page(), scan.read_bytes()))
    space = the_workspace(app)
    assert (space.answers.mirror, sum(shown)) == (False, SLICES)
    [mirror] = [toggle for toggle in app.toggle if toggle.label == "Mirror images too"]
    well(mirror.set_value(True).run())
    assert app.query_params["mirror"] == "yes"
    assert not button(app, "Predict").disabled
    app = predict(app)
    assert (space.answers.mirror, sum(shown)) == (True, 3 * SLICES)
    assert "Each slice was shown to the models mirrored, too" in text(app)
    report = json.loads(result.download(space, Thresholds(), "report.json"))
    by_hand = predict_scan(scan, run, mirror=True)
    shown.clear()
    assert (report["mirror"], report["mask"]["voxels"]) == (True, by_hand.report.mask.voxels)
    assert button(app, "Predict").disabled
    [mirror] = [toggle for toggle in app.toggle if toggle.label == "Mirror images too"]
    well(mirror.set_value(False).run())
    app = predict(app)
    assert (space.answers.mirror, sum(shown)) == (False, 0), "nothing has to be asked again"
    assert "mirrored, too" not in text(app)


def test_that_a_model_needs_a_lung_model_is_said_before_it_is_asked(make: Callable[..., Run]) -> None:
    """Else the user waits for the scan to be read, presses Predict, and gets an error."""
    run = make()
    cut = dataclasses.replace(run.config, prepare=PrepareConfig(size=SIDE, region="lungs"))
    write_json(run.folder / "config.json", cut)
    make("iou", experiment="other", created="2025-01-02T03:04:05+00:00")
    lungs = make(experiment="lungs", target="lung", created="2024-01-02T03:04:05+00:00")
    app = send(open_page(), chest())
    assert app.selectbox[0].value is None
    [said] = [warning.value for warning in app.warning]
    assert plain(offered_models.offered()[0].label) in said and said.endswith("needs a lung model.")
    assert button(app, "Predict").disabled
    assert "Choose a lung model first." in text(app)
    well(app.selectbox[0].set_value(lungs.id).run())
    assert not app.warning and not button(app, "Predict").disabled
    well(app.selectbox[0].set_value(None).run())
    well(app.multiselect[0].set_value(["other-iou"]).run())
    assert not app.warning and not button(app, "Predict").disabled


def test_one_model_has_no_range_and_one_mask(make: Callable[..., Run]) -> None:
    make()
    app = predict(send(open_page(), chest()))
    assert list(metrics(app)) == ["Infection [mL]", "Lesions", "Slices with a mask"]
    assert [download.label for download in app.get("download_button")] == [
        "Download mask", "Sheet to print", "Figures (CSV)", "Report (JSON)",
    ]  # fmt: skip
    assert not app.dataframe


def test_the_viewer_shows_the_mask_that_is_downloaded(make: Callable[..., Run]) -> None:
    """In radiological view: the patient's front is up, the right side is left."""
    for metric, zero in (("accuracy", -900), ("iou", -700), ("dice", -1000)):
        make(metric, zero)
    space = the_workspace(predict(send(open_page(), chest())))
    scene = result.scene(space, result.decided(space, Thresholds()), Thresholds())
    assert [layer.name for layer in scene.layers] == ["Mean of 3", "Accuracy", "IoU", "Dice"]
    image = nib.Nifti1Image.from_bytes(gzip.decompress(result.download(space, Thresholds(), "mask.nii.gz")))
    ras = np.asarray(nib.as_closest_canonical(image).dataobj)
    for z in (0, 6, 7):
        np.testing.assert_array_equal(scene.layers[0].plane(z) >= np.float32(0.5), ras[::-1, ::-1, z].T)
        np.testing.assert_array_equal(scene.ct(z), chest()[::-1, ::-1, z].T)


def test_a_damaged_file_is_not_handed_out(make: Callable[..., Run]) -> None:
    make()
    space = the_workspace(predict(send(open_page(), chest())))
    result.download(space, Thresholds(), "mask.nii.gz")
    (space.output / "mask.nii.gz").write_bytes(b"half of it")
    with pytest.raises(CovsegError, match="is not as it was written"):
        result.download(space, Thresholds(), "mask.nii.gz")


def test_a_further_model_is_asked_alone(make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """The others have answered already; a copy of one of them needs not be asked at all."""
    for metric, zero in (("accuracy", -900), ("iou", -900), ("dice", -1000)):
        make(metric, zero)
    asked: list[str] = []
    init = Segmenter.__init__

    def watched(self: Segmenter, run: Run, **how: object) -> None:
        asked.append(run.id)
        init(self, run, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "__init__", watched)
    app = predict(send(open_page(runs="first-dice"), chest()))
    assert asked == ["first-dice"]
    well(app.multiselect[0].set_value(["first-accuracy", "first-iou", "first-dice"]).run())
    app = predict(app)
    assert asked == ["first-dice", "first-accuracy"]
    assert list(app.dataframe[0].value["Run"]) == ["first-accuracy", "first-iou", "first-dice"]
    report = json.loads(result.download(the_workspace(app), Thresholds(), "report.json"))
    assert [model["metric"] for model in report["models"]] == ["accuracy", "iou", "dice"]


# --- while it runs


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Models answer after this is set."""
    event = threading.Event()
    answer = Segmenter._answer

    def wait(self: Segmenter, images: np.ndarray) -> np.ndarray:
        assert event.wait(60)
        return answer(self, images)

    monkeypatch.setattr(Segmenter, "_answer", wait)
    yield event
    event.set()


def test_progress_is_shown_by_slice_and_can_be_cancelled(
    make: Callable[..., Run], held: threading.Event, data_folder: Path
) -> None:
    make()
    app = press(send(open_page(), chest()), "Predict")
    assert button(app, "Predict").disabled
    space = the_workspace(app)
    task = tasks.get(space.task)
    for _ in range(200):
        if task.total:
            break
        time.sleep(0.02)
    assert (task.done, task.total, task.unit) == (0, SLICES, "slices")
    app = press(app, "Cancel")
    held.set()
    app = ended(app)
    assert task.state == "cancelled"
    assert "cancelled" in app.info[0].value
    assert not app.metric
    assert not list((space.folder / "answers").glob("*")), "half an answer must not be taken for one"
    assert metrics(predict(app)), "and it can be started again"


def test_one_prediction_runs_at_a_time(make: Callable[..., Run], held: threading.Event) -> None:
    """Two would take as long and the memory of both; the second says that it waits, and can be cancelled meanwhile."""
    make()
    first, second = (press(send(open_page(), chest()), "Predict") for _ in range(2))
    waiting = tasks.get(the_workspace(second).task)
    for _ in range(200):
        if "Waiting" in waiting.label:
            break
        time.sleep(0.02)
    assert waiting.label == "Waiting for another prediction to end"
    press(second, "Cancel")
    ended(second)
    assert waiting.state == "cancelled"
    held.set()
    assert metrics(ended(first))


def test_a_model_that_cannot_be_used_is_told_in_one_line(make: Callable[..., Run]) -> None:
    run = make()
    app = send(open_page(), chest())
    run.onnx.write_bytes(b"no model")
    app = predict(app)
    assert "not readable" in app.error[0].value
    assert not app.metric


def test_a_full_disk_is_told_before_anything_is_computed(
    make: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    app = send(open_page(), chest())

    def full(size: int) -> None:
        assert size == 4 * SLICES * SIDE * SIDE
        raise ScanError("data", "no room")

    monkeypatch.setattr(uploads, "check_room", full)
    assert "no room" in predict(app).error[0].value


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_a_disk_that_fills_while_models_answer_costs_that_prediction_only(make: Callable[..., Run]) -> None:
    """Answers were once written through a memory map, and a full disk ended the dashboard for everybody."""
    import resource

    make()
    app = send(open_page(), chest())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))  # the scan has room, the answer has not
    try:
        app = predict(app)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "no room for the models' answers" in app.error[0].value
    assert not list((the_workspace(app).folder / "answers").glob("*"))
    assert metrics(predict(app)), "with room again it works"


# --- whose scan it is, and for how long


def test_another_browser_sees_nothing_of_it(make: Callable[..., Run]) -> None:
    """Scans are patients'. The link names one by a number that opens nothing without the secret of a browser's own."""
    make()
    mine = predict(send(open_page(), chest(), "jane_doe.nii"))
    space = the_workspace(mine)
    space.browser = "secret of the first"
    theirs = open_page(**mine.query_params)
    assert "jane" not in text(theirs)
    assert not theirs.metric
    assert "another browser has brought it" in theirs.error[0].value
    assert workspace.find_again(space.id, "secret of the first") is space
    for other in ("", "secret of the second"):
        assert workspace.find_again(space.id, other) is None


def test_the_scan_before_is_removed_with_everything_made_from_it(make: Callable[..., Run], data_folder: Path) -> None:
    make()
    app = predict(send(open_page(), chest()))
    first = the_workspace(app)
    result.download(first, Thresholds(), "mask.nii.gz")
    app = press(app, "Another scan")
    assert left_on_disk(data_folder) == []
    assert workspace.find(first.id) is None
    send(app, chest(), "next.nii")
    assert [path.name for path in (data_folder / "predictions").iterdir()] != [first.id]


def test_after_an_hour_nothing_is_left(
    make: Callable[..., Run], data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what a dashboard left that was ended; what somebody still looks at stays."""
    make()
    app = send(open_page(), chest())
    old, kept = the_workspace(app), the_workspace(send(open_page(), chest()))
    stranger = data_folder / "predictions" / "of-an-earlier-process"
    stranger.mkdir()
    hour_ago = time.time() - workspace.KEPT_SECONDS - 1
    os.utime(stranger, (hour_ago, hour_ago))
    old.used = hour_ago
    workspace._workspaces().sweep()
    assert [path.name for path in (data_folder / "predictions").iterdir()] == [kept.id]
    assert "1. Scan" in [heading.value for heading in well(app.run()).subheader]
    assert len(app.file_uploader) == 1, "the page starts anew"


def test_the_original_in_a_dataset_stays(make: Callable[..., Run], phantoms: str) -> None:
    make()
    dataset: Dataset = load_dataset(phantoms)
    space = workspace.take_case(dataset, dataset.cases[0])
    space.read()
    space.clear()
    assert dataset.path(dataset.cases[0], "scan").is_file()


# --- what strangers' files do is done in another process


def test_a_scan_is_read_in_another_process(make: Callable[..., Run], other_process: None, tmp_path: Path) -> None:
    """Nothing is different then, and its voxels are not in the memory of the dashboard."""
    run = make()
    app = predict(send(open_page(), chest()))
    (tmp_path / "ct.nii").write_bytes(content(chest()))
    expected = predict_scan(tmp_path / "ct.nii", [run])
    space = the_workspace(app)
    assert space.decided.prediction.report.mask == expected.report.mask
    np.testing.assert_array_equal(space.scan.volume.voxels, expected.scan.voxels)
    assert not list(temporary_root().iterdir())


def test_a_bomb_is_one_line_and_the_next_scan_is_welcome(
    make: Callable[..., Run], other_process: None, tmp_path: Path
) -> None:
    make()
    tall_nifti(tmp_path / "bomb.nii.gz")
    before = psutil.Process().memory_info().rss
    app = send(open_page(), (tmp_path / "bomb.nii.gz").read_bytes(), "bomb.nii.gz")
    [error] = app.error
    assert "needs more memory to read than" in error.value
    assert psutil.Process().memory_info().rss - before < 100e6
    app = predict(send(app, chest()))
    assert "Done" in text(app)


def linked(phantoms: str, case: int = 0) -> workspace.Workspace:
    """What a session gets that opens a link to a case."""
    dataset = load_dataset(phantoms)
    space = workspace.take_case(dataset, dataset.cases[case])
    space.load()
    return space


def test_sessions_that_open_the_same_link_share_the_scan(phantoms: str, data_folder: Path) -> None:
    """One copy and one descriptor however many there are, also after the first has gone."""
    first = linked(phantoms)
    before = len(os.listdir("/proc/self/fd"))
    others = [linked(phantoms) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) <= before
    assert len(list((data_folder / "predictions").rglob("voxels.npy"))) <= 1
    assert {id(space.scan) for space in others} == {id(first.scan)}
    assert linked(phantoms, case=1).scan is not first.scan
    values = first.scan.volume.voxels.copy()
    first.clear()
    np.testing.assert_array_equal(others[0].scan.volume.voxels, values)


def test_a_scan_that_nobody_has_any_more_is_let_go(phantoms: str) -> None:
    linked(phantoms).clear()
    gc.collect()
    assert not workspace._workspaces()._scans


def test_another_file_of_the_same_name_is_read(phantoms: str) -> None:
    first = linked(phantoms)
    first.file.touch()
    assert linked(phantoms).scan is not first.scan


def test_the_oldest_workspace_goes_first(phantoms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "MOST", 3)
    spaces = [linked(phantoms) for _ in range(3)]
    spaces[0].used = time.time() + 1  # it was looked at last
    spaces.append(linked(phantoms))
    assert [workspace.find(space.id) is not None for space in spaces] == [True, False, True, True]
    assert not spaces[1].folder.exists()


def test_workspaces_are_limited_by_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 256))
    assert workspace._most() == 32


def test_workspaces_are_limited_by_bytes(phantoms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that is shared counts once; answers of each count."""
    spaces = [linked(phantoms) for _ in range(4)]
    size = spaces[0].scan.volume.voxels.nbytes
    monkeypatch.setattr(workspace, "MOST_BYTES", size + 1000)
    spaces.append(linked(phantoms))
    assert all(workspace.find(space.id) for space in spaces)
    (spaces[2].folder / "answer").write_bytes(bytes(1001))
    spaces.append(linked(phantoms))
    assert [workspace.find(space.id) is not None for space in spaces] == [False] * 3 + [True] * 3
