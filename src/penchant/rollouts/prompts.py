"""What is asked: the prompts of rollouts, and which of them a round has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penchant.errors import RecipeError
from penchant.feedback.groups import Prompt
from penchant.likelihoods.randomness import generator


def turns(prompts: Sequence[Prompt], *, first: int, count: int, seed: int) -> list[Prompt]:
    """`count` prompts from place `first` on, of a list that is shuffled anew each time it has been gone through.

    A pure function of the place and `seed`, so a resumed run asks what the other would have asked.
    """
    size = len(prompts)
    orders = {
        epoch: generator(seed, epoch, "prompts", "rollouts").permutation(size)
        for epoch in range(first // size, (first + count - 1) // size + 1)
    }
    return [prompts[int(orders[place // size][place % size])] for place in range(first, first + count)]


def all_prompts(address: str) -> list[Prompt]:
    """Distinct prompts of a text file, a `.jsonl` file of prompts, or preference data, in their order.

    Raises:
        RecipeError: nothing is there, or an answer is begun already, which a group cannot keep.
    """
    from penchant.assets import resolve
    from penchant.evaluate.prompts import read_prompts
    from penchant.feedback import read

    path = Path(resolve(address))
    found = read_prompts(address) if path.suffix == ".txt" or _asks_only(path) else [g.asked() for g in read(path)]
    prompts = list({prompt.text: prompt for prompt in found}.values())
    if not prompts:
        raise RecipeError("holds no prompt.", file=path, field="prompts", remedy="one prompt a line.")
    if any(prompt.opening for prompt in prompts):
        raise RecipeError("begins answers, which a group cannot keep.", file=path, field="opening", remedy="ask only.")
    return prompts


def _asks_only(path: Path) -> bool:
    """Whether a .jsonl file has prompts, perhaps with their right answers, and no candidates."""
    import json

    if path.suffix != ".jsonl":
        return False
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(next((line for line in file if line.strip()), "{}"))
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and not set(first) - {"prompt", "messages", "opening", "id", "answer"}
