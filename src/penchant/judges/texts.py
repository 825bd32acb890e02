"""What judges of text share: a sample that is no text is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penchant.errors import ModelError


def texts(samples: Sequence[Any], *, judge: str) -> list[str]:
    """The samples, all of them texts.

    Raises:
        ModelError: one is a picture or anything else.
    """
    for row, sample in enumerate(samples):
        if not isinstance(sample, str):
            kind = type(sample).__name__
            remedy = "give texts; for pictures take a judge of pictures, see docs/judges.md."
            raise ModelError(f"{judge} reads text, not a {kind}.", row=row, remedy=remedy)
    return list(samples)
