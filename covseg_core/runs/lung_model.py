"""The lung model that comes with covseg, and whether the lungs of a dataset can be found at all."""

from __future__ import annotations

from collections.abc import Sequence

from covseg_core.config import PrepareConfig
from covseg_core.data.library.datasets import Case, Dataset
from covseg_core.data.slices.lungs import known_lungs
from covseg_core.errors import DatasetError
from covseg_core.files import cached_sha256
from covseg_core.runs.run import Run, list_runs

LUNGS = "lung"
"""Run of the lung model that comes with covseg."""


def shipped_lungs() -> Run | None:
    """The lung model that comes with covseg, if it is there; a run of the user's may have the same name."""
    shipped = next((run for run in list_runs(pretrained=True) if run.id == LUNGS), None)
    return shipped if shipped and shipped.config.target == "lung" and shipped.onnx.is_file() else None


def without_lungs(dataset: Dataset, prepare: PrepareConfig, cases: Sequence[str] | None = None) -> list[Case]:
    """The cases that the lung model has to be asked about, since slices are to be cut to their lungs.

    Parameters
    ----------
    prepare : without `region = lungs` there are none
    cases : ids; None for all

    Raises
    ------
    DatasetError : there are some, and there is no lung model
    """
    if prepare.region != "lungs":
        return []
    shipped = shipped_lungs()
    model = cached_sha256(shipped.onnx) if shipped else ""
    chosen = [case for case in dataset.cases if cases is None or case.id in cases]
    unknown = [case for case in chosen if not known_lungs(case, model)]
    if unknown and shipped is None:
        found = f"no lung mask, and no model `{LUNGS}` to find the lungs for `region = lungs`"
        raise DatasetError(f"{dataset.name}/{unknown[0].id}", found, "lung masks, or `region = slice`")
    return unknown
