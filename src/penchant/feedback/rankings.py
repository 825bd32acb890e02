"""From votes to strengths: what several annotators said about pairs becomes one number a candidate (iREPO's targets).

A verdict is a `pair` judgement: values for the two candidates that were compared and None for the others, one judgement
for each (annotator, pair), in the dimension `verdict`. Rankings and the votes of two candidates count as the pairs that
they imply. `labelled` puts two labels beside the verdicts of a group, both made of the same wins:

- `logit`: Bradley-Terry log strengths (Zermelo's; iREPO, arXiv 2405.15230). The difference of two is the logit of the
  probability that one beats the other: what iREPO regresses on.
- `overall`: the order by majority, a hard label for DPO and kin.

Where the paper is silent (ours): `prior` = 0.5 virtual win is added to every ordered pair, so that unanimous votes have
a finite logit; a tie is half a win for each side.

Shape legend: K candidates; `wins_KK[i, j]` = how often i beat j, ties and weights included, zero on the diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from penchant.errors import FeedbackError
from penchant.feedback.groups import Group, Judgement, rank_values

VERDICT, LOGIT, OVERALL = "verdict", "logit", "overall"
PRIOR = 0.5
_TOLERANCE, _LIMIT = 1e-12, 10_000


def verdict(
    first: int,
    second: int,
    K: int,
    outcome: float,
    *,
    annotator: str | None,
    source: str = "human",
    dimension: str = VERDICT,
    weight: float = 1.0,
) -> Judgement:
    """What one annotator said about candidates `first` and `second` of K.

    Args:
        first, second: their places in the group.
        K: how many candidates the group has.
        outcome: 1 if the first is better, 0 if the second is, 0.5 for a tie.
        annotator: a hash, never a name.
        source: see `Judgement`.
        dimension: what it is about.
        weight: how many wins it counts as.

    >>> verdict(0, 2, 3, 1.0, annotator="9f2c").values
    (1.0, None, 0.0)
    """
    values: list[float | None] = [None] * K
    values[first], values[second] = outcome, 1 - outcome
    return Judgement(
        kind="pair", values=tuple(values), dimension=dimension, annotator=annotator, source=source, weight=weight
    )


def win_matrix(group: Group, dimension: str = VERDICT, *, source: str | None = None) -> Float[np.ndarray, "K K"]:
    """The wins of all verdicts of a group in `dimension`; score and binary judgements compare nobody and do not count.

    Args:
        group: K candidates.
        dimension: which judgements count.
        source: only judgements of this source, or of sources that begin with it.

    Raises:
        FeedbackError: a pair judgement that is not about two candidates or whose values do not add up to 1.
    """
    wins_KK = np.zeros((len(group.candidates),) * 2)
    for judgement in _verdicts(group, dimension, source):
        wins_KK += judgement.weight * _wins(judgement, group)
    return wins_KK


def _verdicts(group: Group, dimension: str, source: str | None = None) -> list[Judgement]:
    return [
        j
        for j in group.judgements
        if j.dimension == dimension
        and j.weight > 0
        and (j.kind in ("pair", "rank") or (j.kind == "vote" and len(j.values) == 2))
        and (source is None or j.source.startswith(source))
    ]


def _wins(judgement: Judgement, group: Group) -> np.ndarray:
    wins_KK = np.zeros((len(judgement.values),) * 2)
    judged = [(k, value) for k, value in enumerate(judgement.values) if value is not None]
    if judgement.kind == "pair" and judged and (len(judged) != 2 or abs(sum(v for _, v in judged) - 1) > 1e-6):
        raise FeedbackError(
            f"group {group.id[:12]} has a pair judgement that is not one win shared by two candidates.",
            field="judgements",
            remedy="give values to two candidates, adding up to 1, and None to the others.",
        )
    for i, one in judged:
        for j, other in judged:
            if i != j:
                # Pairs and votes say how many wins; of a ranking only the order counts.
                wins_KK[i, j] = one if judgement.kind != "rank" else (one > other) + 0.5 * (one == other)
    return wins_KK


def log_strengths(wins_KK: Float[np.ndarray, "K K"], prior: float = PRIOR) -> Float[np.ndarray, K]:
    """Bradley-Terry strengths of the maximum likelihood, as logarithms with mean zero (`evalica`; Zermelo 1929).

        P(i beats j) = p_i / (p_i + p_j)

    Args:
        wins_KK: wins.
        prior: virtual wins added to every ordered pair.

    Raises:
        FeedbackError: negative wins or prior, no finite strengths (prior = 0 and some candidates never lost to the
            others, or were never compared with them), or no convergence.

    Two candidates have the logarithm of the odds between them:

        >>> strength_K = log_strengths(np.array([[0.0, 4.0], [1.0, 0.0]]), prior=0.0)
        >>> round(float(strength_K[0] - strength_K[1]), 10)
        1.3862943611
    """
    if not (np.isfinite(wins_KK).all() and (wins_KK >= 0).all() and np.isfinite(prior) and prior >= 0):
        raise FeedbackError("wins or prior are negative or not finite.", field="prior", remedy="use 0 or more.")
    K = len(wins_KK)
    if K == 1:
        return np.zeros(1)
    counted_KK = np.where(np.eye(K, dtype=bool), 0.0, wins_KK + prior)
    _refuse_separated(counted_KK)
    return _fitted(counted_KK)


def _fitted(wins_KK: np.ndarray) -> np.ndarray:
    from evalica import Winner, bradley_terry

    i, j = np.nonzero(wins_KK)
    found = bradley_terry(
        [str(k) for k in i],
        [str(k) for k in j],
        [Winner.X] * len(i),
        weights=[float(w) for w in wins_KK[i, j]],
        tolerance=_TOLERANCE,
        limit=_LIMIT,
    ).scores
    log_K = np.log(np.array([found[str(k)] for k in range(len(wins_KK))]))
    log_K -= log_K.mean()
    # At the maximum everyone has won as often as expected; evalica stops at its limit without a word.
    expected_K = ((wins_KK + wins_KK.T) * win_probability(log_K)).sum(1)
    if not np.allclose(expected_K, wins_KK.sum(1), rtol=1e-6, atol=1e-6 * wins_KK.sum(1).max()):
        raise FeedbackError(
            f"the strengths did not converge in {_LIMIT} iterations.",
            field="prior",
            remedy="compare more pairs directly, or use a larger prior.",
        )
    return log_K


def _refuse_separated(wins_KK: np.ndarray) -> None:
    """Strengths are finite exactly when everyone beat everyone, directly or through others (Ford 1957)."""
    from scipy.sparse.csgraph import connected_components

    count, label_K = connected_components(wins_KK > 0, directed=True, connection="strong")
    if count == 1:
        return
    remedy = "use a prior above 0, or collect more votes."
    parts, part_K = connected_components(wins_KK > 0, directed=False)
    if parts > 1:
        apart, rest = _listed(part_K == 0), _listed(part_K != 0)
        problem = (
            f"candidates {apart} were never compared with candidates {rest}: their strengths have no common scale."
        )
        raise FeedbackError(problem, field="prior", remedy=remedy)
    unbeaten = next(c for c in range(count) if not wins_KK[np.ix_(label_K != c, label_K == c)].any())
    best, rest = _listed(label_K == unbeaten), _listed(label_K != unbeaten)
    problem = f"candidates {best} never lost to candidates {rest}: their strengths would be infinite."
    raise FeedbackError(problem, field="prior", remedy=remedy)


def _listed(chosen_K: np.ndarray) -> str:
    return ", ".join(str(k) for k in np.flatnonzero(chosen_K))


def win_probability(strength_K: Float[np.ndarray, K]) -> Float[np.ndarray, "K K"]:
    """[i, j] = sigmoid(s_i - s_j): the probability that i beats j under log strengths; one half on the diagonal."""
    from scipy.special import expit

    return expit(strength_K[:, None] - strength_K[None, :])


def win_share(wins_KK: Float[np.ndarray, "K K"], prior: float = 0.0) -> Float[np.ndarray, "K K"]:
    """The empirical win probability: i's share of its comparisons with j; not-a-number where there were none."""
    counted_KK = wins_KK + prior * (1 - np.eye(len(wins_KK)))
    with np.errstate(invalid="ignore"):
        return counted_KK / (counted_KK + counted_KK.T)


