"""What thinking costs, by the worked numbers; what exits cost, by counting."""

from __future__ import annotations

import pytest

from penchant.errors import RecipeError
from penchant.feedback.groups import Prompt
from penchant.thoughts.budget import Spent, saving, tree_size
from penchant.thoughts.cost import ModelShape, attention_flops, prefill_flops

SHAPE = ModelShape(layers=28, width=1536)


@pytest.mark.parametrize(("generated", "flops"), [(5000, 2.2368e12), (3000, 8.2601e11)])
def test_the_worked_numbers(generated, flops):
    assert attention_flops(SHAPE, prompt=100, generated=generated) == pytest.approx(flops, rel=5e-5)


def test_a_cut_of_two_fifths_of_the_tokens_is_one_of_63_percent_of_the_flops():
    before, after = (attention_flops(SHAPE, prompt=100, generated=n) for n in (5000, 3000))
    assert 1 - after / before == pytest.approx(0.631, abs=5e-4)


def test_each_token_attends_to_itself_and_all_before_it():
    tiny = ModelShape(layers=2, width=3)
    by_hand = sum(4 * 2 * 3 * (5 + i) for i in (1, 2, 3))
    assert attention_flops(tiny, prompt=5, generated=3) == by_hand == 4 * 2 * 3 * 21


def test_reading_a_prompt_and_going_on_costs_as_much_as_reading_it_all():
    whole = prefill_flops(SHAPE, prompt=130)
    assert prefill_flops(SHAPE, prompt=100) + attention_flops(SHAPE, prompt=100, generated=30) == whole


def test_a_decoder_without_layers_is_refused():
    with pytest.raises(RecipeError, match="layers"):
        ModelShape(layers=0, width=8)


def test_shared_prefixes_count_once():
    assert tree_size(["abc", "abcd", "abx", "abc"], len) == len("abc" + "d" + "x")
    assert tree_size([], len) == 0


def test_the_saving_is_against_all_samples_at_every_point():
    spent = Spent()
    asked = [Prompt(text="12345", opening="67"), Prompt(text="12345", opening="67"), Prompt(text="12345", opening="89")]
    spent.add(asked, generated=6, count=len)
    # Two points, 8 samples each, of 7 tokens read and 2 generated; in fact 5 + 2 + 2 read and 6 generated.
    found = saving(spent, samples=8)
    assert (found.naive, found.spent) == (2 * 8 * 9, 15)
    assert "15 tokens instead of 144" in str(found)
