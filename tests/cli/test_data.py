"""`covseg data` as a user meets it. What a user loses when it fails: seeing what was imported, and scripts that rely on
`--json` and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result
from dicomfiles import SECRET, stack_of, write

from covseg_core.cli import data as cli_data
from covseg_core.data.library.datasets import list_datasets, load_dataset
from covseg_core.data.phantom.phantom import write_sample
from covseg_core.errors import CovsegError


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli-phantoms")
    write_sample(folder, scans=2, size=48, slices=8)
    return folder


@pytest.fixture
def public(phantoms: Path, tmp_path: Path) -> Path:
    """A case with a long name, which shares its patient, and one without infection."""
    (tmp_path / "in").mkdir()
    for source, name in (("phantom_001", "radiopaedia_10_85902_1"), ("phantom_002", "radiopaedia_10_85902_3")):
        (tmp_path / "in" / name).symlink_to(phantoms / source)
    return tmp_path / "in"


def run(*arguments: object, columns: int | None = None) -> Result:
    """Run `covseg data ...` in this process; errors are the caller's, as for `covseg_core.cli`."""
    environment = {"COLUMNS": None if columns is None else str(columns)}
    result = CliRunner().invoke(cli_data.data, [str(argument) for argument in arguments], env=environment)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_sample_makes_a_dataset_and_shows_it() -> None:
    result = run("sample", "demo", "--scans", 2, "--size", 64, "--seed", 3)
    assert result.exit_code == 0
    assert [case.id for case in load_dataset("demo").cases] == ["phantom_001", "phantom_002"]
    assert load_dataset("demo").cases[0].shape[1:] == (64, 64)
    assert "demo: 2 cases, 2 patients, 48 slices (" in result.output


def test_a_folder_of_dicom_cases(phantoms: Path, tmp_path: Path) -> None:
    stack = stack_of(nib.load(phantoms / "phantom_001/ct.nii.gz"))
    write(tmp_path / "in/p7/dicom", stack)
    shutil.copy(phantoms / "phantom_001/infection_mask.nii.gz", tmp_path / "in/p7")
    result = run("add", "demo", tmp_path / "in")
    assert result.exit_code == 0
    assert "demo: 1 case, 1 patient, 8 slices (" in result.output
    assert SECRET not in result.output


