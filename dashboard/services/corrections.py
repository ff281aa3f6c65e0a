"""Masks that are being corrected in a session: begun on one page, drawn on and saved on another."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np
import streamlit as st

from covseg_core.data.library.datasets import Case, Dataset, load_dataset
from covseg_core.data.library.revision import EDITOR, Role
from covseg_core.data.library.revisions import stored_mask
from covseg_core.data.slices.cache import case_grid
from covseg_core.errors import RunError
from covseg_core.evaluation.results import THRESHOLD
from covseg_core.evaluation.stored_predictions.predictions import native
from covseg_core.prediction.case_lungs import find_lungs
from dashboard.services.model_catalog import finished_models

KEY = "corrections"
"""In the session: by dataset and case."""
MODEL = "correct"
"""In the URL of the page with the viewer: the model whose mask of the case is to be corrected."""
LOOK = "look"
"""In the same URL, once: the case that is to be shown, whichever was looked at before."""
VIEWER = "review"
"""Key of the viewer in which masks are drawn on."""
AT_ONCE = 3
"""Corrections of one session; the oldest goes first."""


@dataclass(frozen=True, eq=False)
class Bits:
    """A mask, 8 voxels a byte: it may wait in the session for long."""

    bits: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, mask: np.ndarray) -> Bits:
        """Of (Z, Y, X), 0 or 1."""
        z, y, x = mask.shape
        return cls(np.packbits(mask), (z, y, x))

    def mask(self) -> np.ndarray:
        """(Z, Y, X) uint8 0/1."""
        return np.unpackbits(self.bits, count=int(np.prod(self.shape))).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Correction:
    """A mask that somebody draws on."""

    dataset: str
    case: str
    role: Role
    parent: int
    """The dataset's revision when it was opened: what is seen meanwhile stays that."""
    created: str
    """Of the dataset: another one of that name is no other revision."""
    id: str
    origin: str = EDITOR
    """As `Revision.origin`."""
    start: Bits | None = None
    """What is drawn on at first; None for the stored mask."""
    at: int | None = None
    """Slice that it is opened at, if a certain one is meant."""

    @property
    def place(self) -> tuple[str, str]:
        return self.dataset, self.case


def begin(
    dataset: Dataset,
    case: Case,
    role: Role,
    origin: str = EDITOR,
    start: np.ndarray | None = None,
    at: int | None = None,
) -> None:
    """Open a mask of a case, instead of what was begun there before.

    Parameters
    ----------
    origin : the id of the model whose mask `start` is
    start : (Z, Y, X) 0/1, to draw on; None for the stored mask
    at : as `Correction.at`
    """
    first, id = None if start is None else Bits.of(start), uuid.uuid4().hex
    work = Correction(dataset.name, case.id, role, dataset.revision, dataset.created, id, origin, first, at)
    works = _works()
    works.pop(work.place, None)
    works[work.place] = work
    while len(works) > AT_ONCE:
        del works[next(iter(works))]


def begin_from_truth(name: str, case_id: str, role: Role, at: int) -> None:
    """Open a case's stored mask, as it is now, at a slice; raises `DatasetError` if there is no such case."""
    dataset = load_dataset(name)
    begin(dataset, dataset.case(case_id), role, at=at)


def begin_from_model(id: str, case_id: str) -> tuple[Dataset, Role]:
    """Open a model's mask of a test case, at the threshold of its scores; where it was not asked, the true mask.

    Returns
    -------
    Dataset : as it was when the model was scored on it
    Role : which of the case's masks it is

    Raises
    ------
    CovsegError : there is no such model or case, or a file of the two cannot be read
    """
    model = next((one for one in finished_models() if one.id == id), None)
    if model is None:
        raise RunError(id, "no such model that is finished", "one of those on Compare")
    config = model.config
    dataset = load_dataset(config.dataset, config.fingerprint)
    case = dataset.case(case_id)
    mask = stored_mask(dataset, case, config.target).copy()
    find_lungs(dataset, config.prepare, [case_id])  # in case the cache has forgotten them
    stored, grid = model.predictions(), case_grid(dataset, case, config.prepare)
    for z in stored.rows.get(case_id, ()):
        mask[z] = native(stored, case_id, z, grid) >= THRESHOLD
    begin(dataset, case, config.target, id, mask)
    return dataset, config.target


def under_way(dataset: Dataset, case: Case) -> Correction | None:
    """What of a case is being corrected in this session."""
    found = _works().get((dataset.name, case.id))
    same = found is not None and found.created == dataset.created and found.parent <= dataset.revision
    return found if same else None


def end(work: Correction) -> None:
    """Forget it."""
    _works().pop(work.place, None)


def _works() -> dict[tuple[str, str], Correction]:
    works: dict[tuple[str, str], Correction] = st.session_state.setdefault(KEY, {})
    return works
