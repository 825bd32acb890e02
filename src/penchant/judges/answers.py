"""The answer inside a text, and whether it equals the truth: what verifiers read before they verify."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

# A sign belongs to the number unless something is subtracted: 12-8 ends in 8.
NUMBER = re.compile(r"(?:(?<![\w.)\]}])[-+])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)")


def boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds, to its balancing brace; None if there is none or it stays open."""
    start = text.rfind("\\boxed{")
    return None if start < 0 else _to_brace(text[start + len("\\boxed{") :])


def marked(text: str, marker: str) -> str | None:
    """What follows the last `marker` in its line, or to the balancing brace if the marker ends in `{`."""
    _, found, rest = text.rpartition(marker)
    if not found:
        return None
    return _to_brace(rest) if marker.endswith("{") else rest.partition("\n")[0].strip()


def number(text: str) -> Decimal | None:
    """The last number of a text, without its thousands separators; None if there is none."""
    found = NUMBER.findall(text.replace("\u2212", "-"))
    return Decimal(found[-1].replace(",", "")) if found else None


def equal(truth: str, answer: str) -> bool:
    """Whether an answer is the truth: by value where the truth is a number, else after NFKC, case and spaces."""
    plain = truth.replace("\u2212", "-").strip().strip("$%").strip()
    if NUMBER.fullmatch(plain):
        return number(answer) == number(plain)
    return _normal(truth) == _normal(answer)


def _to_brace(text: str) -> str | None:
    depth = 1
    for place, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[:place].strip()
    return None


def _normal(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(" .*\"'`")
