"""Text feedback: HH-RLHF, UltraFeedback, conversations of TRL; what is repaired, refused and declined, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from feedback_fixtures import (
    MAKERS,
    binarized_row,
    completion,
    transcript,
    ultrafeedback_row,
    write_json,
    write_parquet,
)

from penchant.errors import FeedbackError
from penchant.feedback import Feedback, Group, Prompt, open_store, pairs, read, scores, select, write


def one(feedback: Feedback) -> Group:
    assert not feedback.report.refused, feedback.report.summary()
    (group,) = feedback
    return group


def chosen_of(group: Group) -> str | None:
    (pair,) = pairs([group])
    return pair.chosen.text


# --- HH-RLHF


def hh(tmp_path: Path, *rows: tuple[str, str]) -> Feedback:
    return read(write_json(tmp_path / "train.jsonl", [{"chosen": c, "rejected": r} for c, r in rows]))


def test_the_prompt_of_hh_is_all_before_the_last_answer(tmp_path: Path) -> None:
    before = ("Is it far?", "Where to?", "The sea.")
    group = one(hh(tmp_path, (transcript(*before, "Not far."), transcript(*before, "No idea."))))
    roles = ("user", "assistant", "user")
    messages = [{"role": r, "content": c} for r, c in zip(roles, before, strict=True)]
    assert group.asked() == Prompt(text=group.prompt, messages=tuple(messages))
    assert group.prompt == "user: Is it far?\n\nassistant: Where to?\n\nuser: The sea."
    assert chosen_of(group) == "Not far."
    assert group.split == "train"


def test_hh_and_a_conversation_of_trl_are_the_same_group(tmp_path: Path) -> None:
    first = one(hh(tmp_path, (transcript("hi", "yes"), transcript("hi", "no"))))
    said = {k: [{"role": "user", "content": "hi"}, {"role": "assistant", "content": k}] for k in ("yes", "no")}
    second = one(read(write_json(tmp_path / "trl.json", [{"chosen": said["yes"], "rejected": said["no"]}])))
    assert (first.id, first.prompt, first.extra) == (second.id, second.prompt, second.extra)


def test_sides_that_share_words_of_their_answer_are_not_cut_inside_it(tmp_path: Path) -> None:
    group = one(hh(tmp_path, (transcript("hi", "I think so."), transcript("hi", "I think not."))))
    assert {c.text for c in group.candidates} == {"I think so.", "I think not."}


def test_neighbouring_turns_of_one_speaker_are_joined_and_counted(tmp_path: Path) -> None:
    start = "\n\nHuman: wait\n\nHuman: go on\n\nAssistant:"
    feedback = hh(tmp_path, (f"{start} yes", f"{start} no"))
    assert feedback[0].extra["messages"] == [{"role": "user", "content": "wait\n\ngo on"}]
    assert feedback.report.repaired["neighbouring turns of one speaker joined"].count == 1


A = transcript("hi", "yes")
HH_ROWS: dict[str, tuple[str, str, str]] = {
    "another question": (A, transcript("ho", "no"), "the sides had different conversations before the answer."),
    "another turn": (
        A,
        transcript("hi", "yes", "why", "so"),
        "the sides had different conversations before the answer.",
    ),
    "another answer on the way": (
        transcript("hi", "yes", "why", "so"),
        transcript("hi", "no", "why", "so"),
        "the sides had different conversations before the answer.",
    ),
    "same text": (A, A, "same text on both sides."),
    "no answer": (A, transcript("hi"), "the transcript does not end with an answer."),
    "ends with a question": (A, transcript("hi", "no", "why"), "the transcript does not end with an answer."),
    "empty answer": (A, transcript("hi", " "), "the rejected text is empty."),
    "empty turn": (transcript("hi", "", "x", "y"), transcript("hi", "", "x", "z"), "a turn is empty."),
    "no transcript": ("hello", A, "the text is no Human/Assistant transcript."),
    "assistant first": ("\n\nAssistant: a", A, "the text is no Human/Assistant transcript."),
    "text before": (f"System. {A}", A, "the text is no Human/Assistant transcript."),
    "missing": (None, A, "the chosen text is missing."),
}


@pytest.mark.parametrize("kind", HH_ROWS)
def test_a_bad_hh_row_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    chosen, rejected, reason = HH_ROWS[kind]
    good = (A, transcript("hi", "no"))
    report = hh(tmp_path, good, (chosen, rejected)).report
    assert (report.layout, report.kept, report.rows, set(report.refused)) == ("hh-rlhf", 1, 2, {reason})
    assert report.refused[reason].examples == ("1",)
    assert report.refused[reason].remedy


def test_texts_that_are_no_transcripts_keep_their_layout(tmp_path: Path) -> None:
    rows = [{"chosen": "Ask the Assistant: now.", "rejected": "Ask the Assistant: later."}]
    assert read(write_json(tmp_path / "x.jsonl", rows)).report.layout == "trl-implicit-prompt"
    messages = {k: [{"role": "user", "content": "q"}, {"role": "assistant", "content": k}] for k in ("a", "b")}
    rows = [{"chosen": messages["a"], "rejected": messages["b"]}]
    assert read(write_parquet(tmp_path / "x.parquet", rows)).report.layout == "trl-implicit-prompt"


def test_a_parquet_file_of_transcripts_is_hh_too(tmp_path: Path) -> None:
    rows = [{"chosen": A, "rejected": transcript("hi", "no")}]
    assert read(write_parquet(tmp_path / "x.parquet", rows)).report.layout == "hh-rlhf"


# --- UltraFeedback


def ultra(tmp_path: Path, *completions: dict[str, Any], **changes: Any) -> Feedback:
    return read(write_json(tmp_path / "x.jsonl", [ultrafeedback_row(*completions, **changes)]))


def test_the_aspects_are_dimensions_and_their_mean_the_preference(tmp_path: Path) -> None:
    group = one(
        ultra(
            tmp_path,
            completion("a", "1", "2", "3", "4"),
            completion("b", "5", "N/A", "4", "3", overall_score=8),
            completion("c", "N/A", "N/A", "N/A", "N/A", overall_score=None),
        )
    )
    assert scores(group, "instruction_following") == (1, 5, None)
    assert scores(group, "honesty") == (2, None, None)
    assert scores(group, "truthfulness") == (3, 4, None)
    assert scores(group, "helpfulness") == (4, 3, None)
    assert scores(group) == (2.5, 4.0, None)
    assert scores(group, "overall_score") == (7, 8, None)
    assert {(j.kind, j.source) for j in group.judgements} == {("score", "judge:gpt-4")}
    (scored,) = select([group])
    assert [c.text for c in scored.group.candidates] == ["a", "b"]


def test_ultrafeedback_keeps_who_answered_under_which_system_prompt(tmp_path: Path) -> None:
    group = one(read(MAKERS["ultrafeedback"](tmp_path)))
    assert len(group.candidates) == 4
    assert group.candidates[0].model == "llama-2-7b-chat"
    assert group.candidates[0].settings == {"principle": "helpfulness", "system": "Be helpful."}
    assert group.asked().messages == ({"role": "user", "content": "Name a colour."},)
    assert (group.extra["source"], group.extra["incorrect_answers"]) == ("evol_instruct", ["x"])


def test_an_overall_score_of_ten_beside_low_ratings_is_not_believed(tmp_path: Path) -> None:
    """The rule of the authors' own repair, and None where they asked the critic again."""
    feedback = ultra(
        tmp_path,
        completion("a", "1", "2", "2", "3", overall_score=10),
        completion("b", "4", "4", "4", "4", overall_score=10),
        completion("c", "5", "5", "5", "4", overall_score=10),
        completion("d", "1", "1", "1", "1", overall_score=9),
    )
    assert scores(feedback[0], "overall_score") == (1, None, 10, 9)
    assert scores(feedback[0]) == (2, 4, 4.75, 1)
    assert {k: r.count for k, r in feedback.report.repaired.items()} == {
        "overall score of 10 beside low ratings read as 1": 1,
        "overall score of 10 beside middling ratings set aside": 1,
    }


