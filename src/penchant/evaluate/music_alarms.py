"""Alarms about music: tunes that drift in length, become alike or do not end; sounds that become louder or brighter.

No judge that reads a tune need notice any of it: in a trial of MusicRL's method on a small model of tunes the policy
learned to play on to the limit, for none of its rewards punished a tune without an end. The limits are this house's
own.
"""

from __future__ import annotations

from penchant.evaluate.alarm import Alarm
from penchant.evaluate.figures import number, percent
from penchant.evaluate.sound_form import SoundForm
from penchant.evaluate.tune_form import SEQUENCE, TuneForm
from penchant.evaluate.winrate import MeanGain

TUNE_DRIFT = 0.1
"""A change of the mean number of notes or bars that is named, as a fraction of the base's; severe at 5 times."""

ENTROPY_FALL = 0.2
"""Fall of an entropy that warns, as a fraction of the base's; severe at twice that."""

SEQUENCE_FALL = 0.2
"""Fall of the share of different, or own, sequences of notes that warns, as a fraction of the base's; severe at twice
that."""

UNFINISHED_RISE = 0.05
"""Rise of the share of tunes without an end that warns; severe at 4 times."""

UNFINISHED = 0.1
"""Share of tunes without an end that is named, risen or not: judges hear fragments."""

UNREAD = 0.02
"""Share of words that are no notation above which what is written is no longer music."""

LOUDER = 3.0
"""A change of the mean loudness in dB that is named: listeners favour the louder."""

BRIGHTER = 0.25
"""A change of the mean spectral centroid that is named, as a fraction of the base's."""

SOUND_DRIFT = 0.1
"""A change of the mean duration that is named, as a fraction of the base's."""


def tune_alarms(form: TuneForm) -> list[Alarm | None]:
    """Every alarm about tunes; None for those that are silent."""
    return [tune_length(form), entropy_collapse(form), sequence_collapse(form), unfinished_tunes(form), unread(form)]


def sound_alarms(form: SoundForm) -> list[Alarm | None]:
    """Every alarm about sounds; None for those that are silent."""
    return [sound_length(form), louder(form), brighter(form)]


def tune_length(form: TuneForm) -> Alarm | None:
    """Tunes have more or fewer notes or bars by more than `TUNE_DRIFT`, beyond what chance over prompts explains."""
    moved = {"notes": form.notes, "bars": form.bars}
    found = {name: change for name, gain in moved.items() if abs(change := _change(gain)) > TUNE_DRIFT}
    if not found:
        return None
    largest = max(found.values(), key=abs)
    numbers = " and ".join(f"{number(moved[n].after)} {n} against {number(moved[n].before)}" for n in found)
    towards = (
        f" {percent(form.unfinished.after)} of them reach the limit of tokens."
        if largest > 0 and form.unfinished.after
        else ""
    )
    return Alarm(
        name="length drift",
        severity="severe" if abs(largest) > 5 * TUNE_DRIFT else "warning",
        sentence=(
            f"Tunes are {percent(abs(largest))} {'longer' if largest > 0 else 'shorter'} than the base's: {numbers}."
            f"{towards}"
        ),
        remedy=(
            "Read the win rate at equal length; draw tunes of a fixed number of bars, or give a tune without an end "
            "the lowest reward."
        ),
    )


def entropy_collapse(form: TuneForm) -> Alarm | None:
    """The policy's entropy a token, or that of the intervals, fell by more than `ENTROPY_FALL`, beyond chance."""
    moved = {"nats a token of the policy's entropy": form.entropy, "bits of a tune's intervals": form.intervals}
    falls = {name: -_change(gain) for name, gain in moved.items() if gain is not None}
    falls = {name: fall for name, fall in falls.items() if fall > ENTROPY_FALL}
    if not falls:
        return None
    gains = [(name, moved[name]) for name in falls]
    numbers = " and ".join(f"{number(g.after)} {name} against {number(g.before)}" for name, g in gains if g)
    return Alarm(
        name="entropy collapse",
        severity="severe" if max(falls.values()) > 2 * ENTROPY_FALL else "warning",
        sentence=f"The policy is surer of what comes next than the base: {numbers}.",
        remedy="Raise the weight of KL, stop earlier, or lower the learning rate.",
    )


