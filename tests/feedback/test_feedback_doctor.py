"""The doctor finds what was planted, and nothing where nothing was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from feedback_fixtures import encoded, jpg, pick_row, picture, transcript, write_json, write_parquet

from penchant.feedback import Candidate, Feedback, Group, Judgement, Media, doctor
from penchant.feedback.media import decode_image, dhash, hamming


def pair(
    k: int, *, first_wins: bool, prompt: str | None = None, annotator: str | None = None, split: str = "train"
) -> Group:
    values = (1.0, 0.0) if first_wins else (0.0, 1.0)
    return Group(
        prompt=prompt or f"prompt {k}",
        candidates=(Candidate(text=f"a{k}"), Candidate(text=f"b{k}")),
        judgements=(Judgement(kind="pair", values=values, annotator=annotator),),
        split=split,
    )


def balanced(count: int = 40) -> list[Group]:
    return [pair(k, first_wins=k % 2 == 0) for k in range(count)]


def test_healthy_feedback_has_no_errors_and_no_warnings() -> None:
    diagnosis = doctor(balanced())
    assert diagnosis.of("error") == diagnosis.of("warning") == ()
    assert diagnosis.exit_code == 0
    assert diagnosis["position bias"].details["first_wins"] == 0.5


def test_a_planted_duplicate_is_found_in_either_order() -> None:
    groups = balanced()
    turned = groups[3].only((1, 0))
    finding = doctor([*groups, turned])["duplicate groups"]
    assert (finding.count, finding.details["groups"]) == (1, {groups[3].id: 2})
    assert "contradictory judgements" not in doctor([*groups, turned])


def test_a_planted_contradiction_is_found_between_groups_and_within_one() -> None:
    groups = balanced()
    against = pair(3, first_wins=True)
    assert doctor([*groups, against])["contradictory judgements"].details["groups"] == [against.id]
    within = groups[3].judged(Judgement(kind="pair", values=(1.0, 0.0)))
    assert doctor([*groups[:3], within])["contradictory judgements"].count == 1
    assert doctor([*groups[:3], within])["contradictory judgements"].severity == "error"


def test_position_bias_is_an_error_with_its_p_value() -> None:
    finding = doctor([pair(k, first_wins=k % 10 != 0) for k in range(60)])["position bias"]
    assert finding.severity == "error"
    assert finding.details["first_wins"] == 0.9
    assert finding.details["p"] == pytest.approx(2 * sum_of_tail(60, 54), rel=1e-6)


def test_chance_is_one_in_k() -> None:
    groups = [
        Group(
            prompt=f"p{k}",
            candidates=tuple(Candidate(text=f"{k} {i}") for i in range(4)),
            judgements=(Judgement(kind="rank", values=tuple(float(i == k % 4) for i in range(4))),),
        )
        for k in range(80)
    ]
    finding = doctor(groups)["position bias"]
    assert (finding.details["first_wins"], finding.details["p"], finding.severity) == (0.25, 1.0, "info")


def sum_of_tail(n: int, k: int) -> float:
    """P(at least k of n fair coins)."""
    import math

    return sum(math.comb(n, i) for i in range(k, n + 1)) / 2**n


def test_ties_are_no_evidence_of_position_bias_and_have_their_own_share() -> None:
    tied = [replace(g, judgements=(Judgement(kind="pair", values=(0.5, 0.5)),), id="") for g in balanced(60)]
    diagnosis = doctor([*balanced(20), *tied[20:]])
    assert diagnosis["position bias"].count == 20
    assert diagnosis["ties"].details["share"] == pytest.approx(40 / 60)
    assert diagnosis["ties"].severity == "warning"


def test_prompt_leakage_between_splits_is_an_error() -> None:
    leak = pair(99, first_wins=True, prompt="  Prompt   7 ", split="test")
    finding = doctor([*balanced(), leak])["prompt leakage"]
    assert (finding.severity, finding.details["prompts"]) == ("error", ["prompt 7"])


def test_repeated_prompts_and_shared_candidates_are_told() -> None:
    groups = [pair(k, first_wins=k % 2 == 0, prompt="same") for k in range(30)]
    assert doctor(groups)["prompts"].details["top"] == {"same": 30}
    assert doctor(groups)["prompts"].severity == "warning"
    shared = Group(prompt="other", candidates=groups[0].candidates)
    assert doctor([*groups, shared])["candidates in several groups"].count == 2


def test_the_parts_of_a_split_may_share_prompts() -> None:
    groups = [*balanced(), pair(99, first_wins=True, prompt="prompt 7", split="train_sft")]
    assert "prompt leakage" not in doctor(groups)
    assert "prompt leakage" in doctor([*groups, pair(98, first_wins=True, prompt="prompt 7", split="test_prefs")])


def texts(k: int, chosen: str, rejected: str) -> Group:
    sides = Group(
        prompt=f"prompt {k}",
        candidates=(Candidate(text=chosen), Candidate(text=rejected)),
        judgements=(Judgement(kind="pair", values=(1.0, 0.0)),),
    )
    return sides if k % 2 else sides.only((1, 0))


def test_a_preference_that_is_one_for_length_is_told() -> None:
    finding = doctor([texts(k, f"{k} a long answer", f"{k} short") for k in range(30)])["length bias"]
    assert (finding.severity, finding.details["longer_wins"], finding.count) == ("warning", 1.0, 30)
    assert finding.details["p"] == pytest.approx(2 / 2**30)
    fair = [texts(k, "x" * (2 + k % 2), "y" * (3 - k % 2)) for k in range(40)]
    assert (doctor(fair)["length bias"].severity, doctor(fair)["length bias"].details["longer_wins"]) == ("info", 0.5)
    assert "length bias" not in doctor([texts(1, "same", "size")])


def test_text_files_are_diagnosed_without_pictures(tmp_path: Path) -> None:
    asked, good, bad = transcript("Which way?", "Left or right?", "To the sea."), " Go left.", " Go away."
    agreed = {"chosen": f"{asked}\n\nAssistant:{good}", "rejected": f"{asked}\n\nAssistant:{bad}"}
    against = {"chosen": agreed["rejected"], "rejected": agreed["chosen"]}
    other = {"chosen": transcript("Hi", "Hello."), "rejected": transcript("Hi", "No.")}
    write_json(tmp_path / "train.jsonl", [agreed, against, other, {"chosen": "no transcript", "rejected": "none"}])
    write_json(tmp_path / "test.jsonl.gz", [other])
    diagnosis = doctor(tmp_path)
    assert diagnosis.report.layout == "hh-rlhf"
    assert (diagnosis["refused rows"].count, diagnosis["duplicate groups"].count) == (1, 2)
    assert diagnosis["contradictory judgements"].count == 1
    assert diagnosis["prompt leakage"].details["prompts"] == ["hi"]
    assert not {"image sizes", "broken images", "near-duplicate candidates"} & {f.name for f in diagnosis.findings}
    assert "error  prompt leakage: 1 prompts stand in more than one split." in str(diagnosis)


def voted(*answers: tuple[bool, bool]) -> list[Group]:
    """One group an entry, judged by two annotators (does the first candidate win?)."""
    return [
        pair(k, first_wins=one, annotator="x").judged(
            Judgement(kind="pair", values=(1.0, 0.0) if two else (0.0, 1.0), annotator="y")
        )
        for k, (one, two) in enumerate(answers)
    ]


def test_agreement_is_krippendorffs_alpha() -> None:
    same = doctor(voted((True, True), (False, False), (True, True)) * 3)["annotator agreement"]
    assert same.details["alpha"] == 1.0
    opposed = doctor(voted(*[(True, False)] * 6))["annotator agreement"]
    assert opposed.details["alpha"] < 0
    assert (opposed.severity, opposed.details["unanimous"]) == ("warning", 0.0)
    assert "annotator agreement" not in doctor(balanced())


def test_alpha_is_the_textbook_number() -> None:
    answers = [(True, True), (False, False), (True, False), (True, True)]
    groups = voted(*answers)
    # By hand: 8 values, coded by the place of the winner's id among the sorted ids of its group.
    codes = []
    for group, pair_of in zip(groups, answers, strict=True):
        order = sorted(c.id for c in group.candidates)
        codes.append([order.index(group.candidates[0 if first else 1].id) for first in pair_of])
    values = [c for unit in codes for c in unit]
    n, ones = len(values), sum(values)
    observed = sum(a != b for a, b in codes) * 2 / n
    expected = 2 * ones * (n - ones) / (n * (n - 1))
    details = doctor(groups)["annotator agreement"].details
    assert details["alpha"] == pytest.approx(1 - observed / expected)
    assert details["unanimous"] == 0.75


def images(*data: bytes, prompt: str = "p") -> Group:
    candidates = tuple(Candidate(media=Media.of(one)) for one in data)
    return Group(prompt=prompt, candidates=candidates, judgements=(Judgement(kind="pair", values=(1.0, 0.0)),))


def test_near_duplicates_inside_a_group_are_found() -> None:
    again = encoded(picture(1), "JPEG", quality=40)
    diagnosis = doctor([images(jpg(1), again), images(jpg(2), jpg(3), prompt="q")])
    assert diagnosis["near-duplicate candidates"].count == 1
    assert diagnosis["image sizes"].details["sizes"] == {"24x16": 4}
    assert "image sizes" not in doctor([images(jpg(1), again)], images=0)


def test_the_hash_is_near_for_the_same_picture_and_far_for_others() -> None:
    hashes = [dhash(decode_image(jpg(k))[0]) for k in range(12)]
    assert min(hamming(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 8
    larger = decode_image(encoded(picture(1).resize((48, 32)), "WEBP", quality=60))[0]
    assert hamming(dhash(larger), hashes[1]) <= 4


def test_an_image_that_does_not_decode_is_an_error() -> None:
    finding = doctor([images(jpg(1), jpg(2)[:300])])["broken images"]
    assert (finding.severity, finding.count) == ("error", 1)


def test_a_file_is_diagnosed_with_its_reading_report(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", [pick_row(0), pick_row(0), pick_row(1, caption="")])
    diagnosis = doctor(path)
    assert diagnosis["refused rows"].severity == "error"
    assert diagnosis["duplicate groups"].count == 1
    assert diagnosis.exit_code == 1
    told = json.loads(diagnosis.to_json())
    assert (told["groups"], told["report"]["rows"]) == (2, 3)
    text = str(diagnosis)
    assert text.index("refused rows") < text.index("image sizes")
    assert "Remedy:" in text


def test_rewards_beside_votes_do_not_stop_the_doctor() -> None:
    mixed = balanced()[0].judged(Judgement(kind="score", values=(3.0, 9.0), source="reward:r@1"))
    assert doctor([mixed])["ties"].details["unjudged"] == 1
    assert doctor(Feedback(groups=())).findings == ()
