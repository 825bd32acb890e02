"""UltraFeedback (arXiv 2310.01377): four answers an instruction, rated by GPT-4; and its binarized form (H4, Zephyr).

Raw rows hold `completions`, each with a rating of 1 to 5 in four aspects and an overall score of 1 to 10. Known faults,
and what is done about them:

1. Ratings are texts, "N/A" among them: N/A is `not judged`.
2. Some overall scores are 10 where the critic wrote 1 (OpenBMB/UltraFeedback, fix_overall_score_issue.py). So the
   preference, dimension `overall`, is the mean of the rated aspects, which the authors call fine-grained score. The
   critic's own score is kept as dimension `overall_score`: a 10 beside a mean of at most 2 is read as 1, as there;
   beside a mean of at most 4, where the authors asked the critic again, it is set aside (not judged).
3. Of one completion given twice the first is kept, and empty ones are left out; a row needs two.

Rationales and critiques are not read. Nobody voted: the source is `judge:gpt-4`.
"""

from __future__ import annotations

from typing import Any

from penchant.errors import PenchantError
from penchant.feedback.groups import Candidate, Group, Judgement, plain
from penchant.feedback.readers.cells import MAX_TEXT, clean_text, drawn_pair, items, name_or_none, number, text
from penchant.feedback.readers.layout import Layout, Row
from penchant.feedback.readers.text_pairs import OTHER_MODALITIES, asked, sides_of

SOURCE = "judge:gpt-4"
ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


def _rating(row: Row, aspect: str, cell: Any) -> float | None:
    rating = cell.get("Rating") if isinstance(cell, dict) else None
    if rating is None or rating == "N/A":
        return None
    try:
        value = number(row, "completions", float(rating), name="a rating")
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, PenchantError):
            raise
        raise row.error("a rating is no number.", "completions", f"mend the {aspect} rating, or write N/A.") from error
    if not 1 <= value <= 5:
        raise row.error("a rating is outside 1 to 5.", "completions", f"mend the {aspect} rating.")
    return value


def _ratings(row: Row, completion: dict[str, Any]) -> list[float | None]:
    annotations = completion.get("annotations")
    if not isinstance(annotations, dict):
        raise row.error("a completion has no annotations.", "completions", "fetch the row again, or remove it.")
    return [_rating(row, aspect, annotations.get(aspect)) for aspect in ASPECTS]


def _mean(ratings: list[float | None]) -> float | None:
    given = [rating for rating in ratings if rating is not None]
    return sum(given) / len(given) if given else None


def _overall_score(row: Row, completion: dict[str, Any], mean: float | None) -> float | None:
    if completion.get("overall_score") is None:
        return None
    score = number(row, "completions", completion["overall_score"], name="the overall score")
    if score != 10 or mean is None or mean > 4:
        return score
    if mean <= 2:
        row.repairs.append("overall score of 10 beside low ratings read as 1")
        return 1.0
    row.repairs.append("overall score of 10 beside middling ratings set aside")
    return None


def _candidate(row: Row, completion: dict[str, Any]) -> Candidate | None:
    response = completion.get("response")
    if isinstance(response, str) and not response.strip():
        row.repairs.append("empty completion left out")
        return None
    known = {"principle": completion.get("principle"), "system": completion.get("custom_system_prompt")}
    return Candidate(
        text=clean_text(row, response, "completions", name="a response", longest=MAX_TEXT),
        model=name_or_none(completion.get("model")),
        settings={k: plain(v) for k, v in known.items() if v},
    )


def _raw(row: Row) -> Group:
    prompt, extra = asked([{"role": "user", "content": text(row, "instruction", longest=MAX_TEXT, name="the prompt")}])
    rated: dict[str, tuple[Candidate, list[float | None]]] = {}
    for completion in items(row, "completions"):
        if not isinstance(completion, dict):
            raise row.error("a completion is no record.", "completions", "fetch the row again, or remove it.")
        if (candidate := _candidate(row, completion)) is None:
            continue
        if candidate.id in rated:
            row.repairs.append("completion given twice left out")
            continue
        ratings = _ratings(row, completion)
        mean = _mean(ratings)
        rated[candidate.id] = candidate, [*ratings, mean, _overall_score(row, completion, mean)]
    if len(rated) < 2:
        raise row.error("fewer than two completions.", "completions", "a preference needs two; remove the row.")
    by_dimension = zip(*(values for _, values in rated.values()), strict=True)
    judgements = (
        Judgement(kind="score", dimension=name, values=values, source=SOURCE)
        for name, values in zip((*ASPECTS, "overall", "overall_score"), by_dimension, strict=True)
        if any(value is not None for value in values)
    )
    kept = ("source", "correct_answers", "incorrect_answers")
    return Group(
        prompt=prompt,
        candidates=tuple(candidate for candidate, _ in rated.values()),
        judgements=tuple(judgements),
        split=row.split,
        provenance=row.provenance("ultrafeedback"),
        extra=extra | {k: plain(v) for k in kept if (v := row.values.get(k)) is not None},
    )


def _binarized(row: Row) -> Group:
    """The winner by score; equal scores are a tie, though one side is called chosen. `messages` repeats `chosen`."""
    prompt, extra, winner, loser = sides_of(row)
    scores = [number(row, f, row.values.get(f), name="the score") for f in ("score_chosen", "score_rejected")]
    if scores[0] < scores[1]:
        raise row.error(
            "the scores are inconsistent: the rejected side scored higher.", "score_rejected", "remove the row."
        )
    if scores[0] == scores[1]:
        row.repairs.append("equal scores read as a tie")
    pair = (1.0, 0.0) if scores[0] > scores[1] else (0.5, 0.5)
    group = Group(
        prompt=prompt,
        candidates=(winner, loser),
        judgements=(
            Judgement(kind="pair", values=pair, source=SOURCE),
            Judgement(kind="score", dimension="overall_score", values=tuple(scores), source=SOURCE),
        ),
        split=row.split,
        provenance=row.provenance("ultrafeedback-binarized"),
        extra=extra,
    )
    return drawn_pair(row, group)


RAW = Layout(
    name="ultrafeedback",
    required=frozenset({"instruction", "completions"}),
    optional=frozenset({"source", "correct_answers", "incorrect_answers"}),
    to_group=_raw,
)
BINARIZED = Layout(
    name="ultrafeedback-binarized",
    required=frozenset({"chosen", "rejected", "score_chosen", "score_rejected"}),
    optional=frozenset({"prompt", "tools"}),
    absent=OTHER_MODALITIES,
    to_group=_binarized,
)
