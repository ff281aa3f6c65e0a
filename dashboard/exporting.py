"""What the Compare page gives away: tables as CSV, predictions as NumPy and NIfTI files, as bytes."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import comparing
import numpy as np
import pandas as pd

from covseg_core.data.cache import case_grid
from covseg_core.data.datasets import Dataset
from covseg_core.data.slices import to_native
from covseg_core.data.volumes import load_geometry, save_mask
from covseg_core.errors import DatasetError
from covseg_core.evaluation.measures import MEASURES
from covseg_core.evaluation.result import Comparison
from covseg_core.files import to_json
from covseg_core.runs import Run


def tables_zip(comparison: Comparison) -> bytes:
    """All tables, a CSV file each, and what they are about as JSON."""
    first = comparison.evaluations[0]
    about = {
        "dataset": first.dataset,
        "fingerprint": first.fingerprint,
        "part": first.part,
        "split": first.split,
        "leaky": comparison.leaky,
        "slices": first.slices,
        "positive_slices": first.positive_slices,
        "scans": first.scans,
        "patients": first.patients,
        "target": first.target,
        "threshold": first.threshold,
        "policy": first.policy,
        "units": first.units,
        "runs": dict(zip(comparing.model_names(comparison), (e.run for e in comparison.evaluations), strict=True)),
        "baselines": {scores.name: scores.description for scores in comparison.baselines},
        "notes": list(dict.fromkeys(note for e in comparison.evaluations for note in e.notes)),
    }
    return _zip(
        {
            "about.json": to_json(about),
            "own_metric.csv": _csv(comparing.own_table(comparison)),
            "scores.csv": _csv(scores_long(comparison)),
            "scans.csv": _csv(values_long(comparison, "scans")),
            "slices.csv": _csv(values_long(comparison, "slices")),
        }
    )


def scores_long(comparison: Comparison) -> pd.DataFrame:
    """A row for each predictor, level and measure, with every digit; empty where undefined."""
    units, rows = comparison.evaluations[0].units, []
    for name, scores in comparing.predictors(comparison).items():
        for measure, kind in MEASURES.items():
            head = {"predictor": name, "measure": measure, "unit": units.get(kind.kind, "")}
            rows.append({**head, "level": "pooled", "value": scores.pooled[measure], "n": len(scores.slices)})
            for level, summaries in (("scans", scores.over_scans), ("slices", scores.over_slices)):
                if summary := summaries.get(measure):
                    spread = {"std": summary.std, "median": summary.median, "low": summary.low, "high": summary.high}
                    rows.append({**head, "level": level, "value": summary.mean, "n": summary.n, **spread})
                else:
                    rows.append({**head, "level": level, "value": None, "n": 0})
    return pd.DataFrame(rows)


def values_long(comparison: Comparison, level: str) -> pd.DataFrame:
    """A row for each predictor and scan, or slice, a column for each measure."""
    rows = []
    for name, scores in comparing.predictors(comparison).items():
        for score in scores.scans if level == "scans" else scores.slices:
            where = {"predictor": name, "scan": score.case, "patient": score.patient}
            extra = {"slice": score.z} if hasattr(score, "z") else {"slices": score.slices}
            counts = {key: getattr(score.counts, key) for key in ("tp", "fp", "fn", "tn")}
            rows.append({**where, **extra, **counts, **score.values})
    return pd.DataFrame(rows)


def predictions_zip(comparison: Comparison, chosen: Sequence[Run]) -> io.RawIOBase:
    """`test_predictions.npy` of every model as it is, (N, S, S) float16, and `rows.csv` that names each row's slice.

    A file without a name, since all together can be larger than memory is meant for.
    """
    slices = comparison.evaluations[0].model.slices
    rows = pd.DataFrame({"row": range(len(slices)), "scan": [s.case for s in slices], "slice": [s.z for s in slices]})
    # unbuffered, since download buttons take no file that is open for writing, unless it is a raw one
    file = tempfile.TemporaryFile(prefix="covseg-", buffering=0)  # noqa: SIM115 - closed by who asked for it
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rows.csv", _csv(rows))
        for run in chosen:
            archive.write(run.test_predictions, f"{run.id}.npy")
    file.seek(0)
    return cast(io.RawIOBase, file)


def masks_zip(comparison: Comparison, chosen: Sequence[Run], dataset: Dataset, case_id: str, threshold: float) -> bytes:
    """The masks of one scan by every model at a threshold, `mask_<run>.nii.gz` in the scan's own geometry.

    Only test slices were predicted. If the scan has others, those are empty, and `about.json` lists what counts.

    Raises
    ------
    DatasetError : the dataset has changed since the evaluation
    """
    first = comparison.evaluations[0]
    if dataset.fingerprint != first.fingerprint:
        raise DatasetError(dataset.name, "has changed since the evaluation", "the same scans")
    case = dataset.case(case_id)
    rows = {row: score.z for row, score in enumerate(first.model.slices) if score.case == case_id}
    geometry = load_geometry(dataset.path(case, "scan"))
    about = {
        "dataset": dataset.name,
        "scan": case_id,
        "threshold": threshold,
        "threshold_of_the_scores": first.threshold,
        "predicted_slices": list(rows.values()),
        "whole_scan": len(rows) == case.shape[0],
        "slices_are_counted": "from 0, the lowest",
    }
    files = {"about.json": to_json(about)}
    with tempfile.TemporaryDirectory(prefix="covseg-") as folder:
        for run in chosen:
            stored = np.load(run.test_predictions, mmap_mode="r", allow_pickle=False)
            mask = np.zeros(case.shape, np.uint8)
            grid = case_grid(case, run.config.prepare)
            for row, z in rows.items():
                mask[z] = to_native(stored[row : row + 1], grid)[0] >= threshold
            path = Path(folder) / f"mask_{run.id}.nii.gz"
            save_mask(mask, geometry, path)
            files[path.name] = path.read_bytes()
    return _zip(files)


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def _zip(files: dict[str, bytes]) -> bytes:
    """Not compressed again: NIfTI already is, and probabilities hardly shrink."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            small = name.endswith((".csv", ".json"))
            archive.writestr(name, data, zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED)
    return content.getvalue()
