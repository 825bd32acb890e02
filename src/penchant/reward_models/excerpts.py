"""Which parts of a text a reward model reads, each by itself: a tune is cut between bars, any other text between words.

MusicRL scores three segments of 10 s for text adherence and the first and the last 20 s of 30 for quality and
preference, and takes the mean (arXiv 2402.04229, section 3.3). Here these are thirds, and the first and the last two
thirds.
"""

from __future__ import annotations

import re
from typing import Literal

from penchant.feedback.tune import parse

Windows = Literal["whole", "thirds", "two_thirds", "first_third"]

COUNT: dict[Windows, int] = {"whole": 1, "thirds": 3, "two_thirds": 2, "first_third": 1}
"""How many parts."""


def excerpts(text: str, windows: Windows) -> list[str]:
    """The parts, `COUNT[windows]` of them; of a text with fewer bars (words) than parts some are the same.

    >>> excerpts("N0_12 | N2_12 | N4_12 | N5_12 |", "thirds")
    ['N0_12 |', 'N2_12 |', 'N4_12 | N5_12 |']
    >>> excerpts("one two three", "two_thirds")
    ['one two', 'two three']
    """
    units = _bars(text) or re.findall(r"\S+", text)
    return [" ".join(units[first:last]) for first, last in _spans(len(units), windows)]


def _spans(n: int, windows: Windows) -> list[tuple[int, int]]:
    most, third = -(-2 * n // 3), -(-n // 3)
    if windows == "thirds":
        starts = [min(i * n // 3, max(n - 1, 0)) for i in range(3)]
        return [(start, max((i + 1) * n // 3, start + 1)) for i, start in enumerate(starts)]
    return {"whole": [(0, n)], "two_thirds": [(0, most), (n - most, n)], "first_third": [(0, third)]}[windows]


def _bars(text: str) -> list[str]:
    """The bars of a tune with their lines; none of a text that is no tune."""
    if parse(text).unread or "|" not in text:
        return []
    return [bar.strip() for bar in re.findall(r"[^|]*\||[^|]*\S[^|]*$", text)]
