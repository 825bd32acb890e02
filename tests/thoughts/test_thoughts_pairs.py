"""Traces become pairs: a better version against its original, every trace accounted for."""

from __future__ import annotations

import json

import pytest
from scripted import FORMAT, PROBLEM, Scripted, lines, rollouts

from penchant.errors import FeedbackError, RecipeError
from penchant.feedback import scores, select, write
from penchant.feedback.groups import Prompt
from penchant.models.completion import Decoding
from penchant.thoughts import ExitAnswer, ExitRule, Finalising, Markers, Method, Rollouts, Trace, make, optimise
from penchant.thoughts import construction as building
from penchant.thoughts.cache import CachedGenerator
from penchant.thoughts.optimisation import NO_END, NO_ENDING, NO_EXIT, NOT_SHORTER, SAME_TEXT, Optimised
from penchant.thoughts.pairs import ALL_WRONG, TWICE, right_wrong, shortest_longest, shortest_right
from penchant.thoughts.rollouts import Cut

MARKED = Markers(words=("Wait", "But"), shortest=0)
METHOD = Method(segmenter=MARKED, pruning=None)
FULL = Decoding(max_tokens=200)


def trace(text: str, *, right: bool = True) -> Trace:
    return Trace(problem=PROBLEM, text=text, tokens=len(text), right=right)


def after(**thoughts: list[str]) -> dict[str, list[str]]:
    """Answers after the exit (here also the finalise) pattern, by thought: "3_Wait" is the thought `3. Wait. `."""
    return {
        PROBLEM.text + "".join(f"{part}. " for part in thought.removeprefix("t").split("_")) + FORMAT.exit: answers
        for thought, answers in thoughts.items()
    }


def test_a_right_trace_is_cut_at_its_earliest_sufficient_point_and_ended():
    made = rollouts(after(t7=lines(8), t7_Wait=lines(8)))
    (found,) = optimise(made, [trace("7. Wait. # 7")], METHOD)
    assert isinstance(found, Optimised)
    assert (found.text, found.kept) == ("7. # 7", (0,))
    assert found.tokens < found.trace.tokens


def test_a_wrong_trace_with_a_right_exit_is_rescued():
    made = rollouts(after(t7=lines(6), t7_Wait=lines(1)))
    (found,) = optimise(made, [trace("7. Wait. # 8", right=False)], METHOD)
    assert isinstance(found, Optimised)
    assert found.text == "7. # 7"


@pytest.mark.parametrize(
    ("text", "right", "answers", "reason"),
    [
        ("7. Wait. ", False, {}, NO_END),
        ("7. Wait. # 8", False, {"t7": lines(4), "t7_Wait": lines(2)}, NO_EXIT),
        ("7. # 7", True, {"t7": lines(8)}, SAME_TEXT),
        # Decided by samples that no ending repeats.
        ("7. # 8", False, {"t7": [*lines(5, of=5), "8", "8", "8", "8"]}, NO_ENDING),
        ("7. # 7", True, {"t7": ["7"] * 5 + ["7, of course"] * 4}, NOT_SHORTER),
    ],
)
def test_what_gives_no_better_version_says_why(text, right, answers, reason):
    made = rollouts(after(**answers))
    assert optimise(made, [trace(text, right=right)], METHOD) == [reason]


def test_pruning_takes_out_a_pattern_before_the_point():
    table = after(t1=lines(2), t1_But=lines(8), tBut=lines(8), t1_But_Wait=lines(8))
    (whole,) = optimise(rollouts(table), [trace("1. But. Wait. # 7")], METHOD)
    (pruned,) = optimise(rollouts(table), [trace("1. But. Wait. # 7")], Method(segmenter=MARKED))
    assert isinstance(whole, Optimised)
    assert isinstance(pruned, Optimised)
    assert (whole.text, pruned.text) == ("1. But. # 7", "But. # 7")
    assert pruned.kept == (1,)


def test_the_shortest_right_ending_is_kept_and_an_unfinished_one_does_not_count():
    table = {PROBLEM.text + "7. " + FORMAT.finalise: ["8", "7...", "7 it is", "7 and so on"]}
    cut = Cut(problem=PROBLEM, thought="7. ")
    (endings,) = rollouts(table).finals([cut], each=4, decoding=FULL)
    assert endings == [("# 8", False), ("# 7", False), ("# 7 it is", True), ("# 7 and so on", True)]
    assert Finalising(samples=4).end(rollouts(table), [cut], ExitRule()) == ["7. # 7 it is"]
    assert Finalising(samples=2).end(rollouts(table), [cut], ExitRule()) == [None]


def test_without_finalisation_the_first_right_exit_closes_the_thought():
    made = rollouts({PROBLEM.text + "7. " + FORMAT.exit: ["8", "07", *lines(6, of=6)]})
    assert ExitAnswer(closing="{}").end(made, [Cut(problem=PROBLEM, thought="7. ")], ExitRule()) == ["7. # 07"]


def test_every_trace_is_a_pair_or_a_counted_reason():
    table = after(t7=lines(8), t7_Wait=lines(8), t6=lines(1), t6_Wait=lines(3), t7_But=lines(8))
    traces = [
        [trace("7. Wait. # 7"), trace("7. Wait. # 7"), trace("6. Wait. # 8", right=False), trace("7. # 7")],
        [trace("6. Wait. # 9", right=False)],
    ]
    made = make(traces, rollouts(table), METHOD)
    assert made.account.refused == {TWICE: 1, NO_EXIT: 1, SAME_TEXT: 1, ALL_WRONG: 1}
    assert made.account.pairs == len(made.groups) == 1
    assert made.account.traces == 5 == made.account.pairs + sum(made.account.refused.values())
    assert made.account.right == 3
    assert "refused 1 x every trace of the problem is wrong." in made.account.summary()


