"""Correcting a mask on the page, without a browser. What a user loses otherwise: hours of drawing, or a colleague's."""

from __future__ import annotations

from collections.abc import Callable

import nibabel as nib
import numpy as np
import pytest
from pages import open_page, well
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import FileUploader

from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.library.revisions import mask_file, save_revision, stored_mask
from dashboard.app_pages.review import correction, link, order
from dashboard.services import corrections, mask_receiver

CASE = "phantom_001"


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(3)


def opened(dataset: Dataset, case: str = CASE, **state: object) -> AppTest:
    return open_page("review", state, dataset=dataset.name, case=case)


def click(app: AppTest, label: str) -> AppTest:
    [button] = [button for button in app.button if button.label == label]
    return well(button.click().run())


def texts(app: AppTest) -> str:
    boxes = [*app.markdown, *app.caption, *app.warning, *app.info, *app.success, *app.error]
    return "\n".join(str(box.value) for box in boxes)


def uploader(app: AppTest) -> FileUploader:
    return next(field for field in app.file_uploader if field.label == "Corrected mask")


def mask_of(dataset: Dataset) -> np.ndarray:
    return stored_mask(dataset, dataset.case(CASE), "infection")


def drawn(dataset: Dataset) -> np.ndarray:
    mask = mask_of(dataset).copy()
    mask[2, 3:6, 4:9] = 1
    return mask


def sent(app: AppTest, mask: np.ndarray, minutes: object = 3.5) -> AppTest:
    """The viewer has sent a mask."""
    work = next(iter(app.session_state[corrections.KEY].values()))
    shape = tuple(int(length) for length in mask.shape)
    come = mask_receiver._Offer(shape, "key", "session", "", bits=np.packbits(mask))  # type: ignore[arg-type]
    app.session_state[mask_receiver.OFFERS]["review-drawn"] = come
    app.session_state["review-sent"] = {"key": repr(work.id), "minutes": minutes}
    return well(app.run())


def test_a_mask_is_opened_drawn_on_and_saved(dataset: Dataset) -> None:
    app = opened(dataset)
    assert not app.dataframe or "History of the masks" not in texts(app)
    app = click(app, "Correct")
    assert "Draw, then press *Done*" in texts(app)
    assert not app.get("image"), "there is the volume, and no slices"
    mask = drawn(dataset)
    app = sent(app, mask)
    added = int((mask > mask_of(dataset)).sum())
    assert f"**{added}** voxels added, **0** removed, 3.5 minutes of work." in texts(app)
    assert load_dataset(dataset.name).revision == 1, "nothing is stored before it is saved"
    app.text_input(key=order.READER).set_value("Ada").run()
    app.number_input(key=f"{correction.MINUTES}-drawn").set_value(5.0).run()
    app = click(app, "Save revision")
    now = load_dataset(dataset.name)
    assert np.array_equal(mask_of(now), mask)
    one = now.case(CASE).revisions[-1]
    assert (one.author, one.minutes, one.parent, one.origin, one.added) == ("Ada", 5.0, 1, "editor", added)
    assert f"Revision 2 of {CASE.replace('_', chr(92) + '_')} is saved: {added} voxels added, 0 removed." in texts(app)
    assert "History of the masks" in texts(app)
    [table] = [frame.value for frame in app.dataframe if "Of" in frame.value.columns]
    infection = table[table["Mask"] == "infection"]
    assert list(infection["By"]) == ["Ada", ""]
    assert list(infection["From"]) == ["drawn here", "imported"]
    app = click(app, "Correct")
    app = sent(app, drawn(now) * 0, minutes=0)
    assert app.text_input(key=order.READER).value == "Ada", "the session knows who it is"
    assert app.number_input(key=f"{correction.MINUTES}-drawn").value == 0


def test_nothing_changed_is_said_and_cannot_be_saved(dataset: Dataset) -> None:
    app = sent(click(opened(dataset), "Correct"), mask_of(dataset))
    assert "Nothing was changed" in texts(app)
    assert not [button for button in app.button if button.label == "Save revision"]


