"""The evidence bundle. What a user loses otherwise: numbers in a paper that somebody else can check."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from click.testing import CliRunner
from fakeruns import fake_run, save_model
from zips import changed, edited

from covseg_core.cli.evidence import bundle, verify
from covseg_core.config import THESIS, SplitConfig
from covseg_core.data.library.datasets import Dataset, dataset_folder, delete_dataset, load_dataset
from covseg_core.data.library.importing import import_sample
from covseg_core.data.library.pseudonyms import Pseudonyms
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.errors import CovsegError, DatasetError, RunError
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.model import single_runs
from covseg_core.evidence import verify as verifying
from covseg_core.evidence.bundle import MANIFEST, Data, Manifest, write_bundle
from covseg_core.evidence.verify import verify_bundle
from covseg_core.files import to_json, write_json
from covseg_core.runs import Run, list_runs
from covseg_core.temporary import temporary_root

SIZE = 32


def three(dataset: Dataset) -> list[Run]:
    """Three models that see infection above another grey value each."""
    split = SplitConfig(fractions=(0.4, 0.2, 0.4))
    return [
        fake_run(dataset, f"first-{metric}", metric, split, limit)
        for metric, limit in zip(THESIS, (90, 110, 130), strict=True)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, and the evidence for three models."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVSEG_DATA", str(root / "data"))
        patch.setenv("COVSEG_CHECKPOINTS", str(root / "checkpoints"))
        runs = three(import_sample("phantoms", scans=5, size=48))
        write_bundle(single_runs(runs), evaluate_runs(runs), root / "evidence.zip")
    return root


@pytest.fixture
def dataset(made: Path, data_folder: Path) -> Dataset:
    shutil.copytree(made / "data", data_folder)
    return load_dataset("phantoms")


@pytest.fixture
def runs(dataset: Dataset) -> list[Run]:
    """The models themselves, not scored yet."""
    return three(dataset)


@pytest.fixture
def evidence(made: Path, dataset: Dataset, tmp_path: Path) -> Path:
    """A bundle that was made elsewhere."""
    return Path(shutil.copy(made / "evidence.zip", tmp_path))


def test_the_numbers_come_out_again_on_a_computer_that_has_the_data_but_not_the_runs(
    evidence: Path, other_process: None
) -> None:
    result = verify_bundle(evidence)
    assert result.same, result
    assert [check.run for check in result.runs] == ["first-accuracy", "first-iou", "first-dice"]
    assert all(check.slices > 0 and check.largest_difference == 0 for check in result.runs)
    assert result.sentence.startswith("The numbers are the same: 3 models on ")
    assert not list_runs(), "nothing is left in the user's folder"


def test_a_bundle_holds_what_a_reader_needs_and_no_picture_of_a_patient(evidence: Path, dataset: Dataset) -> None:
    with zipfile.ZipFile(evidence) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read(MANIFEST))
        readme = archive.read("README.txt").decode()
    for metric in THESIS:
        for file in ("config.json", "split.json", "history.csv", "model.onnx"):
            assert f"runs/first-{metric}/{file}" in names
    assert {"tables/scores.csv", "tables/slices.csv", "comparison.json", "figures/dice.html"} <= set(names)
    assert {"python", "numpy", "keras"} <= manifest["software"].keys()
    assert list(manifest["data"]["cases"]) == [f"case-00{number}" for number in range(1, 6)]
    hashes = sorted(case.sha256["scan"] for case in dataset.cases)
    assert [case["scan"] for case in manifest["data"]["cases"].values()] == hashes, "the order of names is a trace"
    assert all(len(cases["scan"]) == 64 for cases in manifest["data"]["cases"].values())
    assert "not for diagnosis" in readme
    assert not [name for name in names if name.endswith((".npy", ".npz", ".nii.gz", ".nii", ".png", ".log"))]


def test_a_number_that_was_made_better_is_found_out(evidence: Path) -> None:
    """Even by somebody who has made the manifest fit: the evaluation itself is repeated."""

    def better(comparison: dict) -> None:
        comparison["evaluations"][2]["model"]["pooled"]["dice"] += 0.05

    with pytest.raises(CovsegError, match=r"comparison.json was changed"):
        verify_bundle(changed(evidence, {"comparison.json": edited(better)}))
    result = verify_bundle(changed(evidence, {"comparison.json": edited(better)}, honest=True))
    assert [check.agrees for check in result.runs] == [True, True, False]
    assert result.runs[2].largest_difference == pytest.approx(0.05)
    assert "NOT the same: first-dice differs" in result.sentence


def test_other_weights_are_found_out(evidence: Path, runs: list[Run]) -> None:
    other = runs[0].onnx.read_bytes()
    result = verify_bundle(changed(evidence, {"runs/first-dice/model.onnx": lambda _: other}, honest=True))
    assert not result.agrees
    assert result.runs[2].differing_slices > 0


def test_a_last_digit_is_no_contradiction(evidence: Path) -> None:
    """Other processors round otherwise."""

    def nudged(comparison: dict) -> None:
        comparison["evaluations"][0]["model"]["pooled"]["dice"] += 1e-4

    result = verify_bundle(changed(evidence, {"comparison.json": edited(nudged)}, honest=True))
    assert result.agrees
    assert not result.same
    assert "within rounding" in result.sentence


def test_without_the_same_data_nothing_is_claimed(evidence: Path, dataset: Dataset, tmp_path: Path) -> None:
    scan = dataset_folder(dataset.name)
    assert scan.is_dir()
    delete_dataset(dataset.name)
    with pytest.raises(DatasetError, match="scans and masks that are not here; expected its 5 cases"):
        verify_bundle(evidence)
    import_sample(dataset.name, scans=5, size=48, seed=1)
    with pytest.raises(DatasetError, match="scans and masks that are not here; expected its 5 cases"):
        verify_bundle(evidence)


@pytest.mark.parametrize("name", ["runs/first-dice/split.json", MANIFEST])
def test_a_bundle_with_a_file_missing_is_refused(evidence: Path, name: str) -> None:
    with zipfile.ZipFile(evidence) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist() if entry != name}
    with zipfile.ZipFile(evidence, "w") as archive:
        for entry, content in files.items():
            archive.writestr(entry, content)
    with pytest.raises(CovsegError, match="lacks|no such file"):
        verify_bundle(evidence)


def test_what_is_no_bundle_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("not a zip")
    done = CliRunner().invoke(verify, [str(tmp_path / "text.zip")])
    assert isinstance(done.exception, CovsegError)
    with zipfile.ZipFile(tmp_path / "later.zip", "w") as archive:
        data = Data("x", "", {})
        archive.writestr(MANIFEST, to_json(Manifest(99, "", (), data, {})))
    with pytest.raises(CovsegError, match="version 99"):
        verify_bundle(tmp_path / "later.zip")


def test_an_unfinished_run_is_no_evidence(runs: list[Run], tmp_path: Path) -> None:
    comparison = evaluate_runs(runs)
    runs[1].history_csv.unlink()
    with pytest.raises(RunError, match=r"no history.csv"):
        write_bundle(single_runs(runs), comparison, tmp_path / "evidence.zip")
    assert not list(tmp_path.glob("*evidence.zip")), "half a bundle is left"


def edit_third(change: Callable[[dict], None]) -> Callable[[bytes], bytes]:
    """A change of the third model in `comparison.json`."""
    return edited(lambda comparison: change(comparison["evaluations"][2]))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda one: one.update(metric="accuracy"), "metric"),
        (lambda one: one.update(seen_patients=["somebody"]), "seen_patients"),
        (lambda one: one.update(threshold=0.4), "threshold"),
    ],
)
def test_what_is_said_of_a_model_is_checked_as_its_numbers_are(
    evidence: Path, change: Callable[[dict], None], word: str
) -> None:
    """The right number under a wrong name is a wrong number."""
    result = verify_bundle(changed(evidence, {"comparison.json": edit_third(change)}, honest=True))
    assert [check.agrees for check in result.runs] == [True, True, False]
    assert result.runs[2].facts == (word,)
    assert f"first-dice differs in {word}." in result.sentence


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one["own"].update(train_validation=0.99),
        lambda one: one["model"]["over_scans"]["dice"].update(median=0.99),
        lambda one: one["model"]["scans"][0].update(patient="somebody"),
        lambda one: one["model"]["scans"][0]["counts"].update(tp=10**6),
        lambda one: one["model"]["slices"][0]["counts"].update(tp=10**6),
        lambda one: one["baselines"][0]["slices"][0]["counts"].update(tp=10**6),
        lambda one: one.update(patients=20, epochs=500),
    ],
)
def test_no_number_is_left_out(evidence: Path, change: Callable[[dict], None]) -> None:
    result = verify_bundle(changed(evidence, {"comparison.json": edit_third(change)}, honest=True))
    assert [check.agrees for check in result.runs] == [True, True, False]


def test_a_leak_cannot_be_hidden(evidence: Path) -> None:
    """The head of every table says LEAKY, or does not."""
    hidden = edited(lambda comparison: comparison.update(leaky=True))
    with pytest.raises(CovsegError, match="contradicts its models"):
        verify_bundle(changed(evidence, {"comparison.json": hidden}, honest=True))


def test_scores_in_the_folder_of_a_run_are_checked_and_never_believed(evidence: Path) -> None:
    """They hold what the score on training and validation is made of, which would not be computed again."""

    def better(scores: dict) -> None:
        scores["own"]["train_validation_counts"].update(fp=0, fn=0)
        scores["own"]["train_validation"] = 1.0

    name = "runs/first-dice/evaluation.json"
    result = verify_bundle(changed(evidence, {name: edited(better)}, honest=True))
    assert [check.agrees for check in result.runs] == [True, True, False]
    assert "first-dice (evaluation.json) differs" in result.sentence
    assert result.runs[2].largest_difference == 0, "the comparison is as it was"
    without = changed(evidence, {name: lambda _: None}, honest=True)
    assert verify_bundle(without).same


def test_models_that_change_places_are_found_out(evidence: Path) -> None:
    exchanged = edited(lambda manifest: manifest["runs"].reverse())
    with pytest.raises(CovsegError, match=r"comparison.json is of first-accuracy, first-iou, first-dice"):
        verify_bundle(changed(evidence, {MANIFEST: exchanged}, honest=True))


def test_a_bundle_reaches_no_run_outside_of_it(evidence: Path, runs: list[Run]) -> None:
    """Its runs are written to: a path in place of a name would be somebody's own run."""
    evaluate_runs(runs)
    outside = edited(lambda manifest: manifest.update(runs=[str(run.folder) for run in runs]))
    with pytest.raises(CovsegError, match="expected 1 to 100 of the characters"):
        verify_bundle(changed(evidence, {MANIFEST: outside}, honest=True))
    assert all(run.evaluation.exists() for run in runs)


