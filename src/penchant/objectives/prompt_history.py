"""Advantages over what a prompt has brought before: DDPO's per-prompt form (Black et al., arXiv 2305.13301).

    A = (r - mean of the prompt's last rewards) / (their standard deviation + eps)

With a single sample a prompt there is no group to compare with; its past rewards stand in for one. A prompt that has
been seen too seldom is compared with everything that was collected now. This is the one form of an advantage with a
memory, so it is no `Advantage`: it is applied once to a collection, whose scores then are advantages (`RawAdvantage`).

As ddpo-pytorch: deviations divide by n, and a prompt's new rewards are in its history when they are judged.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence


class PromptHistory:
    """The last rewards of every prompt.

    Args:
        size: rewards kept a prompt; 16 in ddpo-pytorch's configuration.
        least: rewards below which a prompt is judged by the whole collection instead; 16 there.
        eps: added to the deviation.

    Raises:
        ValueError: a history of `size` never reaches `least`, or `eps` is not above 0.

    A prompt that always brought 1 is surprised by 3:

        >>> history = PromptHistory(size=4, least=2)
        >>> history.advantages(["a", "a", "b"], [1.0, 1.0, 2.0])[:2]
        [0.0, 0.0]
        >>> round(history.advantages(["a"], [3.0])[0], 3)
        1.414
    """

    def __init__(self, *, size: int = 16, least: int = 16, eps: float = 1e-6) -> None:
        if not 1 <= least <= size:
            raise ValueError(f"a history of {size} rewards never holds {least}: least must lie in [1, size].")
        if eps <= 0:
            raise ValueError(f"eps {eps} must be > 0: equal rewards deviate by nothing.")
        self.size, self.least, self.eps = size, least, eps
        self._rewards: dict[str, deque[float]] = {}

    def advantages(self, prompts: Sequence[str], rewards: Sequence[float]) -> list[float]:
        """Remember the rewards of a collection and say how far each lies from what its prompt brings.

        Rewards that are not numbers are forgotten, and their advantage is not a number.
        """
        known = [(p, float(r)) for p, r in zip(prompts, rewards, strict=True) if not math.isnan(r)]
        for prompt, reward in known:
            self._rewards.setdefault(prompt, deque(maxlen=self.size)).append(reward)
        everything = _moments([reward for _, reward in known])
        of_prompt = {
            prompt: _moments(past) if len(past := self._rewards[prompt]) >= self.least else everything
            for prompt, _ in known
        }
        # Prompts with no known reward are in no table; their samples are not numbers either way.
        pairs = [(of_prompt.get(p, everything), float(r)) for p, r in zip(prompts, rewards, strict=True)]
        return [(r - mean) / (std + self.eps) for (mean, std), r in pairs]

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps."""
        return {prompt: list(past) for prompt, past in self._rewards.items()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on from a checkpoint's state."""
        self._rewards = {prompt: deque(past, maxlen=self.size) for prompt, past in state.items()}


def _moments(values: Sequence[float] | deque[float]) -> tuple[float, float]:
    """(mean, standard deviation), dividing by n."""
    if not values:
        return math.nan, math.nan
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
