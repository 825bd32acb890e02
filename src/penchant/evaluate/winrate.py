"""Paired win rates and mean gains of a policy over its base, with intervals over prompts and training runs.

A judge scores the policy's and the base's sample of the same prompt and the same seed. The samples of one prompt are
not independent evidence (an easy prompt is won on every seed), so the bootstrap draws *prompts*, each with all its
seeds: many seeds of few prompts cannot buy a narrow interval. Given several training runs, it draws runs as well; runs
and prompts are crossed, and both are drawn independently.

Differences from the textbook bootstrap:

1. A rate of exactly 0 or 1 leaves nothing to resample and would give an interval of width zero. There the far end is
   the exact binomial bound for `prompts` trials, (0.025) ** (1 / prompts) (Clopper and Pearson 1934).
2. Fewer than two prompts are refused: one cluster says nothing about the spread between clusters.

With three runs or fewer the percentile interval over runs is too narrow by about sqrt((R - 1) / R); read it as a lower
bound of the uncertainty.

Sources: Field and Welsh, "Bootstrapping clustered data", JRSS B 69 (2007), section 2 (clusters resampled whole);
Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007), section 3 (crossed factors).

Shape legend: R training runs, P prompts, S seeds a prompt, N resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from penchant.errors import PenchantError

RESAMPLES = 2000
"""Resamples of every bootstrap; at 2000 the ends of a 95 % interval wander by about 1.5 % of its width."""

LEVEL = 0.95
"""Coverage of every interval of this room."""

_CHUNK = 1 << 21  # resampled cells held at once: keeps 10 000 prompts under 50 MB


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """How often a judge prefers the policy to the base; a tie counts one half.

    `low` and `high` bound the 95 % interval, `prompts`, `seeds` (a prompt) and `runs` say what it is over, `ties` is
    the share of comparisons that were ties. All rates are in [0, 1].
    """

    rate: float
    low: float
    high: float
    prompts: int
    seeds: int
    runs: int
    ties: float

    @property
    def better(self) -> bool:
        """The whole interval is above one half."""
        return self.low > 0.5

    @property
    def worse(self) -> bool:
        """The whole interval is below one half."""
        return self.high < 0.5

    def __str__(self) -> str:
        return f"{100 * self.rate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True, kw_only=True)
class MeanGain:
    """A judge's mean score of the base (`before`) and of the policy (`after`), and the gain with its 95 % interval."""

    before: float
    after: float
    gain: float
    low: float
    high: float
    prompts: int
    seeds: int
    runs: int

    def __str__(self) -> str:
        return f"{self.before:.4g} -> {self.after:.4g}, gain {self.gain:+.4g} [{self.low:+.4g}, {self.high:+.4g}]"


def outcomes(
    policy_scores: ArrayLike, base_scores: ArrayLike, *, tie_margin: float = 0.0
) -> Float[np.ndarray, "R P S"]:
    """1 where the policy's sample scores higher, 0 where it scores lower, 0.5 where |difference| <= `tie_margin`.

    Args:
        policy_scores: scores [P, S] or [R, P, S], larger = better.
        base_scores: scores of the base, of the same shape, or [P, S] shared by all R runs.
        tie_margin: differences up to this are ties; 0 means exact equality.

    Raises:
        PenchantError: the shapes differ, a score is not finite, there are fewer than two prompts, or the margin is
            negative.
    """
    if not tie_margin >= 0:
        raise PenchantError(
            f"the tie margin is {tie_margin}.", field="tie_margin", remedy="give 0 or a positive number."
        )
    policy_RPS, base_RPS = aligned(policy_scores, base_scores)
    difference_RPS = policy_RPS - base_RPS
    return np.where(np.abs(difference_RPS) <= tie_margin, 0.5, (difference_RPS > 0).astype(np.float64))


