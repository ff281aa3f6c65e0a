"""What people say of a run: a name, a note and tags, in `labels.json` of its folder.

What is said of an experiment is said of each of its runs: it has no place of its own, which could be left behind.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from covseg_core import paths
from covseg_core.errors import RunError, SettingError
from covseg_core.files import cached_json, write_json
from covseg_core.runs.run import Run

FILE = "labels.json"
MOST_TAGS = 20

_LINE = re.compile(r"[^\x00-\x1f\x7f]*")
"""No line break, no control character: names and tags stand in tables and terminals."""


@dataclass(frozen=True)
class Labels:
    """Name, note and tags of a run; empty where nobody has said anything."""

    name: str = ""
    """For people; the id stays the run's name to programs."""
    note: str = ""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fits = len(self.name) <= 100 and _on_a_line(self.name)
        _check("name", self.name, fits, "one line of at most 100 characters")
        _check("note", self.note, len(self.note) <= 2000, "at most 2000 characters")
        _check("tags", self.tags, len(self.tags) <= MOST_TAGS, f"at most {MOST_TAGS} tags")
        for tag in self.tags:
            fits = 1 <= len(tag) <= 40 and _on_a_line(tag) and "," not in tag and tag == tag.strip()
            _check("tag", tag, fits, "1 to 40 characters on one line, without a comma or a blank at an end")


def read_labels(run: Run) -> Labels:
    """What stands in the run's folder.

    Raises
    ------
    CovsegError : the file is not what it should be
    """
    path = run.folder / FILE
    return cached_json(path, Labels) if path.is_file() else Labels()


def edit_labels(
    runs: Sequence[Run],
    name: str | None = None,
    note: str | None = None,
    add: Collection[str] = (),
    remove: Collection[str] = (),
) -> None:
    """Change what is said of each of the runs; None leaves name and note as they are.

    Raises
    ------
    SettingError : a name, note or tag that cannot be; then nothing is changed
    RunError : a run came with covseg, or is not there any more
    CovsegError : what stands in a folder cannot be read
    """
    add, remove = _clean(add), _clean(remove)
    edited = []
    for run in runs:
        if run.folder.parent == paths.pretrained_root():
            raise RunError(run.id, "came with covseg", "a run of your own")
        labels = read_labels(run)
        kept = [tag for tag in dict.fromkeys([*labels.tags, *add]) if tag not in remove]
        new_name = labels.name if name is None else name.strip()
        edited.append(Labels(new_name, labels.note if note is None else note.strip(), tuple(kept)))
    for run, labels in zip(runs, edited, strict=True):
        if not (run.folder / "config.json").is_file():  # to write would make a part of its folder again
            raise RunError(run.id, "was deleted in the meantime")
        write_json(run.folder / FILE, labels)


def _check(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        shown = repr(value)
        raise SettingError(name, shown if len(shown) <= 60 else f"{shown[:60]}...", expected)


def _clean(tags: Collection[str]) -> list[str]:
    return [tag.strip() for tag in tags]


def _on_a_line(text: str) -> bool:
    return _LINE.fullmatch(text) is not None
