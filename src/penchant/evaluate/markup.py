"""HTML that is safe by construction: plain strings are escaped, only `Markup` passes as it is.

Prompts and file names come from strangers; a page built from `el` alone cannot carry their tags into the reader's
browser.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable

_VOID = frozenset({"br", "col", "img", "input", "meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def el(name: str, /, *children: str | Markup | None, **attributes: str | int | float | bool | None) -> Markup:
    """An element with escaped children and attributes.

    Args:
        name: the tag's name.
        children: text (escaped), Markup (kept) or None (left out).
        attributes: `class_` stands for class, an underscore for a hyphen; None and False are left out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[str | Markup | None]) -> Markup:
    """Children one after another, escaped where they are not Markup."""
    return Markup("".join(escape(child) for child in children if child is not None))


def escape(text: str | Markup) -> Markup:
    """The text with &, <, > and quotes escaped, controls and lone surrogates replaced."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(printable(text), quote=True))


def printable(text: str) -> str:
    """The text with controls (of terminals, too) and lone surrogates replaced; line breaks and tabs stay."""
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    return "\ufffd"


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
