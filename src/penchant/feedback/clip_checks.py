"""The doctor's look at clips: decoded once, compared with their table and with one another."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from penchant.errors import MediaError
from penchant.feedback.checks import Finding, sampled
from penchant.feedback.clip import Clip
from penchant.feedback.dimension_checks import compared
from penchant.feedback.groups import Candidate, Group
from penchant.feedback.media_findings import broken, duplicates, same_on_both_sides, shapes
from penchant.feedback.video_files import clip_of, is_clip

STILL = 0.5
"""Mean absolute difference of neighbouring frames, in grey levels, below which nothing is seen to move."""

SAME = 1.0
"""The same, between two clips of a pair: a good re-encoding stays below, a visible difference does not."""

RATE = 0.02
"""How far a stated rate may be from the file's, as a share of it: 23.976 passes for 24."""


@dataclass(kw_only=True)
class _Seen:
    """What the clips looked at were like; ids of groups."""

    shapes: Counter[str] = field(default_factory=Counter)
    pixels: dict[str, set[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    still: list[str] = field(default_factory=list)
    still_wins: list[bool] = field(default_factory=list)
    misstated: list[str] = field(default_factory=list)


def clips(groups: Sequence[Group], *, sample: int) -> list[Finding]:
    """Decode the clips of up to `sample` groups: files that do not decode, sizes and rates, clips that stand still,
    the same clip twice, and rates that the table states otherwise."""
    seen = _Seen()
    for group in sampled(groups, sample):
        decoded: dict[str, Clip] = {}
        for candidate in group.candidates:
            try:
                if candidate.media is not None and is_clip(candidate.media.bytes()):
                    decoded[candidate.id] = clip_of(candidate)
                    _look(candidate, decoded[candidate.id], seen)
            except MediaError as error:
                seen.broken.append(str(error))
        _compare(group, decoded, seen)
    found = (_broken(seen), _alike(seen), _duplicates(seen), _still(seen), _misstated(seen), _shapes(seen))
    return [finding for finding in found if finding is not None]


def _look(candidate: Candidate, clip: Clip, seen: _Seen) -> None:
    assert candidate.media is not None
    count, height, width, _ = clip.frames.shape
    seen.shapes[f"{width}x{height}, {count} frames at {clip.fps:.4g} a second"] += 1
    digest = hashlib.sha256(f"{clip.fps!r} {clip.frames.shape}".encode() + clip.frames.tobytes()).hexdigest()
    seen.pixels.setdefault(digest, set()).add(candidate.media.sha256)
    stated = candidate.settings.get("fps"), candidate.settings.get("num_frames")
    actual = clip.fps, count
    if any(s is not None and abs(s / a - 1) > RATE for s, a in zip(stated, actual, strict=True)):
        seen.misstated.append(candidate.id)


def _compare(group: Group, decoded: dict[str, Clip], seen: _Seen) -> None:
    still = {name for name, clip in decoded.items() if _difference(clip.frames[1:], clip.frames[:-1]) < STILL}
    seen.still += sorted(still)
    if len(decoded) != 2:
        return
    first, second = decoded.values()
    same_shape = first.frames.shape == second.frames.shape
    if same_shape and _difference(first.frames, second.frames) < SAME:
        seen.alike.append(group.id)
    if len(still) == 1:
        dimensions = {j.dimension for j in group.judgements}
        winners = {compared(group, dimension) for dimension in dimensions} - {None, "tie"}
        seen.still_wins += [winner in still for winner in winners]


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference in grey levels, a frame at a time."""
    return float(np.mean([np.abs(x.astype(np.int16) - y).mean() for x, y in zip(a, b, strict=True)] or [0.0]))


def _broken(seen: _Seen) -> Finding | None:
    return broken(seen.broken, "clip")


def _alike(seen: _Seen) -> Finding | None:
    remedy = "drop them: their preference is noise."
    return same_on_both_sides(seen.alike, "clip", says="show the same clip twice", remedy=remedy)


def _duplicates(seen: _Seen) -> Finding | None:
    return duplicates(seen.pixels.values(), "clip")


def _still(seen: _Seen) -> Finding | None:
    if not seen.still:
        return None
    share, wins = len(seen.still) / seen.shapes.total(), seen.still_wins
    won = f"; beside one that moves they win {sum(wins)} of {len(wins)} decided judgements" if wins else ""
    heavy = share > 0.1 or sum(wins) > max(2, len(wins) / 2)
    return Finding(
        name="static clips",
        severity="warning" if heavy else "info",
        message=f"{len(seen.still)} of {seen.shapes.total()} clips stand still ({share:.1%}){won}.",
        remedy="a policy that learns from them may learn to stand still: watch its dynamic degree." if heavy else "",
        count=len(seen.still),
        details={"candidates": seen.still[:5], "wins": sum(wins), "decided": len(wins)},
    )


def _misstated(seen: _Seen) -> Finding | None:
    if not seen.misstated:
        return None
    return Finding(
        name="stated rates",
        severity="warning",
        message=f"{len(seen.misstated)} clips have another rate or number of frames than their row states.",
        remedy="frames are taken by the file's own times; correct fps and num_frames for tools that trust them.",
        count=len(seen.misstated),
        details={"candidates": seen.misstated[:5]},
    )


def _shapes(seen: _Seen) -> Finding | None:
    return shapes(seen.shapes, "clip")
