"""`Iterations`: rounds of drawing, judging and training, as one frozen object.

The parts are a recipe's own: any policy, likelihood and objective that fit together. With DPO this is iterative DPO,
and with as many prompts a round as a batch has, online DPO (one step a round); with a regression on logits and several
annotators it is iREPO. Nothing here knows which.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from penchant.compatible import require
from penchant.errors import RecipeError
from penchant.iterations.panels import JudgePanel, LanguageModelPanel, People, SimulatedPanel
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.recipe import Evaluation, Preferences, Recipe, Training
from penchant.references.spec import Reference
from penchant.types import Likelihood, Objective


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How the policy answers the prompts of a round.

    Attributes:
        candidates: samples a prompt, K.
        decoding: how tokens are drawn (texts).
        steps: denoising steps (pictures).
        guidance: guidance scale (pictures).
        batch_size: samples drawn, and kept, at a time.
    """

    candidates: int = 4
    decoding: Decoding = field(default_factory=lambda: Decoding(top_p=0.95))
    steps: int = 20
    guidance: float = 3.0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise RecipeError("one sample is nothing to compare.", field="draws.candidates", remedy="use 2 or more.")
        if self.decoding.temperature == 0:
            raise RecipeError(
                "at temperature 0 all samples of a prompt are one.",
                field="draws.decoding.temperature",
                remedy="use 1.0.",
            )


@dataclass(frozen=True, kw_only=True)
class Iterations:
    """Rounds of: draw, annotate, rank, train from the last iterate, judge.

    The paper behind the shape is iREPO (arXiv 2405.15230); numbers that it does not give are ours.

    Attributes:
        name: name of the iterations.
        policy: where round 0 starts.
        likelihood: how the policy scores a sample.
        objective: what each round minimises; it says whether it reads logits of the votes or the majority's order.
        prompts: a text file with one prompt a line, a `.jsonl` file of prompts and conversations, `zoo:NAME`, or
            preference data whose prompts are taken.
        annotators: panels that vote; each vote counts alike.
        reference: what a round's policy is compared with: `start` is the last iterate, `adapter_off` the base of all
            rounds. "auto" would hide which, and is refused where the objective has a reference.
        train: how a round optimises; `steps` is set from `epochs`.
        rounds: how many at most.
        prompts_a_round: prompts of a round; no prompt serves twice.
        draws: how the policy answers.
        epochs: passes over a round's groups.
        prior: virtual wins added to every ordered pair, so that unanimous votes have a finite logit.
        evaluation: how a round is judged, against the policy that it began with; None for not at all.
        stop_at: stop after a round whose win rate, by the first held-out judge on held-out prompts, has an interval
            that does not lie above this; None runs every round.
        seed: key of prompts, draws, votes and training.
        out: folder; None means `runs/NAME`.
        cache: folder of samples and encodings; None means `cache` in the folder.
        threads: CPU threads; None leaves PyTorch's choice.
    """

    name: str
    policy: Policy
    likelihood: Likelihood
    objective: Objective
    prompts: str
    annotators: tuple[SimulatedPanel | JudgePanel | LanguageModelPanel | People, ...]
    reference: Reference = field(default_factory=lambda: Reference(kind="start"))
    train: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    rounds: int = 3
    prompts_a_round: int = 64
    draws: Draws = field(default_factory=Draws)
    epochs: float = 1.0
    prior: float = 0.5
    evaluation: Evaluation | None = None
    stop_at: float | None = 0.5
    seed: int = 0
    out: str | None = None
    cache: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        require(self.objective, self.likelihood, ties="drop", cached=False, by_candidate=self.train.by_candidate)
        if self.rounds < 1 or self.prompts_a_round < 1 or not self.epochs > 0:
            raise RecipeError("a round needs a prompt and a step.", field="rounds, prompts_a_round, epochs")
        if not self.annotators:
            raise RecipeError("nobody votes.", field="annotators", remedy="name a panel.")
        if self.objective.needs.reference and self.reference.kind == "auto":
            raise RecipeError(
                "which reference is left open.",
                field="reference.kind",
                remedy="use start (the last iterate), or adapter_off (the base of all rounds).",
            )
        if self.reference.cache is not None:
            raise RecipeError("a round's reference is another one each time.", field="reference.cache")
        if self.stop_at is not None and not (self.evaluation and self.evaluation.judges):
            raise RecipeError(
                "there is a stop rule and no held-out judge.",
                field="stop_at",
                remedy="name evaluation.judges and evaluation.prompts, or use stop_at=None.",
            )

    @property
    def dimension(self) -> str:
        """What the objective reads of the votes: log strengths, or the order by majority."""
        return "logit" if self.objective.needs.scores in ("logit", "reward") else "overall"

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return Path(self.out or f"runs/{self.name}")

    @property
    def cached(self) -> Path:
        """Where samples and encodings are kept."""
        return Path(self.cache) if self.cache is not None else self.folder / "cache"

    def recipe(self, number: int, policy: Policy, *, groups: int, store: Path, out: Path) -> Recipe:
        """The ordinary run of a round.

        Args:
            number: which round.
            policy: the last iterate.
            groups: how many groups have a preference.
            store: where they lie.
            out: the run's folder.
        """
        # A text that was cut at the limit did not end there: without this it would be trained to.
        limit = policy.max_completion if policy.max_completion is not None else self.draws.decoding.max_tokens
        steps = max(1, round(self.epochs * groups / self.train.batch_size))
        return Recipe(
            name=f"{self.name}-{number}",
            policy=replace(policy, max_completion=limit),
            likelihood=self.likelihood,
            objective=self.objective,
            feedback=Preferences(path=str(store), dimension=self.dimension),
            reference=self.reference,
            train=replace(self.train, steps=steps),
            evaluation=self.evaluation,
            seed=self.seed + number,
            out=str(out),
            cache=str(self.cached),
            threads=self.threads,
        )
