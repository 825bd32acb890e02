"""The tunes: strains of eight bars and their split, training, and the shipped model that learnt them."""

from __future__ import annotations

import random
import zipfile
from collections import Counter

import pytest
import torch

import penchant
from penchant import assets
from penchant.errors import PenchantError
from penchant.feedback.groups import Candidate, Prompt
from penchant.feedback.tune import caption_of, parse
from penchant.zoo import makers
from penchant.zoo.small_language_model import BOS, EOS, UNKNOWN
from penchant.zoo.tunes import data, kinship, measure, pairs, training


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
    names[5], names[7], names[9] = "The Lass of Ayr -- Reel", "Lass of Ayr, The", "The Lad of Ayr"
    titled = kinship.families(names, [[text] for text in records])
    assert (titled[7], titled[9]) == (5, 9)


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
                assert ids[0] == BOS
                assert UNKNOWN not in ids
    notes = [f"N{p}_{t}" for p in data.PITCHES for t in data.TICKS] + [f"R_{t}" for t in data.TICKS] + ["|"]
    ids = words(" ".join(notes), add_special_tokens=False).input_ids
    assert len(ids) == len(notes) == len(set(ids))
    assert words.decode(ids) == " ".join(notes)
    assert words("<eos> N99_6", add_special_tokens=False).input_ids == [UNKNOWN] * 2


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
    assert found["valid bars"] > 0.8
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
    assert tuple(held) == data.HELD_OUT
    assert len(held) >= 12
    assert not set(held) & set(captions)
    words = training.tokenizer()
    assert all(UNKNOWN not in words(text).input_ids for text in (*captions, *held))
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
            assert tail[-1] == EOS
            assert UNKNOWN not in tail
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

    def few(model, records):
        taken.append(1)
        return measured(model, records, samples=8)

    monkeypatch.setattr(measure, "measure", few)
    monkeypatch.setattr(pairs, "COUNT", 2)
    makers.build("tunes", tmp_path)
    makers.build("tunes", tmp_path)
    assert len(taken) == 1
    assert {"model.safetensors", "tokenizer.json", "captions.txt", "prompts.txt", "samples.parquet", "made.jsonl"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert penchant.load(str(tmp_path)).chats is False
