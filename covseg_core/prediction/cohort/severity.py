"""How severe it is, by the share of the lungs: the classes of the CT severity score.

Pan et al. give each of the five lobes a class from 0 to 5 and add them up to a score of 0 to 25. Lobes are not
segmented here: the class is that of both lungs taken together, and no score is made of it.

Source: Pan F, Ye T, Sun P, et al. Time course of lung changes at chest CT during recovery from COVID-19. Radiology
2020;295:715-721. https://doi.org/10.1148/radiol.2020200370
"""

from __future__ import annotations

CLASSES = ("0 %", "below 5 %", "5 to 25 %", "26 to 50 %", "51 to 75 %", "above 75 %")
"""What each class stands for, from 0."""
SOURCE = "Pan et al., Radiology 2020;295:715-721"
EXPLAINED = (
    f"Severity class: {', '.join(f'{number}: {words}' for number, words in enumerate(CLASSES))} of both lungs taken "
    f"together. The classes are those of {SOURCE}, which gives one to each of the five lobes and adds them up; lobes "
    "are not segmented here, so this is not that score."
)
_UP_TO = (0.25, 0.5, 0.75)
"""Largest share of classes 2, 3 and 4. What lies between two of the whole percents above is in the higher class."""


def severity(share: float | None) -> int | None:
    """The class of a share of both lungs, 0..1; None where that is not known.

    >>> [severity(share) for share in (0, 0.001, 0.05, 0.25, 0.255, 0.5, 0.75, 0.8, None)]
    [0, 1, 2, 2, 3, 3, 4, 5, None]
    """
    if share is None:
        return None
    if share <= 0:
        return 0
    return 1 if share < 0.05 else 2 + sum(share > end for end in _UP_TO)
