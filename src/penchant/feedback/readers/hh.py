"""HH-RLHF (Anthropic): {chosen, rejected}, two whole transcripts of "Human:" and "Assistant:" turns.

The prompt is implicit: all that stands before the last answer, which both sides must share (the longest common prefix
up to the last "Assistant:"). The turns become messages, so that a model is asked through its own chat template, and the
group is the same as in a conversational layout. A row whose sides had different conversations before the answer is
refused: its label is not about two answers to one prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from penchant.feedback.groups import Candidate, Group
from penchant.feedback.readers.cells import MAX_TEXT, drawn_pair, refuse_same, text, winner_first
from penchant.feedback.readers.layout import Layout, Row
from penchant.feedback.readers.text_pairs import OTHER_MODALITIES, Messages, asked

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def _recognises(record: Mapping[str, Any]) -> bool:
    """Transcripts on both sides: the columns are those of TRL's implicit prompts."""
    sides = (record.get("chosen"), record.get("rejected"))
    return all(isinstance(s, str) and s.lstrip().startswith("Human:") and "\n\nAssistant:" in s for s in sides)


def _turns(row: Row, field: str) -> Messages:
    """The turns of a transcript, neighbours of one speaker joined; the last is the answer that was judged."""
    transcript = text(row, field, name=f"the {field} text", longest=MAX_TEXT)
    before, *parts = _TURN.split(transcript)
    if before.strip() or not parts:
        raise row.error("the text is no Human/Assistant transcript.", field, "begin it with a `Human:` turn.")
    turns: Messages = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        role, content = _ROLES[speaker], said.strip()
        if turns and turns[-1]["role"] == role:
            # Chat templates refuse neighbours of one role.
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{content}".strip()
            row.repairs.append("neighbouring turns of one speaker joined")
        else:
            turns.append({"role": role, "content": content})
    if turns[0]["role"] != "user":
        raise row.error("the text is no Human/Assistant transcript.", field, "begin it with a `Human:` turn.")
    if turns[-1]["role"] != "assistant" or len(turns) < 2:
        raise row.error("the transcript does not end with an answer.", field, "end it with an `Assistant:` turn.")
    if not turns[-1]["content"]:
        raise row.error(f"the {field} text is empty.", field, "remove the row.")
    if not all(turn["content"] for turn in turns):
        raise row.error("a turn is empty.", field, "remove the row.")
    return turns


def _group(row: Row) -> Group:
    chosen, rejected = _turns(row, "chosen"), _turns(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise row.error(
            "the sides had different conversations before the answer.",
            "rejected",
            "remove the row; its label does not compare two answers to one prompt.",
        )
    winner, loser = (Candidate(text=side[-1]["content"]) for side in (chosen, rejected))
    refuse_same(row, (winner, loser), "rejected")
    prompt, extra = asked(chosen[:-1])
    group = Group(
        prompt=prompt,
        candidates=(winner, loser),
        judgements=(winner_first(),),
        split=row.split,
        provenance=row.provenance("hh-rlhf"),
        extra=extra,
    )
    return drawn_pair(row, group)


HH_RLHF = Layout(
    name="hh-rlhf",
    required=frozenset({"chosen", "rejected"}),
    absent=OTHER_MODALITIES | {"prompt", "question", "score_chosen"},
    recognises=_recognises,
    to_group=_group,
)
