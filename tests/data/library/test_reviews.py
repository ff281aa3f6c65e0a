"""Reviews of masks. What a user loses when it fails: what a radiologist said of a mask, or which mask it was of."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from covseg_core.data.library import reviews as module
from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.reviews import add_review, current, latest, read_reviews, rejected, unseen, waiting
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.errors import CovsegError, DatasetError, SettingError

CASE, OTHER, THIRD = "phantom_001", "phantom_002", "phantom_003"


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(3)


def correct(dataset: Dataset, case: str = CASE, author: str = "") -> Dataset:
    mask = stored_mask(dataset, dataset.case(case), "infection").copy()
    mask[0, 3:6, 4:9] ^= 1
    return save_revision(dataset.name, case, mask, author=author).dataset


def ids(cases: list) -> list[str]:  # type: ignore[type-arg]
    return [case.id for case in cases]


def test_what_is_said_is_kept_with_the_mask_that_it_is_of(dataset: Dataset) -> None:
    fingerprint = dataset.fingerprint
    one = add_review(dataset.name, CASE, "accepted", " Ada ", grade=4, note=" rims are wide ")
    assert (one.case, one.role, one.revision, one.reader) == (CASE, "infection", 1, "Ada")
    assert (one.decision, one.grade, one.note) == ("accepted", 4, "rims are wide")
    correct(dataset)
    two = add_review(dataset.name, CASE, "rejected", "Ada")
    old = add_review(dataset.name, CASE, "accepted", "Bob", revision=1)
    lung = add_review(dataset.name, CASE, "accepted", "Bob", "lung")
    assert (two.revision, two.grade, old.revision, lung.revision) == (2, None, 1, 1)
    now = load_dataset(dataset.name)
    assert read_reviews(now) == (one, two, old, lung)
    assert now.as_of(1).fingerprint == fingerprint, "what a run was trained on is the same as before"


def test_the_latest_word_of_a_reader_counts(dataset: Dataset) -> None:
    first = add_review(dataset.name, CASE, "accepted", "Ada")
    bob = add_review(dataset.name, CASE, "accepted", "Bob")
    again = add_review(dataset.name, CASE, "rejected", "Ada", grade=1)
    assert latest([first, bob, again]) == [bob, again]
    assert rejected(dataset, "infection") == [CASE]
    add_review(dataset.name, CASE, "accepted", "Bob")
    assert rejected(dataset, "infection") == [], "somebody has said the opposite since"


def test_who_has_looked_or_drawn_need_not_look_again_and_a_new_mask_waits(dataset: Dataset) -> None:
    assert ids(waiting(dataset, "infection", (), "Ada")) == [CASE, OTHER, THIRD]
    add_review(dataset.name, CASE, "accepted", "Ada")
    add_review(dataset.name, OTHER, "rejected", "Bob")
    assert ids(waiting(dataset, "infection", read_reviews(dataset), "Ada")) == [OTHER, THIRD]
    assert ids(waiting(dataset, "infection", read_reviews(dataset), "")) == [CASE, OTHER, THIRD]
    assert ids(waiting(dataset, "lung", read_reviews(dataset), "Ada")) == [CASE, OTHER, THIRD]
    now = correct(dataset, CASE, "Bob")
    assert ids(waiting(now, "infection", read_reviews(now), "Ada")) == [CASE, OTHER, THIRD], "it is another mask"
    assert ids(waiting(now, "infection", read_reviews(now), "Bob")) == [THIRD]
    assert [one.case for one in current(now, "infection", read_reviews(now))] == [OTHER]


def test_a_rejected_mask_that_was_corrected_is_not_rejected_any_more(dataset: Dataset) -> None:
    add_review(dataset.name, CASE, "rejected", "Ada")
    assert rejected(correct(dataset), "infection") == []


def test_masks_of_models_are_told_of_until_somebody_has_looked(dataset: Dataset) -> None:
    assert unseen(dataset, "infection") == [], "imported ones are somebody's"
    from dataclasses import replace

    from covseg_core.files import write_json

    cases = tuple(
        replace(case, revisions=(replace(case.history("infection", dataset.created)[0], origin="model-a"),))
        for case in dataset.cases
    )
    write_json(dataset.folder / "dataset.json", replace(dataset, cases=cases))
    made = load_dataset(dataset.name)
    assert unseen(made, "infection") == [CASE, OTHER, THIRD]
    add_review(dataset.name, CASE, "accepted", "Ada")
    add_review(dataset.name, OTHER, "rejected", "Ada")
    assert unseen(made, "infection") == [OTHER, THIRD]
    assert unseen(correct(made, THIRD), "infection") == [OTHER]


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "words"),
    [
        ((CASE, "fine", "Ada"), {}, SettingError, "expected accepted, corrected, rejected"),
        ((CASE, "accepted", "  "), {}, SettingError, "a name of up to 100"),
        ((CASE, "accepted", "A\nB"), {}, SettingError, "printable"),
        ((CASE, "accepted", "A" * 101), {}, SettingError, "up to 100"),
        ((CASE, "accepted", "Ada"), {"grade": 6}, SettingError, "1 to 5"),
        ((CASE, "accepted", "Ada"), {"grade": 0}, SettingError, "1 to 5"),
        ((CASE, "accepted", "Ada"), {"note": "x" * 1001}, SettingError, "1,001 characters"),
        (
            (CASE, "accepted", "Ada"),
            {"revision": 2},
            DatasetError,
            "no infection mask of revision 2; expected one of",
        ),
        (("nobody", "accepted", "Ada"), {}, DatasetError, "no case 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_stored(
    arguments: tuple, options: dict, kind: type[CovsegError], words: str, dataset: Dataset
) -> None:
    with pytest.raises(kind, match=words):
        add_review(dataset.name, *arguments, **options)
    assert read_reviews(dataset) == ()


def test_a_case_without_such_a_mask_has_nothing_to_be_reviewed(dataset: Dataset) -> None:
    from dataclasses import replace

    from covseg_core.files import write_json

    bare = replace(dataset, cases=tuple(case.with_mask("lung", None) for case in dataset.cases))
    write_json(dataset.folder / "dataset.json", bare)
    with pytest.raises(DatasetError, match="no lung mask of revision None; expected one of: none"):
        add_review(dataset.name, CASE, "accepted", "Ada", "lung")
    assert waiting(load_dataset(dataset.name), "lung", (), "Ada") == []


def test_many_readers_at_once_lose_nothing(dataset: Dataset) -> None:
    def look(reader: str) -> None:
        for case in (CASE, OTHER, THIRD):
            add_review(dataset.name, case, "accepted", reader)

    threads = [threading.Thread(target=look, args=(f"reader {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_reviews(dataset)) == 12


def test_a_full_disk_and_a_damaged_file_are_told_in_a_line(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    add_review(dataset.name, CASE, "accepted", "Ada")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "reviews.json")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", full)
        with pytest.raises(DatasetError, match="No space left on device"):
            add_review(dataset.name, OTHER, "accepted", "Ada")
    assert len(read_reviews(dataset)) == 1
    (dataset.folder / module.REVIEWS).write_text('{"reviews": [{"case": 3}]}')
    with pytest.raises(CovsegError, match=r"reviews\.json"):
        read_reviews(dataset)
    assert np.any(stored_mask(dataset, dataset.case(CASE), "infection")), "masks are not touched by it"
