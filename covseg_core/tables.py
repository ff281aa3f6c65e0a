"""Files of settings in TOML: a table for each thing that has a name, checked against a dataclass."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from covseg_core.errors import CovsegError

T = TypeVar("T")


def read_tables(file: Path, error: type[CovsegError], things: str) -> dict[str, Any]:
    """By name, in the order of the file; none where there is no file. Raises `error` if it cannot be read.

    Parameters
    ----------
    things : what it has a table for, in words: `place`
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as why:
        raise error(file, str(why), f"TOML with a table for each {things}") from None


def settings_of(table: Any, kind: type[T], what: str, error: type[CovsegError]) -> T:
    """A table as a dataclass: names and types are checked, and `name` is no setting. Raises `error` about `what`."""
    if not isinstance(table, dict):
        raise error(what, repr(table), "a table")
    known = [field.name for field in dataclasses.fields(kind) if field.name != "name"]  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise error(what, f"no setting {key}", "one of " + ", ".join(known))
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as why:
        raise error(what, str(why)) from None
