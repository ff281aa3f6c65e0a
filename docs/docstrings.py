"""For the Python API of the site: what our docstrings say after a name is what it is, and not its type.

NumPy's format has `name : type`, and the meaning below. Ours has `name : meaning` in one line, since the type stands in
the signature already; so has `Raises`. Griffe, which reads docstrings for mkdocstrings, is handed NumPy's.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"^(Parameters|Raises)\n-+\n(?P<items>.*?)(?=^\w+\n-+\n|\Z)", re.MULTILINE | re.DOTALL)
ITEM = re.compile(r"^(?P<names>\w[\w, ]*?) : (?P<meaning>.+)$", re.MULTILINE)


class MeaningAfterColon(griffe.Extension):
    """Puts the meaning below its name."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = numpy_style(obj.docstring.value)


def numpy_style(text: str) -> str:
    """The docstring with the meanings of parameters and errors on lines of their own.

    >>> print(numpy_style("Raises\\n------\\nRunError : there is none"))
    Raises
    ------
    RunError
        there is none
    """
    return SECTION.sub(lambda section: ITEM.sub(r"\g<names>\n    \g<meaning>", section[0]), text)
