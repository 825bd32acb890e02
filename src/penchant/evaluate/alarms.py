"""Alarms: what is wrong with a result, said from its numbers, with what to do about it.

The limits are this house's own (no paper states them) and stand here as named constants; each alarm's sentence prints
the numbers, so a reader can disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penchant.evaluate.alarm import Alarm, Severity
from penchant.evaluate.clip_form import ClipForm
from penchant.evaluate.curves import Curve, WinnerChange
from penchant.evaluate.diversity import Diversity
from penchant.evaluate.evidence import Evidence, words_of
from penchant.evaluate.figures import number, percent
from penchant.evaluate.form import REPEATED, TextForm
from penchant.evaluate.hacking import hacking, traded, traded_in_training
from penchant.evaluate.medium_form import Form
from penchant.evaluate.music_alarms import sound_alarms, tune_alarms
from penchant.evaluate.sound_form import SoundForm
from penchant.evaluate.tune_form import TuneForm
from penchant.evaluate.winrate import MeanGain

DIVERSITY_FLOOR = 0.7
"""Below this fraction of the base's diversity the samples of a prompt have collapsed; below half of it, severely."""

WINNER_FALL = 0.05
"""Fall of the preferred samples' log-prob that warns, as a fraction of its size under the base; severe at 4 times."""

LENGTH_DRIFT = 0.25
"""A change of the texts' mean length that is named, as a fraction of the base's; severe where length has doubled."""

LENGTH_SHARE = 0.5
"""If less than this share of a win rate's lead over one half is left at equal length, length has won."""

REPETITION_RISE = 0.05
"""Rise of the share of repeated word sequences that warns; severe where half of them are repeated."""

UNFINISHED = 0.1
"""Share of texts that ran into the limit of tokens above which judges saw too many fragments."""

STATIC_FALL = 0.25
"""Fall of the dynamic degree that warns, as a fraction of the base's; severe at twice that."""

ROUGHER = 0.05
"""Fall of the smoothness, which lies in [0, 1], that warns; severe at 4 times."""

FEW_PROMPTS = 30
"""Under this many prompts the percentile bootstrap is noticeably too narrow (about 93 % coverage at 30)."""


def static_clips(form: ClipForm) -> Alarm | None:
    """Clips move less than the base's by more than `STATIC_FALL`, beyond what chance over prompts explains."""
    moved = form.dynamic_degree
    fall = -moved.gain / moved.before if moved.before else 0.0
    if fall <= STATIC_FALL or moved.high >= 0:
        return None
    return Alarm(
        name="static clips",
        severity="severe" if fall > 2 * STATIC_FALL else "warning",
        sentence=(
            f"The clips move {percent(fall)} less than the base's: dynamic degree {number(moved.after)} against "
            f"{number(moved.before)} shorter sides a second. A clip that stands still is never rough, so judges of "
            "single frames and of smoothness are pleased by it."
        ),
        remedy="Add a judge of motion to those that make the preferences, raise beta, or stop earlier.",
    )


def rough_motion(form: ClipForm) -> Alarm | None:
    """Motion changes from frame to frame more than the base's by more than `ROUGHER`, beyond chance over prompts."""
    smooth = form.smoothness
    if -smooth.gain <= ROUGHER or smooth.high >= 0:
        return None
    return Alarm(
        name="rough motion",
        severity="severe" if -smooth.gain > 4 * ROUGHER else "warning",
        sentence=(
            f"Motion is rougher than the base's: smoothness {number(smooth.after)} against {number(smooth.before)} "
            f"(95\u202f% interval of the change {number(smooth.low)} to {number(smooth.high)})."
        ),
        remedy="Look at the clips below; raise beta or lower the learning rate.",
    )