def votes_to_judgement(
    wins_KK: Float[np.ndarray, "K K"], *, annotators: int, prior: float = PRIOR, source: str = "human"
) -> Judgement:
    """Log strengths as a `score` judgement of dimension `logit`; a candidate that nobody compared gets None.

    The number of annotators is kept with it: the same share from more votes is a stronger statement.

    Raises:
        FeedbackError: see `log_strengths`; or nobody compared anything.
    """
    compared = _compared(wins_KK)
    values: list[float | None] = [None] * len(wins_KK)
    strength_K = log_strengths(wins_KK[np.ix_(compared, compared)], prior)
    for k, strength in zip(compared, strength_K, strict=True):
        values[k] = float(strength)
    return Judgement(
        kind="score",
        dimension=LOGIT,
        values=tuple(values),
        source=source,
        extra={"annotators": annotators, "votes": float(wins_KK.sum()), "prior": prior},
    )


def majority(wins_KK: Float[np.ndarray, "K K"], *, annotators: int, source: str = "human") -> Judgement:
    """The order by how many others a majority prefers a candidate to, an even split counting half (Copeland).

    A `rank` judgement of dimension `overall`. With every pair compared it is what a hard label keeps of the votes: 5:4
    and 9:0 read alike.

    Raises:
        FeedbackError: nobody compared anything.
    """
    compared = _compared(wins_KK)
    beaten_KK = (wins_KK > wins_KK.T) + 0.5 * ((wins_KK == wins_KK.T) & (wins_KK > 0))
    places = [-float(beaten_KK[k].sum()) if k in compared else None for k in range(len(wins_KK))]
    extra = {"annotators": annotators, "votes": float(wins_KK.sum())}
    return Judgement(kind="rank", dimension=OVERALL, values=rank_values(places), source=source, extra=extra)


