"""`Synthesis`: a data set to be made, as one frozen object: which prompts, who draws, who votes, how votes count."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from penchant.errors import RecipeError
from penchant.synthesis.generators import Pictures, Pipeline
from penchant.synthesis.rewards import Reward
from penchant.synthesis.votes import Aggregation


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where and how batches run; nothing here changes what comes out.

    Attributes:
        executor: `local` processes, or `ray` actors (extra `penchant[ray]`).
        workers: local processes, or the largest number of actors.
        threads: CPU threads of a worker; pictures may differ by it in their last bits.
        gpus: local: spread workers over so many GPUs; ray: GPUs an actor asks for.
        attempts: how often a row is tried before it is given up and reported.
        address: of a running Ray cluster; None starts one on this machine.
    """

    executor: Literal["local", "ray"] = "local"
    workers: int = 2
    threads: int = 1
    gpus: float = 0
    attempts: int = 3
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1 or self.attempts < 1 or self.threads < 1:
            raise RecipeError("workers, threads and attempts count from 1.", field="workers, threads, attempts")


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Syn-Pic and its kin: prompts x generators x seeds -> samples -> rewards -> votes -> ranked groups.

    Attributes:
        name: name of the data set.
        prompts: a text file with one prompt a line, `zoo:NAME`, or preference data whose prompts are taken.
        generators: who draws; a group has one sample of each, times `seeds`.
        rewards: who votes.
        aggregation: how votes become one score (see `penchant.synthesis.votes`).
        seeds: samples a prompt of each generator.
        limit: only so many prompts.
        seed: key of every sample's noise.
        licence: what the data set says of itself.
        work: where batches run.
        out: folder; None means `runs/NAME`.
    """

    cite: ClassVar[tuple[str, ...]] = ("karthik2024rankdpo",)

    name: str
    prompts: str
    generators: tuple[Pictures | Pipeline, ...]
    rewards: tuple[Reward, ...]
    aggregation: Aggregation = "strict-votes"
    seeds: int = 1
    limit: int | None = None
    seed: int = 0
    licence: str | None = None
    work: Annotated[Work, tyro.conf.arg(name="")] = Work()
    out: str | None = None

    def __post_init__(self) -> None:
        names = Counter(stage.name for stage in (*self.generators, *self.rewards))
        if twice := [name for name, count in names.items() if count > 1]:
            raise RecipeError(f"'{twice[0]}' names two stages.", field="name", remedy="give each a name of its own.")
        if not self.rewards:
            raise RecipeError("nobody votes.", field="rewards", remedy="name one or more rewards.")
        if self.seeds < 1:
            raise RecipeError("a generator draws at least one sample.", field="seeds", remedy="use 1 or more.")
