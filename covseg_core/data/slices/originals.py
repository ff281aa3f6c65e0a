"""The files of a case, as they were when they were imported: what is cached is filed under their hashes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from covseg_core.errors import DatasetError
from covseg_core.files import sha256_file

if TYPE_CHECKING:
    from covseg_core.data.library.datasets import Case, Dataset


def unchanged(dataset: Dataset, case: Case, role: str) -> Path:
    """A file of the case, checked against the hash of its import; raises `DatasetError` if it is gone or another."""
    path = present(dataset, case, role)
    if sha256_file(path) != case.kept_sha256.get(role, case.sha256[role]):
        raise DatasetError(path, "has changed since it was imported", _expected(dataset, case, role))
    return path


def present(dataset: Dataset, case: Case, role: str) -> Path:
    """A file of the case; raises `DatasetError` if it is gone."""
    path = dataset.path(case, role)
    if not path.is_file():
        raise DatasetError(path, "no such file", _expected(dataset, case, role))
    return path


def _expected(dataset: Dataset, case: Case, role: str) -> str:
    return f"the {role} of case {case.id} as imported into {dataset.name}"
