"""What people say of their runs must be there again tomorrow, for the page as for the command line."""

from __future__ import annotations

import shutil

import pytest

from covseg_core.config import RunConfig, SplitConfig
from covseg_core.data.splitting.split import Split
from covseg_core.errors import CovsegError, RunError, SettingError
from covseg_core.runs import Run, create_run
from covseg_core.runs.labels import FILE, Labels, edit_labels, read_labels


def _run(id: str) -> Run:
    config = RunConfig(id, "experiment", "data", "f" * 64, "dice", "quick", "2020-01-01T00:00:00+00:00")
    return create_run(config, Split(SplitConfig(), {}, {}, {}))


def test_a_run_of_which_nobody_has_said_anything_has_empty_labels() -> None:
    assert read_labels(_run("one")) == Labels("", "", ())


def test_labels_are_kept_and_changed_one_by_one() -> None:
    run = _run("one")
    edit_labels([run], name=" Larger slices ", add=["best", "  to show "])
    edit_labels([run], note="line one\nline two", add=["best"])
    assert read_labels(run) == Labels("Larger slices", "line one\nline two", ("best", "to show"))
    edit_labels([run], name="", remove=["best"])
    assert read_labels(run) == Labels("", "line one\nline two", ("to show",))
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".")], "nothing half-written is left"


def test_each_run_of_an_experiment_keeps_its_own_tags() -> None:
    one, two = _run("one"), _run("two")
    edit_labels([one], add=["mine"])
    edit_labels([one, two], name="both", add=["all"])
    assert read_labels(one) == Labels("both", "", ("mine", "all"))
    assert read_labels(two) == Labels("both", "", ("all",))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"name": "two\nlines"}, "one line"),
        ({"note": "x" * 2001}, "at most 2000 characters"),
        ({"add": ["a,b"]}, "without a comma"),
        ({"add": [" "]}, "1 to 40 characters"),
        ({"add": ["x" * 41]}, "1 to 40 characters"),
        ({"add": [str(number) for number in range(21)]}, "at most 20 tags"),
    ],
)
def test_what_no_table_could_show_is_refused_and_nothing_is_changed(change: dict[str, object], expected: str) -> None:
    one, two = _run("one"), _run("two")
    with pytest.raises(SettingError, match=expected) as raised:
        edit_labels([one, two], **change)  # type: ignore[arg-type]
    assert len(str(raised.value).splitlines()) == 1
    assert not (one.folder / FILE).exists()


@pytest.mark.parametrize("content", ["", "[]", '{"tags": "one"}', '{"colour": 1, "name": 2}', '{"tags": ["a,b"]}'])
def test_a_file_that_is_none_of_ours_is_an_error_of_one_line(content: str) -> None:
    run = _run("one")
    (run.folder / FILE).write_text(content)
    with pytest.raises(CovsegError) as raised:
        read_labels(run)
    assert str(run.folder / FILE) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_labels_do_not_bring_a_deleted_run_back() -> None:
    run = _run("one")
    shutil.rmtree(run.folder)
    with pytest.raises(RunError, match="deleted"):
        edit_labels([run], name="late")
    assert not run.folder.exists()


def test_shipped_models_stay_as_they_came(checkpoints_folder) -> None:
    run = _run("infection-dice")
    (checkpoints_folder / "pretrained").mkdir()
    run.folder.rename(checkpoints_folder / "pretrained" / "infection-dice")
    with pytest.raises(RunError, match="came with covseg"):
        edit_labels([Run(checkpoints_folder / "pretrained" / "infection-dice")], name="mine")
