"""Alarms fire on their own fault and on no other; the verdict says no more than the interval does."""

from __future__ import annotations

import json

import pytest

from penchant.errors import PenchantError
from penchant.evaluate import (
    Curve,
    Diversity,
    Evidence,
    MeanGain,
    WinnerChange,
    WinRate,
    diversity_collapse,
    fidelity_fall,
    find_alarms,
    read_metrics,
    reward_hacking,
    verdict,
    winner_change,
    winner_drift,
)


def row(rate: float, *, role="held out", captions="held-out", judge="kind", half=0.06, prompts=100) -> Evidence:
    win = WinRate(rate=rate, low=rate - half, high=rate + half, prompts=prompts, seeds=4, runs=1, ties=0.0)
    gain = MeanGain(before=0, after=1, gain=1, low=0, high=2, prompts=prompts, seeds=4, runs=1)
    return Evidence(policy="MaPO", judge=judge, role=role, captions=captions, win=win, gain=gain)


def diversity(value: float) -> Diversity:
    return Diversity(value=value, space="features", prompts=10, seeds=4)


def names(alarms) -> list[str]:
    return [alarm.name for alarm in alarms]


def test_hacking_is_a_trained_judge_up_and_a_held_out_judge_wholly_below_half():
    trained = row(0.9, role="trained against", judge="proxy")
    alarm = reward_hacking(trained, row(0.40))
    assert alarm.severity == "severe"
    for part in ("proxy", "90.0", "kind", "40.0", "34.0", "46.0"):
        assert part in alarm.sentence
    assert reward_hacking(trained, row(0.46)) is None  # the interval reaches 0.52
    assert reward_hacking(row(0.45, role="trained against"), row(0.40)) is None  # worse everywhere is no hacking


def test_hacking_is_said_once_a_judge_and_by_held_out_captions_first():
    rows = [
        row(0.3, captions="seen"),
        row(0.35),
        row(0.95, role="trained against", captions="seen", judge="proxy"),
        row(0.9, role="trained against", judge="proxy"),
    ]
    found = find_alarms(rows)
    assert names(found) == ["reward hacking"]
    assert "35.0" in found[0].sentence


def test_diversity_collapses_below_seven_tenths_of_the_base():
    assert diversity_collapse(diversity(0.7), diversity(1.0)) is None
    assert diversity_collapse(diversity(0.69), diversity(1.0)).severity == "warning"
    assert diversity_collapse(diversity(0.34), diversity(1.0)).severity == "severe"


def test_winner_drift_needs_a_fall_that_is_large_and_certain():
    assert winner_drift(WinnerChange(change=-0.004, start=-0.1, error=0.0)) is None  # 4 %
    assert winner_drift(WinnerChange(change=-0.006, start=-0.1, error=0.0)).severity == "warning"
    assert winner_drift(WinnerChange(change=-0.03, start=-0.1, error=0.0)).severity == "severe"
    assert winner_drift(WinnerChange(change=-0.03, start=-0.1, error=0.02)) is None  # within two standard errors
    assert winner_drift(WinnerChange(change=0.03, start=-0.1, error=0.0)) is None  # a rise


def test_fidelity_falls_when_its_whole_interval_is_below_zero():
    def fall(high: float):
        gain = MeanGain(before=0.31, after=0.28, gain=-0.03, low=-0.05, high=high, prompts=50, seeds=2, runs=1)
        return fidelity_fall("CLIP agreement", gain)

    assert fall(0.001) is None
    assert "0.310" in fall(-0.01).sentence


def test_a_good_result_raises_nothing_and_a_bad_one_its_gravest_first():
    assert find_alarms([row(0.7)], diversity=(diversity(0.9), diversity(1.0))) == ()
    rows = [row(0.7, prompts=12)]
    winner = WinnerChange(change=-0.006, start=-0.1, error=0.0)
    found = find_alarms(rows, diversity=(diversity(0.1), diversity(1.0)), winner=winner)
    assert names(found) == ["diversity collapse", "winner drift", "few prompts"]
    assert all(alarm.sentence.endswith(".") and alarm.remedy.endswith(".") for alarm in found)


def test_a_judge_trained_against_or_captions_seen_are_no_independent_evidence():
    for rows in ([], [row(0.9, role="trained against")], [row(0.9, captions="seen")]):
        assert names(find_alarms(rows)) == ["no independent evidence"]
        assert verdict("MaPO", "the base", rows).outcome == "unknown"


@pytest.mark.parametrize(
    ("rate", "outcome", "words"),
    [
        (0.60, "better", "is better than"),
        (0.53, "not better", "includes 50"),
        (0.47, "not better", "not better"),
        (0.40, "worse", "is worse than"),
    ],
)
def test_verdict_follows_the_interval(rate, outcome, words):
    found = verdict("MaPO", "the base", [row(0.99, role="trained against"), row(rate)])
    assert found.outcome == outcome
    assert words in found.sentence
    assert f"{100 * rate:.1f}" in found.sentence
    assert "100 captions" in found.sentence


def test_an_interval_that_touches_one_half_is_not_better():
    assert verdict("MaPO", "the base", [row(0.56)]).outcome == "not better"


def test_held_out_judges_that_contradict_each_other_are_not_better():
    found = verdict("MaPO", "the base", [row(0.7, judge="one"), row(0.3, judge="two")])
    assert found.outcome == "not better"
    assert "two" in found.sentence


def curve(values) -> Curve:
    return Curve(steps=tuple(range(len(values))), values=tuple(values))


def test_winner_change_is_the_drift_at_the_end_or_the_end_against_the_start():
    # one tenth of 20 steps is 2: start (-1, -3) = -2, end (-5, -7) = -6; errors sqrt(2) / sqrt(2) = 1 each
    log_prob = curve([-1.0, -3.0, *[-4.0] * 16, -5.0, -7.0])
    change = winner_change({"logps/chosen": log_prob})
    assert (change.change, change.start) == (-4.0, -2.0)
    assert change.error == pytest.approx(2**0.5)
    change = winner_change({"logps/chosen": log_prob, "drift/chosen": curve([0.0] * 18 + [-0.5, -0.5])})
    assert (change.change, change.start, change.error) == (-0.5, -5.5, 0.0)
    assert winner_change({"loss": log_prob}) is None


def test_metrics_are_read_by_step_and_the_last_word_of_a_resumed_run_counts(tmp_path):
    path = tmp_path / "metrics.jsonl"
    records = [
        {"step": 2, "loss": 0.5, "time": "12:00"},
        {"step": 1, "loss": 0.7},
        {"step": 2, "loss": 0.4, "rewards/margins": float("nan")},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in records) + '{"step": 3, "lo')  # cut short by a crash
    curves = read_metrics(path)
    assert curves["loss"] == Curve(steps=(1, 2), values=(0.7, 0.4))
    assert curves["rewards/margins"].steps == (2,)
    assert "time" not in curves


@pytest.mark.parametrize("line", ["not json", "[1]", '{"loss": 1}', '{"step": "one"}'])
def test_a_broken_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(PenchantError, match="row 1"):
        read_metrics(path)
