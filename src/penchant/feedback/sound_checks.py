"""The doctor's look at sounds: decoded once, compared with their table and with one another."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from penchant.errors import MediaError
from penchant.feedback.audio_files import SILENT, is_sound, sound_of
from penchant.feedback.checks import Finding, sampled
from penchant.feedback.dimension_checks import compared
from penchant.feedback.groups import Candidate, Group
from penchant.feedback.loudness import heard
from penchant.feedback.media_findings import broken, duplicates, same_on_both_sides, shapes
from penchant.feedback.sound import Sound

CLIPPED = 1e-3
"""Share of samples in a row of three or more at full scale above which clipping is heard: one in a thousand."""

LOUDNESS = 1.0
"""LU between two sides above which the louder one is noticed (the tolerance that EBU R 128 gives live programmes)."""

DURATION = 1.25
"""The longer of two sides, as a multiple of the shorter one, above which they are no equals."""

SAME = 0.5
"""Decibels, between the bands of two sounds: re-encodings measured 0.22 and less, two takes of white noise 1.2."""

# Rows state whole seconds, and codecs pad.
_STATED_SECONDS, _STATED_SHARE = 1.0, 0.02
_PICTURE_SECONDS, _BANDS, _DEPTH = 0.25, 12, 40.0


@dataclass(kw_only=True)
class _Bias:
    """A quantity in which the sides of pairs differ: where by too much, and whether the greater one wins."""

    groups: list[str] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    wins: list[bool] = field(default_factory=list)


@dataclass(kw_only=True)
class _Seen:
    """What the sounds looked at were like; ids of groups and candidates."""

    shapes: Counter[str] = field(default_factory=Counter)
    rates: Counter[int] = field(default_factory=Counter)
    samples: dict[str, set[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    misstated: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    mixed_rates: list[str] = field(default_factory=list)
    loudness: _Bias = field(default_factory=_Bias)
    duration: _Bias = field(default_factory=_Bias)


def sounds(groups: Sequence[Group], *, sample: int) -> list[Finding]:
    """Decode the sounds of up to `sample` groups: files that do not decode, silence, clipping, the same sound twice,
    sides of different loudness, duration or rate, and what the table states otherwise."""
    seen = _Seen()
    for group in sampled(groups, sample):
        decoded: dict[str, Sound] = {}
        for candidate in group.candidates:
            try:
                if candidate.media is not None and is_sound(candidate.media.bytes()):
                    decoded[candidate.id] = sound_of(candidate)
                    _look(candidate, decoded[candidate.id], seen)
            except MediaError as error:
                seen.broken.append(str(error))
        if len(decoded) == 2:
            _compare(group, decoded, seen)
    found = (_broken(seen), _silent(seen), _clipped(seen), _alike(seen), _duplicates(seen))
    biases = (_loudness(seen), _durations(seen), _rates(seen), _misstated(seen), _shapes(seen))
    return [finding for finding in (*found, *biases) if finding is not None]


def _look(candidate: Candidate, sound: Sound, seen: _Seen) -> None:
    assert candidate.media is not None
    channels = ("mono", "stereo")[len(sound.samples) - 1]
    seen.shapes[f"{sound.seconds:.3g} s of {channels} at {sound.rate} a second"] += 1
    seen.rates[sound.rate] += 1
    head = f"{sound.rate} {sound.samples.shape}".encode()
    seen.samples.setdefault(hashlib.sha256(head + sound.samples.tobytes()).hexdigest(), set()).add(
        candidate.media.sha256
    )
    if np.ptp(sound.samples, axis=1).max() / 2 < SILENT:
        seen.silent.append(candidate.id)
    if _clipping(sound) > CLIPPED:
        seen.clipped.append(candidate.id)
    seconds, rate = candidate.settings.get("duration"), candidate.settings.get("sample_rate")
    slack = max(_STATED_SECONDS, _STATED_SHARE * sound.seconds)
    wrong = seconds is not None and abs(seconds - sound.seconds) > slack
    if wrong or (rate is not None and rate != sound.rate):
        seen.misstated.append(candidate.id)


def _clipping(sound: Sound) -> float:
    """The share of samples that begin three or more in a row at the top or at the bottom of the scale."""
    flats = (side * sound.samples >= 0.999 for side in (1, -1))
    return sum(float((flat[:, :-2] & flat[:, 1:-1] & flat[:, 2:]).sum()) for flat in flats) / sound.samples.size


def _compare(group: Group, decoded: dict[str, Sound], seen: _Seen) -> None:
    first, second = decoded.values()
    if first.rate != second.rate:
        seen.mixed_rates.append(group.id)
    lengths = {name: sound.seconds for name, sound in decoded.items()}
    _weigh(group, lengths, max(lengths.values()) / min(lengths.values()), DURATION, seen.duration)
    if set(lengths) & set(seen.silent):
        return
    if alike(first, second):
        seen.alike.append(group.id)
    try:
        levels = {name: heard(sound) for name, sound in decoded.items()}
    # Shorter than a block or below the gate: it has no loudness.
    except MediaError:
        return
    _weigh(group, levels, max(levels.values()) - min(levels.values()), LOUDNESS, seen.loudness)


def _weigh(group: Group, values: dict[str, float], gap: float, most: float, bias: _Bias) -> None:
    """Notes a pair whose sides differ by more than `most`, and in each dimension whether the greater side won."""
    if gap <= most:
        return
    greater = max(values, key=lambda name: values[name])
    winners = {compared(group, d) for d in {j.dimension for j in group.judgements}} - {None, "tie"}
    bias.groups.append(group.id)
    bias.gaps.append(gap)
    bias.wins += [winner == greater for winner in winners]


def alike(first: Sound, second: Sound) -> bool:
    """Whether two sounds are one recording: the same picture of bands over time, whatever the codec, the level, the
    rate and the channels."""
    if abs(first.seconds - second.seconds) > _PICTURE_SECONDS:
        return False
    a, b = _picture(first), _picture(second)
    count = min(len(a), len(b))
    return count > 0 and float(np.abs(a[:count] - b[:count]).mean()) < SAME


def _picture(sound: Sound) -> Float[np.ndarray, "F B"]:
    """Decibels of a dozen bands from 100 Hz to 3.6 kHz (below half of every rate that is read but 4 kHz) in quarters
    of a second, under the loudest of them, to a depth of 40."""
    length = round(_PICTURE_SECONDS * sound.rate)
    count = len(sound) // length
    if count == 0:
        return np.zeros((0, _BANDS))
    frames = sound.mono()[: count * length].reshape(count, length) * np.hanning(length)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    edges = np.searchsorted(
        np.fft.rfftfreq(length, 1 / sound.rate), 100 * 36 ** (np.arange(_BANDS + 1) / _BANDS), side="left"
    )
    bands = np.stack([power[:, a:b].sum(1) for a, b in pairwise(edges)], axis=1)
    return 10 * np.log10(bands / max(bands.max(), 1e-30) + 10 ** (-_DEPTH / 10))


def _broken(seen: _Seen) -> Finding | None:
    return broken(seen.broken, "sound")


def _silent(seen: _Seen) -> Finding | None:
    if not seen.silent:
        return None
    return Finding(
        name="silent sounds",
        severity="warning",
        message=f"{len(seen.silent)} of {seen.shapes.total()} sounds are silent.",
        remedy="drop their groups, and find out why the model or the export fell silent.",
        count=len(seen.silent),
        details={"candidates": seen.silent[:5]},
    )


def _clipped(seen: _Seen) -> Finding | None:
    if not seen.clipped:
        return None
    share = len(seen.clipped) / seen.shapes.total()
    return Finding(
        name="clipped sounds",
        severity="warning" if share > 0.1 else "info",
        message=f"{len(seen.clipped)} of {seen.shapes.total()} sounds are clipped ({share:.1%}).",
        remedy="write them with less gain: distortion is heard before music is." if share > 0.1 else "",
        count=len(seen.clipped),
        details={"candidates": seen.clipped[:5]},
    )


def _alike(seen: _Seen) -> Finding | None:
    remedy = "drop them: their preference is noise, or one of level and codec."
    return same_on_both_sides(seen.alike, "sound", says="play the same recording twice", remedy=remedy)


def _duplicates(seen: _Seen) -> Finding | None:
    return duplicates(seen.samples.values(), "sound")


def _loudness(seen: _Seen) -> Finding | None:
    if not seen.loudness.groups:
        return None
    return _biased(
        seen.loudness,
        name="loudness bias",
        says=f"differ in loudness by more than {LOUDNESS:g} LU",
        typical=f"by {np.median(seen.loudness.gaps):.1f} LU",
        greater="louder",
        remedy="louder is taken for better: bring pairs to one loudness before anyone listens "
        "(`penchant.feedback.equalised`), and trust these votes less.",
    )


def _durations(seen: _Seen) -> Finding | None:
    if not seen.duration.groups:
        return None
    return _biased(
        seen.duration,
        name="duration bias",
        says=f"differ in duration by more than {DURATION - 1:.0%}",
        typical=f"{np.median(seen.duration.gaps):.2g} times",
        greater="longer",
        remedy="compare pieces of one duration, or a policy learns to play long.",
    )


def _biased(bias: _Bias, *, name: str, says: str, typical: str, greater: str, remedy: str) -> Finding:
    from scipy.stats import binomtest

    won, decided = sum(bias.wins), len(bias.wins)
    p = float(binomtest(won, decided).pvalue) if decided else 1.0
    told = f"; the {greater} side wins {won} of {decided} decided judgements (p = {p:.2g})" if decided else ""
    return Finding(
        name=name,
        severity="warning",
        message=f"the sides of {len(bias.groups)} pairs {says}, at the median {typical}{told}.",
        remedy=remedy,
        count=len(bias.groups),
        details={"groups": bias.groups[:5], "wins": won, "decided": decided, "p": p, "largest": max(bias.gaps)},
    )


def _rates(seen: _Seen) -> Finding | None:
    if len(seen.rates) < 2:
        return None
    common = ", ".join(f"{rate} ({n})" for rate, n in seen.rates.most_common(5))
    inside = len(seen.mixed_rates)
    return Finding(
        name="sample rates",
        severity="warning" if inside else "info",
        message=f"sounds have {len(seen.rates)} rates: {common}; the sides of {inside} pairs differ.",
        remedy="the higher rate sounds brighter whoever made it: resample both sides to the lower one."
        if inside
        else "",
        count=inside,
        details={"rates": {str(rate): n for rate, n in seen.rates.most_common()}, "groups": seen.mixed_rates[:5]},
    )


def _misstated(seen: _Seen) -> Finding | None:
    if not seen.misstated:
        return None
    return Finding(
        name="stated durations",
        severity="warning",
        message=f"{len(seen.misstated)} sounds have another duration or rate than their row states.",
        remedy="the file counts; correct the columns for tools that trust them.",
        count=len(seen.misstated),
        details={"candidates": seen.misstated[:5]},
    )


def _shapes(seen: _Seen) -> Finding | None:
    return shapes(seen.shapes, "sound")
