"""One row of evidence: what one judge says of one policy on one set of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from numpy.typing import ArrayLike

from penchant.evaluate.length_control import ControlledRate, controlled_rate
from penchant.evaluate.winrate import MeanGain, WinRate, mean_gain, win_rate
from penchant.evaluate.words import WORDS, Words
from penchant.sampling.samplers import Modality

Role = Literal["trained against", "held out", "verifier"]
Captions = Literal["seen", "held-out"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A judge's win rate and mean gain for a policy.

    `role` says whether the policy's training saw this judge's opinion (its labels or rewards came from it), `captions`
    whether the prompts were among the training prompts. Only "held out" on "held-out" speaks for the policy, and the
    "verifier", which may have made the feedback too: it knows the answers, so only the prompts can be held out.
    `controlled` is the win rate at equal length, where samples have lengths and the judge a taste for them.
    `dimension` is one of several that the judge scores; `judge` ends with it then.
    """

    policy: str
    judge: str
    role: Role
    captions: Captions
    win: WinRate
    gain: MeanGain
    modality: Modality = "picture"
    controlled: ControlledRate | None = None
    dimension: str = ""

    def record(self) -> dict[str, Any]:
        """The row as `evaluation.json` keeps it; pictures, which came first, are not named, and what is not there is
        left out."""
        record = asdict(self)
        if self.modality == "picture":
            del record["modality"]
        if self.controlled is None:
            del record["controlled"]
        if not self.dimension:
            del record["dimension"]
        return record

    @property
    def scorer(self) -> str:
        """The judge without its dimension."""
        return self.judge.removesuffix(f":{self.dimension}") if self.dimension else self.judge

    @property
    def independent(self) -> bool:
        """The prompts took no part in training, nor did the judge, unless it knows the answers."""
        return self.role != "trained against" and self.captions == "held-out"


def words_of(rows: Sequence[Evidence]) -> Words:
    """What the rows' samples and prompts are called."""
    return WORDS[rows[0].modality if rows else "picture"]


def sentence(record: Mapping[str, Any]) -> str:
    """A row of `evaluation.json` in one line."""
    win, gain, controlled = record["win"], record["gain"], record.get("controlled")
    words = WORDS[record.get("modality", "picture")]
    line = (
        f"{record['captions']:8s} {words.prompts}, {record['judge']} ({record['role']}): wins "
        f"{100 * win['rate']:.1f} % [{100 * win['low']:.1f}, {100 * win['high']:.1f}] over {win['prompts']} prompts x "
        f"{win['seeds']} seeds, mean {gain['before']:.4g} -> {gain['after']:.4g}"
    )
    if controlled is None:
        return line
    low, high = 100 * controlled["low"], 100 * controlled["high"]
    return f"{line}, at equal length {100 * controlled['rate']:.1f} % [{low:.1f}, {high:.1f}]"


def measure(
    policy_scores: ArrayLike,
    base_scores: ArrayLike,
    *,
    policy: str,
    judge: str,
    role: Role,
    captions: Captions,
    modality: Modality = "picture",
    dimension: str = "",
    lengths: tuple[ArrayLike, ArrayLike] | None = None,
    tie_margin: float = 0.0,
    seed: int = 0,
) -> Evidence:
    """The evidence row of one judge.

    Args:
        policy_scores: scores [P, S] or [R, P, S], larger = better.
        base_scores: scores of the base, of the same shape, or [P, S] shared by all R runs.
        policy: the policy's name in the report.
        judge: the judge's name in the report.
        role: whether the policy was trained against this judge, or the judge knows the answers.
        captions: whether the prompts were seen in training.
        modality: what was scored.
        dimension: which one of the judge's dimensions this is, if it has several.
        lengths: (policy, base) lengths shaped as the scores; None for no win rate at equal length.
        tie_margin: score differences up to this are ties.
        seed: key of the resampling.

    Raises:
        PenchantError: as `penchant.evaluate.winrate.outcomes`.
    """
    controlled = None
    if lengths is not None:
        controlled = controlled_rate(policy_scores, base_scores, *lengths, tie_margin=tie_margin, seed=seed)
    return Evidence(
        policy=policy,
        judge=judge,
        role=role,
        captions=captions,
        win=win_rate(policy_scores, base_scores, tie_margin=tie_margin, seed=seed),
        gain=mean_gain(policy_scores, base_scores, seed=seed),
        modality=modality,
        controlled=controlled,
        dimension=dimension,
    )