def diversity_collapse(policy: Diversity, base: Diversity) -> Alarm | None:
    """The samples of a prompt are less than `DIVERSITY_FLOOR` as diverse as the base's."""
    fraction = policy.of(base)
    if fraction >= DIVERSITY_FLOOR:
        return None
    return Alarm(
        name="diversity collapse",
        severity="severe" if fraction < DIVERSITY_FLOOR / 2 else "warning",
        sentence=(
            f"Samples of the same prompt are {percent(fraction)} as diverse as the base's "
            f"({number(policy.value)} against {number(base.value)} in {policy.space}, {policy.prompts} prompts \u00d7 "
            f"{policy.seeds} seeds)."
        ),
        remedy="Stop earlier, raise beta or lower the learning rate; look at the samples of one prompt side by side.",
    )


def winner_drift(winner: WinnerChange) -> Alarm | None:
    """The preferred samples became less likely: the margin grew by pushing both candidates down.

    Fires when the fall exceeds `WINNER_FALL` of the base's log-prob and two standard errors. (Pal et al., "Smaug",
    arXiv:2402.13228, section 3; Razin et al., "Unintentional unalignment", arXiv:2410.08847, who name it likelihood
    displacement.)
    """
    fall = -winner.change
    if not (fall > WINNER_FALL * abs(winner.start) and fall > 2 * winner.error):
        return None
    relative = f" ({percent(fall / abs(winner.start))} of its size)" if winner.start else ""
    return Alarm(
        name="winner drift",
        severity="severe" if fall > 4 * WINNER_FALL * abs(winner.start) else "warning",
        sentence=(
            f"The mean log-prob of the preferred samples fell by {number(fall)} from "
            f"{number(winner.start)}{relative}: the model moves away from what was preferred."
        ),
        remedy="Add a likelihood term on the preferred samples, raise beta, or lower the learning rate.",
    )


def length_drift(form: TextForm) -> Alarm | None:
    """The texts became longer or shorter by more than `LENGTH_DRIFT`, beyond what chance over prompts explains."""
    length, unit = form.length, "words" if form.tokens is None else "tokens"
    change = length.gain / length.before if length.before else 0.0
    if abs(change) <= LENGTH_DRIFT or length.low <= 0 <= length.high:
        return None
    longer = change > 0
    return Alarm(
        name="length drift",
        severity="notice" if not longer else "severe" if change >= 1 else "warning",
        sentence=(
            f"Texts are {percent(abs(change))} {'longer' if longer else 'shorter'} than the base's "
            f"({number(length.after)} {unit} against {number(length.before)})."
        ),
        remedy=(
            "Judges favour length: read the win rate at equal length; normalise log-probs by length (SimPO, LD-DPO)."
            if longer
            else "If that was not the aim, look whether answers are missing."
        ),
    )


def length_bias(row: Evidence) -> Alarm | None:
    """A held-out judge prefers the policy, and most of that preference is explained by length."""
    if row.controlled is None or not (row.independent and row.win.better):
        return None
    lead, left = row.win.rate - 0.5, row.controlled.rate - 0.5
    if left >= LENGTH_SHARE * lead:
        return None
    return Alarm(
        name="length bias",
        severity="warning",
        sentence=(
            f"{row.judge} prefers the policy in {percent(row.win.rate)} of comparisons, but at equal length it would "
            f"in only {percent(row.controlled.rate)} (95\u202f% interval {percent(row.controlled.low)} to "
            f"{percent(row.controlled.high)}). The policy's text is the longer one in {percent(row.controlled.longer)}."
        ),
        remedy="Train with length-normalised log-probs or on pairs of similar length, and judge again.",
    )


def repetition(form: TextForm) -> Alarm | None:
    """Texts repeat themselves more than the base's: degenerate repetition."""
    repeated = form.repeated
    if not (repeated.gain > REPETITION_RISE and repeated.low > 0):
        return None
    return Alarm(
        name="repetition",
        severity="severe" if repeated.after >= 0.5 else "warning",
        sentence=(
            f"{percent(repeated.after)} of the sequences of {REPEATED} words in a text repeat an earlier one, "
            f"{percent(repeated.before)} in the base's texts."
        ),
        remedy="Stop earlier, raise beta or lower the learning rate; read the texts below.",
    )


