"""Many scans in one call. What a user loses otherwise: a night's work by one bad file, or by a disk that was full."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chests import BRIGHT, chest, grey, save_scan, stored
from cohorts import Here, save_scans, save_series, with_lesion
from dicomfiles import SECRET
from filelock import FileLock

from covseg_core.errors import Cancelled, CovsegError, RunError, SettingError
from covseg_core.files import read_json, sha256_file
from covseg_core.isolation import Fault, Worker
from covseg_core.prediction.cohort import predict as module
from covseg_core.prediction.cohort.predict import Step, predict_cohort
from covseg_core.prediction.cohort.state import Cohort
from covseg_core.prediction.predict import predict
from covseg_core.prediction.request import Request, asked_for
from covseg_core.runs import Run
from covseg_core.runs.lung_model import LUNGS

ML = 0.8 * 0.8 * 5 / 1000
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "other_processes" not in request.fixturenames:
        monkeypatch.setattr(module, "Worker", Here)


@pytest.fixture
def other_processes() -> None:
    """Scans are predicted in other processes, as they always are outside of tests."""


@pytest.fixture
def asked(runs: Callable[..., Run]) -> Request:
    """A model of the lesions, and one that takes all of the body for lungs."""
    lungs = runs("lungs", grey(-900), target="lung")
    return asked_for(runs("lesions"), lungs)


def rows(folder: Path) -> dict[str, dict[str, str]]:
    return {row["scan"]: row for row in csv.DictReader((folder / "cohort.csv").read_text().splitlines())}


def test_each_scan_is_predicted_as_it_is_alone(
    tmp_path: Path, asked: Request, runs: Callable[..., Run], other_processes: None
) -> None:
    """With real processes: the same masks, figures and files, and one table with all of them."""
    scans = save_scans(tmp_path / "in", 10, 40, 0)
    steps: list[Step] = []
    cohort = predict_cohort([tmp_path / "in"], asked, tmp_path / "out", tell=steps.append)
    assert [(row.name, row.state) for row in cohort.rows] == [(f"scan{n}", "done") for n in (1, 2, 3)]
    for row, path in zip(cohort.rows, scans, strict=True):
        alone = predict(path, list(asked.runs), tmp_path / "alone" / row.name, lungs=asked.lungs)
        folder = tmp_path / "out" / row.name
        assert {file.name for file in folder.iterdir()} == set(alone.report.files) | {"report.json"}
        np.testing.assert_array_equal(stored(folder / "mask.nii.gz"), stored(path) == 200)
        assert sha256_file(folder / "mask.nii.gz") == alone.report.files["mask.nii.gz"]
        assert row.sha256 == alone.report.scan.sha256
        figures = row.figures
        assert figures is not None and alone.report.lungs is not None
        assert (figures.volume_ml, figures.lesions) == (alone.report.mask.volume_ml, alone.report.mask.lesions)
        assert figures.share == alone.report.lungs.both.share
    assert [row.figures.severity for row in cohort.rows if row.figures] == [1, 1, 0]
    table = rows(tmp_path / "out")
    assert float(table["scan2"]["volume_ml"]) == pytest.approx(40 * ML)
    assert (tmp_path / "out" / "thumbnails" / "scan1.jpg").stat().st_size < 20_000
    assert [step.done for step in steps] == [0, 1, 2, 3] and {step.total for step in steps} == {3}
    assert read_json(tmp_path / "out" / "cohort.json", Cohort) == cohort
    assert cohort.stopped == ""


def test_one_that_fails_is_a_row_and_the_rest_goes_on(tmp_path: Path, asked: Request) -> None:
    save_scans(tmp_path / "in", 10, 20)
    (tmp_path / "in" / "scan0.nii.gz").write_bytes(b"no gzip at all")
    save_scan(tmp_path / "in" / "scan3.nii.gz", (chest() > 100).astype(np.uint8))
    cohort = predict_cohort([tmp_path / "in"], asked, tmp_path / "out")
    assert {row.name: row.state for row in cohort.rows} == {
        "scan0": "failed", "scan1": "done", "scan2": "done", "scan3": "failed",
    }  # fmt: skip
    table = rows(tmp_path / "out")
    assert "\n" not in table["scan0"]["problem"] and table["scan0"]["problem"]
    assert table["scan3"]["problem"].startswith("a mask, not a scan: its only values are 0, 1; expected a CT scan")
    assert not (tmp_path / "out" / "scan0").exists()
    page = (tmp_path / "out" / "cohort.html").read_text()
    assert "A mask, not a scan" in page and "<script" not in page


def test_a_process_that_dies_costs_its_scan(
    tmp_path: Path, asked: Request, monkeypatch: pytest.MonkeyPatch, other_processes: None
) -> None:
    """As decoders do that crash on damaged files, and machines without memory."""

    class Mortal(Worker):
        def call(self, *arguments: Any, named: str, **more: Any) -> Any:
            if named == "scan2":
                self.start()
                assert self._child is not None
                os.kill(self._child.process.pid, signal.SIGKILL)
            return super().call(*arguments, named=named, **more)

    save_scans(tmp_path / "in", 10, 20, 30)
    monkeypatch.setattr(module, "Worker", Mortal)
    cohort = predict_cohort([tmp_path / "in"], asked, tmp_path / "out", processes=1)
    assert [row.state for row in cohort.rows] == ["done", "failed", "done"]
    assert "was killed, as by a machine without memory" in cohort.rows[1].problem


def test_a_bug_costs_its_scan(tmp_path: Path, asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    save_scans(tmp_path / "in", 10, 20)

    def broken(scan: Any, *more: Any) -> Any:
        if scan.path.name == "scan1.nii.gz":
            raise Fault("Traceback (most recent call last):\n  somewhere\nZeroDivisionError: division by zero\n")
        return predict_one(scan, *more)

    predict_one = module.predict_one
    monkeypatch.setattr(module, "predict_one", broken)
    cohort = predict_cohort([tmp_path / "in"], asked, tmp_path / "out")
    assert cohort.rows[0].problem == "a fault in covseg (ZeroDivisionError)"
    assert cohort.rows[1].state == "done"


def test_a_second_call_goes_on(tmp_path: Path, asked: Request) -> None:
    """What is done stays as it is; what failed, has changed or is new is predicted."""
    scans = save_scans(tmp_path / "in", 10, 20, 30)
    good = scans[0].read_bytes()
    scans[0].write_bytes(b"half of i")
    predict_cohort([tmp_path / "in"], asked, tmp_path / "out")
    before = sha256_file(tmp_path / "out" / "scan2" / "report.json")
    scans[0].write_bytes(good)
    save_scans(tmp_path / "in", 10, 20, 35, 40)[1].unlink()
    save_scans(tmp_path / "more", 50)
    steps: list[Step] = []
    cohort = predict_cohort([tmp_path / "in", tmp_path / "more"], asked, tmp_path / "out", tell=steps.append)
    told = {step.row.name for step in steps if step.row}
    assert told == {"scan1", "scan3", "scan4", "scan1-2"}
    sizes = {row.name: row.figures.voxels for row in cohort.rows if row.figures}
    assert sizes == {"scan1": 10, "scan3": 35, "scan4": 40, "scan1-2": 50, "scan2": 20}, "none is lost"
    assert sha256_file(tmp_path / "out" / "scan2" / "report.json") == before
    shutil.rmtree(tmp_path / "out" / "scan3")
    os.utime(tmp_path / "in" / "scan4.nii.gz")  # as a copy to another disk does
    kept = sha256_file(tmp_path / "out" / "scan4" / "report.json")
    steps.clear()
    predict_cohort([tmp_path / "in"], asked, tmp_path / "out", tell=steps.append)
    assert [step.row.name for step in steps if step.row] == ["scan4", "scan3"], "whose results were removed"
    assert sha256_file(tmp_path / "out" / "scan4" / "report.json") == kept


def test_after_a_kill_it_goes_on(tmp_path: Path, asked: Request, other_processes: None) -> None:
    """At any moment; nobody is left working, and nothing half-made stays."""
    save_scans(tmp_path / "in", *range(10, 18))
    command = [sys.executable, "-m", "covseg_core", "predict", str(tmp_path / "in"), "--all", "--run", "lesions"]
    command += ["--lungs", "lungs", "--output", str(tmp_path / "out"), "--processes", "1"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    end = time.monotonic() + 60
    while not (tmp_path / "out" / "cohort.json").exists():
        assert first.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    first.kill()
    first.wait()
    done = read_json(tmp_path / "out" / "cohort.json", Cohort).done
    kept = {row.name: sha256_file(tmp_path / "out" / row.name / "report.json") for row in done}
    assert 1 <= len(kept) < 8
    cohort = predict_cohort([tmp_path / "in"], asked, tmp_path / "out")
    assert len(cohort.done) == 8
    assert {name: sha256_file(tmp_path / "out" / name / "report.json") for name in kept} == kept
    assert not list((tmp_path / "out").rglob(".covseg-*"))


def test_the_same_scan_is_predicted_once(tmp_path: Path, asked: Request) -> None:
    scans = save_scans(tmp_path / "in", 10, 20)
    shutil.copy(scans[0], tmp_path / "in" / "again.nii.gz")
    cohort = predict_cohort([tmp_path / "in"], asked, tmp_path / "out")
    assert [(row.name, row.state, row.same_as) for row in cohort.rows] == [
        ("again", "done", ""), ("scan1", "same", "again"), ("scan2", "done", ""),
    ]  # fmt: skip
    assert rows(tmp_path / "out")["scan1"]["same_as"] == "again"
    assert rows(tmp_path / "out")["scan1"]["volume_ml"] == "", "it would be counted twice"
    steps: list[Step] = []
    predict_cohort([tmp_path / "in"], asked, tmp_path / "out", tell=steps.append)
    assert [step.done for step in steps] == [3]


@pytest.mark.parametrize("other", [{"threshold": 0.4}, {"mirror": True}, {"lungs": None}])
def test_other_settings_are_refused(tmp_path: Path, asked: Request, other: dict[str, Any]) -> None:
    """Two halves of a table that were made differently look like one."""
    save_scans(tmp_path / "in", 10)
    predict_cohort([tmp_path / "in"], asked, tmp_path / "out")
    before = (tmp_path / "out" / "cohort.csv").read_bytes()
    request = asked_for(list(asked.runs), **{"lungs": asked.lungs, **other})
    [name] = other
    with pytest.raises(SettingError, match=rf"a cohort with other settings \({name}\); expected the same, or"):
        predict_cohort([tmp_path / "in"], request, tmp_path / "out")
    with pytest.raises(SettingError, match=r"other settings \(pseudonyms\)"):
        predict_cohort([tmp_path / "in"], asked, tmp_path / "out", pseudonyms=True)
    assert (tmp_path / "out" / "cohort.csv").read_bytes() == before


def test_a_model_of_the_same_name_that_was_trained_again_is_refused(
    tmp_path: Path, asked: Request, runs: Callable[..., Run]
) -> None:
    save_scans(tmp_path / "in", 10)
    predict_cohort([tmp_path / "in"], asked, tmp_path / "out")
    runs("lesions", BRIGHT + 5)
    with pytest.raises(SettingError, match=r"other settings \(models\)"):
        predict_cohort([tmp_path / "in"], asked, tmp_path / "out")


def test_two_calls_do_not_work_in_one_folder(tmp_path: Path, asked: Request) -> None:
    save_scans(tmp_path / "in", 10)
    (tmp_path / "out").mkdir()
    lock, refused = FileLock(tmp_path / "out" / ".cohort.lock"), "another process works in it; expected one at a time"
    with lock, pytest.raises(SettingError, match=refused):
        predict_cohort([tmp_path / "in"], asked, tmp_path / "out")
    assert len(predict_cohort([tmp_path / "in"], asked, tmp_path / "out").done) == 1


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # as a disk without room
from covseg_core.cli import main
main()
"""