def test_empty_and_repeated_completions_are_left_out_and_counted(tmp_path: Path) -> None:
    good = ("5", "5", "5", "5")
    feedback = ultra(tmp_path, *(completion(text, *good) for text in ("a", " ", "a", "b")))
    assert [c.text for c in feedback[0].candidates] == ["a", "b"]
    assert set(feedback.report.repaired) == {"empty completion left out", "completion given twice left out"}


GOOD = completion("a", "5", "5", "5", "5")
ULTRA_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no instruction": ({"instruction": ""}, "the prompt is empty."),
    "no completions": ({"completions": []}, "a list is missing or empty."),
    "one completion": ({"completions": [GOOD]}, "fewer than two completions."),
    "the same twice": ({"completions": [GOOD, GOOD]}, "fewer than two completions."),
    "no record": ({"completions": [GOOD, "b"]}, "a completion is no record."),
    "no response": ({"completions": [GOOD, GOOD | {"response": None}]}, "a response is missing."),
    "no annotations": (
        {"completions": [GOOD, GOOD | {"response": "b", "annotations": None}]},
        "a completion has no annotations.",
    ),
    "a rating of six": ({"completions": [GOOD, completion("b", "5", "6", "5", "5")]}, "a rating is outside 1 to 5."),
    "a rating in words": ({"completions": [GOOD, completion("b", "5", "good", "5", "5")]}, "a rating is no number."),
    "a score in words": (
        {"completions": [GOOD, GOOD | {"response": "b", "overall_score": "7"}]},
        "the overall score is not a number.",
    ),
}