def test_who_is_overtaken_is_told_before_and_after(dataset: Dataset) -> None:
    app = sent(click(opened(dataset), "Correct"), drawn(dataset))
    other = mask_of(dataset).copy()
    other[5] = 1
    save_revision(dataset.name, CASE, other, author="Bob")
    app = well(app.run())
    assert "Revision 2 by Bob was saved since you opened this mask, and is not part of yours." in texts(app)
    app = click(app, "Save revision")
    assert "Revision 2 by Bob is not part of it; both are kept." in texts(app)
    assert np.array_equal(mask_of(load_dataset(f"{dataset.name}@2")), other)
    assert np.array_equal(mask_of(load_dataset(dataset.name)), drawn(dataset))


def test_stop_leaves_all_as_it_was_and_another_case_is_not_touched(dataset: Dataset) -> None:
    app = sent(click(opened(dataset), "Correct"), drawn(dataset))
    app = well(app.selectbox(key=link.chosen_case(dataset.name)).set_value("phantom_003").run())
    assert "Save revision" not in [button.label for button in app.button]
    app = well(app.selectbox(key=link.chosen_case(dataset.name)).set_value(CASE).run())
    assert "Save revision" in [button.label for button in app.button], "it waits"
    app = click(app, "Stop correcting")
    assert "Correct" in [button.label for button in app.button]
    assert load_dataset(dataset.name).revision == 1


@pytest.mark.parametrize("minutes", [None, "12", -1, float("nan"), float("inf"), 1e300])
def test_what_a_browser_says_of_minutes_is_not_believed_blindly(minutes: object, dataset: Dataset) -> None:
    app = sent(click(opened(dataset), "Correct"), drawn(dataset), minutes)
    assert app.number_input(key=f"{correction.MINUTES}-drawn").value in (0.0, 10_000.0)


def test_lungs_can_be_corrected_too(dataset: Dataset) -> None:
    app = opened(dataset)
    [role] = [group for group in app.button_group if group.label == "Mask"]
    app = click(well(role.set_value("lung").run()), "Correct")
    lungs = stored_mask(dataset, dataset.case(CASE), "lung").copy()
    lungs[0] = 0
    lungs[0, 0, 0] = 1
    app = click(sent(app, lungs), "Save revision")
    now = load_dataset(dataset.name)
    assert np.array_equal(stored_mask(now, now.case(CASE), "lung"), lungs)
    assert now.case(CASE).infection == dataset.case(CASE).infection


def test_a_file_of_another_program_is_taken(dataset: Dataset) -> None:
    content = corrected_file(dataset, dataset.case(CASE))
    app = opened(dataset)
    uploader(app).set_value([("corrected.nii.gz", content, "application/gzip")])
    app = click(well(app.run()), "Save as a revision")
    now = load_dataset(dataset.name)
    assert np.array_equal(mask_of(now), drawn(dataset))
    assert now.case(CASE).revisions[-1].origin == "file"
    assert "is saved" in texts(app)
    assert not uploader(app).value


def test_a_file_on_another_grid_is_refused_in_a_line(dataset: Dataset) -> None:
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4) * 2)
    app = opened(dataset)
    uploader(app).set_value([("corrected.nii", image.to_bytes(), "application/octet-stream")])
    app = click(well(app.run()), "Save as a revision")
    assert "corrected.nii: shape 4 x 5 x 6, not 48 x 48 x 8" in texts(app)
    assert load_dataset(dataset.name).revision == 1


def corrected_file(dataset: Dataset, case: Case) -> bytes:
    """What the page hands out, with a block drawn in."""
    path = dataset.folder.parent / "corrected.nii.gz"
    path.write_bytes(mask_file(dataset, case, "infection"))
    image = nib.load(path)
    voxels = np.asarray(nib.as_closest_canonical(image).dataobj).copy()
    voxels[4:9, 3:6, 2] = 1
    canonical = nib.Nifti1Image(voxels, nib.as_closest_canonical(image).affine)
    nib.save(canonical.as_reoriented(nib.io_orientation(image.affine)), path)
    content = path.read_bytes()
    path.unlink()
    return content
