"""Prompts of an evaluation: lines, records and conversations, and refusals that name the row."""

from __future__ import annotations

import json

import pytest

from penchant.errors import RecipeError
from penchant.evaluate.prompts import read_prompts
from penchant.feedback.groups import Prompt

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("  a fox \n\nein Fuchs\n", encoding="utf-8")
    assert read_prompts(str(path)) == [Prompt(text="a fox"), Prompt(text="ein Fuchs")]


def test_feedback_brings_its_own_prompts_and_the_zoo_has_some():
    assert read_prompts("feedback") == []
    assert Prompt(text="baby chick") in read_prompts("zoo:emoji/prompts")


def test_records_hold_texts_conversations_and_openings(tmp_path):
    path = tmp_path / "prompts.jsonl"
    records = [
        {"prompt": "two\nlines"},
        {"messages": TURNS},
        {"prompt": TURNS[1:], "opening": "Well,"},
    ]
    path.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    assert read_prompts(str(path)) == [
        Prompt(text="two\nlines"),
        Prompt(text="system: Be brief.\n\nuser: Hello?", messages=tuple(TURNS)),
        Prompt(text="Hello?", messages=(TURNS[1],), opening="Well,"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "{}",
        "3",
        '{"prompt": ""}',
        '{"prompt": 3}',
        '{"prompt": []}',
        '{"messages": [{"role": "user"}]}',
        '{"messages": [{"role": "user", "content": ["x"]}]}',
        '{"prompt": "a", "opening": 3}',
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path, line):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a fox"}\n' + line + "\n")
    with pytest.raises(RecipeError, match="row 1"):
        read_prompts(str(path))


def test_a_file_that_is_not_there_or_not_utf8_is_named(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        read_prompts(str(tmp_path / "none.txt"))
    (tmp_path / "latin.txt").write_bytes("Fu\xdf".encode("latin-1"))
    with pytest.raises(RecipeError, match="UTF-8"):
        read_prompts(str(tmp_path / "latin.txt"))