def test_the_chosen_one_is_the_optimised_and_the_store_gives_it_back(tmp_path):
    made = make([[trace("7. Wait. # 7")]], rollouts(after(t7=lines(8), t7_Wait=lines(8))), METHOD)
    (group,) = write(made.groups, tmp_path / "store")
    assert scores(group) == (1.0, 0.0)
    assert [c.text for c in group.candidates] == ["7. # 7", "7. Wait. # 7"]
    (judgement,) = group.judgements
    assert (judgement.kind, judgement.source) == ("pair", "judge:exact-match")
    assert group.extra["thoughts"]["patterns"] == ["start", "Wait"]
    assert group.extra["thoughts"]["kept"] == [0]
    assert group.extra["thoughts"]["exits"][0] == [5, 5]
    assert group.candidates[1].settings["right"] is True


A, B = trace("7. # 7"), trace("7. Wait. # 7")
C, D = trace("6. # 6", right=False), trace("5. # 5", right=False)


def test_the_baselines_say_what_they_are_named_after():
    traces = [[B, C, A, D, A], [A, A], [C]]
    (pair,) = shortest_longest(traces, verifier="exact-match")
    assert [c.text for c in pair.candidates] == [A.text, B.text]
    assert [[c.text for c in p.candidates] for p in right_wrong(traces, verifier="v")] == [
        [B.text, C.text],
        [A.text, D.text],
    ]
    alone = shortest_right(traces, verifier="v")
    assert [[c.text for c in group.candidates] for group in alone] == [[A.text], [A.text]]
    assert len(select(alone, min_candidates=1)) == 2


def test_traces_are_verified_by_their_answer_and_an_unfinished_one_is_wrong():
    made = rollouts({PROBLEM.text: ["7. # 7", "7. # 8", "7. ", "7. # 7..."]})
    ((a, b, c, d),) = made.traces([PROBLEM], each=4, decoding=FULL)
    assert [t.right for t in (a, b, c, d)] == [True, False, False, False]
    assert (a.tokens, a.finished, d.finished) == (len("7. # 7"), True, False)


def test_a_killed_construction_asks_for_what_is_missing_alone(tmp_path):
    class Killed(Exception):
        pass

    class Dies(Scripted):
        """Answers so many calls, then is gone."""

        calls = 2

        def complete(self, *args, **more):
            self.calls -= 1
            if self.calls < 0:
                raise Killed
            return super().complete(*args, **more)

    table = {PROBLEM.text: ["7. Wait. # 7"], **after(t7=lines(8), t7_Wait=lines(8))}

    def build(generator: Scripted, name: str = "weights") -> tuple[list[str | None], CachedGenerator]:
        cached = CachedGenerator(generator, tmp_path / "completions.sqlite", name=name)
        made = rollouts({})
        made = Rollouts(generator=cached, verifier=made.verifier, format=FORMAT, count=len)
        traces = made.traces([PROBLEM], each=1, decoding=FULL)
        return [c.text for c in make(traces, made, METHOD).groups[0].candidates], cached

    with pytest.raises(Killed):
        build(Dies(table))
    second = Scripted(table)
    found, _ = build(second)
    assert found == ["7. # 7", "7. Wait. # 7"]
    # The trace and the first round of exits were there.
    assert PROBLEM.text not in {question for question, _ in second.asked}
    third = Scripted(table)
    again, cached = build(third)
    assert (again, third.asked, cached.misses) == (found, [], 0)
    other = Scripted(table)
    build(other, name="other weights")
    assert other.asked


def test_a_cache_does_not_mix_decodings_openings_or_seeds(tmp_path):
    scripted = Scripted({"p": ["a", "b"], "pq": ["c"]})
    cached = CachedGenerator(scripted, tmp_path / "c.sqlite", name="w")
    asked = [Prompt(text="p"), Prompt(text="p"), Prompt(text="p", opening="q"), Prompt(text="p")]
    found = cached.complete(asked, seeds=[0, 1, 0, 0], decoding=FULL)
    assert [c.text for c in found] == ["a", "b", "c", "a"]
    assert len(scripted.asked) == 3  # the same row twice in one call is asked once
    cached.complete([Prompt(text="p")], seeds=[0], decoding=Decoding(max_tokens=200, temperature=0.5))
    cached.complete([Prompt(text="p", messages=({"role": "user", "content": "p"},))], seeds=[0], decoding=FULL)
    assert len(scripted.asked) == 5


def test_a_file_that_is_no_cache_is_said(tmp_path):
    (tmp_path / "c.sqlite").write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(RecipeError, match="no completion cache"):
        CachedGenerator(Scripted({}), tmp_path / "c.sqlite", name="w")


def test_problems_are_read_by_line_and_a_bad_one_is_named(tmp_path):
    path = tmp_path / "problems.jsonl"
    message = {"role": "user", "content": "2+2?"}
    path.write_text(
        json.dumps({"prompt": "1+1=", "answer": "2"}) + "\n" + json.dumps({"prompt": "x", "messages": [message]})
    )
    assert building.read_problems(str(path)) == [Prompt(text="1+1="), Prompt(text="x", messages=(message,))]
    assert len(building.read_problems(str(path), limit=1)) == 1
    path.write_text('{"prompt": "1+1="}\n{"question": "?"}')
    with pytest.raises(FeedbackError, match="row 1, field 'prompt'"):
        building.read_problems(str(path))
