"""Corrected masks: each change of a mask is a revision of the dataset, and no file of an earlier one is touched.

A mask is written in the geometry of its case's scan, beside the masks there are, and `dataset.json` comes last:
whatever goes wrong, the dataset is as it was. Who saves what was drawn over an earlier mask than the present one is
told so, and both masks stay.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from covseg_core.data.library.datasets import ROLES, Case, Dataset, dataset_folder, datasets_root, load_dataset
from covseg_core.data.library.revision import EDITOR, Revision, Role, earlier
from covseg_core.data.library.staging import staging
from covseg_core.data.reading.volumes import (
    Volume,
    grid_mismatch,
    grid_warning,
    load_geometry,
    load_mask,
    make_volume,
    save_mask,
)
from covseg_core.data.slices.originals import present, unchanged
from covseg_core.errors import DatasetError, PairingError, SettingError
from covseg_core.files import sha256_file, write_json
from covseg_core.temporary import TemporaryFolder

PATIENCE = 60.0
"""Seconds for which somebody else may be saving to the same dataset."""
LONGEST_NAME = 100
"""Characters of an author's name."""
MOST_MINUTES = 10_000.0
_STAGED = "mask.nii.gz"


@dataclass(frozen=True)
class Saved:
    """What became of a corrected mask."""

    dataset: Dataset
    """With the new revision."""
    revision: Revision
    beside: tuple[Revision, ...] = ()
    """Masks of others that were saved since the parent: they are not part of this one, and stay what they are."""


@dataclass(frozen=True)
class Entry:
    """A line of a history."""

    case: str
    revision: Revision
    beside: tuple[int, ...] = ()
    """Revisions of the same mask that were there already and are not part of it."""


def save_revision(
    name: str,
    case_id: str,
    mask: np.ndarray,
    role: Role = "infection",
    *,
    author: str = "",
    minutes: float = 0.0,
    parent: int | None = None,
    origin: str = EDITOR,
) -> Saved:
    """Store a corrected mask as a new revision of a dataset.

    Parameters
    ----------
    name : of the dataset, without a revision
    mask : (Z, Y, X) uint8 or bool, RAS+, above 0 where marked; on the grid of the case's scan
    role : which of the case's masks; one that it does not have yet is begun
    author : who drew it
    minutes : of work
    parent : the dataset's revision whose mask was changed; None for the newest
    origin : as `Revision.origin`

    Returns
    -------
    Saved : the mask counts from now on, also where `beside` is not empty

    Raises
    ------
    DatasetError : no such dataset, case or revision; another grid than the scan's; nothing was changed; no room on disk
    SettingError : a role, author or time that cannot be
    """
    _check(role, author, minutes)
    dataset_folder(name)  # of the newest revision: another one is a parent
    try:
        with staging(datasets_root(), name, PATIENCE) as folder:
            dataset = load_dataset(name)
            parent = dataset.revision if parent is None else parent
            before = dataset.as_of(parent)
            marked = _marked(mask, before.case(case_id), role)
            added, removed = _changes(stored_mask(before, before.case(case_id), role), marked, f"{name}/{case_id}")
            save_mask(marked, load_geometry(present(dataset, dataset.case(case_id), "scan")), folder / _STAGED)
            number = dataset.revision + 1
            revision = Revision(
                number=number,
                role=role,
                file=f"cases/{case_id}/{role}.r{number}.nii.gz",
                sha256=sha256_file(folder / _STAGED),
                voxels=tuple(int(np.count_nonzero(plane)) for plane in marked),
                origin=origin,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                author=author.strip(),
                parent=parent,
                minutes=round(float(minutes), 1),
                added=added,
                removed=removed,
            )
            return _publish(dataset, case_id, revision, folder / _STAGED)
    except OSError as error:
        raise DatasetError(error.filename or name, error.strerror or str(error), "room and permission") from None


def restore_revision(name: str, case_id: str, number: int, role: Role = "infection", *, author: str = "") -> Saved:
    """Have a case's mask as it was at an earlier revision count again: as a new one, so that the later ones stay, too.

    Parameters
    ----------
    name : of the dataset, without a revision
    number : of the dataset's revision at which it was
    author : who brings it back

    Raises
    ------
    DatasetError : no such dataset, case or revision; it had no such mask then; or has the same one now
    ScanError : the file is damaged
    """
    before = load_dataset(name).as_of(number)
    case = before.case(case_id)
    if role not in case.files:
        raise DatasetError(f"{name}@{number}/{case_id}", f"no mask of the {role}", "a revision that has one")
    return save_revision(name, case_id, stored_mask(before, case, role), role, author=author, origin=earlier(number))