@pytest.mark.parametrize("kind", ULTRA_ROWS)
def test_a_bad_ultrafeedback_row_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    changes, reason = ULTRA_ROWS[kind]
    good = ultrafeedback_row(GOOD, completion("b", "1", "1", "1", "1"))
    report = read(write_json(tmp_path / "x.jsonl", [good, good | changes])).report
    assert (report.kept, report.rows, set(report.refused)) == (1, 2, {reason})
    assert report.refused[reason].remedy


# --- UltraFeedback, binarized


def test_the_binarized_form_has_a_winner_and_both_scores(tmp_path: Path) -> None:
    group = one(read(MAKERS["ultrafeedback-binarized"](tmp_path)))
    assert (group.prompt, chosen_of(group), group.split) == ("Name a colour.", "red", "train_prefs")
    by_text = dict(zip([c.text for c in group.candidates], scores(group, "overall_score"), strict=True))
    assert by_text == {"red": 8.5, "eleven": 3.0}
    assert group.asked().messages == ({"role": "user", "content": "Name a colour."},)
    assert {j.source for j in group.judgements} == {"judge:gpt-4"}


def test_the_six_parts_of_the_binarized_form_are_told_apart(tmp_path: Path) -> None:
    names = [f"{split}_{part}" for split in ("train", "test") for part in ("prefs", "sft", "gen")]
    for k, name in enumerate(names):
        write_parquet(tmp_path / f"{name}-00000-of-00001.parquet", [binarized_row(chosen=f"red {k}")])
    feedback = read(tmp_path)
    assert sorted({g.split for g in feedback}) == sorted(names)
    assert len(feedback.split("test_prefs")) == 1


def test_the_form_without_a_prompt_column_is_read_alike(tmp_path: Path) -> None:
    bare = {k: v for k, v in binarized_row().items() if k not in ("prompt", "prompt_id", "messages")}
    with_prompt = one(read(write_json(tmp_path / "a.json", [binarized_row()])))
    without = one(read(write_json(tmp_path / "b.json", [bare])))
    assert (without.id, without.extra) == (with_prompt.id, with_prompt.extra)


