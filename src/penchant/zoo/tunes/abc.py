"""Reads tunes in ABC notation, the part of it that books of dance tunes use (abcnotation.com, standard 2.1).

Read: the fields X T R M L K, keys with modes, bar-local accidentals (of all octaves), broken rhythm, tuplets, ties,
rests, bar lines, repeats and endings. Of a chord the first note is kept. Grace notes, decorations, slurs, text in
quotation marks, lyrics and layout say nothing about pitch or time and are passed over. Whatever else comes is refused,
for a reason that can be counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from penchant.errors import PenchantError
from penchant.feedback.tune import QUARTER

Reason = Literal[
    "no key", "no metre", "no music", "key or metre changes", "several voices", "off the grid", "not understood"
]
Mode = Literal["major", "minor", "dorian", "mixolydian", "phrygian", "lydian", "locrian"]
REASONS: tuple[Reason, ...] = get_args(Reason)

_WHOLE = 4 * QUARTER
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_FIFTHS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}
_SHARPS = "FCGDAEB"
# Name -> the mode, and how many fifths its signature lies from that of major on the same tonic.
_MODES: dict[str, tuple[Mode, int]] = {
    "major": ("major", 0),
    "ionian": ("major", 0),
    "minor": ("minor", -3),
    "aeolian": ("minor", -3),
    "dorian": ("dorian", -2),
    "mixolydian": ("mixolydian", -1),
    "phrygian": ("phrygian", -4),
    "lydian": ("lydian", 1),
    "locrian": ("locrian", -5),
}
_ACCIDENTALS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}
_KEY = re.compile(r"([A-G])([#b]?)\s*([A-Za-z]*)")
# A line such as `d:|` is music, not a field.
_FIELD = re.compile(r"([A-Za-z]):(?![|:])(.*)")
_LENGTH = r"\d*/*\d*"
_PITCH = r"(?:\^\^|\^|=|__|_)?[A-Ga-g][,']*"
_SCANNER = re.compile(
    "|".join(
        f"(?P<{name}>{rule})"
        for name, rule in {
            "field": r"\[[A-Za-z]:[^\]]*\]",
            "bar": r"(?:\[(?=\|)|\|\]?|:)+\s*(?:\[?[1-9](?:[,\-][1-9])*)?|\[[1-9](?:[,\-][1-9])*",
            "chord": rf"\[{_PITCH}{_LENGTH}[^\]|]*\]{_LENGTH}",
            "tuplet": r"\([2-9](?::\d?){0,2}",
            "note": _PITCH + _LENGTH,
            "rest": rf"[zx]{_LENGTH}",
            "broken": r">+|<+",
            "tie": r"-",
            # Accents, bowings, fermatas, trills, slurs, spaces and line ends.
            "passed": r'"[^"]*"|\{[^}]*\}|![A-Za-z0-9<>().+]+!|\+[A-Za-z]+\+|[\s`.~!$*()\\H-Wh-wy]',
        }.items()
    )
)
_NOTE = re.compile(rf"(\^\^|\^|=|__|_)?([A-Ga-g])([,']*)({_LENGTH})")


class AbcError(PenchantError):
    """A tune that is not read, and why.

    Attributes:
        reason: one of `REASONS`.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason = reason
        super().__init__(f"a tune is refused, {reason}{f': {detail}' if detail else ''}.", remedy="leave it out.")