def read_revision(
    name: str, case_id: str, path: str | Path, role: Role = "infection", labels: Sequence[int] | None = None
) -> tuple[np.ndarray, str | None]:
    """A corrected mask from a file of another program, on the grid of the case's scan.

    Parameters
    ----------
    path : `.nii` or `.nii.gz`, in any order of axes
    labels : those that count; None for all above 0

    Returns
    -------
    mask : (Z, Y, X) uint8 0/1, RAS+
    warning : what had to be assumed about its position; None for nothing

    Raises
    ------
    DatasetError : no such dataset or case
    ScanError : the file is no mask
    PairingError : its grid is not the scan's
    """
    dataset = load_dataset(name)
    case = dataset.case(case_id)
    scan = _grid(dataset, case)
    mask = load_mask(path, labels, like=scan.geometry)
    mismatch = grid_mismatch(scan, mask)
    if mismatch is not None:
        raise PairingError(path, mismatch, f"the grid of the scan of {case_id}")
    return mask.voxels, grid_warning(scan, mask)


def stored_mask(dataset: Dataset, case: Case, role: Role) -> np.ndarray:
    """A case's mask, (Z, Y, X) uint8 0/1, RAS+; all 0 where it has none. Raises `DatasetError` or `ScanError`."""
    if role not in case.files:
        return np.zeros(case.shape, np.uint8)
    labels = case.labels if role == "infection" else None
    return load_mask(unchanged(dataset, case, role), labels, load_geometry(present(dataset, case, "scan"))).voxels


def mask_file(dataset: Dataset, case: Case, role: Role) -> bytes:
    """A case's mask, 0 and 1, as a `.nii.gz` file in its scan's geometry: what another program may correct.

    Raises
    ------
    DatasetError, ScanError : as `stored_mask`
    """
    with TemporaryFolder() as folder:
        geometry = load_geometry(present(dataset, case, "scan"))
        save_mask(stored_mask(dataset, case, role), geometry, folder / _STAGED)
        return (folder / _STAGED).read_bytes()


def history(dataset: Dataset, case_id: str | None = None) -> list[Entry]:
    """What became of the masks, oldest first: of one case all there were, else of every case what was corrected.

    Raises
    ------
    DatasetError : there is no such case
    """
    cases = dataset.cases if case_id is None else (dataset.case(case_id),)
    entries = []
    for case in cases:
        for role in ROLES:
            every = case.history(role, dataset.created)
            for one in every:
                others = tuple(other.number for other in every if (one.parent or 0) < other.number < one.number)
                if one.parent is not None or case_id is not None:
                    entries.append(Entry(case.id, one, others if one.parent is not None else ()))
    return sorted(entries, key=lambda entry: entry.revision.number)


def _check(role: str, author: str, minutes: float) -> None:
    if role not in ROLES:
        raise SettingError("role", repr(role), " or ".join(ROLES))
    if len(author) > LONGEST_NAME or not author.isprintable():
        raise SettingError("author", repr(author), f"up to {LONGEST_NAME} printable characters")
    if not (math.isfinite(minutes) and 0 <= minutes <= MOST_MINUTES):
        raise SettingError("minutes", repr(minutes), f"0 to {MOST_MINUTES:g}")


def _marked(mask: np.ndarray, case: Case, role: Role) -> np.ndarray:
    """The mask as uint8 0/1, if it can be one of this case."""
    if mask.shape != case.shape:
        found, grid = (" x ".join(map(str, shape[::-1])) for shape in (mask.shape, case.shape))
        raise DatasetError(f"case {case.id}", f"a mask of {found} voxels", f"the {grid} of its scan")
    marked = (mask > 0).view(np.uint8)
    if role == "lung" and not marked.any():
        raise DatasetError(f"case {case.id}", "a lung mask without a voxel", "lungs")
    return marked


def _changes(before: np.ndarray, after: np.ndarray, what: str) -> tuple[int, int]:
    """Voxels added and removed; raises where there are none."""
    added = removed = 0
    for old, new in zip(before, after, strict=True):
        added += int(np.count_nonzero(new > old))
        removed += int(np.count_nonzero(new < old))
    if not added and not removed:
        raise DatasetError(what, "nothing was changed", "a mask that differs from the one that was opened")
    return added, removed


def _publish(dataset: Dataset, case_id: str, revision: Revision, staged: Path) -> Saved:
    """Move the mask to where it stays; `dataset.json` comes last and decides what counts."""
    case = dataset.case(case_id)
    known = case.history(revision.role, dataset.created)
    others = tuple(one for one in case.revisions if one.role != revision.role)
    revisions = sorted((*others, *known, revision), key=lambda one: one.number)
    corrected = replace(case.with_mask(revision.role, revision), revisions=tuple(revisions))
    cases = tuple(corrected if one.id == case_id else one for one in dataset.cases)
    new = replace(dataset, cases=cases, revision=revision.number)
    target = dataset.folder / revision.file
    try:
        os.replace(staged, target)
        write_json(dataset.folder / "dataset.json", new)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    beside = tuple(one for one in known if one.number > (revision.parent or 0))
    return Saved(new, revision, beside)


def _grid(dataset: Dataset, case: Case) -> Volume:
    """The case's scan without its voxels."""
    path = present(dataset, case, "scan")
    return make_volume(np.broadcast_to(np.uint8(0), case.shape), load_geometry(path), path)
