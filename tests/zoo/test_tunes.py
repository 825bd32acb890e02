"""The tunes: the ABC reader, strains of eight bars and their split, and the shipped model that learnt them."""

from __future__ import annotations

import random
import zipfile
from collections import Counter
from itertools import pairwise
from statistics import fmean

import pytest
import torch

import penchant
from penchant import assets
from penchant.errors import PenchantError
from penchant.feedback.groups import Candidate, Prompt
from penchant.feedback.tune import caption_of, parse
from penchant.zoo import makers
from penchant.zoo.tunes import abc, data, kinship, measure, training

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


def strain(first: str = "GABc dedB", last: str = "G6 z2", count: int = 8) -> str:
    return " | ".join([first, *(["dBGB dBGB"] * (count - 2)), last])


def tune(music: str, title: str = "Nobody's Fancy", *, key: str = "G", metre: str = "4/4") -> str:
    return f"X:1\nT:{title}\nM:{metre}\nL:1/8\nK:{key}\n{music}"


def built(*tunes: str) -> tuple[list[data.Record], Counter[str]]:
    return data.build((book, text) for book, text in zip(["aird"] * len(tunes), tunes, strict=True))


def test_strains_of_eight_bars_are_kept_with_their_pick_up():
    records, counts = built(tune(f"|: D2 | {strain(last='G6')} :: {strain('gfed cBAG')} |]"))
    assert [parse(r.text).bars for r in records] == [9, 8]
    assert all(parse(r.text).ticks == 8 * 48 for r in records)
    assert records[0].text.startswith("N-5_12 | N0_6 N2_6 N4_6 N5_6 N7_6")
    assert records[0].caption == "tune in 4/4, major"
    assert counts["strains"] == 2


@pytest.mark.parametrize(
    ("music", "last"),
    [
        (f"{strain(last='G2')} |]", "N0_48 |"),
        (f"D2 | {strain(last='G8')} |]", "N0_36 |"),
        (f"D2 |: {strain(last='G6')} :|", "N0_36 |"),
        (f"{strain(last='E8', count=7)} |1 A8 :|2 G8 |]", "N-3_48 | N0_48 |"),
        (f"{strain(last='E8', count=7)} |1 A8 :|\n[2 G8 |]", "N-3_48 | N0_48 |"),
    ],
)
def test_the_last_bar_fills_eight(music, last):
    (record,), _ = built(tune(music))
    assert parse(record.text).ticks == 8 * 48
    assert record.text.endswith(last)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (tune(f"{strain(count=7)} |]"), "strains left out, not of eight bars"),
        (tune(f"{strain('GABc ded')} | |]"), "strains left out, not of eight bars"),
        (tune(strain("G7 G/G/"), metre="5/4"), "strains left out, rare metre or mode"),
        (tune(f"{strain()} |]", key="Gphr"), "strains left out, rare metre or mode"),
        (tune(f"{strain(last='G,,8')} |]"), "strains left out, rare pitch or length"),
        (tune(f"{strain()} || {strain()} |]"), "strains left out, twice"),
        (tune(f"C & {strain()}"), "tunes refused, not understood"),
    ],
)
def test_what_is_left_out_is_counted(text, reason):
    records, counts = built(text)
    assert counts[reason] == 1
    assert len(records) == (reason == "strains left out, twice")


@pytest.mark.parametrize(
    ("field", "title", "metre", "dance"),
    [
        ("slipjig", "", "9/8", "slip jig"),
        ("double jig", "", "6/8", "jig"),
        ("", "The Lass -- Reel", "2/4", "reel"),
        ("", "The Reeling Lass", "2/4", "tune"),
        ("", "The Quick Steps", "6/8", "march"),
        ("", "The Lass", "6/8", "jig"),
        ("jig", "", "9/8", "slip jig"),
        ("walkaround", "The Lass", "2/4", "tune"),
    ],
)
def test_the_dance_comes_from_the_field_the_title_or_the_metre(field, title, metre, dance):
    assert data.dance_of(field, title, metre) == dance


def melodies(count: int, seed: int) -> list[str]:
    """ABC of random tunes of one strain."""
    rng = random.Random(seed)

    def one() -> str:
        return "".join(rng.choice("GABcdefg") for _ in range(8))

    return [" | ".join(one() for _ in range(8)) for _ in range(count)]


def test_variants_are_one_family_and_others_are_not():
    music = melodies(40, 0)
    dotted = "|".join(f"{b[0]}>{b[1]}{b[2]}>{b[3]}{b[4]}>{b[5]}{b[6]}>{b[7]}" for b in music[0].split(" | "))
    ornamented = "|".join(f"{b[0]}{b[7]}{b[2]}{b[0]}{b[4]}{b[2]}{b[6]}{b[4]}" for b in music[1].split(" | "))
    records = [built(tune(f"{text} |]"))[0][0].text for text in [*music, music[0], dotted, ornamented]]
    names = [f"name {place}" for place in range(len(records))]
    found = kinship.families(names, [[text] for text in records])
    assert found == [*range(40), 0, 0, 1]
    names[5], names[7] = "The Lass of Ayr", "Lass o' Ayr, the"
    assert kinship.families(["The Ayr Lass -- Reel" if n == names[5] else n for n in names], [[t] for t in records])[5] == 5
    names[7] = "Lass of Ayr, The"
    assert kinship.families(names, [[t] for t in records])[7] == 5