@dataclass(frozen=True, kw_only=True)
class Note:
    """A note or a rest: MIDI pitch (None for a rest) and length in ticks."""

    pitch: int | None
    ticks: int


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What stands between two bar lines; `ending` numbers the pass of a repeat that it belongs to."""

    notes: tuple[Note, ...]
    ending: int | None = None

    @property
    def ticks(self) -> int:
        """How long it lasts."""
        return sum(note.ticks for note in self.notes)


@dataclass(frozen=True, kw_only=True)
class Melody:
    """A tune as it is written, repeats not expanded.

    Attributes:
        title: the first of its titles.
        dance: what the field R says, in lower case; "" if nothing.
        metre: beats of a bar and their unit, such as (6, 8).
        tonic: MIDI pitch of its tonic in the octave from middle C.
        mode: of its key.
        sections: bars between repeat signs or double bar lines.
    """

    title: str
    dance: str
    metre: tuple[int, int]
    tonic: int
    mode: Mode
    sections: tuple[tuple[Bar, ...], ...]

    @property
    def bar(self) -> int:
        """Ticks of a full bar."""
        return _WHOLE * self.metre[0] // self.metre[1]


def split(text: str) -> list[str]:
    """The tunes of a file: what stands between one field X and the next."""
    return ["X:" + tune for tune in re.split(r"(?m)^X:", text)[1:]]


def read(text: str) -> Melody:
    """Reads one tune.

    Raises:
        AbcError: it uses something that is not understood, or has no place on the grid of `feedback.tune`.
    """
    reader = _Reader()
    # A few tunes went through a mail program, which left its escapes in them.
    for line in text.replace("=20", " ").replace("=3D", "=").replace("=\n", "\\\n").splitlines():
        reader.line(line.partition("%")[0])
    if reader.signature is None:
        raise AbcError("no key")
    reader.close(";")
    sections = tuple(section for section in reader.sections if section)
    if not sections:
        raise AbcError("no music")
    return Melody(
        title=reader.title,
        dance=reader.dance,
        metre=reader.metre or (0, 0),
        tonic=reader.tonic,
        mode=reader.mode,
        sections=tuple(tuple(section) for section in sections),
    )


def key_of(text: str) -> tuple[int, Mode, dict[str, int]]:
    """The pitch of the tonic in the octave from middle C, the mode, and what the signature adds to each letter.

    Raises:
        AbcError: it names none, or accidentals of its own.
    """
    found = _KEY.fullmatch(text.strip())
    if found is None:
        raise AbcError("not understood" if text.strip() else "no key", text.strip())
    letter, accidental, word = found.groups()
    # "M" alone is major to some and minor to others.
    names = [name for name in _MODES if len(word) > 2 and name.startswith(word.lower())]
    name = {"": "major", "m": "minor"}.get(word) or (names[0] if names else None)
    if name is None:
        raise AbcError("not understood", text.strip())
    mode, shift = _MODES[name]
    step = {"": 0, "#": 1, "b": -1}[accidental]
    sharps = _FIFTHS[letter] + 7 * step + shift
    if abs(sharps) > 7:
        raise AbcError("not understood", text.strip())
    changed = _SHARPS[:sharps] if sharps > 0 else _SHARPS[7 + sharps :] if sharps < 0 else ""
    signature = dict.fromkeys(changed, 1 if sharps > 0 else -1)
    return 60 + (_SEMITONES[letter] + step) % 12, mode, signature


def metre_of(text: str) -> tuple[int, int]:
    """Beats of a bar and their unit.

    Raises:
        AbcError: it names no metre.
    """
    word = text.strip()
    word = {"C": "4/4", "C|": "2/2"}.get(word, word)
    found = re.fullmatch(r"(\d+)/(\d+)", word)
    if found is None or int(found[1]) < 1 or _WHOLE % int(found[2] if found[2] != "0" else 7):
        raise AbcError("no metre", text.strip())
    return int(found[1]), int(found[2])


def _length(text: str) -> Fraction:
    digits, slashes, below = re.fullmatch(r"(\d*)(/*)(\d*)", text).groups()  # type: ignore[union-attr]
    bottom = int(below) if below else 2 ** len(slashes)
    if digits == "0" or bottom == 0:
        raise AbcError("not understood", text)
    return Fraction(int(digits or 1), bottom)


class _Reader:
    """What is known so far, going through a tune from left to right."""

    def __init__(self) -> None:
        self.title, self.dance, self.key_text = "", "", ""
        self.metre: tuple[int, int] | None = None
        self.unit: Fraction | None = None
        self.tonic, self.mode = 60, "major"  # type: tuple[int, Mode]
        self.signature: dict[str, int] | None = None
        self.sections: list[list[Bar]] = [[]]
        self.ending: int | None = None
        # Of the bar at hand: notes as (pitch, ticks), accidentals by letter.
        self.notes: list[tuple[int | None, Fraction]] = []
        self.altered: dict[str, int] = {}
        # Notes of a tuplet still to come and their factor; the factor that broken rhythm leaves to the next note.
        self.tuplet, self.factor, self.owed = 0, Fraction(1), Fraction(1)
        # The letter and octave of the last note and its pitch; whether a tie leads from it.
        self.last: tuple[str, int | None] = ("", None)
        self.tied = False

    def line(self, line: str) -> None:
        """One line, its comment taken off."""
        found = _FIELD.match(line)
        if found is not None:
            self.field(found[1], found[2])
        elif self.signature is not None:
            self.music(line)

    def field(self, name: str, value: str) -> None:
        """A field, in the head or in the music."""
        if name == "K":
            if self.signature is not None and value.strip() != self.key_text:
                raise AbcError("key or metre changes", value.strip())
            self.key_text = value.strip()
            self.tonic, self.mode, self.signature = key_of(value)
            if self.metre is None:
                raise AbcError("no metre")
        elif name == "M":
            metre = metre_of(value)
            if self.signature is not None and metre != self.metre:
                raise AbcError("key or metre changes", value.strip())
            self.metre = metre
        elif name == "L":
            self.unit = Fraction(*metre_of(value)) * _WHOLE
        elif name == "V":
            raise AbcError("several voices")
        elif name == "T" and not self.title:
            self.title = value.strip()
        elif name == "R":
            self.dance = value.strip().lower()

    def music(self, line: str) -> None:
        """Notes and bar lines."""
        place = 0
        while place < len(line):
            found = _SCANNER.match(line, place)
            if found is None:
                raise AbcError("not understood", line[place])
            kind, word = str(found.lastgroup), found[0]
            place = found.end()
            if kind == "bar":
                self.close(word)
            elif kind == "field":
                self.field(word[1], word[3:-1])
            elif kind != "passed":
                getattr(self, f"_{kind}")(word)

    def _tie(self, word: str) -> None:
        self.tied = True

    def _broken(self, word: str) -> None:
        """Longer by a half and shorter by a half (`>`), by three quarters (`>>`), the other way round (`<`)."""
        if not self.notes:
            raise AbcError("not understood", word)
        less = Fraction(1, 2 ** len(word))
        here, self.owed = (2 - less, less) if word[0] == ">" else (less, 2 - less)
        pitch, ticks = self.notes[-1]
        self.notes[-1] = (pitch, ticks * here)

    def _tuplet(self, word: str) -> None:
        numbers = [int(part) if part else 0 for part in word[1:].split(":")]
        p, q, r = (*numbers, 0, 0)[:3]
        compound = self.metre is not None and self.metre[1] == 8 and self.metre[0] % 3 == 0
        usual = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(p, 3 if compound else 2)
        self.factor, self.tuplet = Fraction(q or usual, p), r or p

    def _rest(self, word: str) -> None:
        self.add(None, _length(word[1:]))
        self.tied, self.last = False, ("", None)

    def _chord(self, word: str) -> None:
        inner, _, outer = word[1:].rpartition("]")
        first = _NOTE.match(inner)
        if first is None:
            raise AbcError("not understood", word)
        self.pitched(first, _length(outer))

    def _note(self, word: str) -> None:
        found = _NOTE.fullmatch(word)
        if found is None:
            raise AbcError("not understood", word)
        self.pitched(found, Fraction(1))

    def pitched(self, found: re.Match[str], times: Fraction) -> None:
        """A note, or the first of a chord, `times` as long as it says."""
        accidental, letter, octaves, length = found.groups()
        name = letter.upper()
        if accidental:
            self.altered[name] = _ACCIDENTALS[accidental]
        place = letter + octaves
        shift = self.altered.get(name, (self.signature or {}).get(name, 0))
        pitch = 60 + _SEMITONES[name] + shift + 12 * (letter.islower() + octaves.count("'") - octaves.count(","))
        if self.tied and place == self.last[0] and not accidental and self.last[1] is not None:
            pitch = self.last[1]
        ticks = _length(length) * times
        if self.tied and pitch == self.last[1] and self.notes and self.owed == 1:
            self.notes[-1] = (pitch, self.notes[-1][1] + self.scaled(ticks))
        else:
            self.add(pitch, ticks)
        self.tied, self.last = False, (place, pitch)

    def add(self, pitch: int | None, length: Fraction) -> None:
        self.notes.append((pitch, self.scaled(length)))

    def scaled(self, length: Fraction) -> Fraction:
        """Ticks of a length in units, in the tuplet or broken pair that it is in."""
        if self.unit is None:
            short = self.metre is not None and Fraction(*self.metre) < Fraction(3, 4)
            self.unit = Fraction(_WHOLE, 16 if short else 8)
        ticks = length * self.unit * self.owed
        self.owed = Fraction(1)
        if self.tuplet:
            self.tuplet -= 1
            ticks *= self.factor
        return ticks

    def close(self, word: str) -> None:
        """A bar line, a sign of repetition, or the beginning of an ending."""
        word = word.replace("[|]", "")
        ending = re.search(r"[1-9]", word)
        line = word[: ending.start()].rstrip("[ ") if ending else word.strip()
        if not line and not ending:
            return
        if any(ticks.denominator != 1 for _, ticks in self.notes):
            raise AbcError("off the grid")
        if self.notes:
            notes = tuple(Note(pitch=pitch, ticks=int(ticks)) for pitch, ticks in self.notes)
            self.sections[-1].append(Bar(notes=notes, ending=self.ending))
        self.notes, self.altered = [], {}
        if ending:
            self.ending = int(ending[0])
            if self.ending > 1 and len(self.sections) > 1 and not self.sections[-1]:
                # A second ending on the next line belongs to the section that the repeat sign seemed to close.
                self.sections.pop()
        if line not in ("", "|") and (ending is None or int(ending[0]) == 1):
            self.ending = None if ending is None else 1
            self.sections.append([])
