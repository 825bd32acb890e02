"""What the doctor finds of clips and sounds alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from penchant.feedback.checks import Finding


def same_on_both_sides(groups: Sequence[str], noun: str, *, says: str, remedy: str) -> Finding | None:
    """Pairs whose sides are one thing in files that differ.

    Args:
        groups: ids of the pairs.
        noun: "clip" or "sound".
        says: what such a pair does with it, e.g. "show the same clip twice".
        remedy: what to do.
    """
    if not groups:
        return None
    return Finding(
        name=f"same {noun} on both sides",
        severity="warning",
        message=f"{len(groups)} pairs {says}, in files that differ.",
        remedy=remedy,
        count=len(groups),
        details={"groups": list(groups[:5])},
    )


def duplicates(files: Iterable[set[str]], noun: str) -> Finding | None:
    """The same content in several files; `files` are those of each content."""
    repeated = [sorted(one) for one in files if len(one) > 1]
    if not repeated:
        return None
    return Finding(
        name=f"duplicate {noun}s",
        severity="warning",
        message=f"{len(repeated)} {noun}s stand in several files that differ in their bytes alone.",
        remedy="keep one file of each: content hashes take them for different samples.",
        count=len(repeated),
        details={"files": repeated[:5]},
    )


def broken(errors: Sequence[str], noun: str) -> Finding | None:
    """Files that do not decode; `errors` say why, one a file."""
    if not errors:
        return None
    return Finding(
        name=f"broken {noun}s",
        severity="error",
        message=f"{len(errors)} {noun}s do not decode; the first: {errors[0]}",
        remedy="read with verify_media=True, which refuses their rows.",
        count=len(errors),
    )


def shapes(counted: Counter[str], noun: str) -> Finding | None:
    """How many of each shape there are."""
    if not counted:
        return None
    common = "; ".join(f"{shape} ({n})" for shape, n in counted.most_common(3))
    return Finding(
        name=f"{noun}s",
        severity="info",
        message=f"{counted.total()} {noun}s decoded in {len(counted)} shapes: {common}.",
        count=counted.total(),
        details={"shapes": dict(counted.most_common(20))},
    )
