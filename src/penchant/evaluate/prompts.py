"""Prompts for an evaluation, from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penchant.assets import resolve
from penchant.errors import RecipeError
from penchant.feedback.groups import Prompt

_FIELD = "evaluation.prompts"


def read_prompts(address: str) -> list[Prompt]:
    """The prompts of a text file, one a line, or of a `.jsonl` file, one object a line; "feedback" names none.

    An object has `prompt`, a text or a list of {role, content} messages (or `messages`); it may have `opening`, how the
    answer begins already.

    Args:
        address: path, `zoo:NAME` or "feedback".

    Raises:
        RecipeError: the file cannot be read, or an object is no prompt.
    """
    if address == "feedback":
        return []
    path = Path(resolve(address))
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot be read ({error}).", file=path, field=_FIELD, remedy="one prompt a line, UTF-8."
        ) from error
    if path.suffix != ".jsonl":
        return [Prompt(text=line) for line in lines if line]
    return [_prompt(line, path, row) for row, line in enumerate(lines) if line]


def _prompt(line: str, path: Path, row: int) -> Prompt:
    from penchant.feedback.readers.text_pairs import render

    try:
        record = json.loads(line)
        asked, opening = record.get("prompt", record.get("messages")), record.get("opening", "")
        if isinstance(asked, str) and asked and isinstance(opening, str):
            return Prompt(text=asked, opening=opening)
        messages = [_message(message) for message in asked]
        if messages and isinstance(opening, str):
            return Prompt(text=render(messages), messages=tuple(messages), opening=opening)
    except (ValueError, TypeError, AttributeError, KeyError):
        pass
    raise RecipeError(
        "holds a line that is no prompt.",
        file=path,
        row=row,
        field=_FIELD,
        remedy='write {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}.',
    )


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = message["role"], message["content"]
    if not (isinstance(role, str) and isinstance(content, str)):
        raise TypeError("a message is text")
    return {"role": role, "content": content}
