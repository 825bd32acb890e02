"""`Recipe`: a run, whole, as one frozen object.

A recipe is a Python value; the command line only overrides its fields, and `recipe_file` writes and reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from penchant.compatible import require
from penchant.errors import RecipeError
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.references.spec import Reference
from penchant.types import Likelihood, Objective


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Which feedback to learn from.

    Attributes:
        path: file, folder or store that `penchant.read` reads, or `zoo:NAME`.
        layout: insist on a layout instead of recognising it.
        dimension: which judged dimension.
        source: use judgements of this source only (a prefix, e.g. "human" or "reward:pickscore").
        ties: what becomes of a group without a strict preference; "keep" and "half" need an objective with tie_credit.
        split: use the groups of this split only.
        limit: read at most so many rows.
        max_bad: the largest share of refused rows that is accepted.
    """

    path: str
    layout: str | None = None
    dimension: str = "overall"
    source: str | None = None
    ties: Literal["drop", "half", "random", "keep"] = "drop"
    split: str | None = None
    limit: int | None = None
    max_bad: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RewardTerm:
    """One judge's part of what a rollout is rewarded with: weight * (score - low) / (high - low).

    Attributes:
        judge: its address (`penchant.judges.load`); of a judge with several dimensions `ADDRESS#DIMENSION`.
        weight: how much it counts.
        low: the score that is worth 0.
        high: the score that is worth 1.
        clip: hold the rescaled score in [0, 1] before it is weighed.
    """

    judge: str
    weight: float = 1.0
    low: float = 0.0
    high: float = 1.0
    clip: bool = False

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise RecipeError(f"{self.low} to {self.high} is no range.", field="rewards", remedy="low below high.")


