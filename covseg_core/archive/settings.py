"""`archives.toml`: which archives there are, and how they are reached. Passwords stay in the environment."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from covseg_core import paths
from covseg_core.errors import ArchiveError
from covseg_core.tables import read_tables, settings_of


@dataclass(frozen=True)
class Archive:
    """A DICOMweb service."""

    name: str = ""
    """That of its table."""
    url: str = ""
    """Such as `https://pacs.example.org/dicom-web`."""
    user: str = ""
    password_from: str = ""
    """Environment variable that holds the password."""
    token_from: str = ""
    """Environment variable that holds a bearer token, in place of user and password."""
    certificate: str = ""
    """File of the authority that has signed the service's certificate, if the system does not know it."""
    timeout: float = 60.0
    """Seconds without an answer, after which it is given up."""

    @property
    def title(self) -> str:
        """As errors call it."""
        return f"archive {self.name}"

    @property
    def password(self) -> str:
        """Raises `ArchiveError` if the variable is not set."""
        return self._secret(self.password_from, "password_from")

    @property
    def token(self) -> str:
        """Raises `ArchiveError` if the variable is not set."""
        return self._secret(self.token_from, "token_from")

    def _secret(self, variable: str, setting: str) -> str:
        if not variable:
            return ""
        if not (found := os.environ.get(variable, "")):
            raise ArchiveError(
                self.title, f"{variable}, which its {setting} names, is not set", "it in the environment"
            )
        return found


def archive_names() -> list[str]:
    """In the order of the file; none without one. Raises `ArchiveError` if it cannot be read."""
    return list(_tables())


def archive_named(name: str) -> Archive:
    """Raises `ArchiveError`: there is none of this name, or its settings cannot be used."""
    tables = _tables()
    if name not in tables:
        known = ", ".join(tables) or "a table in that file, with a url"
        raise ArchiveError(f"archive {name}", f"is not in {paths.archives_file()}", known)
    return _archive(name, tables[name])


def _archive(name: str, table: Any) -> Archive:
    what = f"{paths.archives_file()}: [{name}]"
    found = dataclasses.replace(settings_of(table, Archive, what, ArchiveError), name=name)
    address = urlsplit(found.url)
    if address.scheme not in ("http", "https") or not address.hostname or address.username or address.password:
        raise ArchiveError(f"{what} url", repr(found.url), "http:// or https://, a host, and no password in it")
    if found.token_from and (found.user or found.password_from):
        raise ArchiveError(what, "both a token and a user", "one of them")
    if not found.timeout > 0:
        raise ArchiveError(f"{what} timeout", repr(found.timeout), "more than 0 seconds")
    if found.certificate and not Path(found.certificate).expanduser().is_file():
        raise ArchiveError(f"{what} certificate", found.certificate, "a file")
    return found


def _tables() -> dict[str, Any]:
    return read_tables(paths.archives_file(), ArchiveError, "archive")
