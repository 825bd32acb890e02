"""`Collector`: the loop's data while the policy makes it. It draws, lets judges reward, and hands out groups.

A round is drawn before the first step that needs it, with the weights of that moment. Prompts, seeds and order are pure
functions of (seed, round), and the rounds that are trained on lie in every checkpoint: a run that was killed while it
drew, judged or updated goes on to the same bits.

Shape legend: P prompts of a round, K candidates, T steps, N = P*K samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from penchant.errors import CheckpointError, RecipeError
from penchant.feedback.groups import Prompt
from penchant.likelihoods.randomness import generator
from penchant.recipe import Recipe, Rollouts
from penchant.references.base import ReferenceModel
from penchant.references.round import RoundStart
from penchant.rollouts.actors import Actor
from penchant.rollouts.prompts import turns
from penchant.rollouts.rewards import Earned, Purse
from penchant.train.encoding import padded
from penchant.types import CandidateBatch, LogProbs, Rollout, Statistics

Say = Callable[[str], None]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """What was drawn at once.

    Attributes:
        number: counted from 0.
        prompts: texts of the P prompts.
        candidates: tensors [P, K, ...] that the likelihood scores.
        condition: tensors [P, ...] of the prompts.
        score_PK: rewards.
        behavior: "step" log-probs and "mask" [P, K, T] at which the samples were drawn, and the "value" network's
            forecasts then; empty where there are none.
        statistics: of all of it.
        metrics: of all of it, under the names of the metrics file.
    """

    number: int
    prompts: tuple[str, ...]
    candidates: Tensors
    condition: Tensors
    score_PK: Tensor
    behavior: Tensors
    statistics: Statistics
    metrics: Mapping[str, float]


class Collector:
    """Rollouts of `recipe`, rewarded by `purse`.

    Args:
        recipe: the run.
        prompts: all that may be asked.
        actor: who draws.
        purse: who rewards.
        accelerator: which of how many processes this is.
        reference: what the policy is compared with; one that follows the rounds is told of each.

    Raises:
        RecipeError: there are more processes than prompts of a round.
    """

    def __init__(
        self,
        recipe: Recipe,
        prompts: Sequence[Prompt],
        actor: Actor,
        purse: Purse,
        accelerator: Any,
        reference: ReferenceModel | None = None,
    ) -> None:
        assert isinstance(recipe.feedback, Rollouts)
        self.recipe, self.prompts, self.actor, self.purse = recipe, list(prompts), actor, purse
        self.feedback: Rollouts = recipe.feedback
        self.accelerator = accelerator
        asked, processes = self.feedback.prompts_a_round, accelerator.num_processes
        if asked < processes:
            raise RecipeError(
                f"{asked} prompts a round are too few for {processes} processes.",
                field="feedback.prompts_a_round",
                remedy="give every process a prompt, or start fewer.",
            )
        self.follower = reference if isinstance(reference, RoundStart) else None
        self.rounds: list[Round] = []
        # Whole rounds fit into whole steps: the recipe sees to it.
        self.steps = self.feedback.passes * self.feedback.prompts_a_round // recipe.train.batch_size

    def __len__(self) -> int:
        return self.feedback.prompts_a_round * self.feedback.keep

    def before_step(self, step: int, model: Any) -> None:
        """Draws the round that `step` begins, and lets the oldest one go."""
        number = step // self.steps
        if not self.rounds or self.rounds[-1].number != number:
            fresh = self._drawn(number, model)
            if self.follower is not None:
                self.follower.renew(model)
            if step == 0:
                _warm(model, fresh.statistics.mean)
            self.rounds = [*self.rounds, fresh][-self.feedback.keep :]
            if self.recipe.objective.needs.value and self.steps > 1:
                self.rounds[-1] = replace(fresh, behavior={**fresh.behavior, "value": self._forecast(model)})

    def metrics(self) -> Mapping[str, float]:
        """Of the newest round."""
        return self.rounds[-1].metrics

    def batch(self, indices: Sequence[int]) -> CandidateBatch:
        """The groups at `indices`: the newest round first, then older ones; at the beginning there are fewer."""
        size = self.feedback.prompts_a_round
        places = [(self.rounds[-1 - index // size % len(self.rounds)], index % size) for index in indices]
        rounds = {found.number: found for found, _ in places}
        score_BK = torch.stack([found.score_PK[p] for found, p in places])
        kept = _rows([(found.behavior, p) for found, p in places])
        return CandidateBatch(
            group_ids=tuple(f"{found.number}-{p}" for found, p in places),
            sample_ids=tuple(tuple(f"{found.number}-{p}-{k}" for k in range(score_BK.shape[1])) for found, p in places),
            prompts=tuple(found.prompts[p] for found, p in places),
            candidates=_rows([(found.candidates, p) for found, p in places]),
            condition=_rows([(found.condition, p) for found, p in places]),
            scores_BK=score_BK,
            mask_BK=torch.ones(score_BK.shape, dtype=torch.bool),
            behavior=self._behavior(kept),
            behavior_value_BKT=kept.get("value"),
            statistics=_joint([found.statistics for found in rounds.values()]),
        )

    def _behavior(self, kept: Tensors) -> LogProbs | None:
        if "step" not in kept:
            return None
        return LogProbs(step_BKT=kept["step"], mask_BKT=kept["mask"], density=self.recipe.likelihood.density)

    # One round.

    def _drawn(self, number: int, model: Any) -> Round:
        P, K = self.feedback.prompts_a_round, self.feedback.candidates
        asked = turns(self.prompts, first=number * P, count=P, seed=self.recipe.seed)
        rollouts, terms_NR = self._rollouts(number, model, asked)
        earned = self.purse.earned(terms_NR, np.array([rollout.finished for rollout in rollouts]))
        steps_N = [1 if r.behavior_T is None else len(r.behavior_T) for r in rollouts]
        return Round(
            number=number,
            prompts=tuple(prompt.text for prompt in asked),
            candidates=_grouped([rollout.candidate for rollout in rollouts], K),
            condition=_stacked(model.encode_asked(asked)),
            score_PK=torch.from_numpy(earned.total_N).float().view(P, K),
            behavior=_behavior_of(rollouts, K),
            statistics=Statistics(
                steps=sum(steps_N) / P,
                mean=float(earned.total_N.mean()),
                std=float(earned.total_N.std(ddof=1)) if len(earned.total_N) > 1 else 0.0,
            ),
            metrics=_metrics(earned, rollouts, K),
        )

    def _rollouts(self, number: int, model: Any, asked: Sequence[Prompt]) -> tuple[list[Rollout], np.ndarray]:
        """Samples and their judges' scores [N, R]; each process draws and judges some prompts, and all get all."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        own = [self._prompt_rollouts(number, model, asked, range(rank, len(asked), world))]
        by_rank = gather_object(own) if world > 1 else own
        found, terms, K = [], [], self.feedback.candidates
        for p in range(len(asked)):
            rollouts, term_NR = by_rank[p % world]
            rows = slice(p // world * K, (p // world + 1) * K)
            found += rollouts[rows]
            terms.append(term_NR[rows])
        return found, np.concatenate(terms)

    def _prompt_rollouts(
        self, number: int, model: Any, asked: Sequence[Prompt], places: Sequence[int]
    ) -> tuple[list[Rollout], np.ndarray]:
        K, size, seed = self.feedback.candidates, self.feedback.batch_size, self.recipe.seed
        prompts = [asked[p] for p in places for _ in range(K)]
        # A prompt may come twice in a round: its place tells the two apart.
        names = [(f"{p}/{asked[p].text}", f"rollout {k}") for p in places for k in range(K)]
        seeds = [int(generator(seed, number, *name).integers(2**31)) for name in names]
        found: list[Rollout] = []
        for start in range(0, len(prompts), size):
            rows = slice(start, start + size)
            found += self.actor.draw(model, prompts[rows], seeds[rows], round=number)
        terms_NR = self.purse.scores([prompt.text for prompt in prompts], [rollout.sample for rollout in found])
        # What is learnt from is not what was looked at, and pictures need not travel.
        return [replace(rollout, sample=None) for rollout in found], terms_NR

    @torch.no_grad()
    def _forecast(self, model: Any) -> Tensor:
        """What the value network says of the newest round before any update; with one update a round it is not kept."""
        groups = [self.batch([p]).to(model.device) for p in range(self.feedback.prompts_a_round)]
        values = [self.recipe.likelihood.value(model, group)[0].cpu() for group in groups]
        return padded(values)

    # Checkpoints.

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The rounds that are trained on."""
        tensors: dict[str, Tensor] = {}
        if self.follower is not None:
            tensors |= {f"reference.{name}": weight for name, weight in self.follower.state().items()}
        for i, found in enumerate(self.rounds):
            named = {"score": found.score_PK}
            named |= {f"candidates.{name}": value for name, value in found.candidates.items()}
            named |= {f"condition.{name}": value for name, value in found.condition.items()}
            named |= {f"behavior.{name}": value for name, value in found.behavior.items()}
            tensors |= {f"{i}.{name}": value for name, value in named.items()}
        rounds = [
            {
                "number": r.number,
                "prompts": list(r.prompts),
                "statistics": [r.statistics.steps, r.statistics.mean, r.statistics.std],
                "metrics": dict(r.metrics),
            }
            for r in self.rounds
        ]
        return tensors, {"rounds": rounds, "recipe": self._name()}

    def restore(self, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave.

        Raises:
            CheckpointError: it was collected by other rollouts than this recipe's.
        """
        if state["recipe"] != self._name():
            raise CheckpointError(
                "holds rollouts of another recipe.",
                field="feedback",
                remedy="resume with the recipe that was saved beside it.",
            )
        if self.follower is not None:
            self.follower.restore(_under("reference", tensors))
        self.rounds = [_restored(i, record, tensors) for i, record in enumerate(state["rounds"])]

    def _name(self) -> str:
        """Names what rounds depend on beside the weights."""
        asked = [repr(self.feedback), repr(self.recipe.likelihood), self.recipe.seed, *(p.text for p in self.prompts)]
        return hashlib.blake2b(repr(asked).encode(), digest_size=16).hexdigest()


def _under(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _restored(i: int, record: Mapping[str, Any], tensors: Tensors) -> Round:
    steps, mean, std = record["statistics"]
    return Round(
        number=int(record["number"]),
        prompts=tuple(record["prompts"]),
        candidates=_under(f"{i}.candidates", tensors),
        condition=_under(f"{i}.condition", tensors),
        score_PK=tensors[f"{i}.score"],
        behavior=_under(f"{i}.behavior", tensors),
        statistics=Statistics(steps=steps, mean=mean, std=std),
        metrics=record["metrics"],
    )


def _warm(model: Any, mean: float) -> None:
    """A value network that begins at the mean reward: from zero, every advantage would be the whole reward."""
    value = getattr(model, "value", None)
    if value is not None:
        with torch.no_grad():
            value.head.bias.fill_(mean)


def _joint(parts: Sequence[Statistics]) -> Statistics:
    """Of several rounds of equal size."""
    if len(parts) == 1:
        return parts[0]
    means = np.array([p.mean for p in parts])
    return Statistics(
        steps=float(np.mean([p.steps for p in parts])),
        mean=float(means.mean()),
        # Within rounds and between them.
        std=float(np.sqrt(np.mean([p.std**2 for p in parts]) + means.var())),
    )


def _grouped(rows: Sequence[Tensors], K: int) -> dict[str, Tensor]:
    """N = P*K rows as tensors [P, K, ...]."""
    return {name: value.view(-1, K, *value.shape[1:]) for name, value in _stacked(rows).items()}


def _stacked(rows: Sequence[Tensors]) -> dict[str, Tensor]:
    """Rows with the same names as one, padded to the longest."""
    return {name: padded([row[name] for row in rows]) for name in rows[0]}


def _rows(places: Sequence[tuple[Tensors, int]]) -> dict[str, Tensor]:
    """Row p of tensors, for each (tensors, p), as one."""
    return _stacked([{name: value[p] for name, value in tensors.items()} for tensors, p in places])


def _behavior_of(rollouts: Sequence[Rollout], K: int) -> dict[str, Tensor]:
    steps = [rollout.behavior_T for rollout in rollouts]
    if any(step_T is None for step_T in steps):
        return {}
    known = [step_T.float() for step_T in steps if step_T is not None]
    step_NT, mask_NT = padded(known), padded([torch.ones(len(s), dtype=torch.bool) for s in known])
    return {"step": step_NT.view(-1, K, step_NT.shape[-1]), "mask": mask_NT.view(-1, K, mask_NT.shape[-1])}


def _metrics(earned: Earned, rollouts: Sequence[Rollout], K: int) -> dict[str, float]:
    """Of a round: what was earned in all and by judge, how far apart a prompt's samples are, and their form."""
    spread_P = earned.total_N.reshape(-1, K).std(-1)
    found = {
        "rewards/mean": float(earned.total_N.mean()),
        "rewards/std": float(earned.total_N.std()),
        "rollouts/unfinished": float(np.mean([not rollout.finished for rollout in rollouts])),
    }
    if K > 1:
        # A group whose samples earn alike teaches a relative advantage nothing.
        found |= {"rewards/spread": float(spread_P.mean()), "rewards/flat": float((spread_P == 0).mean())}
    for name, column in zip(earned.names, earned.terms_NR.T, strict=True):
        found[f"rewards/{name}"] = float(column.mean())
    if all(rollout.behavior_T is not None for rollout in rollouts):
        steps = [rollout.behavior_T for rollout in rollouts if rollout.behavior_T is not None]
        found["rollouts/steps"] = float(np.mean([len(s) for s in steps]))
        # The mean surprise of what is drawn estimates the entropy of a token, without looking at the others.
        found["rollouts/surprise"] = float(-torch.cat(list(steps)).mean())
    return found