@dataclass(frozen=True, kw_only=True)
class Server:
    """An inference server that draws a language policy's samples: anything that speaks OpenAI's completions and takes
    up adapters while it runs, as vLLM does (`--enable-lora`, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1).

    Attributes:
        url: where its interface begins, e.g. "http://127.0.0.1:8000/v1".
        folder: where each round's adapter is written, in a file system that the server sees.
        key_variable: the environment variable that holds its key; "" where none is asked for.
        concurrency: requests under way at a time.
    """

    url: str
    folder: str
    key_variable: str = ""
    concurrency: int = 64


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Feedback that the policy earns while it trains: it draws samples, judges reward them, the objective learns.

    A round is one drawing: `prompts_a_round` prompts with `candidates` samples each. Training goes over a round's
    groups `passes` times before the next one is drawn.

    Attributes:
        prompts: a text file with one prompt a line, a `.jsonl` file of prompts and conversations, `zoo:NAME`, or
            preference data whose prompts are taken.
        rewards: what a sample earns: the sum of these.
        candidates: samples a prompt, K.
        prompts_a_round: prompts of a round; passes * prompts_a_round is a multiple of the batch size.
        passes: how often a round's groups are trained on; more than once needs an objective that knows the log-probs
            at which they were drawn.
        keep: rounds that are trained on at a time: the newest and keep - 1 older ones, whose samples are stale.
        unfinished: what a sample is worth that was cut at the limit: the "lowest" reward of its round, or what its
            judges say ("keep"). Where length is free, judges that never saw a cut sample reward length.
        whiten: bring every reward to mean 0 and deviation 1 within its round before they are added, so that none
            outweighs the others by its scale.
        decoding: how tokens are drawn; the likelihood's temperature must be its temperature, and top_p 1, or what is
            drawn is not what is scored.
        steps: denoising steps, where the likelihood is a bound; a denoising path says its own.
        guidance: guidance scale of the same.
        share_start: a prompt's samples begin with the same noise and part on the way (DanceGRPO); denoising paths only.
        batch_size: samples drawn at a time.
        server: who draws in the policy's place, each round with the adapter of that moment; None draws here. Its
            kernels are not ours, so its log-probs are kept as the behavior that the objective corrects for.
    """

    prompts: str
    rewards: tuple[RewardTerm, ...]
    candidates: int = 4
    prompts_a_round: int = 16
    passes: int = 1
    keep: int = 1
    unfinished: Literal["lowest", "keep"] = "lowest"
    whiten: bool = False
    decoding: Decoding = field(default_factory=Decoding)
    steps: int = 20
    guidance: float = 1.0
    share_start: bool = False
    batch_size: int = 64
    server: Server | None = None

    def __post_init__(self) -> None:
        if self.server is not None and self.decoding.temperature != 1:
            raise RecipeError(
                "servers differ in what their log-probs know of the temperature.",
                field="feedback.decoding.temperature",
                remedy="use 1 with a server.",
            )
        if min(self.candidates, self.prompts_a_round, self.passes, self.keep, self.batch_size) < 1:
            raise RecipeError("rollouts count from 1.", field="candidates, prompts_a_round, passes, keep, batch_size")
        if not self.rewards:
            raise RecipeError("nothing is rewarded.", field="feedback.rewards", remedy="name a judge.")
        if self.decoding.temperature == 0 or self.decoding.top_p < 1:
            raise RecipeError(
                "rollouts need every token to be possible.",
                field="feedback.decoding",
                remedy="use a temperature above 0 and top_p=1.",
            )


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to optimise. `batch_size` counts groups (pairs, lists) over all processes of one optimiser step.

    Attributes:
        steps: optimiser steps.
        batch_size: groups a step.
        micro_batch: groups of one forward pass on one process; None means all of its share at once.
        by_candidate: go through a group one candidate at a time, with the same gradient and 1/K of the memory.
        lr: peak learning rate.
        schedule: learning rate after the warm-up.
        warmup: steps of linear warm-up.
        optimizer: AdamW, or Adafactor with fixed step size.
        betas: AdamW's decay rates.
        eps: AdamW's epsilon.
        weight_decay: decoupled weight decay.
        clip: largest gradient norm; None for none.
        ema: decay of the averaged weights that are saved at the end; 0 for none.
        precision: autocast of the forward pass; errors are reduced in float32 whatever it is.
        save_every: steps between checkpoints; 0 saves only when stopped.
        keep: how many checkpoints stay.
        log_every: steps between metric lines.
        bad_steps: consecutive steps with a loss or gradient that is not finite before the run stops.
        flip: mirror half of the groups, all candidates of a group alike.
    """

    steps: int = 100
    batch_size: int = 16
    micro_batch: int | None = None
    by_candidate: bool = False
    lr: float = 1e-5
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: int = 0
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    clip: float | None = 1.0
    ema: float = 0.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    save_every: int = 0
    keep: int = 2
    log_every: int = 1
    bad_steps: int = 3
    flip: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise RecipeError("a run needs at least one step of one group.", field="steps, batch_size")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise RecipeError("a micro-batch needs a group.", field="micro_batch", remedy="use 1 or more, or None.")
        if self.bad_steps < 1 or self.log_every < 1 or self.keep < 1:
            raise RecipeError("bad_steps, log_every and keep count from 1.", field="bad_steps, log_every, keep")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How to find out whether the policy is better than its base.

    Attributes:
        prompts: a text file with one prompt a line, a `.jsonl` file of prompts and conversations, `zoo:NAME`, or
            "feedback": the prompts of the feedback.
        count: how many prompts of each kind (seen in training, held out).
        seeds: samples a prompt.
        steps: denoising steps (pictures).
        guidance: guidance scale (pictures).
        decoding: how tokens are drawn (texts); None for the defaults of `Decoding`.
        batch_size: samples drawn, and kept, at a time.
        judges: judges that took no part in training.
        trained_against: judges whose opinion made the feedback.
    """

    prompts: str = "feedback"
    count: int = 64
    seeds: int = 1
    steps: int = 20
    guidance: float = 3.0
    decoding: Decoding | None = None
    batch_size: int = 16
    judges: tuple[str, ...] = ()
    trained_against: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.decoding is not None and self.decoding.temperature == 0 and self.seeds > 1:
            raise RecipeError(
                "at temperature 0 every seed of a prompt gives the same text.",
                field="evaluation.seeds",
                remedy="set evaluation.seeds to 1, or evaluation.decoding.temperature above 0.",
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run: which model, likelihood, objective and feedback, how to train and how to judge.

    Attributes:
        name: name of the run.
        policy: the model to align.
        likelihood: how it scores a sample.
        objective: what is minimised.
        feedback: what is learnt from: preferences that are there, or rollouts of the policy itself.
        reference: the frozen model to compare with.
        train: how to optimise.
        evaluation: how to judge; None for not at all.
        seed: key of every draw.
        out: run folder; None means `runs/<date>-<name>`.
        cache: folder of encoded latents and texts; None means `cache` in the run folder's parent.
        threads: CPU threads; None leaves PyTorch's choice.
        tracker: also log to this tracker, by accelerate's name ("tensorboard", "wandb", "trackio").
        cite: keys of papers that no part names, such as one on how the feedback was made (`penchant.bibliography`).
    """

    name: str
    policy: Policy
    likelihood: Likelihood
    objective: Objective
    feedback: Preferences | Rollouts
    reference: Reference = field(default_factory=Reference)
    train: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    evaluation: Evaluation | None = None
    seed: int = 0
    out: str | None = None
    cache: str | None = None
    threads: int | None = None
    tracker: str | None = None
    cite: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def __post_init__(self) -> None:
        require(
            self.objective,
            self.likelihood,
            ties=self.feedback.ties if isinstance(self.feedback, Preferences) else "drop",
            cached=self.reference.cache is not None,
            by_candidate=self.train.by_candidate,
        )
        if isinstance(self.feedback, Preferences) and self.reference.kind == "round":
            raise RecipeError("no round is drawn here.", field="reference.kind", remedy="use start, or rollouts.")
        if isinstance(self.feedback, Rollouts):
            _require_rollouts(self.feedback, self.policy, self.likelihood, self.objective, self.train)


