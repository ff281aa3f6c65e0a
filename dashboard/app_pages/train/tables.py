"""What a dataset holds, as a table for the page."""

from __future__ import annotations

import pandas as pd

from covseg_core.data.library.datasets import Case, Dataset

REVISION = "Goes up with each corrected mask and each import; runs keep theirs"


def counts(dataset: Dataset) -> list[tuple[str, int | str, str | None]]:
    """Label, value and explanation of what there is in a dataset."""
    positive = _positive_slices(dataset)
    return [
        ("Cases", len(dataset.cases), "Scans with their masks"),
        ("Patients", len(dataset.patients), "In stacked scans, every slice counts as a patient"),
        ("Slices", sum(case.slices for case in dataset.cases), None),
        ("Positive slices", "none" if positive is None else positive, "Slices on which infection is outlined"),
        *([("Revision", dataset.revision, REVISION)] if dataset.revision > 1 else []),
    ]


def case_table(dataset: Dataset) -> pd.DataFrame:
    """A row a case."""
    return pd.DataFrame(
        [
            {
                "Case": case.id,
                "Patient": "one a slice" if case.stacked else case.patient,
                "Slices": case.slices,
                "Positive slices": case.positive_slices,
                "Masks": " and ".join(role for role in ("infection", "lung") if role in case.files) or "none",
                "Matrix": " x ".join(map(str, reversed(case.shape[1:]))),
                "Spacing (mm)": _spacing(case),
                "Axes": case.orientation,
                "Scale": case.scale,
                "Warnings": "; ".join(case.warnings),
            }
            for case in dataset.cases
        ]
    )


def _positive_slices(dataset: Dataset) -> int | None:
    counts = [case.infection_voxels for case in dataset.cases if case.infection_voxels is not None]
    return sum(voxels > 0 for case in counts for voxels in case) if counts else None


def _spacing(case: Case) -> str:
    return " x ".join(f"{size:.3g}" for size in reversed(case.spacing)) if case.spacing_known else "unknown"
