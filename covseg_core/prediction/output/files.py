"""The files of a prediction: masks, lungs, disagreement, DICOM SEG and SR, and the report in three formats."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covseg_core.data.reading.volumes import save_mask
from covseg_core.files import sha256_file, write_bytes, write_json
from covseg_core.prediction.ask import Answers
from covseg_core.prediction.inference import Cancel, stop_if
from covseg_core.prediction.masks.disagreement import as_levels, disagreement
from covseg_core.prediction.output.folder import REPORT, check_output, whole_folder
from covseg_core.prediction.output.report import Report
from covseg_core.prediction.output.report_csv import make_table
from covseg_core.prediction.output.report_html import make_sheet
from covseg_core.prediction.probabilities import Probabilities
from covseg_core.prediction.scan import Scan
from covseg_core.version import __version__

MASK = "mask.nii.gz"
LUNG_MASK = "lung_mask.nii.gz"
DISAGREEMENT = "disagreement.nii.gz"
DICOM_SEG = "mask.dcm"
DICOM_SR = "measures.dcm"
TABLE = "report.csv"
SHEET = "report.html"


@dataclass(frozen=True)
class Files:
    """Where a prediction goes."""

    folder: Path
    models: dict[str, str]
    """Names of the models' own masks by run id; none for a single model."""
    replaced: tuple[str, ...]
    name: str = ""
    """What the report calls the scan."""
    keep_patient: bool = False
    """Whether the DICOM SEG names patient and study, as the series does."""


def check_files(
    ids: Sequence[str],
    output: str | os.PathLike[str] | None,
    lungs: bool,
    kind: str = "nifti",
    name: str = "",
    keep_patient: bool = False,
) -> Files | None:
    """The files of a prediction by runs of these ids; None without an output folder.

    Raises
    ------
    SettingError : the folder cannot be used, or has a file of such a name that must not be overwritten
    """
    if output is None:
        return None
    folder, models = Path(output), {id: f"mask_{id}.nii.gz" for id in ids} if len(ids) > 1 else {}
    names = [MASK, *models.values(), REPORT, TABLE, SHEET]
    names += [LUNG_MASK] * lungs + [DISAGREEMENT] * (len(ids) > 1) + [DICOM_SEG, DICOM_SR] * (kind == "dicom")
    return Files(folder, models, check_output(folder, names), name, keep_patient)


def write_files(
    files: Files,
    scan: Scan,
    report: Report,
    mask: np.ndarray,
    mask_of: Callable[[str], np.ndarray],
    answers: Answers,
    cancel: Cancel | None,
) -> Report:
    """Write everything or nothing, and return the report as written, with the hash of each file.

    Parameters
    ----------
    mask : (Z, Y, X) uint8 0/1: of all models together, or of the only one
    mask_of : the mask of one model, by run id
    """
    with whole_folder(files.folder) as staging, ThreadPoolExecutor(1) as beside:
        report = dataclasses.replace(report, name=files.name)
        # packing needs no interpreter, and a DICOM SEG little else
        masks = beside.submit(_write_masks, files, staging, scan, mask, mask_of, answers, cancel)
        if scan.kind == "dicom":
            report = _with_dicom(report, scan, mask, staging / DICOM_SEG, files.keep_patient)
        masks.result()
        stop_if(cancel)
        report = dataclasses.replace(report, files=_hashes(staging))
        write_bytes(staging / TABLE, make_table(report))
        write_bytes(staging / SHEET, make_sheet(report, scan.volume.voxels, mask, answers.sides))
        report = dataclasses.replace(report, files=_hashes(staging))
        write_json(staging / REPORT, report)
        stop_if(cancel)
    return report


def _write_masks(
    files: Files,
    folder: Path,
    scan: Scan,
    mask: np.ndarray,
    mask_of: Callable[[str], np.ndarray],
    answers: Answers,
    cancel: Cancel | None,
) -> None:
    """All that is NIfTI."""
    geometry, sides = scan.volume.geometry, answers.sides
    save_mask(mask, geometry, folder / MASK)
    for run, name in files.models.items():
        stop_if(cancel)
        save_mask(mask_of(run), geometry, folder / name)
    if sides is not None:
        stop_if(cancel)
        save_mask((sides > 0).view(np.uint8), geometry, folder / LUNG_MASK)
    if len(answers.models) > 1:
        stop_if(cancel)
        save_mask(_disagreement(answers.models, mask.shape), geometry, folder / DISAGREEMENT)


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def _disagreement(answers: Sequence[Probabilities], shape: tuple[int, ...]) -> np.ndarray:
    """(Z, Y, X) uint8, 0..255 for 0..1 bit, a few planes at a time."""
    levels = np.empty(shape, np.uint8)
    for blocks in zip(*(answer.planes() for answer in answers), strict=True):
        levels[blocks[0][0]] = as_levels(disagreement([block for _, block in blocks]))
    return levels


def _with_dicom(report: Report, scan: Scan, mask: np.ndarray, path: Path, keep_patient: bool) -> Report:
    """Write the mask as DICOM SEG, its figures as SR; the report, with a warning where the series can have none."""
    # highdicom takes a second to import
    from covseg_core.prediction.output.dicom_seg import save_dicom_seg, seg_problem
    from covseg_core.prediction.output.dicom_sr import save_dicom_sr

    if problem := seg_problem(scan):
        return dataclasses.replace(report, warnings=(*report.warnings, f"no DICOM SEG: {problem}"))
    save_dicom_seg(mask, scan, path, report.target, report.algorithm, __version__, keep_patient)
    save_dicom_sr(path, scan, report, path.with_name(DICOM_SR), __version__)
    return report