def _require_rollouts(
    feedback: Rollouts, policy: Policy, likelihood: Likelihood, objective: Objective, train: Training
) -> None:
    """What must fit between rollouts and the other parts of a recipe."""
    name, needs = type(objective).__name__, objective.needs
    if needs.scores in ("share", "logit"):
        raise RecipeError(
            f"{name} reads {needs.scores}s of votes, and rollouts have rewards.",
            field="objective",
            remedy="use grpo, rloo, reinforce or dpo; penchant iterate makes votes.",
        )
    if feedback.candidates < needs.min_candidates:
        raise RecipeError(
            f"{name} compares {needs.min_candidates} samples of a prompt.",
            field="feedback.candidates",
            remedy=f"use {needs.min_candidates} or more.",
        )
    if feedback.passes * feedback.prompts_a_round % train.batch_size:
        raise RecipeError(
            f"{feedback.passes} x {feedback.prompts_a_round} groups are no whole number of steps of "
            f"{train.batch_size}.",
            field="feedback.prompts_a_round",
            remedy="make it a multiple of batch_size.",
        )
    if feedback.server is not None and not (policy.lora or policy.adapter):
        raise RecipeError("a server takes up adapters.", field="policy.lora", remedy="give the policy a LoRA rank.")
    if feedback.share_start and likelihood.density != "path":
        raise RecipeError("only paths begin with noise that is shared.", field="feedback.share_start", remedy="False.")
    if feedback.server is not None and likelihood.density != "exact":
        raise RecipeError("a server draws texts.", field="feedback.server", remedy="leave it out.")
    temperature = getattr(likelihood, "temperature", feedback.decoding.temperature)
    if temperature != feedback.decoding.temperature:
        raise RecipeError(
            f"samples are drawn at temperature {feedback.decoding.temperature:g} and scored at {temperature:g}.",
            field="likelihood.temperature",
            remedy="give both the same.",
        )
    if train.flip:
        raise RecipeError("what the policy drew is not mirrored.", field="flip", remedy="set it to False.")
