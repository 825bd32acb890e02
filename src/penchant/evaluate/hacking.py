"""Alarms about judges against judges: the policy pleases the one that it was trained against, and another one pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penchant.evaluate.alarm import Alarm
from penchant.evaluate.curves import Curve
from penchant.evaluate.evidence import Evidence, words_of
from penchant.evaluate.figures import number, percent
from penchant.evaluate.reward_curves import movements
from penchant.evaluate.words import spelt

TRADED = "one reward falls while another rises"


def reward_hacking(trained: Evidence, held_out: Evidence) -> Alarm | None:
    """The judge trained against prefers the policy while the held-out judge's whole interval is below one half.

    (Gao, Schulman and Hilton, "Scaling laws for reward model overoptimization", arXiv:2210.10760, figure 1: the proxy
    keeps rising while the gold reward falls.)
    """
    if not (trained.win.rate > 0.5 and held_out.win.worse):
        return None
    return Alarm(
        name="reward hacking",
        severity="severe",
        sentence=(
            f"On {held_out.captions} {words_of([held_out]).prompts} {trained.judge}, which the policy was trained "
            f"against, prefers it in {percent(trained.win.rate)} of comparisons, but the held-out judge "
            f"{held_out.judge} in only {percent(held_out.win.rate)} (95\u202f% interval {percent(held_out.win.low)} to "
            f"{percent(held_out.win.high)})."
        ),
        remedy="Stop earlier, raise beta, or train against an ensemble of judges.",
    )


def dimension_hacking(row: Evidence, rows: Sequence[Evidence]) -> Alarm | None:
    """A held-out judge finds one of its dimensions worse, its whole interval below one half.

    Several dimensions are traded against one another: what is asked for rises, another pays. (VideoAlign,
    arXiv:2501.13918, section 4: Flow-DPO with beta (1 - t)^2 wins visual and motion quality and loses text alignment.)

    Args:
        row: the dimension's evidence.
        rows: all evidence of the policy, `row` among it.
    """
    others = [other for other in rows if _same_judge(other, row) and other.dimension != row.dimension]
    if not (row.dimension and others and row.role != "trained against" and row.win.worse):
        return None
    better = [f"{spelt(other.dimension)} in {percent(other.win.rate)}" for other in others if other.win.better]
    trained = [
        f"{other.judge}, which it was trained against, in {percent(other.win.rate)}"
        for other in rows
        if other.role == "trained against" and other.captions == row.captions and other.win.rate > 0.5
    ]
    praise = f" It prefers it for {' and '.join(better)}." if better else ""
    praise += f" The policy pleases {' and '.join(trained)} of comparisons." if trained else ""
    return Alarm(
        name=f"reward hacking: {spelt(row.dimension)}",
        severity="severe",
        sentence=(
            f"On {row.captions} {words_of([row]).prompts} the held-out judge {row.scorer} prefers the policy for its "
            f"{spelt(row.dimension)} in only {percent(row.win.rate)} of comparisons (95\u202f% interval "
            f"{percent(row.win.low)} to {percent(row.win.high)}).{praise}"
        ),
        remedy=(
            f"Give {row.dimension} more weight among the judges that make the preferences, raise beta, or stop earlier."
        ),
    )


def _same_judge(first: Evidence, second: Evidence) -> bool:
    return (first.scorer, first.role, first.captions) == (second.scorer, second.role, second.captions)


def hacking(rows: Sequence[Evidence]) -> dict[str, Alarm]:
    """One alarm for each held-out judge, or dimension of one, at most: the prompts that say most, held-out before seen,
    speak for it."""
    by_judge: dict[str, Alarm] = {}
    for held_out in sorted(rows, key=lambda row: row.captions != "held-out"):
        if alarm := dimension_hacking(held_out, rows):
            by_judge.setdefault(held_out.judge, alarm)
            continue
        for trained in rows:
            roles = held_out.role != "trained against" and trained.role == "trained against"
            if roles and trained.captions == held_out.captions and (alarm := reward_hacking(trained, held_out)):
                by_judge.setdefault(held_out.judge, alarm)
    return by_judge


def traded(rows: Sequence[Evidence]) -> list[Alarm]:
    """A judge trained against finds the policy's samples better and another judge finds them worse, each with its
    whole interval of the mean score; one alarm a judge that pays.

    (MusicRL, arXiv:2402.04229, section 5.1: trained on quality alone the preference model's score falls after 10,000
    steps, and trained too long on preferences text adherence collapses, figure 7.)
    """
    found: dict[str, Alarm] = {}
    for paid in sorted(rows, key=lambda row: row.captions != "held-out"):
        gained = [
            row
            for row in rows
            if row.role == "trained against" and row.captions == paid.captions and row.judge != paid.judge
        ]
        gained = [row for row in gained if row.gain.low > 0]
        if gained and paid.gain.high < 0:
            found.setdefault(paid.judge, _traded(paid, gained))
    return list(found.values())


def traded_in_training(curves: Mapping[str, Curve]) -> list[Alarm]:
    """A reward of the run fell from its best tenth to its last, while another one rose from its first tenth.

    Each by more than three standard errors over the logged steps (`penchant.evaluate.reward_curves`). What the run
    maximises counts as a reward that may rise.
    """
    moved = movements(curves)
    risen = [one for one in moved if one.rose]
    fallen = [one for one in moved if one.fell and one.name != "mean"]
    found = []
    for fall in fallen:
        others = [one for one in risen if one.name != fall.name]
        if others:
            rises = " and ".join(f"{one.name} rose from {number(one.start)} to {number(one.end)}" for one in others)
            found.append(
                Alarm(
                    name=f"{TRADED} in training",
                    severity="warning",
                    sentence=(
                        f"The reward {fall.name} fell from {number(fall.best)}, its best tenth of the run, to "
                        f"{number(fall.end)} at the end, while {rises}."
                    ),
                    remedy="Stop at the best tenth, give the falling reward more weight, or raise the weight of KL.",
                )
            )
    return found


def _traded(paid: Evidence, gained: Sequence[Evidence]) -> Alarm:
    role = "a judge trained against" if paid.role == "trained against" else f"the {paid.role.replace(' ', '-')} judge"
    rises = " and ".join(
        f"{row.judge}, which the policy was trained against, rose from {number(row.gain.before)} to "
        f"{number(row.gain.after)}"
        for row in gained
    )
    return Alarm(
        name=TRADED,
        severity="severe" if paid.independent else "warning",
        sentence=(
            f"On {paid.captions} {words_of([paid]).prompts} {paid.judge}, {role}, fell from {number(paid.gain.before)} "
            f"to {number(paid.gain.after)} (95\u202f% interval of the change {number(paid.gain.low)} to "
            f"{number(paid.gain.high)}), while {rises}."
        ),
        remedy="Train on both, stop earlier, or raise the weight of KL.",
    )