def test_equal_scores_are_a_tie_though_one_side_is_called_chosen(tmp_path: Path) -> None:
    feedback = read(write_json(tmp_path / "x.json", [binarized_row(score_chosen=4, score_rejected=4)]))
    assert scores(feedback[0]) == (0.5, 0.5)
    assert feedback.report.repaired["equal scores read as a tie"].count == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"score_chosen": 2.0}, "the scores are inconsistent: the rejected side scored higher."),
        ({"score_chosen": None}, "the score is missing."),
        ({"score_rejected": "3"}, "the score is not a number."),
        ({"rejected": binarized_row()["chosen"]}, "same text on both sides."),
        ({"rejected": []}, "the rejected text is empty."),
    ],
)
def test_a_bad_binarized_row_is_refused_by_name(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    report = read(write_json(tmp_path / "x.json", [binarized_row(), binarized_row() | changes])).report
    assert (report.kept, set(report.refused)) == (1, {reason})


# --- TRL


def test_a_text_prompt_beside_conversations_is_the_users_message(tmp_path: Path) -> None:
    answer = {k: [{"role": "assistant", "content": k}] for k in ("a", "b")}
    group = one(
        read(write_json(tmp_path / "x.json", [{"prompt": "q", "chosen": answer["a"], "rejected": answer["b"]}]))
    )
    assert group.asked().messages == ({"role": "user", "content": "q"},)
    rows = [{"prompt": "q", "completion": answer["a"], "label": True}]
    assert one(read(write_json(tmp_path / "y.json", rows))).asked().messages == ({"role": "user", "content": "q"},)


def test_plain_texts_have_no_messages(tmp_path: Path) -> None:
    group = one(read(MAKERS["trl-preference"](tmp_path)))
    assert group.asked() == Prompt(text="2 + 2?")


def test_messages_survive_the_store(tmp_path: Path) -> None:
    feedback = read(MAKERS["trl-preference"](tmp_path / "a")), hh(tmp_path, (A, transcript("hi", "no")))
    write([g for f in feedback for g in f], tmp_path / "store")
    assert [g.asked() for g in open_store(tmp_path / "store")] == [g.asked() for f in feedback for g in f]


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def test_text_parts_of_a_message_are_joined_and_counted(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": parts("two ", "parts")}], "chosen": "a", "rejected": "b"}
    feedback = read(write_json(tmp_path / "x.json", [row]))
    assert feedback[0].prompt == "two parts"
    assert feedback.report.repaired["text parts of a message joined"].count == 1


def asks(content: Any) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (asks([{"type": "image"}, *parts("what is it?")]), "a message has a part that is no text."),
        (asks(None), "a message is missing."),
        (asks([]), "a message is not text."),
        (asks(""), "a message is empty."),
        ({"prompt": ["hi"]}, "a message has no role."),
        ({"tools": [{"name": "search"}]}, "the row offers tools to the model."),
    ],
)
def test_a_message_that_is_no_text_is_refused_by_name(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b", "tools": []}
    report = read(write_json(tmp_path / "x.json", [row, row | changes])).report
    assert (report.layout, report.kept, set(report.refused)) == ("trl-preference", 1, {reason})
    rows = [{"prompt": row["prompt"], "completion": "a", "label": True, "tools": []}]
    report = read(write_json(tmp_path / "y.json", [*rows, rows[0] | changes])).report
    assert (report.layout, report.kept, set(report.refused)) == ("trl-unpaired", 1, {reason})


# --- Layouts that are known and not read

DECLINED: dict[str, tuple[dict[str, Any], str]] = {
    "RLAIF-V": (
        {"ds_name": "x", "image": {"bytes": None}, "question": "?", "chosen": "a", "rejected": "b"},
        "an image",
    ),
    "RLHF-V": ({"BUFFER": "x", "IMAGE_ID": "1", "question": "?", "chosen": "a", "rejected": "b"}, "an image"),
    "RLHF-V as JSON": ({"ds_name": "x", "image": "", "text": "{}", "origin_dataset": "y", "idx": 1}, "an image"),
    "TRL vision": ({"images": ["x"], "prompt": "p", "chosen": "a", "rejected": "b"}, "an image"),
    "red team": ({"transcript": A, "min_harmlessness_score_transcript": 0.1, "rating": 4}, "rated attacks"),
    "stepwise": ({"prompt": "p", "completions": ["a"], "labels": [True]}, "the steps of one answer"),
    "prompt and completion": ({"prompt": "p", "completion": "c"}, "nobody judged"),
    "prompt": ({"prompt": "p"}, "prompts without answers"),
    "text": ({"text": "t"}, "nobody compared"),
    "messages": ({"messages": []}, "nobody compared"),
}


@pytest.mark.parametrize("kind", DECLINED)
def test_a_known_layout_that_is_not_read_says_why_and_what_to_do(kind: str, tmp_path: Path) -> None:
    row, problem = DECLINED[kind]
    with pytest.raises(FeedbackError, match=problem) as raised:
        read(write_json(tmp_path / "x.jsonl", [row]))
    assert raised.value.remedy
    assert str(raised.value.file).endswith("x.jsonl")


def test_a_question_beside_a_prompt_is_no_image(tmp_path: Path) -> None:
    row = {"prompt": "p", "question": "p", "chosen": "a", "rejected": "b"}
    assert read(write_json(tmp_path / "x.json", [row])).report.layout == "trl-preference"
    del row["prompt"]
    with pytest.raises(FeedbackError, match="no known layout"):
        read(write_json(tmp_path / "y.json", [row]))
