"""`places.toml`: the places of a group, and what each asks for."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from covseg_core import paths
from covseg_core.errors import PlaceError
from covseg_core.files import safe_name
from covseg_core.places.place import LOCAL
from covseg_core.tables import read_tables, settings_of

T = TypeVar("T")

_DEVICE = re.compile(r"cpu|[A-Za-z0-9:/_-]+(\+[A-Za-z0-9:/_-]+)*")
_TIME = re.compile(r"\d+(:\d\d){0,2}|\d+-\d\d?(:\d\d){0,2}")
_MEMORY = re.compile(r"\d+[KMGT]?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Local:
    """This machine."""

    devices: tuple[str, ...] = ()
    """Each takes one training: the number of a GPU, several joined by `+` for trainings on all of these, or `cpu`.
    None: the GPUs that are visible."""

    @property
    def name(self) -> str:
        return LOCAL


@dataclass(frozen=True)
class Slurm:
    """A way to send jobs to a cluster. What is empty is left to the cluster."""

    name: str = ""
    """That of its table."""
    partition: str = ""
    gpus: int = 0
    cpus: int = 0
    memory: str = ""
    """Such as `16G`."""
    time: str = ""
    """Of a job, such as `08:00:00`; a run that takes longer goes on in another one."""
    grace: int = 120
    """Before the time is up [s], when the run ends at the next batch and is sent again."""
    python: str = ""
    """Interpreter on the nodes; that of the sender if empty."""
    setup: tuple[str, ...] = ()
    """Lines of shell before it, such as `module load cuda`."""
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    options: tuple[str, ...] = ()
    """Further ones of `sbatch`, such as `--account=lab`."""


def place_names() -> list[str]:
    """`local`, and the others in the order of the file.

    Raises
    ------
    PlaceError : the file cannot be read
    """
    return [LOCAL, *(name for name in _tables() if name != LOCAL)]


def place_named(name: str) -> Local | Slurm:
    """Raises `PlaceError`: there is none of this name, or its settings cannot be used."""
    tables = _tables()
    if name == LOCAL:
        return local(tables.get(LOCAL, {}))
    if name not in tables:
        raise PlaceError(f"place {name}", f"is not in {paths.places_file()}", "one of " + ", ".join(place_names()))
    return _slurm(name, tables[name])


def local(table: dict[str, Any] | None = None) -> Local:
    """This machine; without a table as the file says."""
    table = _tables().get(LOCAL, {}) if table is None else table
    found = _settings(LOCAL, table, Local)
    for device in found.devices:
        check_device(device, f"{paths.places_file()}: [{LOCAL}] devices")
    return found


def check_device(device: str, what: str) -> None:
    """Raises `PlaceError`."""
    if not _DEVICE.fullmatch(device):
        raise PlaceError(what, repr(device), "the number of a GPU such as 0, several such as 0+1, or cpu")


def _slurm(name: str, table: Any) -> Slurm:
    safe_name(name, "place")
    found = dataclasses.replace(_settings(name, table, Slurm), name=name)

    def check(right: bool, key: str, expected: str) -> None:
        if not right:
            raise PlaceError(f"{paths.places_file()}: [{name}] {key}", repr(getattr(found, key)), expected)

    check(found.gpus >= 0, "gpus", "0 or more")
    check(found.cpus >= 0, "cpus", "0 or more")
    check(found.grace >= 1, "grace", "1 or more seconds")
    check(not found.memory or bool(_MEMORY.fullmatch(found.memory)), "memory", "a number and K, M, G or T")
    check(not found.time or bool(_TIME.fullmatch(found.time)), "time", "minutes, hh:mm:ss or days-hh:mm:ss")
    check(all(_VARIABLE.fullmatch(key) for key in found.environment), "environment", "names of variables")
    check(all(option.startswith("-") for option in found.options), "options", "options of sbatch, such as --account=a")
    return found


def _settings(name: str, table: Any, kind: type[T]) -> T:
    """Of one place, names and types checked."""
    return settings_of(table, kind, f"{paths.places_file()}: [{name}]", PlaceError)


def _tables() -> dict[str, Any]:
    return read_tables(paths.places_file(), PlaceError, "place")