def grams(text: str, n: int = 11) -> set[tuple[int, ...]]:
    """The intervals among the first notes behind the pick-up, repeated notes once."""
    keys = [key for key in kinship.beginnings(parse(text)) if key[0] == "notes"]
    assert all(len(key) == n + 1 for key in keys)
    return set(keys)


def test_no_beginning_is_on_both_sides_of_the_split():
    # Three "books" that share half of their tunes: transposed, in another rhythm, under another name.
    music, texts = melodies(300, 1), []
    for book, key in (("aird", "G"), ("oneill", "D"), ("ryan", "A")):
        steps = {"G": 0, "D": 4, "A": 1}[key]
        letters = "GABcdefgab'"
        for place, text in enumerate(music if book == "aird" else music[:150]):
            moved = "".join(letters[letters.index(c) + steps] if c in letters and steps < 2 else c for c in text)
            texts.append((book, tune(f"{moved} |]", f"{book} {place}", key="G" if steps > 1 else key)))
    records, counts = data.build(iter(texts))
    assert counts["tunes kept"] == 600
    sides = {split: [r for r in records if r.split == split] for split in data.SPLITS}
    assert len(sides["validation"]) >= 20
    learnt = set().union(*(grams(r.text) for r in sides["train"]))
    assert not any(grams(r.text) & learnt for r in sides["validation"])


def test_a_held_out_caption_takes_its_family_out_of_training():
    music = melodies(2, 2)
    dorian = tune(f"{music[0]} |]", "One", key="A Dorian")
    records, _ = built(dorian, tune(f"{music[0]} |]", "Two", key="Am"), tune(f"{music[1]} |]", "Three"))
    assert [r.split for r in records[:2]] == ["held-out", "validation"]
    assert records[0].caption == "tune in 4/4, dorian" in data.HELD_OUT


def test_the_wheel_is_read_as_text(tmp_path):
    wheel = tmp_path / "music21-10.5.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for folder in (*data.BOOKS.values(), "essenFolksong"):
            archive.writestr(f"music21/corpus/{folder}/a.abc", f"{tune(strain())}\n\n{tune(strain())}\n")
    assert data.fetch(tmp_path) == wheel
    assert [book for book, _ in data.tunes(wheel)] == ["aird"] * 2 + ["oneill"] * 2 + ["ryan"] * 2


def test_a_failed_download_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PACKAGE", "music21==no")
    with pytest.raises(PenchantError, match="pip download"):
        data.fetch(tmp_path)


def test_the_tokenizer_knows_every_word_and_gives_texts_back():
    words = training.tokenizer()
    for dance in {*data.DANCES.values(), "tune"}:
        for metre in data.METRES:
            for mode in data.MODES:
                ids = words(f"{dance} in {metre}, {mode}").input_ids
                assert ids[0] == training.BOS and training.UNKNOWN not in ids
    notes = [f"N{p}_{t}" for p in data.PITCHES for t in data.TICKS] + [f"R_{t}" for t in data.TICKS] + ["|"]
    ids = words(" ".join(notes), add_special_tokens=False).input_ids
    assert len(ids) == len(notes) == len(set(ids))
    assert words.decode(ids) == " ".join(notes)
    assert words("<eos> N99_6", add_special_tokens=False).input_ids == [training.UNKNOWN] * 2


def records_of(count: int = 40) -> list[data.Record]:
    records, _ = built(*(tune(f"{text} |]", f"name {i}") for i, text in enumerate(melodies(count, 3))))
    return records


def test_the_strain_and_its_end_are_learnt_and_nothing_else():
    words, records = training.tokenizer(), records_of()
    rows = training.rows(records, words)
    batches = training.epoch(0, rows, training.Budget(batch=8))
    assert len(batches) == 5
    texts = {r.text for r in records}
    for ids_BT, learnt_BT in batches:
        for ids, learnt in zip(ids_BT, learnt_BT, strict=True):
            text = words.decode(ids[learnt])
            assert text.removesuffix(" <eos>") in texts
            assert words.decode(ids[~learnt], skip_special_tokens=True) == "tune in 4/4 , major"


