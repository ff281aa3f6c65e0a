"""From a predicted cohort to a dataset: scans with the masks that models have made, to be reviewed and corrected."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from covseg_core.data.library.datasets import Case, Dataset, list_datasets
from covseg_core.data.library.importing import import_dataset
from covseg_core.data.reading.volumes import save_mask, save_volume
from covseg_core.errors import DatasetError
from covseg_core.files import sha256_file
from covseg_core.prediction.cohort.again import look_again
from covseg_core.prediction.cohort.state import Row, read_cohort
from covseg_core.progress import Progress
from covseg_core.temporary import TemporaryFolder


def dataset_of_cohort(output: Path, name: str, progress: Progress | None = None) -> Dataset:
    """Make a dataset of the scans of a cohort that were predicted.

    Masks are revisions whose origin is the models' ids, so that nobody takes them for a radiologist's. Scans of one
    patient stay together.

    Parameters
    ----------
    output : folder of the cohort
    name : of the dataset, a new one
    progress : called after each scan

    Raises
    ------
    DatasetError : there is a dataset of this name, or nothing was predicted
    CovsegError : a scan is gone or has changed since, or as `import_dataset`
    """
    if name in list_datasets():
        raise DatasetError(f"dataset {name}", "exists already", "a new name")
    cohort = read_cohort(output)
    if cohort is None or not cohort.done:
        raise DatasetError(output, "no scan of a cohort was predicted here", "the folder of a predicted cohort")
    models = " + ".join(model.run for model in cohort.settings.models)
    lungs = cohort.settings.lungs.run if cohort.settings.lungs else ""
    rows: dict[str, Row] = {}
    with TemporaryFolder() as folder:
        for number, row in enumerate(cohort.done, start=1):
            rows[_write(output, row, folder / "cohort" / row.name)] = row
            if progress is not None:
                progress(number, len(cohort.done))
        return import_dataset(
            name,
            [folder / "cohort"],
            scale=cohort.settings.scale,
            allow_empty=True,
            source=f"a cohort with masks by {models}",
            complete=lambda case: _with_models(case, rows[case.sha256["scan"]], models, lungs),
        )


def _write(output: Path, row: Row, folder: Path) -> str:
    """A scan with its masks, as a case that is imported; returns the hash of the scan's file."""
    seen = look_again(output, row.name)
    volume = seen.scan.volume
    folder.mkdir(parents=True)
    save_volume(volume, folder / "ct.nii.gz")
    save_mask(seen.mask, volume.geometry, folder / "infection_mask.nii.gz")
    if seen.lungs is not None and seen.lungs.any():
        save_mask(seen.lungs, volume.geometry, folder / "lung_mask.nii.gz")
    return sha256_file(folder / "ct.nii.gz")


def _with_models(case: Case, row: Row, models: str, lungs: str) -> Case:
    """The case with what is known of its masks and of its patient."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    figures = row.figures
    agreement = figures.agreement if figures else None
    expected = figures.expected_dice.value if figures and figures.expected_dice else None
    infection = [
        replace(mask, origin=models, agreement=agreement, expected_dice=expected)
        for mask in case.history("infection", now)
    ]
    lung = [replace(mask, origin=lungs) for mask in case.history("lung", now)]
    return replace(case, patient=row.patient or case.patient, revisions=(*infection, *lung))
