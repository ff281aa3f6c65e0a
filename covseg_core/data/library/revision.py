"""One state of a case's mask: the file, who made it of what, and when. `revisions` beside it adds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["infection", "lung"]

IMPORT, EDITOR, FILE = "import", "editor", "file"
"""Where a mask comes from; else the id of the model whose mask it was first, or what `earlier` says."""


def earlier(number: int) -> str:
    """Where a mask comes from that was brought back: no id of a model, which have no space."""
    return f"revision {number}"


@dataclass(frozen=True)
class Revision:
    """A mask of a case, as it was from one revision of the dataset on."""

    number: int
    """Of the dataset: the first of its revisions that has this mask."""
    role: Role
    file: str
    """Relative to the dataset's folder; never written again."""
    sha256: str
    """Of the file; of an imported one as `Case.sha256` has it."""
    voxels: tuple[int, ...]
    """Marked voxels of each slice."""
    origin: str
    """`import`, `editor`, `file`, the id of the model whose mask was corrected, or `revision 2` if it was brought
    back."""
    created: str
    """ISO 8601, UTC."""
    author: str = ""
    """Who drew it; empty if nobody said so."""
    parent: int | None = None
    """The revision whose mask was changed; None for an imported one."""
    minutes: float = 0.0
    """Of work."""
    added: int = 0
    """Voxels that the parent's mask does not have."""
    removed: int = 0
    """Voxels that only the parent's mask has."""
    labels: tuple[int, ...] | None = None
    """As `Case.labels`; a corrected mask has 0 and 1 only."""
    kept_sha256: str | None = None
    """As `Case.kept_sha256`."""
    agreement: float | None = None
    """Of a mask that several models have made: the mean Dice of each two of them; None if nobody knows."""
    expected_dice: float | None = None
    """Of a mask that models have made whose Dice by agreement was measured before; None if nobody knows."""

    @property
    def by_model(self) -> bool:
        """Whether a model has made it, and nobody has changed it."""
        return self.parent is None and self.origin not in (IMPORT, EDITOR, FILE)