def test_a_stopped_training_goes_on_as_if_never_stopped(tmp_path, monkeypatch):
    records, budget = records_of(), training.Budget(steps=6, batch=8, warmup=2, measure_every=3)
    training.train(tmp_path / "whole", records, budget, "cpu")
    validate, seen = training.validation_loss, []

    def stops(*given):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return validate(*given)

    monkeypatch.setattr(training, "validation_loss", stops)
    with pytest.raises(KeyboardInterrupt):
        training.train(tmp_path / "parts", records, budget, "cpu")
    monkeypatch.setattr(training, "validation_loss", validate)
    training.train(tmp_path / "parts", records, budget, "cpu")
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_the_best_weights_are_kept_and_training_stops(tmp_path, monkeypatch):
    values = iter([3.0, 2.0, 4.0, 5.0, 1.0])
    monkeypatch.setattr(training, "validation_loss", lambda *_: next(values))
    budget = training.Budget(steps=50, batch=8, warmup=2, measure_every=1, patience=2)
    assert training.train(tmp_path / "a", records_of(), budget, "cpu")["steps"] == 4
    values = iter([3.0, 2.0])
    short = training.Budget(steps=50, batch=8, warmup=2, measure_every=1, patience=0)
    with pytest.raises(StopIteration):
        training.train(tmp_path / "b", records_of(), training.Budget(**{**short.__dict__, "patience": 9}), "cpu")


@pytest.fixture(scope="module")
def shipped():
    model = penchant.load("zoo:tunes")
    captions = assets.path("tunes/captions").read_text().splitlines()
    prompts = [captions[i % 8] for i in range(96)]
    return model, measure.draw(model, prompts)


def test_the_shipped_model_writes_tunes(shipped):
    _, pieces = shipped
    found = measure.numbers(pieces)
    assert found["nothing unread"] == 1.0
    assert found["ended"] > 0.97
    assert found["valid bars"] > 0.85
    assert found["in key"] > 0.95
    assert found["ends on the tonic"] > 0.6
    assert len({piece.text for piece in pieces}) == len(pieces)


def test_the_shipped_model_obeys_metre_and_mode(shipped):
    # Judged by another caption's metre or mode, the same tunes fall.
    model, _ = shipped
    jigs = measure.draw(model, ["jig in 6/8, minor"] * 32)
    own = measure.numbers(jigs)
    metre = measure.numbers([measure.Piece(prompt="reel in 2/2, minor", text=p.text, ended=p.ended) for p in jigs])
    mode = measure.numbers([measure.Piece(prompt="jig in 6/8, major", text=p.text, ended=p.ended) for p in jigs])
    assert own["valid bars"] > metre["valid bars"] + 0.7
    assert own["in key"] > mode["in key"] + 0.1


def test_held_out_captions_are_never_in_training():
    captions = assets.path("tunes/captions").read_text().splitlines()
    held = assets.path("tunes/held-out").read_text().splitlines()
    assert tuple(held) == data.HELD_OUT and len(held) >= 12
    assert not set(held) & set(captions)
    words = training.tokenizer()
    assert all(training.UNKNOWN not in words(text).input_ids for text in (*captions, *held))
    assert all(caption_of(text).text() == text for text in (*captions, *held))


def test_the_shipped_model_scores_a_tune_above_its_scrambled_notes(shipped):
    # Log-probabilities of the policy, by the path that training takes.
    model, pieces = shipped
    rng, better = random.Random(0), []
    for piece in pieces[:12]:
        words = piece.text.split()
        mixed = rng.sample(words, len(words))
        losses = []
        for text in (piece.text, " ".join(mixed)):
            ids = [*model.prompt_tokens(Prompt(text=piece.prompt))]
            tail = model.completion_tokens(Candidate(text=text))
            assert tail[-1] == training.EOS and training.UNKNOWN not in tail
            with torch.no_grad():
                logits = model.bare(torch.tensor([[*ids, *tail]])).logits[0, len(ids) - 1 : -1]
            losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(tail))))
        better.append(losses[0] < losses[1])
    assert all(better)


def test_the_shipped_folder_is_an_ordinary_transformers_model_with_a_card():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = assets.path("tunes")
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.dtype == torch.float32
    assert words.get_vocab() == training.tokenizer().get_vocab()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2.5e6
    card = (folder / "README.md").read_text()
    for said in ("Aird", "Ryan", "O'Neill", "Jack Campin", "Licence", "CPU-seconds", "essenFolksong"):
        assert said in card


def test_pretrain_makes_what_is_shipped(tmp_path, monkeypatch):
    wheel = tmp_path / "downloads" / "music21-10.5.1-py3-none-any.whl"
    wheel.parent.mkdir()
    held = tune(f"{melodies(1, 9)[0]} |]", "held", key="A Dorian")
    with zipfile.ZipFile(wheel, "w") as archive:
        text = "\n\n".join([held, *(tune(f"{m} |]", f"name {i}") for i, m in enumerate(melodies(60, 4)))])
        archive.writestr("music21/corpus/airdsAirs/a.abc", text)
    short = training.Budget(steps=2, batch=8, warmup=1, measure_every=2)
    monkeypatch.setattr(training, "Budget", lambda: short)
    monkeypatch.setattr(measure, "DECODING", measure.Decoding(max_tokens=20))
    measured, taken = measure.measure, []
    monkeypatch.setattr(measure, "measure", lambda model, records: taken.append(1) or measured(model, records, samples=8))
    makers.build("tunes", tmp_path)
    makers.build("tunes", tmp_path)
    assert len(taken) == 1
    assert {"model.safetensors", "tokenizer.json", "captions.txt", "prompts.txt", "made.jsonl"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert penchant.load(str(tmp_path)).chats is False
