"""Documentation is kept by hand and checked by machine: a user who reads it must find what is there, and only that."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from covseg_core import __version__, config
from covseg_core.cli import cli

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "checkpoints/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
SETTINGS = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
COMMANDS = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")

SECTIONS = {
    "Run": config.RunConfig,
    "Prepare": config.PrepareConfig,
    "Split": config.SplitConfig,
    "Model": config.ModelConfig,
    "Train": config.TrainConfig,
    "Augment": config.AugmentConfig,
}


def rows(section: str) -> dict[str, list[str]]:
    """Cells of a section's table in settings.md, by the name in backticks in the first."""
    text = re.split(r"^## ", SETTINGS.split(f"\n## {section}\n")[1], flags=re.MULTILINE)[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def as_written(value: object) -> str:
    return f"`{json.dumps(value)}`"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_explained_and_none_that_is_gone(section: str) -> None:
    fields = {field.name: field for field in dataclasses.fields(SECTIONS[section])}
    table = rows(section)
    assert list(table) == list(fields), "same settings in the same order"
    for name, (default, meaning) in table.items():
        assert meaning, f"{section}.{name} is not explained"
        if fields[name].default is not dataclasses.MISSING:
            assert default == as_written(fields[name].default), f"{section}.{name}"
        else:
            assert default == "", f"{section}.{name} has no default that could be written in a cell"


def test_no_class_of_settings_is_left_out() -> None:
    here = {kind for kind in vars(config).values() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}
    assert here == {*SECTIONS.values(), config.Preset, config.MetricRow}


PRESET_ROWS: dict[str, Callable[[config.Preset], str]] = {
    "slices (`size`, `resize`)": lambda preset: f"{preset.prepare.size}, `{preset.prepare.resize}`",
    "U-Net (`filters`, `normalization`, `informed_bias`)": lambda preset: (
        f"{preset.model.filters}, `{preset.model.normalization}`, {'yes' if preset.model.informed_bias else 'no'}"
    ),
    "`batch`, `learning_rate`, `schedule`": lambda preset: (
        f"{preset.train.batch}, {preset.train.learning_rate:g}, `{preset.train.schedule}`"
    ),
    "`patience`": lambda preset: f"{preset.train.patience}",
    "`empty_share`": lambda preset: f"{preset.train.empty_share}",
    "epochs: accuracy, IoU, Dice, combined": lambda preset: ", ".join(
        str(preset.epochs[metric]) for metric in config.METRICS
    ),
}


@pytest.mark.parametrize("row", PRESET_ROWS)
def test_the_table_of_presets_is_that_of_the_code(row: str) -> None:
    names = " | ".join(f"`{name}`" for name in config.PRESETS)
    assert f"\n| | {names} |\n" in SETTINGS
    cells = " | ".join(PRESET_ROWS[row](preset) for preset in config.PRESETS.values())
    assert f"\n| {row} | {cells} |\n" in SETTINGS


@pytest.mark.parametrize("preset", [name for name in config.PRESETS if name != "paper"])
def test_the_augmentation_of_presets_is_that_of_the_code(preset: str) -> None:
    values = dataclasses.asdict(config.PRESETS[preset].train.augment)
    words = [
        name if value is True else f"{name} {value:g}{'°' if name == 'rotate' else ''}"
        for name, value in values.items()
        if value
    ]
    assert words
    assert f": {', '.join(words)}." in " ".join(SETTINGS.split())


def test_every_environment_variable_is_explained() -> None:
    code = [path for folder in ("covseg_core", "dashboard", "tests") for path in (ROOT / folder).rglob("*.py")]
    used = {name for path in code for name in re.findall(r"\bCOVSEG_[A-Z_]+\b", path.read_text(encoding="utf-8"))}
    assert used | {"KERAS_BACKEND"} == set(rows("Environment variables"))


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def section(path: str) -> str:
    """What the page of the command line says about a command."""
    assert f"\n## `{path}`\n" in COMMANDS, f"{path} has no heading"
    return re.split(r"^## ", COMMANDS.split(f"\n## `{path}`\n")[1], flags=re.MULTILINE)[0]


ALL_COMMANDS = dict(commands(cli, "covseg"))


@pytest.mark.parametrize("path", ALL_COMMANDS)
def test_every_command_has_its_options_explained_and_none_that_is_gone(path: str) -> None:
    text = section(path)
    there = {name for option in ALL_COMMANDS[path].params for name in option.opts if name.startswith("--")}
    assert set(re.findall(r"`(--[a-z-]+)", text)) >= there, "not explained"
    own = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `--")}
    assert own <= there, "gone"


def test_no_heading_is_of_a_command_that_is_gone() -> None:
    assert re.findall(r"^## `(.+)`$", COMMANDS, re.MULTILINE) == sorted(
        ALL_COMMANDS, key=lambda path: COMMANDS.find(f"\n## `{path}`\n")
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_command_or_an_option_that_is_gone(page: Path) -> None:
    """In backticks or in a block of commands."""
    text = page.read_text(encoding="utf-8").replace("\\|", "|")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [" ".join(line.split()) for block in blocks for line in block.replace("\\\n", "").splitlines()]
    lines += [" ".join(quoted.split()) for quoted in re.findall(r"`([^`]+)`", text)]
    for line in lines:
        if not (called := re.match(r"(?:[A-Z_]+=\S+ )?(covseg(?: [a-z][a-z0-9-]*)+)(.*)", line)):
            continue
        named, rest = called.groups()
        if named == "covseg operate":  # the former name, which still works
            continue
        found = [path for path in ALL_COMMANDS if f"{named} ".startswith(f"{path} ")]
        assert found or any(path.startswith(f"{named} ") for path in ALL_COMMANDS), f"{line}: no such command"
        options = {name for path in found for option in ALL_COMMANDS[path].params for name in option.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest.partition("#")[0])) <= {*options, "--help"}, line


def test_the_changelog_has_the_version_of_the_package() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[?(\d[\w.]*)", text, re.MULTILINE)[0] == __version__


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{target}: no such file"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {anchor_of(heading) for heading in headings}, f"{target}: no such heading"


def test_pictures_are_there_in_both_themes_and_all_are_shown() -> None:
    """On a dark page a light picture glares, and a missing one is a broken page."""
    images = ROOT / "docs" / "img"
    shown = set()
    for page in PAGES:
        for kind, target in re.findall(r'(src|srcset)="([^"]+)"', page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            assert path.is_file(), f"{page.name}: no picture {target}"
            assert path.stem.endswith({"src": "-light", "srcset": "-dark"}[kind]), f"{page.name}: {target}"
            shown.add(path)
    assert shown == set(images.glob("*.png"))


def anchor_of(heading: str) -> str:
    """As GitHub makes them: small letters, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
