"""Names in what is given away. What a patient loses otherwise: that nobody else learns who was ill."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicomfiles import SECRET
from planted import Planted, computer, found_in, given_away

from covseg_core.data.library.pseudonyms import Pseudonyms
from covseg_core.evaluation.model import single_runs
from covseg_core.evaluation.pseudonymous import pseudonymous, pseudonyms_of
from covseg_core.evaluation.results import Comparison
from covseg_core.evidence.verify import verify_bundle
from covseg_core.runs import Run
from dashboard.app_pages.compare import export_files


def exports(comparison: Comparison, runs: list[Run], planted: Planted) -> dict[str, bytes]:
    """What the Compare page offers, as it is offered."""
    models, names = single_runs(runs), pseudonyms_of(comparison)
    case = comparison.evaluations[0].model.scans[0].case
    with export_files.predictions_zip(comparison, models, names) as file:
        predictions = file.read()
    masks = export_files.masks_zip(comparison, models, planted.dataset, case, 0.5, names.cases[case])
    tables = export_files.tables_zip(pseudonymous(comparison, names))
    return {"tables.zip": tables, "predictions.zip": predictions, "masks.zip": masks}


def test_nothing_that_leaves_names_anybody(tmp_path: Path) -> None:
    planted = Planted(tmp_path / "home")
    with computer(planted.user, planted.host):
        given_away(planted, tmp_path / "out", exports)
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert {"evidence.zip", "folds.zip", "dice.html", "tables.zip", "mask.dcm", "report.html", "shift.json"} <= names
    assert found_in(tmp_path / "out", [*planted.secrets, SECRET, str(tmp_path)]) == []
    assert found_in(planted.root, planted.secrets), "the search finds what is there"
    assert planted.people[0] in (planted.dataset.folder / "dataset.json").read_text()
    for bundle in ("evidence.zip", "folds.zip"):
        assert verify_bundle(tmp_path / "out" / bundle).same


def test_numbers_follow_the_scans_and_who_has_one_keeps_it(tmp_path: Path) -> None:
    import dataclasses

    dataset = Planted(tmp_path / "home", cases=3).dataset
    by_scan = sorted(dataset.cases, key=lambda case: case.sha256["scan"])
    names = Pseudonyms.of(dataset)
    assert [names.cases[case.id] for case in by_scan] == ["case-001", "case-002", "case-003"]
    own = [dataclasses.replace(by_scan[0], id="case-003"), dataclasses.replace(by_scan[1], id="case-9"), by_scan[2]]
    renamed = Pseudonyms.of(dataclasses.replace(dataset, cases=tuple(own)))
    assert [renamed.cases[case.id] for case in own] == ["case-003", "case-001", "case-002"]
    assert names.fingerprint not in (dataset.fingerprint, renamed.fingerprint)
    with pytest.raises(KeyError):
        names.patient("somebody")
    assert names.patient(f"{by_scan[0].patient}#4") == "patient-001#4"
