"""The slice viewer is where people judge models by eye: the right slice, the right way round, with the right score."""

from __future__ import annotations

import base64
import dataclasses

import cv2
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from covseg_core import rendering, runs
from covseg_core.config import THESIS, PrepareConfig, RunConfig, SplitConfig
from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.reading import volumes
from covseg_core.data.slices.cache import case_grid
from covseg_core.data.slices.slices import to_native
from covseg_core.data.splitting.split import Split
from covseg_core.errors import RunError
from covseg_core.evaluation.measures import count, overlap
from covseg_core.evaluation.model import single_runs
from covseg_core.evaluation.results import Evaluation, OwnScore
from covseg_core.evaluation.scores import Scores, SliceScore
from covseg_core.files import write_json
from dashboard.components import slice_viewer

PREPARE = PrepareConfig(size=32)
SHOW = """
import numpy as np
import streamlit as st
from dashboard.components import slice_viewer

def plane(value):
    return lambda z: np.full((24, 32), value(z), np.float32)

def half(z):
    return np.arange(24)[:, None] < np.full(32, 12)

layers = [slice_viewer.Layer(f"Model {{n}}", plane(lambda z, n=n: 0.2 * n)) for n in range({layers})]
scene = slice_viewer.Scene("{id}", {zs}, "HU", (1.0, 1.0), plane(lambda z: -1000 + z), {truth}, layers, start={start},
                     threshold_fixed={fixed}, thickness={thickness})
{before}
slice_viewer.show(scene, "test")
"""


def script(zs: str = "range(10)", layers: int = 3, truth: str = "half", **more: object) -> str:
    values = {"id": "scan", "start": None, "fixed": False, "before": "", "thickness": None, **more}
    return SHOW.format(zs=zs, layers=layers, truth=truth, **values)


def open_viewer(source: str, **link: str) -> AppTest:
    app = AppTest.from_string(source, default_timeout=60)
    for name, value in link.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception
    return app


def panels(app: AppTest) -> list[tuple[str, np.ndarray]]:
    """Caption and picture of each panel; swatches of the legend have no caption."""
    images = [image for element in app.get("image") for image in element.proto.imgs if image.caption]
    return [(image.caption, decoded(base64.b64decode(image.url.partition(",")[2]))) for image in images]


def captions(app: AppTest) -> list[str]:
    return [caption for caption, _ in panels(app)]


