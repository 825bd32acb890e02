"""Text preferences as TRL writes them: {prompt, chosen, rejected}, {chosen, rejected} and {prompt, completion, label}.

Each side is a string or a list of {role, content} messages, a content a string or a list of text parts. Without a
prompt column the prompt is what both sides begin with. Differences from TRL:

1. A string prefix is cut at a word boundary, never inside a word.
2. A string prompt beside conversational sides is the user's message.
3. Rows that offer tools, or show an image in a message, are refused: what was asked could not be kept.
"""

from __future__ import annotations

from typing import Any

from penchant.feedback.groups import Candidate, Group, Judgement, plain
from penchant.feedback.readers.cells import MAX_TEXT, clean_text, drawn_pair, refuse_same, winner_first
from penchant.feedback.readers.layout import Layout, Row

Messages = list[dict[str, Any]]


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
    return [{"role": m["role"], "content": _content(row, m.get("content"), field)} for m in value]


def _content(row: Row, content: Any, field: str) -> str:
    """The text of a message; a list of text parts is joined as chat templates join it."""
    if isinstance(content, list) and content:
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise row.error("a message has a part that is no text.", field, "use feedback about text alone.")
        row.repairs.append("text parts of a message joined")
        content = "".join(part["text"] for part in content)
    return clean_text(row, content, field, name="a message")


def _refuse_tools(row: Row) -> None:
    if row.values.get("tools"):
        raise row.error(
            "the row offers tools to the model.", "tools", "write them into a system message, or remove them."
        )


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
    chosen, rejected = _side(row, "chosen"), _side(row, "rejected")
    prompt = _conversational(_side(row, "prompt"), chosen, rejected)
    return prompt, _without(prompt, chosen), _without(prompt, rejected)


def _conversational(prompt: str | Messages, *sides: str | Messages) -> str | Messages:
    """A text prompt as a message, if any side is a conversation."""
    if isinstance(prompt, str) and any(isinstance(side, list) for side in sides):
        return [{"role": "user", "content": prompt}]
    return prompt


def _without(prompt: str | Messages, side: str | Messages) -> str | Messages:
    """A conversational side that repeats the prompt's messages, without them."""
    if isinstance(side, list) and isinstance(prompt, list) and len(side) > len(prompt):
        return side[len(prompt) :] if side[: len(prompt)] == prompt else side
    return side


def _candidate(row: Row, side: str | Messages, field: str) -> Candidate:
    if isinstance(side, str):
        return Candidate(text=clean_text(row, side, field, name=f"the {field} text", longest=MAX_TEXT))
    # A single assistant message is its content; anything longer must keep its turns for the chat template.
    whole = [] if len(side) == 1 and side[0]["role"] == "assistant" else side
    return Candidate(text=render(side), settings={"messages": plain(whole)} if whole else {})


def asked(prompt: str | Messages) -> tuple[str, dict[str, Any]]:
    """A group's prompt as text, and its `extra`: the messages of a conversation."""
    return (prompt, {}) if isinstance(prompt, str) else (render(prompt), {"messages": plain(prompt)})


def sides_of(row: Row) -> tuple[str, dict[str, Any], Candidate, Candidate]:
    """Prompt, `extra`, chosen and rejected candidate of a row with or without a prompt column."""
    _refuse_tools(row)
    prompt, chosen, rejected = _explicit(row) if "prompt" in row.values else _implicit(row)
    winner, loser = _candidate(row, chosen, "chosen"), _candidate(row, rejected, "rejected")
    refuse_same(row, (winner, loser), "rejected")
    return *asked(prompt), winner, loser


def _preference(row: Row, layout: str) -> Group:
    prompt, extra, winner, loser = sides_of(row)
    group = Group(
        prompt=prompt,
        candidates=(winner, loser),
        judgements=(winner_first(),),
        split=row.split,
        provenance=row.provenance(layout),
        extra=extra,
    )
    return drawn_pair(row, group)


def _unpaired(row: Row) -> Group:
    _refuse_tools(row)
    label = row.values.get("label")
    if label is None:
        raise row.error("the label is missing.", "label", "fill it in, or remove the row.")
    if not isinstance(label, bool):
        if label not in (0, 1) or isinstance(label, str):
            raise row.error("the label is not true or false.", "label", "store it as a boolean.")
        row.repairs.append("number read as true or false")
    completion = _side(row, "completion")
    given = _conversational(_side(row, "prompt"), completion)
    prompt, extra = asked(given)
    return Group(
        prompt=prompt,
        candidates=(_candidate(row, _without(given, completion), "completion"),),
        judgements=(Judgement(kind="binary", values=(float(label),)),),
        split=row.split,
        provenance=row.provenance("trl-unpaired"),
        extra=extra,
    )


# Layouts of other modalities share these column names; reading them as text would lose what the question was about.
OTHER_MODALITIES = frozenset({"image", "images", "image_path", "videos", "audio", "BUFFER", "strategy"})

PREFERENCE = Layout(
    name="trl-preference",
    required=frozenset({"prompt", "chosen", "rejected"}),
    optional=frozenset({"tools"}),
    absent=OTHER_MODALITIES,
    to_group=lambda row: _preference(row, "trl-preference"),
)
IMPLICIT = Layout(
    name="trl-implicit-prompt",
    required=frozenset({"chosen", "rejected"}),
    optional=frozenset({"tools"}),
    # A question that stands in a column of its own is no part of what both sides begin with.
    absent=OTHER_MODALITIES | {"prompt", "question"},
    to_group=lambda row: _preference(row, "trl-implicit-prompt"),
)
UNPAIRED = Layout(
    name="trl-unpaired",
    required=frozenset({"prompt", "completion", "label"}),
    optional=frozenset({"tools"}),
    absent=OTHER_MODALITIES,
    to_group=_unpaired,
)