def unfinished(form: TextForm) -> Alarm | None:
    """More than `UNFINISHED` of the texts ran into the limit of tokens, so judges saw fragments."""
    cut = form.unfinished
    if cut.after <= UNFINISHED:
        return None
    return Alarm(
        name="unfinished texts",
        severity="warning" if cut.low > 0 else "notice",
        sentence=(
            f"{percent(cut.after)} of the texts were cut off at the limit of tokens, {percent(cut.before)} of the "
            "base's."
        ),
        remedy="Raise evaluation.decoding.max_tokens; if the share grows with training, the policy forgets how to end.",
    )


def fidelity_fall(name: str, gain: MeanGain) -> Alarm | None:
    """A measure of fidelity (caption agreement, realism; larger = better) fell with its whole interval below zero."""
    if gain.high >= 0:
        return None
    return Alarm(
        name="fidelity fall",
        severity="warning",
        sentence=(
            f"{name} fell from {number(gain.before)} to {number(gain.after)} (change {number(gain.gain)}, "
            f"95\u202f% interval {number(gain.low)} to {number(gain.high)})."
        ),
        remedy="Raise beta, or put this measure among the judges that make the preferences.",
    )


def no_held_out_judge(rows: Sequence[Evidence]) -> Alarm | None:
    """No judge that training did not see has looked at prompts that training did not see."""
    if any(row.independent for row in rows):
        return None
    words = words_of(rows)
    return Alarm(
        name="no independent evidence",
        severity="warning",
        sentence=(
            f"No held-out judge has scored samples of held-out {words.prompts}, so nothing here shows a real "
            "improvement."
        ),
        remedy=f"Score held-out {words.prompts} with a judge that took no part in training.",
    )


def few_prompts(rows: Sequence[Evidence]) -> Alarm | None:
    """The independent evidence rests on fewer than `FEW_PROMPTS` prompts."""
    counts = [row.win.prompts for row in rows if row.independent]
    if not counts or min(counts) >= FEW_PROMPTS:
        return None
    return Alarm(
        name="few prompts",
        severity="notice",
        sentence=f"The held-out evidence rests on {min(counts)} prompts; intervals over so few are too narrow.",
        remedy=f"Evaluate on {FEW_PROMPTS} prompts or more; more seeds of the same prompts do not help.",
    )


def find_alarms(
    rows: Sequence[Evidence],
    *,
    diversity: tuple[Diversity, Diversity] | None = None,
    winner: WinnerChange | None = None,
    fidelity: Mapping[str, MeanGain] | None = None,
    form: Form | None = None,
    curves: Mapping[str, Curve] | None = None,
) -> tuple[Alarm, ...]:
    """Every alarm that the numbers of one policy raise, the gravest first.

    Args:
        rows: the policy's evidence.
        diversity: (policy, base).
        winner: the change of the preferred samples' log-prob, see `penchant.evaluate.curves.winner_change`.
        fidelity: gains of measures of fidelity (larger = better) by name.
        form: length, repetition and endings of texts, the motion of clips, or the form of music, beside the base's.
        curves: what training logged.
    """
    hacked = hacking(rows)
    found: list[Alarm | None] = [*hacked.values(), *traded([row for row in rows if row.judge not in hacked])]
    found += traded_in_training(curves or {})
    found.append(None if diversity is None else diversity_collapse(*diversity))
    found.append(None if winner is None else winner_drift(winner))
    found += [fidelity_fall(name, gain) for name, gain in (fidelity or {}).items() if name not in hacked]
    found += [length_bias(row) for row in rows]
    if isinstance(form, TextForm):
        found += [length_drift(form), repetition(form), unfinished(form)]
    elif isinstance(form, TuneForm):
        found += tune_alarms(form)
    elif isinstance(form, SoundForm):
        found += sound_alarms(form)
    elif form is not None:
        found += [static_clips(form), rough_motion(form)]
    found += [no_held_out_judge(rows), few_prompts(rows)]
    order: tuple[Severity, ...] = ("severe", "warning", "notice")
    return tuple(sorted((alarm for alarm in found if alarm), key=lambda alarm: order.index(alarm.severity)))