def test_a_disk_that_fills_stops_it_and_loses_nothing(tmp_path: Path, asked: Request, other_processes: None) -> None:
    save_scans(tmp_path / "in", 10, 20)
    predict_cohort([tmp_path / "in"], asked, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for number in (3, 4):
        save_scan(tmp_path / "in" / f"scan{number}.nii.gz", with_lesion(number))
    command = [sys.executable, "-c", FULL, "predict", str(tmp_path / "in"), "--all", "--run", "lesions"]
    command += ["--lungs", "lungs", "--output", str(tmp_path / "out")]
    full = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert full.returncode == 2
    assert "Traceback" not in full.stderr
    line = full.stderr.splitlines()[-1]
    assert line.startswith("covseg: ") and line.endswith("expected room on the disk; the same call goes on then")
    for path, content in before.items():
        assert path.read_bytes() == content or path.name in ("sources.json", "cohort.json"), path
    kept = read_json(tmp_path / "out" / "cohort.json", Cohort)
    assert len(kept.done) == 2 and kept.stopped == "the disk is full: the same call goes on once there is room"
    assert not list((tmp_path / "out").rglob(".covseg-*"))
    assert len(predict_cohort([tmp_path / "in"], asked, tmp_path / "out").done) == 4


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, asked: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans that follow would all fail for the same reason, hours long."""
    import errno

    save_scans(tmp_path / "in", 10, 20, 30, 40)
    whole, calls = module.predict_one, []

    def filling(scan: Any, *more: Any) -> Any:
        calls.append(scan)
        if len(calls) == 3:
            monkeypatch.setattr("covseg_core.prediction.output.files.save_mask", no_room)
        return whole(scan, *more)

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "predict_one", filling)
    with pytest.raises(CovsegError, match="No space left on device.*the same call goes on then"):
        predict_cohort([tmp_path / "in"], asked, tmp_path / "out", processes=1)
    monkeypatch.undo()
    cohort = read_json(tmp_path / "out" / "cohort.json", Cohort)
    assert len(cohort.done) == 2


def test_cancelled_work_goes_on_later(tmp_path: Path, asked: Request) -> None:
    save_scans(tmp_path / "in", 10, 20, 30)
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        predict_cohort(
            [tmp_path / "in"], asked, tmp_path / "out",
            tell=lambda step: cancel.set() if step.done else None, cancel=cancel, processes=1,
        )  # fmt: skip
    cohort = read_json(tmp_path / "out" / "cohort.json", Cohort)
    assert cohort.done and cohort.stopped
    assert "the same call goes on" in (tmp_path / "out" / "cohort.html").read_text()
    assert len(predict_cohort([tmp_path / "in"], asked, tmp_path / "out").done) == 3


def test_a_model_that_cannot_be_used_is_one_error(tmp_path: Path, asked: Request) -> None:
    save_scans(tmp_path / "in", 10, 20)
    asked.runs[0].onnx.write_bytes(b"no model")
    with pytest.raises(RunError, match="model.onnx"):
        predict_cohort([tmp_path / "in"], asked, tmp_path / "out")


def test_volumes_over_time_and_nobodys_name(tmp_path: Path, asked: Request) -> None:
    """Dates and names stay where they were; who passes the folder on removes one file."""
    root = tmp_path / SECRET
    save_series(root / f"{SECRET}_A" / "1", 10, f"{SECRET}-a", "20200401")
    save_series(root / f"{SECRET}_A" / "2", 90, f"{SECRET}-a", "20200408")
    save_series(root / f"{SECRET}_A" / "3", 30, f"{SECRET}-a", "20200501")
    save_series(root / f"{SECRET}_B" / "1", 5, f"{SECRET}-b", "20200401")
    cohort = predict_cohort([root], asked, tmp_path / "out")
    by_patient: dict[str, list[tuple[int | None, int]]] = {}
    for row in cohort.rows:
        assert row.figures
        by_patient.setdefault(row.patient, []).append((row.day, row.figures.voxels))
    assert sorted(map(sorted, by_patient.values()), key=len) == [[(0, 5)], [(0, 10), (7, 90), (30, 30)]]
    page = (tmp_path / "out" / "cohort.html").read_text()
    assert page.count("<svg") == 1 and "day 30" in page
    assert (tmp_path / "out" / cohort.rows[0].name / "mask.dcm").is_file()
    sources = tmp_path / "out" / "sources.json"
    assert SECRET in sources.read_text() and oct(sources.stat().st_mode)[-3:] == "600"
    for path in (tmp_path / "out").rglob("*"):
        assert SECRET not in path.name
        if path.is_file() and path != sources:
            content = path.read_bytes()
            assert SECRET.encode() not in content, path
            assert not (path.suffix in (".csv", ".json", ".html") and b"202004" in content), path


def test_pseudonyms_are_all_that_is_said(tmp_path: Path, asked: Request) -> None:
    save_scans(tmp_path / "in", 10, 20)
    (tmp_path / "in" / "scan1.nii.gz").rename(tmp_path / "in" / f"{SECRET}.nii.gz")
    cohort = predict_cohort([tmp_path / "in"], asked, tmp_path / "out", pseudonyms=True)
    assert [row.name for row in cohort.rows] == ["scan-001", "scan-002"]
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.name != "sources.json":
            assert SECRET.encode() not in path.read_bytes(), path


def test_models_that_differ_agree_less(tmp_path: Path, runs: Callable[..., Run]) -> None:
    save_scans(tmp_path / "in", 10)
    same = asked_for([runs("a"), runs("b", BRIGHT - 1)], None)
    other = asked_for([runs("c"), runs("d", grey(0))], None)
    agreement = []
    for number, request in enumerate((same, other)):
        cohort = predict_cohort([tmp_path / "in"], request, tmp_path / f"out{number}")
        assert cohort.rows[0].figures and cohort.rows[0].figures.share is None
        agreement.append(cohort.rows[0].figures.agreement)
    marked = int((chest() > 0).sum()) - int((chest() == 200).sum()) + 10
    assert agreement[0] == 1
    assert agreement[1] is not None and agreement[1] < 0.01 < marked
    assert "no expected Dice" in " ".join((tmp_path / "out0" / "cohort.html").read_text().split())


def test_real_scans_of_nobody_known(tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of them, made smaller, with the models that come with covseg."""
    import nibabel as nib

    from covseg_core.runs import open_run

    monkeypatch.setenv("COVSEG_PRETRAINED", str(ROOT / "checkpoints" / "pretrained"))
    for path in sorted((real_data / "unlabelled").glob("*/ct.nii.gz"))[:3]:
        image = nib.load(path)
        small = image.slicer[::4, ::4, :: max(1, image.shape[2] // 12)]
        (tmp_path / "in" / path.parent.name).mkdir(parents=True)
        nib.save(small, tmp_path / "in" / path.parent.name / "ct.nii.gz")
    request = asked_for(open_run("infection-dice"))
    assert request.lungs and request.lungs.id == LUNGS
    cohort = predict_cohort([tmp_path / "in"], request, tmp_path / "out")
    assert [row.state for row in cohort.rows] == ["done"] * 3
    assert all(row.name.startswith("rID_") for row in cohort.rows)
    assert all(row.figures and row.figures.severity is not None for row in cohort.rows)
    assert json.loads((tmp_path / "out" / "rID_74560" / "report.json").read_text())["name"] == "rID_74560"
