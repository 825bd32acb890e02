"""One sentence for a policy: better, worse or not better, in the words of the held-out judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penchant.evaluate.evidence import Evidence, words_of
from penchant.evaluate.figures import percent

Outcome = Literal["better", "not better", "worse", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome and the sentence that says it with its numbers."""

    outcome: Outcome
    sentence: str


def verdict(policy: str, base: str, rows: Sequence[Evidence]) -> Verdict:
    """The verdict on a policy from its rows of evidence.

    The first held-out judge or verifier on held-out prompts speaks. The policy is better only if that judge's whole
    interval is above one half and no other held-out judge's is below; an interval that includes one half means "not
    better".

    Args:
        policy: the policy's name.
        base: the base's name.
        rows: the policy's evidence.
    """
    independent = [row for row in rows if row.independent]
    if not independent:
        return Verdict(
            outcome="unknown",
            sentence=(
                f"Whether {policy} is better than {base} is not known: no held-out judge has scored held-out "
                f"{words_of(rows).prompts}."
            ),
        )
    first, others = independent[0], independent[1:]
    against = [row for row in others if row.win.worse]
    outcome: Outcome = "worse" if first.win.worse else "better" if first.win.better and not against else "not better"
    return Verdict(outcome=outcome, sentence=_sentence(policy, base, outcome, first, against))


def _sentence(policy: str, base: str, outcome: Outcome, row: Evidence, against: Sequence[Evidence]) -> str:
    win, prompts = row.win, words_of([row]).prompts
    kind = "verifier" if row.role == "verifier" else "held-out judge"
    runs = f", {win.runs} runs" if win.runs > 1 else ""
    numbers = (
        f"the {kind} {row.judge} prefers it in {percent(win.rate)} of comparisons on held-out {prompts} "
        f"(95\u202f% interval {100 * win.low:.1f} to {percent(win.high)}; {win.prompts} {prompts} \u00d7 "
        f"{_seeds(win.seeds)}{runs})"
    )
    controlled = _controlled(row)
    if outcome != "not better":
        return f"{policy} is {outcome} than {base}: {numbers}.{controlled}"
    if against:
        names = " and ".join(other.judge for other in against)
        return (
            f"{policy} is not better than {base}: {numbers}, but {names}, held out as well, finds it worse.{controlled}"
        )
    return (
        f"{policy} is not better than {base} on this evidence: {numbers}, and that interval includes 50\u202f%."
        f"{controlled}"
    )


def _controlled(row: Evidence) -> str:
    """What is left of the rate when lengths are equal; nothing where samples have no length."""
    if row.controlled is None:
        return ""
    rate, low, high = row.controlled.rate, row.controlled.low, row.controlled.high
    return f" At equal length it would be preferred in {percent(rate)} ({100 * low:.1f} to {percent(high)})."


def _seeds(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"
