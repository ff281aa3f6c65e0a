"""A connection to an archive, whose failures are one line each."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from pydicom.errors import InvalidDicomError

from covseg_core.archive.settings import Archive
from covseg_core.errors import ArchiveError

_NONSENSE = (
    *(requests.JSONDecodeError, InvalidDicomError, struct.error),
    *(ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError, AssertionError),
)
"""What reading the answer of something else than an archive ends in."""


class _PlainStars(requests.adapters.HTTPAdapter):
    """A `*` needs no code in a query, and Orthanc 1.10 finds nothing by one that has it."""

    def send(self, request: requests.PreparedRequest, *arguments: Any, **named: Any) -> requests.Response:
        request.url = (request.url or "").replace("%2A", "*")
        return super().send(request, *arguments, **named)


@contextmanager
def connected(archive: Archive) -> Iterator[Any]:
    """A `dicomweb_client.DICOMwebClient`.

    Raises
    ------
    ArchiveError : the extra is not installed, a secret is not set; and whatever goes wrong while it is used: no answer,
        no permission, or an answer that is not of an archive
    """
    try:
        web: Any = importlib.import_module("dicomweb_client.web")
    except ImportError:
        raise ArchiveError("dicomweb-client", "is not installed", "pip install dicomweb-client") from None
    headers = {"Authorization": f"Bearer {archive.token}"} if archive.token_from else None
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, _PlainStars())
        session.trust_env = False  # a proxy for the internet, or a password of another file, is not meant for it
        if archive.user:
            session.auth = (archive.user, archive.password)
        if archive.certificate:
            session.verify = str(Path(archive.certificate).expanduser())
        client = web.DICOMwebClient(archive.url, session=session, headers=headers, timeout=archive.timeout)
        client.set_http_retry_params(retry=False)
        try:
            yield client
        except requests.HTTPError as error:
            raise ArchiveError(archive.title, *_refused(error, archive)) from None
        except requests.exceptions.SSLError:
            raise ArchiveError(
                archive.title, f"the certificate of {archive.url} is not trusted", "its authority as `certificate`"
            ) from None
        except requests.Timeout:
            raise ArchiveError(archive.title, f"{archive.url} has not answered for {archive.timeout:g} s") from None
        except _NONSENSE:
            raise ArchiveError(archive.title, f"{archive.url} has given an answer that is not of DICOMweb") from None
        except requests.RequestException:
            raise ArchiveError(archive.title, f"{archive.url} does not answer, or has stopped in the middle") from None


def _refused(error: requests.HTTPError, archive: Archive) -> tuple[str, str]:
    code = 0 if error.response is None else error.response.status_code
    if code in (401, 403):
        who = f"user {archive.user}" if archive.user else "the token" if archive.token_from else "a call without a user"
        return f"refuses {who} (HTTP {code})", "a user and a password that it knows, and that may do this"
    if code == 404:
        return f"has nothing at that address (HTTP 404): {archive.url}", "the address of its DICOMweb, or what is there"
    return f"answers with HTTP {code}", ""
