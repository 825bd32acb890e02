"""Kept texts: asked for once, with all that was known of them, never mistaken for another prompt's or decoding's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import penchant
from penchant.cli import main
from penchant.cli.runs import _override
from penchant.errors import MediaError, RecipeError
from penchant.evaluate import TextSample, load_samples
from penchant.feedback.groups import Prompt
from penchant.models.completion import Completion, Decoding
from penchant.recipe import Evaluation
from penchant.recipe_file import from_toml, to_toml
from penchant.recipes import find
from penchant.sampling.codecs import TextCodec
from penchant.sampling.samplers import PictureSampler, TextSampler, sampler_of
from penchant.sampling.samples import SampleCache
from penchant.testing import build

PROMPTS = [Prompt(text="a cat"), Prompt(text="a dog"), Prompt(text="a cat")]
SEEDS = [0, 0, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def sampler(folder) -> TextSampler:
    return TextSampler(model=penchant.load(folder), decoding=Decoding(max_tokens=5), batch_size=2)


def drawn(sampler: TextSampler, cache: SampleCache, prompts=PROMPTS, seeds=SEEDS) -> tuple[list[Completion], int]:
    """The completions, and how many batches were asked of the model."""
    asked: list[int] = []
    return cache.sample(sampler, prompts, seeds, progress=lambda done, of: asked.append(done)), len(asked)


def test_a_text_is_made_once_and_comes_back_with_tokens_and_log_probs(sampler, tmp_path):
    first, asked = drawn(sampler, SampleCache(tmp_path))
    again, asked_again = drawn(sampler, SampleCache(tmp_path))
    assert (asked, asked_again) == (2, 0)
    # In the batches that were asked of the model: another batch may round a log-prob otherwise.
    assert again == first == [*sampler.draw(PROMPTS[:2], SEEDS[:2]), *sampler.draw(PROMPTS[2:], SEEDS[2:])]
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}


def test_what_a_text_depends_on_is_in_its_name(sampler, tmp_path):
    cache = SampleCache(tmp_path)
    drawn(sampler, cache)
    for changed in ({"max_tokens": 6}, {"temperature": 0.9}, {"top_p": 0.9}, {"stop": ("x",)}):
        other = replace(sampler, decoding=replace(sampler.decoding, **changed))
        assert drawn(other, cache, PROMPTS[:1], SEEDS[:1])[1] == 1, changed
    message = {"role": "user", "content": "a cat"}
    for prompt in (
        Prompt(text="a cat", opening="A"),
        Prompt(text="a cat", messages=(message,)),
        Prompt(text="a cat", messages=({"role": "system", "content": "Be brief."}, message)),
    ):
        assert drawn(sampler, cache, [prompt], [0])[1] == 1, prompt
    assert drawn(sampler, cache, [PROMPTS[0]], [2])[1] == 1
    with torch.no_grad():
        next(sampler.model.bare.parameters()).add_(0.1)
    assert drawn(sampler, cache)[1] == 2


@pytest.mark.parametrize("text", ["", "two\nlines\t", "\ud800 lone", "\x00\x1b[31m", "\u202e</script>", "犬" * 1000])
def test_any_text_survives_its_file(text):
    kept = Completion(text=text, tokens=(3, 1), log_probs=(-0.1, -1e-300), finished=False)
    assert TextCodec().decode(TextCodec().encode(kept)) == kept


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"text": "a"}', b"\xff"])
def test_a_damaged_file_is_named_with_its_remedy(sampler, tmp_path, data):
    drawn(sampler, SampleCache(tmp_path))
    damaged = sorted(tmp_path.iterdir())[0]
    damaged.write_bytes(data)
    with pytest.raises(MediaError, match="delete it") as found:
        drawn(sampler, SampleCache(tmp_path))
    assert damaged.name in str(found.value)


def test_the_model_decides_how_it_is_sampled(sampler):
    spec = Evaluation(steps=7, guidance=2.0, batch_size=5)
    assert sampler_of(sampler.model, spec) == TextSampler(model=sampler.model, decoding=Decoding(), batch_size=5)
    spec = replace(spec, decoding=Decoding(max_tokens=9))
    assert sampler_of(sampler.model, spec).decoding.max_tokens == 9
    other = object()
    assert sampler_of(other, spec) == PictureSampler(model=other, steps=7, guidance=2.0, batch_size=5)


# --- the recipe and the command line ---------------------------------------------------------------------------------


def test_how_tokens_are_drawn_survives_toml_and_older_files_need_not_say_it(tmp_path):
    recipe = find("mapo")
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    assert "decoding" not in path.read_text()
    assert from_toml(path) == recipe
    decoding = Decoding(max_tokens=77, temperature=0.7, top_p=0.95, stop=("\n\n",))
    recipe = replace(recipe, evaluation=replace(recipe.evaluation, decoding=decoding))
    path.write_text(to_toml(recipe))
    assert from_toml(path) == recipe


def test_how_tokens_are_drawn_is_an_option_of_recipes_that_draw_tokens():
    recipe = find("mapo")
    recipe = replace(recipe, evaluation=replace(recipe.evaluation, decoding=Decoding(max_tokens=64)))
    words = ["--evaluation.decoding.max-tokens", "9", "--evaluation.decoding.top-p", "0.9"]
    assert _override(recipe, words, "x").evaluation.decoding == Decoding(max_tokens=9, top_p=0.9)
    assert _override(find("mapo"), ["--evaluation.steps", "3"], "x").evaluation.decoding is None


def test_greedy_decoding_with_several_seeds_is_refused():
    with pytest.raises(RecipeError, match=r"evaluation\.seeds"):
        Evaluation(seeds=2, decoding=Decoding(temperature=0))
    Evaluation(seeds=1, decoding=Decoding(temperature=0))


def test_sample_prints_texts_and_writes_them_with_a_manifest(folder, tmp_path, capsys):
    words = ["sample", str(folder), "a cat", "a\x1b[31m dog", "--seeds", "2", "--max-tokens", "6"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.count("> a cat\n") == 2
    assert "\x1b" not in said
    assert said.rstrip().endswith("manifest.json")
    kept = load_samples(tmp_path / "out")
    model = penchant.load(folder)
    expected = model.complete([Prompt(text="a cat")], seeds=[1], decoding=Decoding(max_tokens=6))[0]
    assert kept[1] == TextSample(
        prompt="a cat", seed=1, text=expected.text, tokens=len(expected.tokens), finished=expected.finished
    )
    assert main([*words, "--out", str(tmp_path / "out")]) == 2  # samples are never written over


def test_sample_still_draws_pictures(tmp_path, capsys):
    folder = build("stable-diffusion", tmp_path / "tiny")
    assert main(["sample", str(folder), "a cat", "--steps", "1", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip().endswith("sheet.png")
    (kept,) = load_samples(tmp_path / "out")
    assert (kept.prompt, kept.seed) == ("a cat", 0)