def win_rate(policy_scores: ArrayLike, base_scores: ArrayLike, *, tie_margin: float = 0.0, seed: int = 0) -> WinRate:
    """The policy's paired win rate over the base, with the cluster bootstrap's 95 % percentile interval.

    rate = mean over runs, prompts and seeds of [policy > base] + 1/2 [tie].

    Args:
        policy_scores: scores [P, S] or [R, P, S], larger = better.
        base_scores: scores of the base, of the same shape, or [P, S] shared by all R runs.
        tie_margin: differences up to this are ties; 0 means exact equality.
        seed: key of the resampling; the same seed and shapes draw the same prompts, so judges are compared on equal
            resamples.

    Raises:
        PenchantError: as `outcomes`.

    Example:
        >>> win_rate([[2.0, 3.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 2.0]]).rate
        0.625
    """
    won_RPS = outcomes(policy_scores, base_scores, tie_margin=tie_margin)
    runs, prompts, seeds = won_RPS.shape
    rate = float(won_RPS.mean())
    low, high = _interval(won_RPS.mean(-1), seed=seed)
    if rate in (0.0, 1.0):
        reach = ((1 - LEVEL) / 2) ** (1 / prompts)
        low, high = (reach, 1.0) if rate == 1.0 else (0.0, 1 - reach)
    return WinRate(
        rate=rate, low=low, high=high, prompts=prompts, seeds=seeds, runs=runs, ties=float((won_RPS == 0.5).mean())
    )


def mean_gain(policy_scores: ArrayLike, base_scores: ArrayLike, *, seed: int = 0) -> MeanGain:
    """Mean score before and after, and the gain with the cluster bootstrap's 95 % percentile interval.

    Args:
        policy_scores: scores [P, S] or [R, P, S], larger = better.
        base_scores: scores of the base, of the same shape, or [P, S] shared by all R runs.
        seed: key of the resampling.

    Raises:
        PenchantError: as `outcomes`.
    """
    policy_RPS, base_RPS = aligned(policy_scores, base_scores)
    difference_RPS = policy_RPS - base_RPS
    runs, prompts, seeds = difference_RPS.shape
    low, high = _interval(difference_RPS.mean(-1), seed=seed)
    return MeanGain(
        before=float(base_RPS.mean()),
        after=float(policy_RPS.mean()),
        gain=float(difference_RPS.mean()),
        low=low,
        high=high,
        prompts=prompts,
        seeds=seeds,
        runs=runs,
    )


def resampled_means(value_RP: Float[np.ndarray, "R P"], *, seed: int) -> Float[np.ndarray, " N"]:
    """Means of `RESAMPLES` bootstrap draws of prompts and, where R > 1, of runs: a pure function of values and seed.

    Args:
        value_RP: one value a run and prompt, already averaged over the prompt's seeds.
        seed: key of the Philox generator.

    Returns:
        the mean of every resample, [N].
    """
    runs, prompts = value_RP.shape
    generator = np.random.Generator(np.random.Philox(key=seed))
    rows = max(1, _CHUNK // (runs * prompts))
    means = []
    for start in range(0, RESAMPLES, rows):
        n = min(rows, RESAMPLES - start)
        prompt_NP = generator.integers(0, prompts, size=(n, prompts))
        if runs == 1:
            means.append(value_RP[0][prompt_NP].mean(-1))
            continue
        run_NR = generator.integers(0, runs, size=(n, runs))
        over_runs_NP = value_RP[run_NR].mean(1)
        means.append(np.take_along_axis(over_runs_NP, prompt_NP, axis=-1).mean(-1))
    return np.concatenate(means)


def _interval(value_RP: np.ndarray, *, seed: int) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled_means(value_RP, seed=seed), [tail, 1 - tail])
    return float(low), float(high)


def aligned(policy_scores: ArrayLike, base_scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both score arrays as finite float64 [R, P, S] of one shape."""
    policy, base = (_scores(values, name) for values, name in ((policy_scores, "policy"), (base_scores, "base")))
    if base.shape[0] == 1:
        base = np.broadcast_to(base, (policy.shape[0], *base.shape[1:]))
    if policy.shape != base.shape:
        raise PenchantError(
            f"policy scores have shape {policy.shape} and base scores {base.shape} (runs, prompts, seeds).",
            remedy="score policy and base on the same prompts and the same seeds.",
        )
    if policy.shape[1] < 2:
        raise PenchantError(
            "an interval over prompts needs two prompts or more.", remedy="evaluate on more prompts, not on more seeds."
        )
    return policy, base


def _scores(values: ArrayLike, name: str) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim == 2:
        scores = scores[None]
    if scores.ndim != 3 or scores.size == 0:
        raise PenchantError(
            f"{name} scores have shape {scores.shape}.",
            remedy="give [prompts, seeds] or [runs, prompts, seeds], none of them empty.",
        )
    if not np.isfinite(scores).all():
        where = np.argwhere(~np.isfinite(scores))[0]
        raise PenchantError(
            f"the {name} score of run {where[0]}, prompt {where[1]}, seed {where[2]} is not finite.",
            remedy="drop that prompt from policy and base alike, or score it again.",
        )
    return scores