def test_hashes_of_data_that_the_runs_have_not_seen_are_no_evidence(evidence: Path) -> None:
    def other(manifest: dict) -> None:
        next(iter(manifest["data"]["cases"].values()))["scan"] = "0" * 64

    with pytest.raises(DatasetError, match=r"is not the bundle's: case-001 differ"):
        verify_bundle(changed(evidence, {MANIFEST: edited(other)}, honest=True))
    config = edited(lambda config: config.update(fingerprint="0" * 64))
    with pytest.raises(CovsegError, match="first-iou is of other data"):
        verify_bundle(changed(evidence, {"runs/first-iou/config.json": config}, honest=True))


def test_scores_of_an_earlier_model_are_no_evidence(runs: list[Run], tmp_path: Path) -> None:
    comparison = evaluate_runs(runs)
    with pytest.raises(RunError, match="the comparison is of"):
        write_bundle(single_runs(runs[:2]), comparison, tmp_path / "evidence.zip")
    save_model(runs[2].onnx, 200)
    with pytest.raises(RunError, match="has scores of an earlier model"):
        write_bundle(single_runs(runs), comparison, tmp_path / "evidence.zip")


def test_an_experiment_stands_for_its_runs(dataset: Dataset, tmp_path: Path) -> None:
    split = SplitConfig(fractions=(0.4, 0.2, 0.4))
    for metric in THESIS:
        fake_run(dataset, f"whole-{metric}", metric, split, 100, experiment="whole")
    done = CliRunner().invoke(bundle, ["whole", "whole-iou", "--output", str(tmp_path / "evidence.zip"), "--json"])
    assert done.exit_code == 0, done.output
    assert sorted(json.loads(done.output)["runs"]) == ["whole-accuracy", "whole-dice", "whole-iou"]


