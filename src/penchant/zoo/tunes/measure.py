"""What the tune model writes, in numbers that need no ear; the same of real strains, to compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from penchant.feedback.groups import Prompt
from penchant.feedback.tune import Tune, caption_of, parse
from penchant.judges.tune_rules import BARS, LEAP, bar_ticks, rules
from penchant.models.completion import Completion, Decoding, TextGenerator
from penchant.zoo.tunes.data import Record, captions

# The longest strain of the books has 105 tokens.
DECODING = Decoding(max_tokens=220, temperature=0.99)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A tune, what was asked for, and whether it came to its end by itself."""

    prompt: str
    text: str
    ended: bool = True


def measure(model: TextGenerator, records: Sequence[Record], *, samples: int = 256) -> dict[str, dict[str, float]]:
    """The numbers on the card: of samples for the captions of training and for held-out ones, and of real strains.

    Captions of samples are drawn as often as the books have them; held-out ones are taken in turn.
    """
    known = [record for record in records if record.split == "train"]
    seen = [known[place * len(known) // samples].caption for place in range(samples)]
    unseen = sorted({record.caption for record in records if record.split == "held-out"})
    held = [unseen[place % len(unseen)] for place in range(samples)]
    validating = [record for record in records if record.split == "validation"]
    chosen = [validating[place * len(validating) // samples] for place in range(samples)]
    often = [caption for caption in captions(records)[:12] for _ in range(16)]
    drawn = draw(model, seen)
    return {
        "samples": numbers(drawn),
        "samples, held-out captions": numbers(draw(model, held, first=samples)),
        "validation strains": numbers([Piece(prompt=r.caption, text=r.text) for r in chosen]),
        "samples that are a strain of training": {"share": copied(drawn, known)},
        "valid bars": by_caption(draw(model, often, first=2 * samples)),
    }


def draw(model: TextGenerator, prompts: Sequence[str], *, first: int = 0) -> list[Piece]:
    """One tune a prompt, seeds counted from `first`."""
    asked = [Prompt(text=prompt) for prompt in prompts]
    found: list[Completion] = model.complete(asked, seeds=range(first, first + len(asked)), decoding=DECODING)
    return [Piece(prompt=prompt, text=one.text, ended=one.finished) for prompt, one in zip(prompts, found, strict=True)]


def numbers(pieces: Sequence[Piece]) -> dict[str, float]:
    """Means over tunes, and the share of 4-grams of words, bar lines aside, that are distinct among all of them."""
    tunes = [parse(piece.text) for piece in pieces]
    asked = [caption_of(piece.prompt) for piece in pieces]
    judged = [rules(c, t, ended=p.ended) for c, t, p in zip(asked, tunes, pieces, strict=True)]
    inner = [[ticks == c.bar for ticks in bar_ticks(t)[1:-1]] for c, t in zip(asked, tunes, strict=True)]
    exact = [p.ended and t.ticks == BARS * c.bar for c, t, p in zip(asked, tunes, pieces, strict=True)]
    steps = [_steps(tune) for tune in tunes]
    found = {
        "ended": fmean(piece.ended for piece in pieces),
        "nothing unread": fmean(not tune.unread for tune in tunes),
        "bars": fmean(tune.bars for tune in tunes),
        "exactly eight bars long": fmean(exact),
        "notes": fmean(len(tune.notes) for tune in tunes),
        "valid bars": _mean(true for bars in inner for true in bars),
        "all bars valid": fmean(one.valid == 1.0 for one in judged),
        "in key": fmean(one.key for one in judged),
        "ends on the tonic": fmean(one.tonic for one in judged),
        "leaps over 7 semitones": _mean(abs(step) > LEAP for own in steps for step in own),
        "repeated notes": _mean(step == 0 for own in steps for step in own),
        "range": fmean(_range(tune) for tune in tunes),
        "distinct 4-grams": distinct(tunes),
    }
    return {name: round(float(value), 3) for name, value in found.items()}


def by_caption(pieces: Sequence[Piece]) -> dict[str, float]:
    """Share of valid bars of each caption."""
    own: dict[str, list[Piece]] = {}
    for piece in pieces:
        own.setdefault(piece.prompt, []).append(piece)
    return {caption: numbers(found)["valid bars"] for caption, found in own.items()}


def distinct(tunes: Sequence[Tune], n: int = 4) -> float:
    """Distinct n-grams of notes and rests over all n-grams."""
    grams: Counter[tuple[str, ...]] = Counter()
    for tune in tunes:
        words = [event.word for event in tune.events]
        grams.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    return len(grams) / max(1, grams.total())


def copied(pieces: Sequence[Piece], known: Sequence[Record]) -> float:
    """Share of tunes that are, word for word, a strain of `known`."""
    texts = {record.text for record in known}
    return round(fmean(piece.text in texts for piece in pieces), 3)


def _mean(values: Iterable[bool]) -> float:
    """0 where there is nothing to count."""
    found = list(values)
    return fmean(found) if found else 0.0


def _steps(tune: Tune) -> list[int]:
    pitches = [note.pitch for note in tune.notes if note.pitch is not None]
    return [b - a for a, b in pairwise(pitches)]


def _range(tune: Tune) -> int:
    pitches = [note.pitch for note in tune.notes if note.pitch is not None]
    return max(pitches) - min(pitches) if pitches else 0