def _compared(wins_KK: np.ndarray) -> list[int]:
    compared = np.flatnonzero((wins_KK + wins_KK.T).sum(1) > 0)
    if not len(compared):
        raise FeedbackError("nobody compared any candidates.", field="judgements", remedy="collect votes first.")
    return [int(k) for k in compared]


def probability_to_judgement(probability_KK: Float[np.ndarray, "K K"], *, source: str, clip: float = 0.01) -> Judgement:
    """One judge's own win probabilities as log strengths, without a vote: for two candidates the logit itself.

    [i, j] is the probability that i is better than j, from a reward through a sigmoid or a judge's token probabilities;
    [i, j] and 1 - [j, i] are averaged, so both orders of showing a pair may differ. They are clipped to
    [clip, 1 - clip] (ours; at 0.01 a logit is at most 4.6), since a certain judge would ask for an infinite logit.
    More than two candidates get the Bradley-Terry fit to the probabilities, exact when they are those of strengths.

    Raises:
        FeedbackError: a probability outside [0, 1], or `clip` not in (0, 1/2).
    """
    off = ~np.eye(len(probability_KK), dtype=bool)
    if not ((probability_KK[off] >= 0) & (probability_KK[off] <= 1)).all():
        raise FeedbackError(
            "a probability is outside 0 to 1.", field="probability_KK", remedy="pass it through sigmoid."
        )
    if not 0 < clip < 0.5:
        raise FeedbackError("clip is not between 0 and one half.", field="clip", remedy="use 0.01.")
    both_KK = np.where(off, (probability_KK + 1 - probability_KK.T) / 2, 0.0)
    strength_K = log_strengths(np.where(off, both_KK.clip(clip, 1 - clip), 0.0), prior=0.0)
    values = tuple(float(s) for s in strength_K)
    return Judgement(kind="score", dimension=LOGIT, values=values, source=source, extra={"clip": clip})


def labelled(group: Group, *, prior: float = PRIOR, verdicts: str = VERDICT) -> Group:
    """The group with the labels `logit` and `overall` made of its verdicts, which then stand in dimension `verdict`.

    Args:
        group: K candidates with verdicts.
        prior: virtual wins, see `log_strengths`.
        verdicts: the dimension of the verdicts; `overall` for votes of people as the readers bring them.

    Raises:
        FeedbackError: no verdicts, or labels (or scores) already stand where they would go.
    """
    votes = _verdicts(group, verdicts)
    if taken := {j.dimension for j in group.judgements if not any(j is v for v in votes)} & {LOGIT, OVERALL}:
        raise FeedbackError(
            f"group {group.id[:12]} already has judgements in {', '.join(sorted(taken))}.",
            field="dimension",
            remedy="take them out, or name them as the verdicts.",
        )
    wins_KK = win_matrix(group, verdicts)
    annotators, source = count_annotators(votes), common_source(votes)
    kept = tuple(replace(j, dimension=VERDICT) if any(j is v for v in votes) else j for j in group.judgements)
    soft = votes_to_judgement(wins_KK, annotators=annotators, prior=prior, source=source)
    hard = majority(wins_KK, annotators=annotators, source=source)
    return replace(group, judgements=(*kept, soft, hard))


def count_annotators(verdicts: Sequence[Judgement]) -> int:
    """How many annotators spoke; judgements without one are taken for different people."""
    return len({v.annotator for v in verdicts} - {None}) + sum(v.annotator is None for v in verdicts)


def common_source(verdicts: Sequence[Judgement]) -> str:
    """The source of a label made of verdicts: theirs, or for several `simulated:panel` if any is simulated."""
    sources = {v.source for v in verdicts}
    if len(sources) == 1:
        return sources.pop()
    return "simulated:panel" if any(s.startswith("simulated:") for s in sources) else "judge:panel"
