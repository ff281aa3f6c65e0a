"""What the Quick prediction page takes: DICOM, pictures and archives, the bad ones included; and what lungs add."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import streamlit as st
from chests import BRIGHT, LESION, SIDE, TISSUE, chest, grey, make_run
from dicomfiles import SECRET, Stack, write
from known import node, save_known
from pages import open_page, well
from PIL import Image
from streamlit.testing.v1 import AppTest

from covseg_core.runs.operating_point import Thresholds
from dashboard.app_pages.predict import result, workspace
from dashboard.services import tasks


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Workspaces and tasks are kept a process long, so that sessions share them."""
    st.cache_resource.clear()
    yield
    for space in list(workspace._workspaces()._all.values()):
        space.clear()


@pytest.fixture(autouse=True)
def _shipped(checkpoints_folder: Path) -> None:
    """A model that marks the lesion, and one that marks lungs with what is in them: all that is no tissue."""
    make_run(checkpoints_folder / "pretrained", "infection-dice", BRIGHT)
    lung = make_run(checkpoints_folder / "pretrained", "lung", 0, target="lung")
    nodes = [
        node("Sub", "grey tissue", "difference"),
        node("Abs", "difference", "distance"),
        node("Greater", "distance little", "other"),
        node("Cast", "other", "masks"),
    ]
    save_known(lung.onnx, SIDE, nodes, {"tissue": grey(TISSUE), "little": 13.0})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is sent."""
    return tmp_path / "sent"


def stack(slices: int = 6) -> Stack:
    """The chest as a scanner stores it: rows from the front to the back."""
    values = np.repeat(chest().T[:, ::-1, ::-1], slices // 6, axis=0).astype(np.int16)
    positions = np.array([[0.0, 0.0, 5.0 * z] for z in range(slices)])
    return Stack(values, positions, spacing=(5.0, 5.0))


def files(folder: Path) -> list[tuple[str, bytes, str]]:
    return [
        (str(path.relative_to(folder)), path.read_bytes(), "application/octet-stream")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, _ in files(folder):
            archive.writestr(name, data)
    return content.getvalue()


def send(*sent: tuple[str, bytes, str]) -> AppTest:
    app = open_page("predict")
    app.file_uploader[0].set_value(list(sent))
    return well(app.run())


def press(app: AppTest, label: str) -> AppTest:
    [button] = [button for button in app.button if button.label == label]
    assert not button.disabled, label
    return well(button.click().run())


def predict(app: AppTest) -> tuple[AppTest, workspace.Workspace]:
    press(app, "Predict")
    space = workspace.find(app.session_state["workspace"])
    assert space is not None
    for _ in range(600):
        if tasks.get(space.task).state != "running":
            break
        time.sleep(0.05)
    return well(app.run()), space


def text(app: AppTest) -> str:
    kinds = ("markdown", "caption", "warning", "error")
    return "\n".join(element.value for kind in kinds for element in app.get(kind))


def downloads(app: AppTest) -> list[str]:
    return [button.label for button in app.get("download_button")]


def left(data_folder: Path) -> list[str]:
    return [path.name for name in ("uploads", "predictions") for path in (data_folder / name).rglob("*")]


def test_a_dicom_series_gives_masks_shares_of_lungs_and_a_dicom_seg(folder: Path) -> None:
    write(folder / "ct", stack())
    app, space = predict(send(*files(folder)))
    metrics = {metric.label: metric.value for metric in app.metric}
    voxels = int((chest() == LESION).sum())
    assert metrics["Infection [mL]"] == f"{voxels * 0.125:.1f}"
    shares = [metrics[f"{side} infected [%]"] for side in ("Right lung", "Left lung", "Both lungs")]
    assert shares.count("0.0") == 1, "the lesion is in one lung only"
    assert "DICOM SEG" in downloads(app)
    seg = pydicom.dcmread(io.BytesIO(result.download(space, Thresholds(), "mask.dcm")))
    assert seg.pixel_array.sum() == voxels
    assert "Figures (DICOM SR)" in downloads(app)
    for name in ("report.json", "report.html", "report.csv", "mask.dcm", "measures.dcm"):
        assert SECRET.encode() not in result.download(space, Thresholds(), name), name
    assert SECRET not in text(app)


def test_a_dicom_seg_names_the_patient_only_if_that_is_asked_for(folder: Path) -> None:
    write(folder / "ct", stack())
    app, space = predict(send(*files(folder)))
    [keep] = [toggle for toggle in app.toggle if toggle.label == "Keep patient in DICOM SEG"]
    assert not keep.value
    seg = pydicom.dcmread(io.BytesIO(result.download(space, Thresholds(), "mask.dcm")))
    assert (seg.PatientName, seg.StudyDate) == ("", "")
    assert seg.SeriesDescription == "covseg: infection, for research only"
    assert seg.SeriesDate == seg.ContentDate
    naming = workspace.Naming(keep_patient=True)
    seg = pydicom.dcmread(io.BytesIO(result.download(space, Thresholds(), "mask.dcm", naming=naming)))
    assert SECRET in str(seg.PatientName)


def test_a_zip_is_gone_once_it_was_read_and_cannot_name_the_patient(folder: Path) -> None:
    write(folder / "ct", stack())
    app, _ = predict(send(("ct.zip", zipped(folder), "application/zip")))
    assert "DICOM SEG" in downloads(app)
    assert "Keep patient in DICOM SEG" not in [toggle.label for toggle in app.toggle]


def test_of_several_series_one_is_chosen_and_another_can_be(folder: Path) -> None:
    write(folder / "thick", stack(), SeriesNumber=2)
    write(folder / "thin", stack(12), SeriesNumber=3)
    app = send(("both.zip", zipped(folder), "application/zip"))
    assert "2 series can be used" in text(app)
    assert SECRET not in text(app) + str(app.radio[0].options)
    thick = next(option for option in app.radio[0].options if "6 slices" in option)
    app.radio[0].set_value(app.radio[0].options[app.radio[0].options.index(thick)])
    app = press(app, "Use this series")
    assert f"Matrix {SIDE} x {SIDE} x 6 voxels" in text(app)
    app, _ = predict(app)
    assert app.metric
    app = press(app, "Another series")
    assert not app.metric, "figures of the series before"
    assert "2 series can be used" in text(app)


def test_a_picture_has_no_millilitres(folder: Path) -> None:
    folder.mkdir()
    picture = np.rint(grey(chest()[:, ::-1, 4].T.astype(float))).clip(0, 255).astype(np.uint8)
    Image.fromarray(picture).save(folder / "slice.png")
    app, space = predict(send(*files(folder)))
    assert "no scale, size or position" in text(app)
    assert "Infection [voxels]" in {metric.label for metric in app.metric}
    assert next(slider for slider in app.slider if slider.key == "minimum").disabled
    assert "DICOM SEG" not in downloads(app)
    assert json.loads(result.download(space, Thresholds(), "report.json"))["scan"]["voxel_ml"] is None


def test_small_lesions_are_left_out_of_figures_and_files_alike(folder: Path) -> None:
    write(folder / "ct", stack())
    app, space = predict(send(*files(folder)))
    before = float(app.metric[0].value)
    size = result.decided(space, Thresholds()).report.mask
    assert size.lesions == 1
    app = well(app.slider(key="minimum").set_value(500).run())
    assert float(app.metric[0].value) == before, "one lesion of 125 mm3 voxels is larger than 500 mm3"
    tall = result.decided(space, Thresholds(minimum_mm3=before * 1000 + 1))
    assert tall.report.mask.voxels == 0
    assert not tall.mask.any()


def mask_upload(folder: Path) -> list[tuple[str, bytes, str]]:
    import nibabel as nib

    image = nib.Nifti1Image((chest() == LESION).astype(np.uint8), np.eye(4))
    return [("infection_mask.nii", image.to_bytes(), "")]


def outside(folder: Path) -> list[tuple[str, bytes, str]]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("../../evil.dcm", b"x")
    return [("scan.zip", content.getvalue(), "")]


def bomb(folder: Path) -> list[tuple[str, bytes, str]]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM1", b"\0" * 20_000_000)
    # a directory that promises 200 GB, as bombs do
    data = bytearray(content.getvalue())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        assert archive.infolist()[0].file_size > 4e9
    return [("scan.zip", bytes(data), "")]


def truncated(folder: Path) -> list[tuple[str, bytes, str]]:
    write(folder / "ct", stack())
    return [(name, content[:-3000], kind) for name, content, kind in files(folder)]


def nothing_of_use(folder: Path) -> list[tuple[str, bytes, str]]:
    return [(f"notes {n}.txt", b"words", "") for n in range(30)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (mask_upload, "mask"),
        (outside, "stay inside"),
        (bomb, "zip"),
        (truncated, "pixel"),
        (nothing_of_use, "30 files"),
    ],
    ids=["a mask", "path traversal", "bomb", "truncated", "text"],
)
def test_what_is_no_scan_is_refused_in_a_line_and_nothing_of_it_stays(
    make, said: str, folder: Path, data_folder: Path
) -> None:
    app = send(*make(folder))
    [error] = [error.value for error in app.error]
    assert said in error
    assert str(data_folder) not in error
    assert left(data_folder) == []
    assert not (data_folder.parent / "evil.dcm").exists()


def test_one_ct_slice_among_ten_thousand_files_is_found(folder: Path) -> None:
    """Somebody drags the whole disk of a scanner in, as a zip."""
    [path] = write(folder / "ct", Stack(stack().values[:1], stack().positions[:1]))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for n in range(9_999):
            archive.writestr(f"logs/{n:05d}.txt", b"x")
        archive.write(path, "logs/scan")
    app = send(("disk.zip", content.getvalue(), ""))
    assert f"Matrix {SIDE} x {SIDE} x 1 voxels" in text(app)
    assert "9999 files without DICOM slices passed over" in text(app)
