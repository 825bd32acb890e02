"""Each alarm about music fires on its own fault and stays silent beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_evaluate_alarms import names, row

from penchant.evaluate import Curve, MeanGain, find_alarms, sound_form, traded, traded_in_training, tune_form
from penchant.evaluate.music_alarms import (
    brighter,
    entropy_collapse,
    louder,
    sequence_collapse,
    sound_alarms,
    sound_length,
    tune_alarms,
    tune_length,
    unfinished_tunes,
    unread,
)
from penchant.evaluate.reward_curves import against, movements, reward_names
from penchant.feedback.sound import Sound
from penchant.models.completion import Completion
from tune_fixtures import walk

P, S = 12, 2


def completion(text: str, *, finished: bool = True, surprise: float = 2.0) -> Completion:
    return Completion(text=text, tokens=(7,), log_probs=(-surprise,), finished=finished)


BASE = [completion(walk(k)) for k in range(P * S)]


def form(policy: list[Completion]):
    return tune_form(policy, BASE, seeds=S)


def fired(policy: list[Completion]) -> list[str]:
    return [alarm.name for alarm in tune_alarms(form(policy)) if alarm]


def test_tunes_of_the_same_kind_raise_nothing():
    assert fired([completion(walk(1000 + k)) for k in range(P * S)]) == []


def test_longer_tunes_are_named_with_notes_and_bars():
    longer = [completion(walk(1000 + k, bars=6)) for k in range(P * S)]
    assert fired(longer) == ["length drift"]
    alarm = tune_length(form(longer))
    assert "50.0" in alarm.sentence
    assert "6.00 bars against 4.00" in alarm.sentence
    shorter = tune_length(form([completion(walk(1000 + k, bars=3)) for k in range(P * S)]))
    assert "shorter" in shorter.sentence
    # 48 ticks a bar stay, but a tenth more bars of some tunes do not reach the limit.
    some = [completion(walk(1000 + k, bars=5 if k % 6 == 0 else 4)) for k in range(P * S)]
    assert tune_length(form(some)) is None


def test_a_policy_that_is_surer_has_lost_entropy():
    sure = [replace(sample, log_probs=(-1.0,)) for sample in BASE]
    alarm = entropy_collapse(form(sure))
    assert (alarm.severity, "1.00 nats" in alarm.sentence) == ("severe", True)
    assert entropy_collapse(form([replace(sample, log_probs=(-1.7,)) for sample in BASE])) is None
    assert entropy_collapse(form([replace(sample, log_probs=()) for sample in BASE])) is None


def test_a_scale_up_and_down_has_no_entropy_of_intervals():
    scale = "N0_12 N2_12 N4_12 N6_12 | N8_12 N6_12 N4_12 N2_12 |"
    alarm = entropy_collapse(form([completion(f"{scale} {scale}") for _ in BASE]))
    assert "bits of a tune's intervals" in alarm.sentence


def test_one_tune_again_and_again_is_tunes_alike():
    alarm = sequence_collapse(form([completion(walk(5)) for _ in BASE]))
    assert (alarm.name, alarm.severity) == ("tunes alike", "severe")
    assert "0.0" in alarm.sentence


def test_one_bar_again_and_again_is_repetition():
    bars = [walk(2000 + k, bars=1) for k in range(P * S)]
    alarm = sequence_collapse(form([completion(" ".join([bar] * 8)) for bar in bars]))
    assert "of a tune's sequences of 4 notes are different" in alarm.sentence
    assert sequence_collapse(form(BASE)) is None


def test_missing_ends_are_named_when_they_rise_and_when_they_are_many():
    cut = [replace(sample, finished=k % 2 == 0) for k, sample in enumerate(BASE)]
    assert unfinished_tunes(form(cut)).severity == "severe"
    assert unfinished_tunes(form(BASE)) is None
    few = [replace(sample, finished=k != 0) for k, sample in enumerate(BASE)]
    assert unfinished_tunes(form(few)) is None
    both = unfinished_tunes(tune_form(cut, cut, seeds=S))
    assert (both.severity, "50.0" in both.sentence) == ("notice", True)


def test_words_that_are_no_notation_are_no_music():
    strange = [completion(f"{sample.text} what is this") for sample in BASE]
    assert unread(form(strange)).severity == "severe"
    assert unread(form(BASE)) is None


def test_find_alarms_reads_the_form_of_tunes():
    policy = [completion(walk(5, bars=8), finished=False, surprise=0.2) for _ in BASE]
    found = names(find_alarms([row(0.7)], form=form(policy)))
    assert found == ["length drift", "entropy collapse", "tunes alike", "ends missing"]


def tone(hertz: float, *, gain: float = 0.1, seconds: float = 0.5, rate: int = 8000) -> Sound:
    at = np.arange(round(seconds * rate)) / rate
    return Sound(samples=(gain * np.sin(2 * np.pi * hertz * at)).astype(np.float32)[None], rate=rate)


def test_louder_brighter_and_longer_sounds_are_named_each_alone():
    base = [tone(400 + 5 * k) for k in range(P)]

    def against_base(**changes: float):
        hertz = changes.pop("hertz", 1.0)
        return sound_form([tone((400 + 5 * k) * hertz, **changes) for k in range(P)], base, seeds=1)

    assert [alarm for alarm in sound_alarms(against_base()) if alarm] == []
    assert "6.02 dB louder" in louder(against_base(gain=0.2)).sentence
    assert "quieter" in louder(against_base(gain=0.05)).sentence
    assert louder(against_base(gain=0.13)) is None
    assert "brighter" in brighter(against_base(hertz=2)).sentence
    assert brighter(against_base(hertz=1.1)) is None
    assert "20.0" in sound_length(against_base(seconds=0.6)).sentence
    assert names(find_alarms([row(0.7)], form=against_base(gain=0.2, hertz=2))) == [
        "loudness drift",
        "brightness drift",
    ]


def scored(judge: str, before: float, after: float, *, role: str = "held out", captions: str = "held-out", half=0.05):
    gain = MeanGain(
        before=before, after=after, gain=after - before, low=after - before - half, high=after - before + half,
        prompts=40, seeds=2, runs=1,
    )  # fmt: skip
    return replace(row(0.5, role=role, captions=captions, judge=judge), gain=gain)


def test_one_reward_falls_while_another_rises():
    risen = scored("preference", 0.2, 0.6, role="trained against")
    (alarm,) = traded([risen, scored("adherence", 0.6, 0.4)])
    assert (alarm.name, alarm.severity) == ("one reward falls while another rises", "severe")
    for part in ("adherence", "held-out judge", "0.600", "0.400", "preference", "0.200"):
        assert part in alarm.sentence
    # Of two rewards that were trained on one may pay for the other as well.
    (both,) = traded([risen, scored("quality", 4.0, 3.5, role="trained against")])
    assert both.severity == "warning"


def test_a_fall_that_chance_explains_or_that_nobody_gains_by_is_no_trade():
    risen = scored("preference", 0.2, 0.6, role="trained against")
    assert traded([risen, scored("adherence", 0.6, 0.56)]) == []
    assert traded([scored("preference", 0.2, 0.22, role="trained against"), scored("adherence", 0.6, 0.4)]) == []
    assert traded([risen, scored("adherence", 0.6, 0.4, captions="seen")]) == []
    assert traded([scored("other", 0.2, 0.6), scored("adherence", 0.6, 0.4)]) == []  # neither was trained on


def test_a_judge_that_is_hacked_is_not_named_twice():
    hacked = replace(row(0.3, judge="adherence"), gain=scored("adherence", 0.6, 0.4).gain)
    risen = replace(row(0.9, role="trained against", judge="preference"), gain=scored("preference", 0.2, 0.6).gain)
    assert names(find_alarms([risen, hacked])) == ["reward hacking"]


def curve(values) -> Curve:
    return Curve(steps=tuple(range(len(values))), values=tuple(float(v) for v in values))


def noisy(values: np.ndarray, seed: int) -> Curve:
    return curve(values + 0.02 * np.random.default_rng(seed).normal(size=len(values)))


X = np.linspace(0, 1, 80)


def test_a_reward_that_falls_from_its_best_in_training_is_named():
    curves = {
        "rewards/mean": noisy(0.3 + 0.4 * X, 0),
        "rewards/quality": noisy(0.3 + 0.6 * X, 1),
        "rewards/preference": noisy(0.4 + 0.8 * X * (1 - X), 2),  # rises, then back to where it was
    }
    (alarm,) = traded_in_training(curves)
    assert "preference fell" in alarm.sentence
    assert "quality rose" in alarm.sentence
    assert "one reward falls while another rises in training" in names(find_alarms([row(0.7)], curves=curves))


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_fall(seed):
    curves = {
        "rewards/mean": noisy(0.3 + 0.4 * X, seed),
        "rewards/quality": noisy(0.3 + 0.6 * X, 100 + seed),
        "rewards/preference": noisy(0 * X, 200 + seed),
    }
    assert traded_in_training(curves) == []


def test_metrics_of_pairs_and_moments_are_no_rewards():
    pairs = {"rewards/chosen": curve(X), "rewards/rejected": curve(-X), "rewards/margins": curve(2 * X)}
    assert reward_names(pairs) == []
    assert traded_in_training(pairs) == []
    drawn = {"rewards/mean": curve(X), "rewards/std": curve(X), "rewards/flat": curve(X), "rewards/r1": curve(X)}
    assert reward_names(drawn) == ["r1"]
    assert [one.name for one in movements(drawn)] == ["r1", "mean"]
    assert movements({"rewards/mean": curve([1.0, 2.0])}) == []


def test_a_reward_is_drawn_over_the_kl_of_its_own_step():
    kl = Curve(steps=(1, 2, 3, 4), values=(0.0, 1.0, float("nan"), 3.0))
    reward = Curve(steps=(2, 3, 4, 5), values=(10.0, 20.0, 40.0, 50.0))
    assert against(kl, reward) == [(2.0, 25.0), (2.0, 25.0)]  # steps 2 and 4, each a mean of both
