"""The page Review, without a browser. What a user loses otherwise: what was said of a mask, or which is next."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakeruns import fake_run
from pages import open_page, well
from streamlit.testing.v1 import AppTest

from covseg_core.config import SplitConfig
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.reviews import add_review, read_reviews
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.review_queue import ranked
from dashboard.app_pages.review import link, order, readers


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(4)


def opened(dataset: Dataset, reader: str = "Ada", **query: str) -> AppTest:
    return open_page("review", {order.READER: reader}, dataset=dataset.name, **query)


def button(app: AppTest, label: str) -> object:
    return next(button for button in app.button if button.label == label)


def click(app: AppTest, label: str) -> AppTest:
    return well(button(app, label).click().run())  # type: ignore[attr-defined]


def case(app: AppTest, dataset: Dataset) -> str:
    return str(app.session_state[link.chosen_case(dataset.name)])


def progress(app: AppTest) -> str:
    [bar] = app.get("progress")
    return str(bar.proto.text)


def test_masks_are_decided_on_one_after_the_other(dataset: Dataset) -> None:
    app = opened(dataset)
    app.selectbox(key=order.ORDER).set_value("name").run()
    assert case(app, dataset) == "phantom_001" or case(app, dataset) in {one.id for one in dataset.cases}
    app = well(app.selectbox(key=link.chosen_case(dataset.name)).set_value("phantom_001").run())
    app = click(click(app, "Good"), "Accept")
    assert case(app, dataset) == "phantom_002", "the next that waits"
    assert progress(app).startswith("1 of 4 masks seen by Ada: 1 accepted")
    app.text_input(key="review-note").set_value("all of it shifted").run()
    app = click(app, "Reject")
    one, two = read_reviews(load_dataset(dataset.name))
    assert (one.case, one.decision, one.grade, one.note, one.reader) == ("phantom_001", "accepted", 4, "", "Ada")
    assert (two.case, two.decision, two.grade, two.note) == ("phantom_002", "rejected", None, "all of it shifted")
    app = click(click(app, "Accept"), "Accept")
    assert progress(app).startswith("4 of 4 masks seen by Ada")
    assert case(app, dataset) == "phantom_004", "there is none to go to"
    app = click(click(app, "Previous"), "Previous")
    assert case(app, dataset) == "phantom_002"
    [reviews] = [frame.value for frame in app.dataframe if "Note" in frame.value.columns]
    assert list(reviews["Note"]) == ["all of it shifted"]


def test_an_earlier_mask_is_brought_back(dataset: Dataset) -> None:
    first = dataset.cases[0]
    masks = [stored_mask(dataset, first, "infection")]
    for size in (3, 5):
        masks.append(masks[0].copy())
        masks[-1][0, :size, :size] ^= 1
        save_revision(dataset.name, first.id, masks[-1])
    app = opened(dataset, case=first.id)
    [earlier] = [box for box in app.selectbox if box.label == "Earlier mask"]
    assert earlier.options == ["Revision 2", "Revision 1"]
    well(earlier.set_value(1).run())
    app = click(app, "Bring back")
    assert "counts again, as revision 4" in app.success[0].value
    now = load_dataset(dataset.name)
    assert (stored_mask(now, now.case(first.id), "infection") == masks[0]).all()
    newest = now.case(first.id).revisions[-1]
    assert (newest.author, newest.origin) == ("Ada", "revision 1")
    (dataset.folder / now.as_of(2).case(first.id).files["infection"]).unlink()
    [earlier] = [box for box in app.selectbox if box.label == "Earlier mask"]
    assert earlier.options == ["Revision 3", "Revision 2", "Revision 1"]
    well(earlier.set_value(2).run())
    button(app, "Bring back").click().run()  # type: ignore[attr-defined]
    assert "infection.r2.nii.gz" in app.error[0].value
    assert load_dataset(dataset.name).revision == 4


def test_nobody_decides_without_a_name(dataset: Dataset) -> None:
    app = opened(dataset, reader="")
    assert button(app, "Accept").disabled and button(app, "Reject").disabled  # type: ignore[attr-defined]
    assert "say who you are" in progress(app)


def test_a_grade_can_be_taken_back(dataset: Dataset) -> None:
    click(click(click(opened(dataset), "Poor"), "Poor"), "Accept")
    assert read_reviews(load_dataset(dataset.name))[0].grade is None


def test_a_new_session_begins_with_what_waits_and_a_link_leads_to_a_case(dataset: Dataset) -> None:
    app = opened(dataset)
    app.selectbox(key=order.ORDER).set_value("name").run()
    add_review(dataset.name, "phantom_001", "accepted", "Ada")
    first = opened(dataset)
    assert case(first, dataset) != "phantom_001"
    assert case(opened(dataset, case="phantom_001"), dataset) == "phantom_001"


def test_a_click_leads_to_its_case_whichever_was_looked_at_before(dataset: Dataset) -> None:
    """Masks that models doubt are opened one after the other, and each has to be the right one."""
    before = {link.chosen_case(dataset.name): "phantom_001", "dataset": "another"}
    app = open_page("review", before, dataset=dataset.name, look="phantom_003")
    assert case(app, dataset) == "phantom_003"
    assert "look" not in app.query_params, "another choice would be undone"
    app = open_page("review", before, dataset=dataset.name, look="nobody")
    assert case(app, dataset) in {one.id for one in dataset.cases}


def test_the_orders_are_those_that_say_something(dataset: Dataset) -> None:
    app = opened(dataset)
    assert app.selectbox(key=order.ORDER).options == ["Largest first", "By name"]
    runs = [fake_run(dataset, "e-dice", "dice", SplitConfig(fractions=(0.25, 0.25, 0.5)), 110)]
    evaluate_runs(runs)
    app = opened(dataset)
    assert app.selectbox(key=order.ORDER).options[0] == "Doubted by models first"
    cases = [one.case for one in ranked(dataset, "infection", "doubt", runs)]
    box = app.selectbox(key=link.chosen_case(dataset.name))
    assert [option.split(" · ")[0] for option in box.options] == cases
    mask = stored_mask(dataset, dataset.case(cases[0]), "infection") ^ 1
    save_revision(dataset.name, cases[0], mask)
    app = well(app.run())
    assert app.selectbox(key=order.ORDER).value == "doubt", "models are asked about the masks that they were tested on"


def test_readers_are_compared_and_reviews_handed_out(dataset: Dataset) -> None:
    assert not [box for box in opened(dataset).expander if box.label == "Readers"]
    for reader, grade in (("Ada", 4), ("Bob", 5)):
        add_review(dataset.name, "phantom_001", "accepted", reader, grade=grade)
    app = open_page("review", {order.READER: "Ada", readers.OPEN: True}, dataset=dataset.name)
    [table] = [frame.value for frame in app.dataframe if "Kappa" in frame.value.columns]
    assert list(table["Readers"]) == ["Ada and Bob"]
    assert list(table["Same decision"]) == [1.0]
    assert [one.label for one in app.get("download_button")].count("Download all reviews (CSV)") == 1


def test_a_damaged_file_of_reviews_is_told_and_masks_can_still_be_trained_on(dataset: Dataset) -> None:
    (dataset.folder / "reviews.json").write_text("[")
    app = opened(dataset)
    assert any("reviews.json" in str(error.value) for error in app.error)
    app = open_page("", {}, dataset=dataset.name)
    assert any("reviews.json" in str(error.value) for error in app.error)


def test_training_leaves_out_what_was_rejected_unless_told_otherwise(
    dataset: Dataset, no_training: None, checkpoints_folder: object
) -> None:
    from covseg_core.runs import list_runs

    app = open_page("", {}, dataset=dataset.name)
    assert not [box for box in app.checkbox if box.label.startswith("Leave out")]
    add_review(dataset.name, "phantom_002", "rejected", "Ada")
    app = open_page("", {}, dataset=dataset.name)
    [box] = [box for box in app.checkbox if box.label == "Leave out rejected masks (1)"]
    assert box.value
    app = click(app, "Start training")
    for run in list_runs():
        assert run.config.split.leave_out == ("phantom_002",)
        assert all("phantom_002" not in run.split.part(part) for part in ("train", "validation", "test"))  # type: ignore[arg-type]


def test_without_data_it_says_where_to_go(data_folder: object) -> None:
    app = open_page("review")
    assert any("There is no dataset yet." in str(box.value) for box in app.info)
