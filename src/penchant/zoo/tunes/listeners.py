"""Simulated listeners of tunes, who vote as MusicRL's users did. No person is in it.

MusicRL's votes come from a public application: two clips of a prompt, and a trophy for the better one if the user cares
to give it; a vote counts if both clips were listened to (arXiv 2402.04229, section 3.3). Here, for a listener l:

    u_l(tune)       = w_l . traits(tune)                      `traits.py`; w_l ~ N(WEIGHTS, SPREAD |WEIGHTS|), l's taste
    P(first wins)   = b + (1 - b) sigmoid( (u_l(first) - u_l(second)) / temperature )            b = 0.05 for the place
    P(both heard)   = 0.9, else there is no vote

`temperature_for` finds the temperature at which two listeners agree as often as asked. How often they do bounds what
any model can learn from them; `ceiling` says by how much.

Shapes: P pairs, M listeners, Z traits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from penchant.errors import FeedbackError
from penchant.feedback.groups import Group
from penchant.feedback.rankings import verdict
from penchant.likelihoods.randomness import generator
from penchant.zoo.tunes.traits import TRAITS, traits

WEIGHTS = (1.5, 0.8, 1.0, 2.0, 0.5, 0.5, -4.0, -2.0)
"""What the mean listener gives for each of `TRAITS`."""
SPREAD = 0.5
"""Deviation of the taste, as a share of each weight's size."""
TEMPERATURE = 0.38
_PANEL = 512
"""Listeners whose tastes are averaged where a probability over all listeners is asked for."""


@dataclass(frozen=True, kw_only=True)
class Listeners:
    """Who votes.

    Attributes:
        temperature: of a vote; larger is less sure.
        place: share of the votes that go to the first sample whatever it is.
        heard: share of the pairs of which both samples are listened to.
        name: for the source of the judgements, `simulated:NAME`.
        seed: of tastes and votes; a vote depends on (seed, listener, pair) and on nothing else.
    """

    temperature: float = TEMPERATURE
    place: float = 0.05
    heard: float = 0.9
    name: str = "listeners"
    seed: int = 0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise FeedbackError("the temperature is not above 0.", field="temperature", remedy="use temperature_for.")
        if not (0 <= self.place < 1 and 0 < self.heard <= 1):
            raise FeedbackError("a share is out of range.", field="place, heard", remedy="use 0.05 and 0.9.")

    def taste(self, listener: int) -> Float[np.ndarray, Z]:
        """The weights of one listener."""
        mean_Z = np.array(WEIGHTS)
        drawn_Z = generator(self.seed, 0, str(listener), "taste of a listener").standard_normal(len(mean_Z))
        return mean_Z + SPREAD * np.abs(mean_Z) * drawn_Z

    def preference(self, listener: int, group: Group) -> float:
        """The probability that the listener votes for the first of the two, if both are heard."""
        return float(self._probability(_gaps([group]) @ self.taste(listener))[0])

    def vote(self, listener: int, group: Group) -> Group | None:
        """The group with the listener's vote, or None where not both samples were heard."""
        rng = generator(self.seed, 0, group.id, f"vote of listener {listener}")
        heard, drawn = rng.random() < self.heard, rng.random()
        if not heard:
            return None
        first = float(drawn < self.preference(listener, group))
        who = hashlib.sha256(f"annotator:simulated:{self.name}/{listener}".encode()).hexdigest()[:16]
        return group.judged(
            verdict(0, 1, 2, first, annotator=who, source=f"simulated:{self.name}", dimension=DIMENSION)
        )

    def votes(self, groups: Iterable[Group]) -> tuple[list[Group], Counter[str]]:
        """Every pair before a listener of its own: the pairs with a vote, and how many were "voted" and "not heard"."""
        asked = [self.vote(number, group) for number, group in enumerate(groups)]
        kept = [group for group in asked if group is not None]
        return kept, Counter({"voted": len(kept), "not heard": len(asked) - len(kept)})

    def agreement(self, groups: Sequence[Group]) -> float:
        """The probability that two listeners, drawn apart, vote alike on one of the pairs."""
        return _agreement(self._all(_gaps(groups)))

    def ceiling(self, groups: Sequence[Group]) -> float:
        """The share of the votes that who knows rules, tastes and places foretells: no model does better on average."""
        first_P = self._all(_gaps(groups))
        return float(np.maximum(first_P, 1 - first_P).mean())

    def _all(self, gap_PZ: np.ndarray) -> Float[np.ndarray, P]:
        """P(first wins) before a listener whose taste is not known."""
        taste_MZ = np.stack([self.taste(listener) for listener in range(_PANEL)])
        return self._probability(gap_PZ @ taste_MZ.T).mean(-1)

    def _probability(self, gap: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        return self.place + (1 - self.place) * expit(gap / self.temperature)


DIMENSION = "preference"


def temperature_for(agreement: float, groups: Sequence[Group], *, seed: int = 0) -> float:
    """The temperature at which two listeners agree on these pairs as often as asked.

    Args:
        agreement: above one half and below what the cold listeners reach, whose tastes still differ.
        groups: pairs of tunes.
        seed: of the tastes.

    Raises:
        FeedbackError: no temperature does.
    """
    from dataclasses import replace

    from scipy.optimize import brentq

    gaps, listeners = _gaps(groups), Listeners(seed=seed)

    def excess(log: float) -> float:
        return _agreement(replace(listeners, temperature=float(np.exp(log)))._all(gaps)) - agreement

    coldest, hottest = np.log(1e-3), np.log(1e3)
    if excess(coldest) < 0 or excess(hottest) > 0:
        raise FeedbackError(
            f"listeners of these tastes never agree in {agreement:g} of the votes.",
            field="agreement",
            remedy="use 0.6 to 0.75.",
        )
    return float(np.exp(brentq(excess, coldest, hottest, xtol=1e-6)))


def _agreement(first_P: np.ndarray) -> float:
    return float((first_P**2 + (1 - first_P) ** 2).mean())


def _gaps(groups: Sequence[Group]) -> Float[np.ndarray, "P Z"]:
    """Traits of the first sample minus those of the second.

    Raises:
        FeedbackError: a group is no pair of texts.
    """
    rows = []
    for group in groups:
        texts = [candidate.text for candidate in group.candidates]
        if len(texts) != 2 or texts[0] is None or texts[1] is None:
            raise FeedbackError(f"group {group.id[:12]} is no pair of tunes.", field="candidates", remedy="give pairs.")
        rows.append(traits(group.prompt, texts[0]) - traits(group.prompt, texts[1]))
    return np.array(rows).reshape(len(rows), len(TRAITS))
