"""The ABC reader, feature by feature, on snippets written for it."""

from __future__ import annotations

import pytest

from penchant.zoo.tunes import abc

HEAD = "X:1\nT:Nobody's Fancy\nM:4/4\nL:1/8\nK:{key}\n"


def bars(music: str, *, key: str = "C", metre: str = "4/4") -> list[list[tuple[int | None, int]]]:
    """(pitch above middle C, ticks) of every bar."""
    melody = abc.read(HEAD.format(key=key).replace("4/4", metre) + music)
    return [
        [(None if n.pitch is None else n.pitch - 60, n.ticks) for n in bar.notes]
        for section in melody.sections
        for bar in section
    ]


def bar(music: str, **options) -> list[tuple[int | None, int]]:
    (found,) = bars(f"{music} |", **options)
    return found


@pytest.mark.parametrize(
    ("music", "expected"),
    [
        ("C D2 E/ F/2 G3/2 A// B/4", [(0, 6), (2, 12), (4, 3), (5, 3), (7, 9), (9, 1.5), (11, 1.5)]),
        ("C, c c' z2 x", [(-12, 6), (12, 6), (24, 6), (None, 12), (None, 6)]),
        ("C>D E<F", [(0, 9), (2, 3), (4, 3), (5, 9)]),
        ("C2>>D2 E > F", [(0, 21), (2, 3), (4, 9), (5, 3)]),
        ("C>{g}D", [(0, 9), (2, 3)]),
        ("(3CDE F", [(0, 4), (2, 4), (4, 4), (5, 6)]),
        ("(3:2:4CDEF G", [(0, 4), (2, 4), (4, 4), (5, 4), (7, 6)]),
        ("(3C2D2E2 (2FG", [(0, 8), (2, 8), (4, 8), (5, 9), (7, 9)]),
        ("(6C/D/E/F/G/A/", [(0, 1), (2, 1), (4, 1), (5, 1), (7, 1), (9, 1)]),
        ("^F F _B B =B", [(6, 6), (6, 6), (10, 6), (10, 6), (11, 6)]),
        ("^F f", [(6, 6), (18, 6)]),
        ("^^F __B", [(7, 6), (9, 6)]),
        ("[CEG]2 [E2G2]", [(0, 12), (4, 12)]),
        ('"Am"C {dc}D !trill!E .F ~G uA vB Tc (d e)', [(n, 6) for n in (0, 2, 4, 5, 7, 9, 11, 12, 14, 16)]),
        ("C2-C D-E", [(0, 18), (2, 6), (4, 6)]),
        ("CD\\\nEF", [(0, 6), (2, 6), (4, 6), (5, 6)]),
        ("C % comment |\nw: la la\nD", [(0, 6), (2, 6)]),
        ("C`D y E$F", [(0, 6), (2, 6), (4, 6), (5, 6)]),
        ("CD =20\n=3DF =\nG", [(0, 6), (2, 6), (5, 6), (7, 6)]),
        ("[L:1/16]CD [L:1/4]E", [(0, 3), (2, 3), (4, 12)]),
    ],
)
def test_a_bar_is_read(music, expected):
    if any(ticks != int(ticks) for _, ticks in expected):
        with pytest.raises(abc.AbcError) as caught:
            bar(music)
        assert caught.value.reason == "off the grid"
        music = music.partition(" A//")[0]
        expected = expected[:-2]
    assert bar(music) == expected


def test_accidentals_last_for_a_bar_and_ties_carry_them_over():
    assert bars("^F F | F |") == [[(6, 6), (6, 6)], [(5, 6)]]
    assert bars("^F- | F F |") == [[(6, 6)], [(6, 6), (5, 6)]]


@pytest.mark.parametrize(
    ("key", "tonic", "mode", "signature"),
    [
        ("D", 62, "major", {"F": 1, "C": 1}),
        ("E Minor", 64, "minor", {"F": 1}),
        ("Gm", 67, "minor", {"B": -1, "E": -1}),
        ("A Dorian", 69, "dorian", {"F": 1}),
        ("AMix", 69, "mixolydian", {"F": 1, "C": 1}),
        ("Bb", 70, "major", {"B": -1, "E": -1}),
        ("F#m", 66, "minor", {"F": 1, "C": 1, "G": 1}),
        ("Dphr", 62, "phrygian", {"B": -1, "E": -1}),
        ("Glyd % says who", 67, "lydian", {"F": 1, "C": 1}),
        ("Am", 69, "minor", {}),
    ],
)
def test_keys_have_tonic_mode_and_signature(key, tonic, mode, signature):
    melody = abc.read(HEAD.format(key=key) + "CDEFGAB |")
    assert (melody.tonic, melody.mode) == (tonic, mode)
    plain = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
    heard = [note.pitch - 60 for note in melody.sections[0][0].notes]
    assert heard == [plain[letter] + signature.get(letter, 0) for letter in "CDEFGAB"]


def test_sections_end_at_double_bars_and_repeats_and_endings_are_numbered():
    melody = abc.read(HEAD.format(key="C") + "|: C8 | D8 |1 E8 :|2 F8 || G8 :: A8 :|\nB8 |]")
    shown = [[(b.notes[0].pitch - 60, b.ending) for b in section] for section in melody.sections]
    assert shown == [[(0, None), (2, None), (4, 1), (5, 2)], [(7, None)], [(9, None)], [(11, None)]]
    bracketed = abc.read(HEAD.format(key="C") + "C8 |[1 E8 :|\n[2 F8 |] G8 |")
    assert [[b.ending for b in section] for section in bracketed.sections] == [[None, 1, 2], [None]]


def test_head_and_usual_lengths():
    melody = abc.read("X: 7\nT: First\nT: Second\nR: Slip Jig\nM: 9/8\nL: 1/8\nK: G\nG3 |")
    assert (melody.title, melody.dance, melody.metre, melody.bar) == ("First", "slip jig", (9, 8), 54)
    for metre, ticks in (("2/4", 3), ("3/4", 6), ("C", 6), ("C|", 6)):
        assert abc.read(f"X:1\nM:{metre}\nK:C\nC |").sections[0][0].ticks == ticks
    two = "X:1\nM:C\nK:C\nC |\n\nX:2\nM:C\nK:C\nD |\n"
    assert [abc.read(tune).sections[0][0].notes[0].pitch for tune in abc.split("% a book\n" + two)] == [60, 62]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("X:1\nM:4/4\nC |", "no key"),
        ("X:1\nM:4/4\nK:\nC |", "no key"),
        ("X:1\nK:C\nC |", "no metre"),
        ("X:1\nM:none\nK:C\nC |", "no metre"),
        ("X:1\nM:4/4\nK:C\n", "no music"),
        (HEAD.format(key="C") + "C |\nK:G\nG |", "key or metre changes"),
        (HEAD.format(key="C") + "C [M:3/4] D |", "key or metre changes"),
        (HEAD.format(key="C") + "V:2\nC |", "several voices"),
        (HEAD.format(key="C") + "C/64 |", "off the grid"),
        (HEAD.format(key="C") + "C & D |", "not understood"),
        (HEAD.format(key="C") + "Z4 |", "not understood"),
        (HEAD.format(key="C") + ">C |", "not understood"),
        (HEAD.format(key="C exp ^f") + "C |", "not understood"),
        (HEAD.format(key="EM") + "C |", "not understood"),
    ],
)
def test_what_is_not_read_is_refused_for_a_reason(text, reason):
    with pytest.raises(abc.AbcError) as caught:
        abc.read(text)
    assert caught.value.reason == reason
    assert reason in abc.REASONS