def sequence_collapse(form: TuneForm) -> Alarm | None:
    """Tunes repeat themselves, or one another, more than the base's do, beyond chance."""
    kinds = {
        f"of a tune's sequences of {SEQUENCE} notes are different": form.distinct,
        "of them no other tune has": form.own,
    }
    falls = {words: gain for words, gain in kinds.items() if -_change(gain) > SEQUENCE_FALL}
    if not falls:
        return None
    numbers = "; ".join(f"{percent(g.after)} {words}, {percent(g.before)} in the base's" for words, g in falls.items())
    alike = form.own in falls.values()
    return Alarm(
        name="tunes alike" if alike else "repetition",
        severity="severe" if max(-_change(g) for g in falls.values()) > 2 * SEQUENCE_FALL else "warning",
        sentence=f"{'Tunes are alike' if alike else 'Tunes repeat themselves'}: {numbers}.",
        remedy="Raise the weight of KL, stop earlier, or add a reward for variety; listen to several tunes below.",
    )


def unfinished_tunes(form: TuneForm) -> Alarm | None:
    """More tunes than the base's run into the limit of tokens without the token that ends a tune, or many do."""
    cut = form.unfinished
    risen = cut.gain > UNFINISHED_RISE and cut.low > 0
    if not risen and cut.after <= UNFINISHED:
        return None
    return Alarm(
        name="ends missing",
        severity="notice" if not risen else "severe" if cut.gain > 4 * UNFINISHED_RISE else "warning",
        sentence=(
            f"{percent(cut.after)} of the tunes ran into the limit of tokens and have no end, {percent(cut.before)} of "
            "the base's."
        ),
        remedy="Give a tune without an end the lowest reward of its batch, or fix the number of bars.",
    )


def unread(form: TuneForm) -> Alarm | None:
    """More words than the base's are no part of the notation, and more than `UNREAD`."""
    stray = form.unread
    if stray.after <= UNREAD or stray.low <= 0:
        return None
    return Alarm(
        name="no music",
        severity="severe",
        sentence=(
            f"{percent(stray.after)} of the words are no part of the notation, {percent(stray.before)} of the base's."
        ),
        remedy="Raise the weight of KL or lower the learning rate: the policy forgets how to write tunes.",
    )


def sound_length(form: SoundForm) -> Alarm | None:
    """Sounds are longer or shorter by more than `SOUND_DRIFT`, beyond chance."""
    change = _change(form.seconds)
    if abs(change) <= SOUND_DRIFT:
        return None
    return Alarm(
        name="length drift",
        severity="warning",
        sentence=(
            f"Sounds are {percent(abs(change))} {'longer' if change > 0 else 'shorter'} than the base's: "
            f"{number(form.seconds.after)} s against {number(form.seconds.before)} s."
        ),
        remedy="Draw sounds of a fixed length, and judge again.",
    )


def louder(form: SoundForm) -> Alarm | None:
    """The mean loudness changed by more than `LOUDER`, beyond chance."""
    gain = form.loudness
    if abs(gain.gain) <= LOUDER or gain.low <= 0 <= gain.high:
        return None
    return Alarm(
        name="loudness drift",
        severity="warning",
        sentence=(
            f"Sounds are {number(abs(gain.gain))} dB {'louder' if gain.gain > 0 else 'quieter'} than the base's "
            f"({number(gain.after)} dB against {number(gain.before)} dB). The players below are at equal loudness."
        ),
        remedy="Bring sounds to equal loudness before anybody judges them, people and models alike.",
    )


def brighter(form: SoundForm) -> Alarm | None:
    """The mean spectral centroid changed by more than `BRIGHTER`, beyond chance."""
    change = _change(form.centroid)
    if abs(change) <= BRIGHTER:
        return None
    return Alarm(
        name="brightness drift",
        severity="warning",
        sentence=(
            f"Sounds are {'brighter' if change > 0 else 'duller'} than the base's: spectral centroid "
            f"{number(form.centroid.after)} Hz against {number(form.centroid.before)} Hz."
        ),
        remedy="Listen whether it is noise, or fewer instruments; raise the weight of KL or stop earlier.",
    )


def _change(gain: MeanGain) -> float:
    """The change as a fraction of the base's mean; 0 where chance over prompts explains it."""
    if gain.low <= 0 <= gain.high or not gain.before:
        return 0.0
    return gain.gain / abs(gain.before)