def test_the_commands_say_what_came_out_and_fail_if_it_differs(runs: list[Run], tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    done = CliRunner().invoke(bundle, [*(run.id for run in runs), "--output", str(path)])
    assert done.exit_code == 0, done.output
    assert json.loads(zipfile.ZipFile(path).read(MANIFEST))["version"] == 3, "an earlier covseg has to say so"
    done = CliRunner().invoke(verify, [str(path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["same"] is True
    worse = changed(path, {"runs/first-dice/model.onnx": lambda _: runs[0].onnx.read_bytes()}, honest=True)
    done = CliRunner().invoke(verify, [str(worse)])
    assert done.exit_code == 1
    assert "NOT the same" in done.output


@pytest.mark.parametrize(
    ("operator", "words"), [("Loop", "operator 'Loop'"), ("ConstantOfShape", "operator 'ConstantOfShape'")]
)
def test_a_model_that_no_export_writes_is_refused(evidence: Path, operator: str, words: str) -> None:
    def add(content: bytes) -> bytes:
        model = onnx.load_from_string(content)
        model.graph.node.append(onnx.helper.make_node(operator, ["limit"], ["x"]))
        return model.SerializeToString()

    changed_bundle = changed(evidence, {"runs/first-dice/model.onnx": add}, honest=True)
    done = CliRunner().invoke(verify, [str(changed_bundle)])
    assert isinstance(done.exception, CovsegError)
    line = str(done.exception)
    assert line.startswith(f"{changed_bundle}: runs/first-dice/model.onnx: ")
    assert words in line


def widened(content: bytes) -> bytes:
    """Allowed operators that ask for 16 TB."""
    model = onnx.load_from_string(content)
    wide = np.ones((1, 1, 1, 200_000), np.float32)
    for number, shape in enumerate([(1, 1, 1, 200_000), (1, 1, 200_000, 1)]):
        model.graph.initializer.append(onnx.numpy_helper.from_array(wide.reshape(shape), f"wide{number}"))
    last = model.graph.node[-1]
    output, last.output[0] = last.output[0], "kept"
    model.graph.node.append(onnx.helper.make_node("Mul", ["wide0", "wide1"], ["square"]))
    model.graph.node.append(onnx.helper.make_node("MaxPool", ["square"], ["one"], kernel_shape=[1, 1]))
    model.graph.node.append(onnx.helper.make_node("Add", ["kept", "one"], [output]))
    return model.SerializeToString()


def test_a_model_that_asks_for_all_memory_is_one_line(evidence: Path, other_process: None) -> None:
    with pytest.raises(CovsegError, match=r"runs/first-dice/model.onnx: not readable: computes .* of a U-Net") as error:
        verify_bundle(changed(evidence, {"runs/first-dice/model.onnx": widened}, honest=True))
    assert "\n" not in str(error.value)


def test_models_of_a_small_bundle_get_little_memory(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.5 GB for 10 MB, whatever they ask for; and what they need, if that is less."""
    monkeypatch.setattr(verifying, "most_memory", lambda: 2**36)
    monkeypatch.setattr("covseg_core.isolation._machine_memory", lambda: 2**36)
    (tmp_path / "zip").write_bytes(bytes(10**7))

    def memory(models: int, path: Path = tmp_path / "zip") -> int:
        return verifying._scoring_limits(verifying._Claims(path, None, (), {}, models), dataset).memory  # type: ignore[arg-type]

    voxels = max(int(np.prod(case.shape)) for case in dataset.cases)
    assert memory(2**40) < 1.6e9 + 16 * voxels
    assert memory(10**8) == verifying.MEMORY[0] + 10**8 + 16 * voxels


def test_nothing_of_a_bundle_stays_behind(evidence: Path, other_process: None) -> None:
    verify_bundle(evidence)
    assert not list(temporary_root().iterdir())


def test_a_bundle_that_swells_is_refused(evidence: Path, other_process: None) -> None:
    with zipfile.ZipFile(evidence, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(200 * 2**20))
    with pytest.raises(CovsegError, match="expected at most"):
        verify_bundle(evidence)


def test_ctrl_c_ends_it(evidence: Path, other_process: None) -> None:
    """Also where nothing of Python runs."""

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    before = psutil.Process().children()  # one may wait for the next scan
    with pytest.raises(KeyboardInterrupt):
        verify_bundle(evidence, stop)
    assert set(psutil.Process().children()) <= set(before)
    assert not list(temporary_root().iterdir())


def test_the_recipient_may_call_the_cases_otherwise_and_have_more(evidence: Path, dataset: Dataset) -> None:
    """Names stay at home on both sides; scans and masks are recognised by their SHA-256."""
    cases = [
        dataclasses.replace(case, id=f"own-{9 - number}", patient="everybody")
        for number, case in enumerate(dataset.cases)
    ]
    more = dataclasses.replace(cases[0], id="more", sha256=dict.fromkeys(cases[0].sha256, "0" * 64))
    folder = dataset.folder.rename(dataset_folder("theirs"))
    write_json(folder / "dataset.json", dataclasses.replace(dataset, name="theirs", cases=(*cases, more)))
    assert verify_bundle(evidence).same
    other = [dataclasses.replace(case, labels=(1,)) for case in cases]
    write_json(folder / "dataset.json", dataclasses.replace(dataset, name="theirs", cases=tuple(other)))
    with pytest.raises(DatasetError, match="dataset theirs here is not the bundle's: labels or scales differ"):
        verify_bundle(evidence)


def test_evidence_outlasts_the_correction_of_a_mask(evidence: Path, dataset: Dataset, tmp_path: Path) -> None:
    """The masks that were scored are still there; so are those of a later revision once it is not the newest."""
    first, second = dataset.cases[:2]
    now = save_revision(dataset.name, first.id, 1 - stored_mask(dataset, first, "infection")).dataset
    assert verify_bundle(evidence).same
    [run] = [fake_run(now, "later", "dice", SplitConfig(fractions=(0.4, 0.2, 0.4)), 100, revision=2)]
    write_bundle(single_runs([run]), evaluate_runs([run]), tmp_path / "later.zip")
    save_revision(dataset.name, second.id, 1 - stored_mask(dataset, second, "infection"))
    assert verify_bundle(tmp_path / "later.zip").same


def test_a_bundle_of_an_earlier_covseg_with_names_in_it_can_still_be_verified(
    runs: list[Run], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, people = (
        {name: name for name in names} for names in zip(*((c.id, c.patient) for c in dataset.cases), strict=True)
    )
    true = Pseudonyms(ids, people, dataset.fingerprint, dataset.fingerprint)
    monkeypatch.setattr(Pseudonyms, "of", lambda _: true)
    write_bundle(single_runs(runs), evaluate_runs(runs), tmp_path / "evidence.zip")
    earlier = edited(lambda manifest: (manifest.update(version=1), manifest["data"].pop("patients")))
    assert verify_bundle(changed(tmp_path / "evidence.zip", {MANIFEST: earlier})).same
