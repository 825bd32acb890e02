"""Text of strangers inside a judge's prompt, so enclosed that it cannot become part of the prompt.

A candidate is written by the model under training, which learns whatever the judge rewards, orders to the judge
included. Four things keep it in its place (delimiting and marking of data: Hines et al., arXiv 2403.14720):

1. It stands between a BEGIN and an END line with a nonce, a hash of the very texts enclosed: a text that held its own
   nonce would have to hold its own hash.
2. Each of its lines begins with `> `, whatever sign of Unicode divides lines, so none of them can be a delimiter.
3. No special token of a tokenizer survives in it: `<` and the like are set apart from what follows.
4. Signs that a reader does not see (controls, bidirectional marks, tags) are taken out, and what is longer than a cap
   is cut, with a mark.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_NONCE = 10
# Two of them name the answers of a question. No vowels: neither words nor the usual A and B.
_LETTERS = "CDFGHJKLMNPQRSTVWXZ"
# Joiners shape letters and emoji; every other format sign is invisible.
_JOINERS = "\u200c\u200d"
# Signs that normalise to those which special tokens begin with.
_LOOKALIKES = str.maketrans("\uff1c\ufe64\uff1e\ufe65\uff5c\uff3b\uff3d", "<<>>|[]")


def nonce(*parts: str) -> str:
    """Ten letters and digits (50 bits) of a hash of `parts`; the same for the same texts in the same order."""
    value = int.from_bytes(_hash("nonce", *parts)[:8], "big")
    return "".join(_ALPHABET[value >> 5 * place & 31] for place in range(_NONCE))


def labels(*parts: str) -> tuple[str, str]:
    """Two different letters, a hash of `parts` like the nonce: what the texts say of A and B is about nobody."""
    value = int.from_bytes(_hash("labels", *parts)[:8], "big")
    first, second = value % len(_LETTERS), value // len(_LETTERS) % (len(_LETTERS) - 1)
    return _LETTERS[first], _LETTERS[(first + 1 + second) % len(_LETTERS)]


def harmless(text: str, *, specials: Iterable[str] = (), longest: int = 4000) -> str:
    """The text with nothing in it that a tokenizer or an eye takes for something else, cut after `longest` characters.

    Args:
        text: anything.
        specials: further texts that must not stand in it, e.g. the special tokens of a tokenizer.
        longest: in characters, before the marks of the enclosure.
    """
    lines = "\n".join(text.splitlines()).translate(_LOOKALIKES)
    shown = "".join(sign for sign in lines if sign in "\n\t" or _visible(sign))
    cut = f" [cut: {longest} of {len(shown)} characters shown]" if len(shown) > longest else ""
    shown = re.sub(r"<(?=[^\s=\d])", "< ", shown[:longest])
    shown = re.sub(r"\[(?=/?[A-Z_]+\])", "[ ", shown)
    return _without(shown, specials) + cut


def enclosed(kind: str, text: str, mark: str) -> str:
    """`text`, each line quoted, between its BEGIN and END line.

    Args:
        kind: what it is, e.g. "ANSWER K".
        text: harmless.
        mark: the nonce.
    """
    lines = "\n".join(f"> {line}" for line in _without(text, [mark]).split("\n"))
    return f"BEGIN {kind} {mark}\n{lines}\nEND {kind} {mark}"


def _without(text: str, words: Iterable[str]) -> str:
    """The text with each of the words set apart after its first sign wherever it stands."""
    bare = sorted({word.strip() for word in words} - {""}, key=len, reverse=True)
    while any(word in text for word in bare):
        for word in bare:
            text = text.replace(word, f"{word[0]} {word[1:]}" if len(word) > 1 else " ")
    return text


def _visible(sign: str) -> bool:
    hidden = unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn") and sign not in _JOINERS
    # Variation selectors of the supplement carry bytes that nobody sees.
    return not hidden and not 0xE0100 <= ord(sign) <= 0xE01EF


def _hash(purpose: str, *parts: str) -> bytes:
    sha = hashlib.sha256()
    for part in (purpose, *parts):
        encoded = part.encode("utf-8", "surrogatepass")
        sha.update(f"{len(encoded)}:".encode() + encoded)
    return sha.digest()


def special_tokens(tokenizer: object) -> Sequence[str]:
    """The texts of a transformers tokenizer's special tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return sorted({str(t) for t in added if t.special} | set(getattr(tokenizer, "all_special_tokens", [])))
