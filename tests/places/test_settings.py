"""`places.toml` is written by hand: what is wrong with it must be said in one line, before a run is made."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from covseg_core.cli import cli
from covseg_core.errors import PlaceError, SettingError
from covseg_core.places import Local, Slurm, place_named, place_names
from covseg_core.runs import jobs, list_runs
from covseg_core.runs.place_check import check

WHOLE = """
[gpu]
partition = "gpu"
gpus = 1
cpus = 4
memory = "16G"
time = "1-08:00:00"
grace = 60
python = "/shared/covseg/bin/python"
setup = ["module load cuda"]
environment = { OMP_NUM_THREADS = "4" }
options = ["--account=lab"]
"""


@pytest.fixture
def places(checkpoints_folder: Path) -> Path:
    checkpoints_folder.mkdir()
    return checkpoints_folder / "places.toml"


def test_without_a_file_there_is_this_machine():
    assert place_names() == ["local"]
    assert place_named("local") == Local()


def test_the_file_of_another_folder_is_used_if_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(WHOLE)
    monkeypatch.setenv("COVSEG_PLACES", str(tmp_path / "mine.toml"))
    assert place_names() == ["local", "gpu"]


def test_every_setting_arrives(places):
    places.write_text(WHOLE)
    assert place_named("gpu") == Slurm(
        "gpu",
        "gpu",
        gpus=1,
        cpus=4,
        memory="16G",
        time="1-08:00:00",
        grace=60,
        python="/shared/covseg/bin/python",
        setup=("module load cuda",),
        environment={"OMP_NUM_THREADS": "4"},
        options=("--account=lab",),
    )


WRONG = [
    ("[gpu]\npartiton = 'a'", "no setting partiton; expected one of partition, gpus"),
    ("[gpu]\ngpus = 'two'", "Expected `int`, got `str`"),
    ("[gpu]\ngpus = -1", "-1; expected 0 or more"),
    ("[gpu]\nmemory = '16 GB'", "'16 GB'; expected a number and K, M, G or T"),
    ("[gpu]\ntime = '8 hours'", "'8 hours'; expected minutes, hh:mm:ss or days-hh:mm:ss"),
    ("[gpu]\ngrace = 0", "0; expected 1 or more seconds"),
    ("[gpu]\nenvironment = {'A B' = '1'}", "expected names of variables"),
    ("[gpu]\noptions = ['lab']", "expected options of sbatch"),
    ("gpu = 1", "1; expected a table"),
    ("[gpu", "expected TOML"),
    ("[cluster]", "place gpu: is not in .*places.toml; expected one of local, cluster"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_said_before_anything_starts(phantoms, places, text, said):
    places.write_text(text)
    with pytest.raises(PlaceError, match=said):
        jobs.train(phantoms, ["dice"], place="gpu")
    assert list_runs() == []


def test_a_name_that_could_not_be_typed_is_refused(places):
    places.write_text("['a b']\n")
    with pytest.raises(SettingError, match="place: 'a b'"):
        place_named("a b")


def test_the_command_lists_places_with_what_they_ask_for(places):
    places.write_text(WHOLE + '[local]\ndevices = ["cpu", "cpu"]\n')
    shown = CliRunner().invoke(cli, ["places", "list"], standalone_mode=False)
    assert "local" in shown.output
    assert "devices cpu, cpu" in shown.output
    assert "partition gpu, gpus 1, cpus 4, memory 16G" in " ".join(shown.output.split())
    as_json = json.loads(CliRunner().invoke(cli, ["places", "list", "--json"], standalone_mode=False).output)
    assert [place["name"] for place in as_json] == ["local", "gpu"]
    assert as_json[1]["environment"] == {"OMP_NUM_THREADS": "4"}


def test_this_machine_is_checked_without_a_job(places):
    places.write_text('[local]\ndevices = ["0", "1+2"]\n')
    [found] = check("local")
    assert found.found == "2 trainings at a time: 0, 1+2"


@pytest.mark.parametrize("kind", [Local, Slurm])
def test_every_setting_is_in_the_example_of_the_documentation(kind):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "cluster.md").read_text()
    example = tomllib.loads(page.split("```toml\n")[1].split("```")[0])
    shown = set().union(*(table for name, table in example.items() if (name == "local") == (kind is Local)))
    assert shown == {field.name for field in dataclasses.fields(kind)} - {"name"}


def test_the_example_of_the_documentation_can_be_used(places):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "cluster.md").read_text()
    places.write_text(page.split("```toml\n")[1].split("```")[0])
    assert [place_named(name).name for name in place_names()] == ["local", "gpu"]