def test_nobody_waits_for_dicom_who_has_none(phantoms: Path, tmp_path: Path) -> None:
    """What reads DICOM takes tenths of a second to import, highdicom a second. (nibabel imports pydicom by itself.)"""
    code = (
        "import sys; from covseg_core.cli import cli; cli(standalone_mode=False);"
        "print('LOADED', [name for name in ('covseg_core.data.reading.dicom', 'highdicom') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "data", "add", "demo", str(phantoms), "--allow-empty"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert "LOADED []" in found.stdout


@pytest.mark.parametrize("columns", [80, 120, None])
def test_the_table_holds_every_fact_on_one_line_a_case(public: Path, columns: int | None) -> None:
    paths = [public / "radiopaedia_10_85902_1", public / "radiopaedia_10_85902_3"]
    output = run("add", "demo", *paths, "--allow-empty", columns=columns).output
    lines = output.splitlines()
    assert max(map(len, lines)) <= (columns or 160)
    for case in load_dataset("demo").cases:
        [line] = [line for line in lines if line.startswith(case.id)]
        spacing = "x".join(f"{size:.3g}" for size in case.spacing[::-1])
        facts = ["48x48x8", spacing, case.orientation, "HU", f"{case.positive_slices} of 8"]
        assert all(fact in line for fact in facts), line
    assert output.count("of radiopaedia_10 ") + output.count("  radiopaedia_10 ") == 2
    number = next(line for line in lines if line.startswith("radiopaedia_10_85902_3")).split()[-1]
    assert f"{number} no infection" in [line.strip() for line in lines]
    assert "demo: 2 cases, 1 patient, 16 slices (" in output


def test_add_says_how_many_are_new(phantoms: Path) -> None:
    run("add", "demo", phantoms / "phantom_001")
    output = run("add", "demo", phantoms / "phantom_002", "--allow-empty").output
    assert output.startswith("1 case added to 1.\n")
    assert output.count("phantom_00") == 4


def test_labels_and_scale_reach_the_import(phantoms: Path) -> None:
    run("add", "demo", phantoms / "phantom_001", "--labels", "1, 2", "--scale", "HU")
    assert load_dataset("demo").cases[0].labels == (1, 2)


@pytest.mark.parametrize("labels", ["", "0", "-1", "1,x", "1.5", "1,,2"])
def test_wrong_labels_are_refused_before_anything_is_read(labels: str, phantoms: Path) -> None:
    with pytest.raises(CovsegError, match=r"--labels: .*; expected whole numbers above 0"):
        run("add", "demo", phantoms / "phantom_001", "--labels", labels)
    assert list_datasets() == []


def test_list_and_show_for_people_and_for_programs(phantoms: Path) -> None:
    assert "No datasets yet" in run("list").output
    assert json.loads(run("list", "--json").output) == []
    run("add", "demo", phantoms / "phantom_001")
    dataset = load_dataset("demo")

    line = run("list").output.splitlines()[1].split()
    assert line[:5] == ["demo", "1", "1", "8", str(dataset.cases[0].positive_slices)]
    [row] = json.loads(run("list", "--json").output)
    assert (row["name"], row["cases"], row["fingerprint"]) == ("demo", 1, dataset.fingerprint)

    assert "phantom_001" in run("show", "demo").output
    shown = json.loads(run("show", "demo", "--json").output)
    assert shown["fingerprint"] == dataset.fingerprint
    assert Path(shown["folder"]) == dataset.folder
    [case] = shown["cases"]
    assert case["id"] == "phantom_001"
    assert case["shape"] == [8, 48, 48]
    assert tuple(case["infection_voxels"]) == dataset.cases[0].infection_voxels
    assert case["positive_slices"] == dataset.cases[0].positive_slices


def test_delete_asks_first(phantoms: Path) -> None:
    run("add", "demo", phantoms / "phantom_001")
    assert run("delete", "demo").exit_code == 1
    assert list_datasets() == ["demo"]
    assert run("delete", "demo", "--yes").output == "Deleted demo.\n"
    assert list_datasets() == []


def test_download_imports_what_was_fetched(phantoms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from covseg_core.data.library import download

    monkeypatch.setattr(download, "download", lambda source, progress: [phantoms / "phantom_001"])
    run("download", "zenodo", "--to", "demo")
    assert load_dataset("demo").source == "zenodo download"


def covseg(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "covseg_core", "data", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_a_program_can_read_the_output_and_the_exit_code(phantoms: Path) -> None:
    done = covseg("add", "demo", phantoms / "phantom_001")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout, "colours in a file"
    again = covseg("add", "demo", phantoms / "phantom_001")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.count("\n") == 1
    assert again.stderr.startswith("covseg: ")
    assert json.loads(covseg("show", "demo", "--json").stdout)["name"] == "demo"


def test_a_terminal_without_unicode_is_no_reason_to_fail(phantoms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = covseg("add", "demo", phantoms / "phantom_002", "--allow-empty")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_real_cases_fit_80_columns(real_data: Path) -> None:
    lines = run("add", "ct20", real_data / "ct20", columns=80).output.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith(("coronacases", "radiopaedia")) for line in lines) == 12
    assert lines[-1] == "ct20: 12 cases, 10 patients, 646 slices (633 with infection), 12 lung masks"


def test_a_mask_of_another_program_becomes_a_revision(phantoms: Path, tmp_path: Path) -> None:
    run("add", "demo", phantoms, "--allow-empty")
    source = phantoms / "phantom_001" / "infection_mask.nii.gz"
    image = nib.load(source)
    voxels = np.asarray(image.dataobj).astype(np.uint8)
    added = int((voxels[2:5, 2:5, 3] == 0).sum())
    voxels[2:5, 2:5, 3] = 1
    nib.save(nib.Nifti1Image(voxels, image.affine), tmp_path / "corrected.nii.gz")
    arguments = ("revise", "demo", "phantom_001", tmp_path / "corrected.nii.gz")
    assert "No mask of demo was corrected yet" in run("history", "demo").output
    result = run(*arguments, "--author", "Ada", "--minutes", 12)
    assert result.exit_code == 0
    assert f"demo@2: phantom_001 infection, {added} voxels added, 0 removed" in result.output
    assert load_dataset("demo").revision == 2
    assert "revision 2" in run("show", "demo").output
    assert json.loads(run("show", "demo@1", "--json").output)["revision"] == 1
    with pytest.raises(CovsegError, match="nothing was changed"):
        run(*arguments)
    stale = run(*arguments, "--parent", 1, "--author", "Bob")
    assert "Revision 2 by Ada was saved meanwhile and is not part of this one; both are kept." in stale.output
    lines = run("history", "demo").output.splitlines()
    assert len(lines) == 3
    assert "Ada" in lines[1]
    assert "1 beside 2" in lines[2]
    entries = json.loads(run("history", "demo", "phantom_001", "--json").output)
    told = [(one["number"], one["role"], one["author"], one["origin"], one["minutes"]) for one in entries]
    assert told == [
        (1, "infection", "", "import", 0),
        (1, "lung", "", "import", 0),
        (2, "infection", "Ada", "file", 12),
        (3, "infection", "Bob", "file", 0),
    ]
    assert entries[3]["beside"] == [2]
    back = run("restore", "demo", "phantom_001", 1, "--author", "Cy")
    assert f"demo@4: phantom_001 infection, 0 voxels added, {added} removed" in back.output
    with pytest.raises(CovsegError, match="no revision 7"):
        run("restore", "demo", "phantom_001", 7)
    with pytest.raises(CovsegError, match=r"expected the grid of the scan of phantom_002"):
        nib.save(nib.Nifti1Image(voxels[:-1], image.affine), tmp_path / "other.nii.gz")
        run("revise", "demo", "phantom_002", tmp_path / "other.nii.gz")
