"""Reviews of masks: somebody has looked at a case's mask, says whether it will do, and grades it from 1 to 5.

They are kept in the dataset's folder, in `reviews.json`, which only grows: who looks again adds a review, and the
latest of a reader counts. A review is of one mask, by the number of its revision; once a mask is corrected, the new one
waits to be looked at by everybody but the person who drew it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from covseg_core.data.library.datasets import Case, Dataset, dataset_folder, datasets_root, load_dataset
from covseg_core.data.library.revision import Revision, Role
from covseg_core.data.library.revisions import LONGEST_NAME, PATIENCE
from covseg_core.data.library.staging import staging
from covseg_core.errors import DatasetError, SettingError
from covseg_core.files import cached_json, write_json

Decision = Literal["accepted", "corrected", "rejected"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
GRADES: dict[int, str] = {
    1: "unusable",
    2: "poor",
    3: "fair",
    4: "good",
    5: "excellent",
}
"""What a grade means."""
LONGEST_NOTE = 1000
"""Characters."""
REVIEWS = "reviews.json"


@dataclass(frozen=True)
class Review:
    """What somebody says of a mask."""

    case: str
    role: Role
    revision: int
    """Number of the mask that was looked at, as `Revision.number`."""
    reader: str
    """Who looked at it."""
    decision: Decision
    created: str
    """ISO 8601, UTC."""
    grade: int | None = None
    """1 to 5, as `GRADES`; None if nobody gave one."""
    note: str = ""

    @property
    def mask(self) -> tuple[str, Role, int]:
        """Which mask it is of."""
        return self.case, self.role, self.revision


@dataclass(frozen=True)
class Reviews:
    """What `reviews.json` holds."""

    reviews: tuple[Review, ...]
    """Oldest first."""


def read_reviews(dataset: Dataset) -> tuple[Review, ...]:
    """All there are, oldest first.

    Raises
    ------
    CovsegError : `reviews.json` is damaged
    """
    path = dataset.folder / REVIEWS
    return cached_json(path, Reviews).reviews if path.is_file() else ()


def add_review(
    name: str,
    case_id: str,
    decision: Decision,
    reader: str,
    role: Role = "infection",
    *,
    grade: int | None = None,
    note: str = "",
    revision: int | None = None,
) -> Review:
    """Store what somebody says of a mask.

    Parameters
    ----------
    name : of the dataset, without a revision
    reader : who looked at it
    grade : 1 to 5, as `GRADES`
    revision : number of the mask that was looked at; None for the newest

    Raises
    ------
    DatasetError : no such dataset, case or mask; no room on disk
    SettingError : a decision, reader, grade or note that cannot be
    """
    reader, note = reader.strip(), note.strip()
    _check(decision, reader, grade, note)
    dataset_folder(name)  # of the newest revision: another one's masks are named by `revision`
    try:
        with staging(datasets_root(), name, PATIENCE):
            dataset = load_dataset(name)
            masks = dataset.case(case_id).history(role, dataset.created)
            number = masks[-1].number if masks and revision is None else revision
            if number not in [mask.number for mask in masks]:
                there = ", ".join(str(mask.number) for mask in masks) or "none"
                raise DatasetError(f"{name}/{case_id}", f"no {role} mask of revision {number}", f"one of: {there}")
            now = datetime.now(UTC).isoformat(timespec="seconds")
            review = Review(case_id, role, number, reader, decision, now, grade, note)
            write_json(dataset.folder / REVIEWS, Reviews((*read_reviews(dataset), review)))
            return review
    except OSError as error:
        raise DatasetError(error.filename or name, error.strerror or str(error), "room and permission") from None


def current_mask(dataset: Dataset, case: Case, role: Role) -> Revision | None:
    """The mask that counts, which a review is of."""
    masks = case.history(role, dataset.created)
    return masks[-1] if masks else None


def latest(reviews: Iterable[Review]) -> list[Review]:
    """Of each reader and mask the one that counts, in the order in which they were given."""
    found: dict[tuple[object, ...], Review] = {}
    for review in reviews:
        key = (*review.mask, review.reader)
        found.pop(key, None)
        found[key] = review
    return list(found.values())


def current(dataset: Dataset, role: Role, reviews: Sequence[Review]) -> Iterator[Review]:
    """Those that count and are of the mask that counts."""
    masks = {case.id: current_mask(dataset, case, role) for case in dataset.cases}
    for review in latest(reviews):
        mask = masks.get(review.case)
        if mask is not None and review.mask == (review.case, role, mask.number):
            yield review


def waiting(dataset: Dataset, role: Role, reviews: Sequence[Review], reader: str) -> list[Case]:
    """Cases whose mask this reader has neither looked at nor drawn, in the dataset's order."""
    seen = {review.case for review in current(dataset, role, reviews) if review.reader == reader}
    found = []
    for case in dataset.cases:
        mask = current_mask(dataset, case, role)
        if mask is not None and case.id not in seen and not (reader and mask.author == reader):
            found.append(case)
    return found


def rejected(dataset: Dataset, role: Role) -> list[str]:
    """Ids of the cases of whose mask somebody says that it will not do, and nobody after that the opposite.

    Raises
    ------
    CovsegError : as `read_reviews`
    """
    last = {review.case: review.decision for review in current(dataset, role, read_reviews(dataset))}
    return [case.id for case in dataset.cases if last.get(case.id) == "rejected"]


def unseen(dataset: Dataset, role: Role) -> list[str]:
    """Ids of the cases whose mask a model has made, and nobody has corrected or accepted.

    Raises
    ------
    CovsegError : as `read_reviews`
    """
    accepted = {one.case for one in current(dataset, role, read_reviews(dataset)) if one.decision == "accepted"}
    masks = {case.id: current_mask(dataset, case, role) for case in dataset.cases}
    return [id for id, mask in masks.items() if mask is not None and mask.by_model and id not in accepted]


def _check(decision: str, reader: str, grade: int | None, note: str) -> None:
    if decision not in DECISIONS:
        raise SettingError("decision", repr(decision), ", ".join(DECISIONS))
    if not reader or len(reader) > LONGEST_NAME or not reader.isprintable():
        raise SettingError("reader", repr(reader), f"a name of up to {LONGEST_NAME} printable characters")
    if grade is not None and grade not in GRADES:
        raise SettingError("grade", repr(grade), "1 to 5")
    if len(note) > LONGEST_NOTE:
        raise SettingError("note", f"{len(note):,} characters", f"up to {LONGEST_NOTE:,}")