def decoded(picture: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


# --- what is shown


@pytest.mark.parametrize(("rows", "shown"), [((20, 70), slice(20, 70)), ((2, 98), slice(0, 100))])
def test_padding_is_left_out_where_it_takes_room(rows: tuple[int, int], shown: slice) -> None:
    voxels = np.full((4, 100, 80), -2000, np.int16)
    voxels[:, rows[0] : rows[1]] = np.random.default_rng(0).integers(-1000, 500, (4, rows[1] - rows[0], 80))
    voxels[3] = 7  # an empty slice has padding of its own
    scene = slice_viewer.Scene(f"padded-{rows}", range(4), "HU", (1.0, 1.0), voxels.__getitem__, None, ())
    assert slice_viewer._box((scene.id, 4), scene) == (shown, slice(0, 80))
    [panel] = slice_viewer.render(scene, 0, "lung", "fill", 0.5, 0.5)
    height, width = decoded(panel.picture).shape[:2]
    assert height / width == pytest.approx((shown.stop - shown.start) / 80, abs=0.01)


@pytest.mark.parametrize(
    ("layers", "truth", "expected"),
    [
        (3, "half", ["CT", "True mask", "Model 0", "Model 1", "Model 2"]),
        (2, "None", ["CT", "Model 0", "Model 1"]),
        (0, "half", ["CT", "True mask"]),
        (0, "None", ["CT"]),
        (6, "half", ["CT", "True mask", *(f"Model {n}" for n in range(6))]),
    ],
)
def test_there_is_a_panel_for_all_that_is_known(layers: int, truth: str, expected: list[str]) -> None:
    app = open_viewer(script(layers=layers, truth=truth))
    assert [caption.partition(" · ")[0] for caption in captions(app)] == expected
    assert len({picture.shape for _, picture in panels(app)}) == 1
    legend = [caption.value for caption in app.caption]
    assert ("False positive" in legend) == (layers > 0 and truth != "None"), "a legend explains the colours there are"


def test_pictures_are_of_one_size_in_one_row_that_wraps() -> None:
    """Columns would make stamps of them where the page is narrow."""
    app = open_viewer(script(layers=6))
    assert len(app.get("image")) >= 8
    [row] = [block for block in blocks(app) if block_images(block)]
    assert len(block_images(row)) == 8
    assert row.proto.flex_container.wrap


def blocks(app: AppTest) -> list:
    """All containers of the page."""
    found, waiting = [], [app.main]
    while waiting:
        block = waiting.pop(0)
        found.append(block)
        waiting += [child for child in block.children.values() if hasattr(child, "children")]
    return found


def block_images(block) -> list:
    """Slices that are directly in a container; the legend's swatches are elsewhere."""
    children = [child for child in block.children.values() if child.type in ("image", "imgs")]
    return [child for child in children if "slice" in str(child.proto)]


def test_controls_that_would_change_nothing_are_left_out() -> None:
    app = open_viewer(script(layers=0, truth="None"))
    assert [each.label for each in app.get("button_group")] == ["Window"]
    assert not app.slider
    assert [slider.label for slider in open_viewer(script(layers=0)).slider] == ["Opacity"]
    assert [slider.label for slider in open_viewer(script(fixed=True)).slider] == ["Opacity"]
    assert [slider.label for slider in open_viewer(script()).slider] == ["Threshold", "Opacity"]


def test_the_score_under_a_model_follows_the_threshold() -> None:
    """Models answer 0, 0.2 and 0.4 everywhere; half of the pixels are true, so marking all of them has Dice 2/3."""
    app = open_viewer(script())
    assert captions(app)[2:] == [f"Model {n} · Dice 0.000" for n in range(3)]
    app.slider(key="threshold").set_value(0.4).run()
    assert captions(app)[2:] == ["Model 0 · Dice 0.000", "Model 1 · Dice 0.000", "Model 2 · Dice 0.667"]
    assert open_viewer(script(), threshold="0.2").slider(key="threshold").value == 0.2


def test_a_rightly_empty_mask_is_not_scored_as_a_failure() -> None:
    app = open_viewer(script(truth="plane(lambda z: 0)"))
    assert captions(app)[2:] == [f"Model {n} · both empty" for n in range(3)]


def test_the_window_and_the_style_change_the_pictures() -> None:
    app = open_viewer(script())
    before = panels(app)
    app.get("button_group")[0].set_value("mediastinum").run()
    assert not app.exception
    assert panels(app)[0][1].mean() < before[0][1].mean(), "air is black in the mediastinal window"
    app.get("button_group")[1].set_value("contour").run()
    coloured = [np.ptp(picture, axis=2) > 40 for _, picture in (before[1], panels(app)[1])]
    assert 0 < coloured[1].sum() < coloured[0].sum() / 5, "a contour leaves the lesion visible"
    assert np.abs(panels(app)[1][1] - rendering.TRUTH).max(axis=2).min() < 12, "and is not faint"
    assert app.slider(key="test-opacity").disabled


# --- which slice


def test_the_slider_moves_the_picture_and_link_and_start_say_where_it_begins() -> None:
    app = open_viewer(script())
    assert app.select_slider(key="slice").value == 5, "the middle"
    before = panels(app)[0][1]
    app.select_slider(key="slice").set_value(9).run()
    assert panels(app)[0][1].mean() > before.mean()
    assert open_viewer(script(start=8)).select_slider(key="slice").value == 8
    assert open_viewer(script(start=8), slice="3").select_slider(key="slice").value == 2, "people count from 1"
    assert open_viewer(script(start=8), slice="77").select_slider(key="slice").value == 8
    assert open_viewer(script(start=8), slice="x").select_slider(key="slice").value == 8


def test_links_from_before_slices_were_counted_from_1_lead_where_they_led() -> None:
    app = open_viewer(script(start=8), z="3")
    assert app.select_slider(key="slice").value == 3
    app.select_slider(key="slice").set_value(9).run()
    assert app.select_slider(key="slice").value == 9
    assert open_viewer(script(start=8), z="x").select_slider(key="slice").value == 8


def test_slices_that_are_not_there_are_not_offered() -> None:
    """A split by slice leaves gaps."""
    app = open_viewer(script(zs="[2, 3, 40]"))
    assert app.select_slider(key="slice").options == ["3", "4", "41"]
    assert app.select_slider(key="slice").value == 3


def test_one_slice_needs_no_slider() -> None:
    app = open_viewer(script(zs="[7]"), z="3")
    assert not app.select_slider
    assert "Slice 8, the only one" in [caption.value for caption in app.caption]
    assert len(panels(app)) == 5


@pytest.mark.parametrize(("wanted", "expected"), [(3, 3), (99, 40), (-5, 2), (20, 3)])
def test_a_jump_ends_on_the_nearest_slice(wanted: int, expected: int) -> None:
    app = open_viewer(script(zs="[2, 3, 40]", before=f'if st.button("go"): slice_viewer.go_to("test", {wanted})'))
    app.select_slider(key="slice").set_value(2 if expected != 2 else 40).run()
    app.button[0].click().run()
    assert not app.exception
    assert app.select_slider(key="slice").value == expected
    app.select_slider(key="slice").set_value(3).run()
    assert app.select_slider(key="slice").value == 3, "a jump is made once"


def test_a_jump_can_be_asked_for_below_the_viewer() -> None:
    app = open_viewer(script() + 'if st.button("go"):\n    slice_viewer.go_to("test", 1)\n    st.rerun()\n')
    app.button[0].click().run()
    assert not app.exception
    assert app.select_slider(key="slice").value == 1


def test_another_scan_starts_where_it_has_something_to_show() -> None:
    """Slice 9 of one patient has nothing to do with slice 9 of the next."""
    choose = """
if st.toggle("other"):
    scene = slice_viewer.Scene("other", range(4, 30), "HU", (1.0, 1.0), scene.ct, None, layers, start=20)
"""
    app = open_viewer(script(before=choose))
    app.select_slider(key="slice").set_value(9).run()
    app.toggle[0].set_value(True).run()
    assert not app.exception
    assert app.select_slider(key="slice").value == 20
    app.select_slider(key="slice").set_value(25).run()
    assert app.select_slider(key="slice").value == 25


def views(app: AppTest) -> list:
    return [each for each in app.get("button_group") if each.label == "View"]


def test_slices_come_first_and_a_volume_is_offered_where_they_are_one() -> None:
    """Links and habits lead to slices; from slices with gaps no other plane can be cut."""
    assert not views(open_viewer(script()))
    assert not views(open_viewer(script(zs="[1, 2, 4]", thickness=2.0)))
    assert not views(open_viewer(script(zs="[1]", thickness=2.0)))
    app = open_viewer(script(zs="range(3, 9)", thickness=2.0), z="7")
    [view] = views(app)
    assert view.value == "Slices"
    assert len(panels(app)) == 5
    view.set_value("Volume").run()
    assert not app.exception, app.exception
    assert not panels(app)
    assert app.slider(key="threshold").value == 0.5, "the masks of the volume follow it, too"
    views(app)[0].set_value("Slices").run()
    assert app.select_slider(key="slice").value == 7
    assert len(panels(app)) == 5


def test_the_session_keeps_no_arrays() -> None:
    """A forgotten tab must not hold a scan in memory."""
    app = open_viewer(script())
    app.select_slider(key="slice").set_value(2).run()
    kept = [app.session_state[name] for name in dict(app.session_state._state.filtered_state)]
    assert kept
    assert all(isinstance(value, str | int | float) for value in kept), kept


def test_a_scan_that_cannot_be_read_is_one_line() -> None:
    gone = """
from covseg_core.errors import ScanError
import dataclasses
def missing(z):
    raise ScanError("ct.nii.gz", "no such file")
scene = dataclasses.replace(scene, ct=missing)
"""
    app = open_viewer(script(before=gone))
    assert [error.value for error in app.error] == ["ct.nii.gz: no such file"]


# --- the pictures


def test_planes_are_drawn_the_way_they_come() -> None:
    """Row 0 is anterior, column 0 the patient's right: a viewer that turns it shows the lesion in the other lung."""
    ct = np.full((40, 60), -1350, np.int16)
    ct[:10, :15] = 150
    truth = np.zeros((40, 60), np.uint8)
    truth[30:, 45:] = 1
    layer = slice_viewer.Layer("Model", lambda z: truth[::-1].astype(np.float32))
    scene = slice_viewer.Scene("s", [0], "HU", (1.0, 1.0), lambda z: ct, lambda z: truth, [layer])
    pictures = [decoded(panel.picture) for panel in slice_viewer.render(scene, 0, "lung", "fill", 1.0, 0.5)]
    height, width = pictures[0].shape[:2]
    assert height / width == pytest.approx(40 / 60, abs=0.01)
    front_right, back_left, front_left = (
        (height // 8, width // 8),
        (-height // 8, -width // 8),
        (height // 8, -width // 8),
    )
    for picture in pictures:
        assert np.abs(picture[front_right] - 255).max() < 8
    for picture, place, colour in [
        (pictures[1], back_left, rendering.TRUTH),
        (pictures[2], back_left, rendering.FALSE_NEGATIVE),
        (pictures[2], front_left, rendering.FALSE_POSITIVE),
    ]:
        assert np.abs(picture[place] - colour).max() < 8


def test_pixels_that_are_not_square_are_drawn_at_their_size() -> None:
    plane = np.zeros((20, 50), np.float32)
    scene = slice_viewer.Scene(
        "s", [0], "HU", (2.5, 1.0), lambda z: plane, lambda z: plane, [slice_viewer.Layer("M", lambda z: plane)]
    )
    assert {decoded(panel.picture).shape for panel in slice_viewer.render(scene, 0, "lung", "contour", 1, 0.5)} == {
        (384, 384, 3)
    }


# --- real runs


@pytest.fixture
def dataset(phantoms: str) -> Dataset:
    return load_dataset(phantoms)


@pytest.fixture
def case(dataset: Dataset) -> Case:
    return max(dataset.cases, key=lambda case: case.positive_slices or 0)


def evaluated(dataset: Dataset, case: Case, zs: tuple[int, ...], metric: str, id: str = "") -> runs.Run:
    """A finished run with random predictions for some slices of a case."""
    config = RunConfig(id or metric, "first", dataset.name, dataset.fingerprint, metric, "quick",
                       "2026-01-02T03:04:05.000006+00:00", prepare=PREPARE)  # fmt: skip
    run = runs.create_run(config, Split(SplitConfig(), {}, {}, {case.id: zs}))
    random = np.random.default_rng(len(id or metric))
    coarse = random.random((len(zs), 8, 8), np.float32)
    values = np.stack([cv2.resize(plane, (PREPARE.size,) * 2) for plane in coarse]).astype(np.float16)
    np.save(run.test_predictions, values)
    scores = tuple(SliceScore(case.id, z, case.patient, count(np.zeros(1), np.zeros(1)), {}) for z in zs)
    model = Scores("model", "", {}, {}, {}, (), scores)
    evaluation = Evaluation(
        1, config.created, config.id, metric, "", "infection", dataset.name, dataset.fingerprint, "test", "patient",
        False, (), "nan", 0.5, len(zs), len(zs), 1, 1, True, {}, OwnScore("", None, 0.0), 0.0, 0, model, (), None, (),
    )  # fmt: skip
    write_json(run.evaluation, evaluation)
    return run


def test_a_models_mask_and_score_are_those_of_the_evaluation(dataset: Dataset, case: Case) -> None:
    """Compared with the same steps on whole volumes: resampled to the scan's grid, then thresholded."""
    zs = tuple(range(2, case.slices))
    trained = [evaluated(dataset, case, zs, metric) for metric in THESIS]
    scene = slice_viewer.scene_of_case(dataset, case, single_runs(trained))
    truth = volumes.load_mask(dataset.path(case, "infection")).voxels
    scan = volumes.load_scan(dataset.path(case, "scan")).voxels
    assert list(scene.zs) == list(zs)
    assert scene.start == max(zs, key=case.infection_voxels.__getitem__)
    for z in zs:
        assert np.array_equal(scene.ct(z)[::-1, ::-1], scan[z])
        assert np.array_equal(scene.truth(z)[::-1, ::-1], truth[z])
        shown = [panel.caption for panel in slice_viewer.render(scene, z, "lung", "fill", 0.5, 0.5)][2:]
        for run, layer, caption in zip(trained, scene.layers, shown, strict=True):
            stored = np.load(run.test_predictions).astype(np.float32)
            native = to_native(stored, case_grid(dataset, case, PREPARE))[zs.index(z)]
            assert np.array_equal(layer.plane(z)[::-1, ::-1], native)
            dice = overlap(count(truth[z], native >= 0.5), "nan")["dice"]
            assert caption == f"{layer.name} · Dice {dice:.3f}"
    assert [layer.name for layer in scene.layers] == ["Accuracy model", "IoU model", "Dice model"]


def test_only_slices_that_all_models_have_predicted_are_shown(dataset: Dataset, case: Case) -> None:
    one, two = evaluated(dataset, case, (1, 3, 4), "dice", "a"), evaluated(dataset, case, (3, 4, 5), "dice", "b")
    scene = slice_viewer.scene_of_case(dataset, case, single_runs([one, two]))
    assert list(scene.zs) == [3, 4]
    assert [layer.name for layer in scene.layers] == ["a", "b"], "two runs of one metric are told apart"
    other = evaluated(dataset, case, (7,), "dice", "c")
    with pytest.raises(RunError, match="test part of all"):
        slice_viewer.scene_of_case(dataset, case, single_runs([one, other]))


def test_a_case_without_a_mask_is_shown_without_one(dataset: Dataset, case: Case) -> None:
    run = evaluated(dataset, case, (1, 2), "dice")
    blind = dataclasses.replace(case, infection=None, infection_voxels=None)
    scene = slice_viewer.scene_of_case(dataset, blind, single_runs([run]))
    assert scene.truth is None
    assert [panel.caption for panel in slice_viewer.render(scene, 1, "full", "fill", 0.5, 0.5)] == ["CT", "Dice model"]
