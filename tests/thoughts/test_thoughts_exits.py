"""Exit probability is a count of right answers; the earliest sufficient point is what all samples would say, found with
fewer."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import FORMAT, PROBLEM, Scripted, lines, rollouts

from penchant.errors import RecipeError
from penchant.judges.verifiers import ExactMatch
from penchant.thoughts import R1, ExitRule, Rollouts
from penchant.thoughts.exits import earliest, probabilities, reaches
from penchant.thoughts.rollouts import Cut

RULE = ExitRule()


def table(*points: list[str]) -> dict[str, list[str]]:
    """Answers after the patterns a., b., c. ... of one thought."""
    thoughts = ["a. b. c. d. e. "[: 3 * (i + 1)] for i in range(len(points))]
    return {PROBLEM.text + thought + FORMAT.exit: answers for thought, answers in zip(thoughts, points, strict=True)}


def cuts(count: int) -> list[Cut]:
    return [Cut(problem=PROBLEM, thought="a. b. c. d. e. "[: 3 * (i + 1)]) for i in range(count)]


def samples(made: Rollouts) -> Counter[str]:
    scripted = made.generator
    assert isinstance(scripted, Scripted)
    return Counter(question.removesuffix(FORMAT.exit).removeprefix(PROBLEM.text) for question, _ in scripted.asked)


def test_the_exit_probability_is_the_share_of_right_answers():
    made = rollouts(table(lines(3), lines(8), lines(0)))
    assert probabilities(made, cuts(3), RULE) == [3 / 8, 1.0, 0.0]


@pytest.mark.parametrize(("samples", "threshold", "needed"), [(8, 0.5, 5), (8, 0.0, 1), (4, 0.75, 4), (10, 0.7, 8)])
def test_p_must_exceed_the_threshold(samples, threshold, needed):
    rule = ExitRule(samples=samples, threshold=threshold)
    assert rule.needed == needed
    assert needed / samples > threshold >= (needed - 1) / samples


def test_a_point_is_sampled_until_it_is_decided():
    # Four wrong answers rule five of eight out; five right ones settle it.
    made = rollouts(table(lines(4, first=False), lines(5)))
    (found,) = earliest(made, [cuts(2)], RULE)
    assert found[0] == 1
    assert samples(made) == {"a. ": 4, "a. b. ": 5}
    assert [(tally.right, tally.tried) for tally in found[1]] == [(0, 4), (5, 5)]


def test_what_lies_behind_a_sufficient_point_is_not_sampled_further():
    made = rollouts(table(lines(8), ["7", "8"] * 4, ["7", "8"] * 4))
    ((point, _),) = earliest(made, [cuts(3)], RULE)
    assert point == 0
    # Until the first point is settled all are asked together, as one reading serves them; then the others stay open.
    assert samples(made) == {"a. ": 5, "a. b. ": 6, "a. b. c. ": 6}


def test_a_thought_without_a_sufficient_point_has_none():
    made = rollouts(table(lines(4), lines(0)))
    assert [point for point, _ in earliest(made, [cuts(2), []], RULE)] == [None, None]


_ANSWERS = st.lists(st.sampled_from(["7", "8"]), min_size=8, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(_ANSWERS, min_size=1, max_size=5), st.sampled_from([0.25, 0.5, 0.75]))
def test_stopping_early_says_what_all_samples_say(points, threshold):
    rule = ExitRule(threshold=threshold)
    shares = probabilities(rollouts(table(*points)), cuts(len(points)), rule)
    wanted = next((i for i, p in enumerate(shares) if p > threshold), None)
    made = rollouts(table(*points))
    ((found, tallies),) = earliest(made, [cuts(len(points))], rule)
    assert found == wanted
    assert all(tally.tried <= rule.samples for tally in tallies)
    assert sum(samples(made).values()) == sum(tally.tried for tally in tallies)
    needed = [rule.needed] * len(points)
    assert reaches(rollouts(table(*points)), cuts(len(points)), rule, needed) == [p > threshold for p in shares]


def test_the_same_rollout_has_the_same_seed_whatever_else_is_asked():
    alone, beside = (rollouts(table(lines(3), lines(8)), seed=5) for _ in range(2))
    probabilities(alone, cuts(2)[1:], RULE)
    probabilities(beside, cuts(2), RULE)

    def seeds(made: Rollouts) -> list[int]:
        assert isinstance(made.generator, Scripted)
        return made.generator.seeds[PROBLEM.text + "a. b. " + FORMAT.exit]

    assert seeds(alone) == seeds(beside)
    assert len(set(seeds(alone))) == 8


def test_a_boxed_answer_ends_where_its_own_brace_is_closed():
    fraction = "\\frac{1"
    opening = PROBLEM.text + "Half. " + R1.exit
    # The stop text is cut from a completion, as `}` ends it.
    scripted = Scripted({opening: [fraction], opening + fraction + "}": ["{2"], opening + fraction + "}{2}": [""]})
    verifier = ExactMatch({PROBLEM.text: "\\frac{1}{2}"})
    made = Rollouts(generator=scripted, verifier=verifier, format=R1, count=len)
    rule = ExitRule(samples=1)
    answers = made.exits([Cut(problem=PROBLEM, thought="Half. ")], [0], rule.decoding(R1.exit_stop))
    assert answers == [("\\boxed{\\frac{1}{2}}", True)]


@pytest.mark.parametrize("bad", [{"samples": 0}, {"threshold": 1.0}, {"threshold": -0.1}, {"temperature": 0.0}])
def test_a_rule_that_decides_nothing_is_refused(bad):
    with pytest.raises(RecipeError):
        ExitRule(**bad)
