"""Text preferences as TRL writes them: {prompt, chosen, rejected}, {chosen, rejected} and {prompt, completion, label}.

Each side is a string or a list of {role, content} messages. Without a prompt column the prompt is what both sides begin
with. Difference from TRL: a string prefix is cut at a word boundary (never inside a word), and transcripts with
`Assistant:` turns (HH-RLHF) are cut after the last such turn both sides share.
"""

from __future__ import annotations

from typing import Any

from penchant.feedback.groups import Candidate, Group, Judgement, plain
from penchant.feedback.readers.cells import MAX_TEXT, clean_text, drawn_pair, refuse_same, winner_first
from penchant.feedback.readers.layout import Layout, Row

Messages = list[dict[str, Any]]
_TURN = "\n\nAssistant:"


def _side(row: Row, field: str) -> str | Messages:
    """A text or a list of messages with text contents; anything else is refused."""
    value, name = row.values.get(field), f"the {field} text"
    if not isinstance(value, list):
        return clean_text(row, value, field, name=name)
    if not value:
        raise row.error(f"{name} is empty.", field, "remove the row.")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise row.error("a message has no role.", field, "write messages as {role, content}.")
        clean_text(row, message.get("content"), field, name="a message")
    return [{"role": m["role"], "content": m["content"].replace("\x00", "")} for m in value]


def render(messages: Messages) -> str:
    """Messages as plain text: the content of a single message, else `role: content` paragraphs."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)


def _common_messages(chosen: Messages, rejected: Messages) -> int:
    """How many leading messages both sides share, leaving each side at least one."""
    most = min(len(chosen), len(rejected)) - 1
    return next((k for k in range(most) if chosen[k] != rejected[k]), max(most, 0))


def _common_text(chosen: str, rejected: str) -> int:
    """Length of the prompt both texts begin with; the space before the first new word goes to the completion."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    shared = chosen[: next((k for k, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))]
    if _TURN in shared:
        return shared.rindex(_TURN) + len(_TURN)
    spaces = [k for k, char in enumerate(shared) if char.isspace()]
    return spaces[-1] if spaces else 0


def _implicit(row: Row) -> tuple[str | Messages, str | Messages, str | Messages]:
    chosen, rejected = _side(row, "chosen"), _side(row, "rejected")
    if type(chosen) is not type(rejected):
        raise row.error("one side is text and the other messages.", "rejected", "write both sides alike.")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if chosen == rejected:
            raise row.error("same text on both sides.", "rejected", "remove the row; nothing can be learned from it.")
        cut = _common_text(chosen, rejected)
    else:
        assert isinstance(chosen, list)
        assert isinstance(rejected, list)
        cut = _common_messages(chosen, rejected)
    if not chosen[:cut]:
        raise row.error("both sides share no prompt.", "chosen", "add a prompt column.")
    return chosen[:cut], chosen[cut:], rejected[cut:]


def _explicit(row: Row) -> tuple[str | Messages, str | Messages, str | Messages]:
    prompt, chosen, rejected = _side(row, "prompt"), _side(row, "chosen"), _side(row, "rejected")
    return prompt, _without(prompt, chosen), _without(prompt, rejected)


def _without(prompt: str | Messages, side: str | Messages) -> str | Messages:
    """A conversational side that repeats the prompt's messages, without them."""
    if not isinstance(side, list):
        return side
    opening = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    return side[len(opening) :] if side[: len(opening)] == opening and len(side) > len(opening) else side


def _candidate(row: Row, side: str | Messages, field: str) -> Candidate:
    if isinstance(side, str):
        return Candidate(text=clean_text(row, side, field, name=f"the {field} text", longest=MAX_TEXT))
    # A single assistant message is its content; anything longer must keep its turns for the chat template.
    whole = [] if len(side) == 1 and side[0]["role"] == "assistant" else side
    return Candidate(text=render(side), settings={"messages": plain(whole)} if whole else {})


def _asked(prompt: str | Messages) -> tuple[str, dict[str, Any]]:
    return (prompt, {}) if isinstance(prompt, str) else (render(prompt), {"messages": plain(prompt)})


def _preference(row: Row, layout: str) -> Group:
    prompt, chosen, rejected = _explicit(row) if "prompt" in row.values else _implicit(row)
    winner, loser = _candidate(row, chosen, "chosen"), _candidate(row, rejected, "rejected")
    refuse_same(row, (winner, loser), "rejected")
    asked, extra = _asked(prompt)
    group = Group(
        prompt=asked,
        candidates=(winner, loser),
        judgements=(winner_first(),),
        split=row.split,
        provenance=row.provenance(layout),
        extra=extra,
    )
    return drawn_pair(row, group)


def _unpaired(row: Row) -> Group:
    label = row.values.get("label")
    if label is None:
        raise row.error("the label is missing.", "label", "fill it in, or remove the row.")
    if not isinstance(label, bool):
        if label not in (0, 1) or isinstance(label, str):
            raise row.error("the label is not true or false.", "label", "store it as a boolean.")
        row.repairs.append("number read as true or false")
    prompt, completion = _side(row, "prompt"), _side(row, "completion")
    asked, extra = _asked(prompt)
    return Group(
        prompt=asked,
        candidates=(_candidate(row, _without(prompt, completion), "completion"),),
        judgements=(Judgement(kind="binary", values=(float(label),)),),
        split=row.split,
        provenance=row.provenance("trl-unpaired"),
        extra=extra,
    )


# Layouts of other modalities share these column names; reading them as text would lose what the question was about.
_OTHER_MODALITIES = frozenset({"image", "images", "videos", "audio", "BUFFER", "question", "strategy"})

PREFERENCE = Layout(
    name="trl-preference",
    required=frozenset({"prompt", "chosen", "rejected"}),
    absent=_OTHER_MODALITIES,
    to_group=lambda row: _preference(row, "trl-preference"),
)
IMPLICIT = Layout(
    name="trl-implicit-prompt",
    required=frozenset({"chosen", "rejected"}),
    absent=_OTHER_MODALITIES | {"prompt"},
    to_group=lambda row: _preference(row, "trl-implicit-prompt"),
)
UNPAIRED = Layout(
    name="trl-unpaired",
    required=frozenset({"prompt", "completion", "label"}),
    absent=_OTHER_MODALITIES,
    to_group=_unpaired,
)
