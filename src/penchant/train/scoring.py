"""From a batch to gradients: policy and reference log-probs, objective, backward."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from penchant.errors import RecipeError
from penchant.recipe import Recipe, Rollouts
from penchant.references.base import ReferenceModel
from penchant.train.meters import Averages
from penchant.types import CandidateBatch, Draw, LogProbs, ObjectiveInputs, ObjectiveOutput


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Everything one backward pass needs; holds no state of its own."""

    recipe: Recipe
    model: Any
    reference: ReferenceModel | None
    accelerator: Any

    def __post_init__(self) -> None:
        if self.recipe.objective.needs.reference and self.reference is None:
            raise RecipeError("the objective needs a reference and none was built.", field="reference")

    def train_mode(self) -> None:
        """Dropout, if the model has any, belongs to training; what the policy drew is scored as it was drawn."""
        self.model.module.train(not isinstance(self.recipe.feedback, Rollouts))

    def backward(self, batches: Sequence[tuple[int, CandidateBatch]], *, share: float, averages: Averages) -> None:
        """Adds the gradient of `share` times the mean loss of (epoch, batch)es, and their metrics to `averages`.

        With micro-batches whose shares add up to 1 the gradient is that of the whole batch.
        """
        count = sum(batch.shape[0] for _, batch in batches)
        one = self._by_candidate if self.recipe.train.by_candidate else self._at_once
        for i, (epoch, batch) in enumerate(batches):
            part = batch.shape[0] / count
            draw = self.recipe.likelihood.draw(batch, seed=self.recipe.seed, epoch=epoch)
            # A step that crosses into the next epoch on one process only must still average over processes once.
            last = i == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model.module):
                output = one(batch, draw, share * part)
            found = {"loss": output.loss, **output.metrics}
            averages.add({name: float(value.detach()) for name, value in found.items()}, batch.shape[0])

    def _log_prob(self, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False) -> LogProbs:
        with self.accelerator.autocast():
            return self.recipe.likelihood.log_prob(self.model, batch, draw, keep_output=keep_output)

    @torch.no_grad()
    def _reference_log_prob(self, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False) -> LogProbs:
        assert self.reference is not None
        with self.accelerator.autocast():
            return self.reference.log_prob(self.recipe.likelihood, self.model, batch, draw, keep_output=keep_output)

    def _of_reference(self, batch: CandidateBatch, draw: Draw) -> LogProbs:
        """The reference in the same portions as the policy, so that equal models give equal bits."""
        if not self.recipe.train.by_candidate:
            return self._reference_log_prob(batch, draw, keep_output=self.recipe.objective.needs.divergence)
        return _joined([self._reference_log_prob(*column) for column in _columns(batch, draw)])

    def inputs(self, batch: CandidateBatch, draw: Draw, policy: LogProbs) -> ObjectiveInputs:
        """What the objective reads, given the policy's log-probs."""
        needs = self.recipe.objective.needs
        reference = mismatched = divergence_BKT = value_BKT = None
        if needs.reference:
            reference = self._of_reference(batch, draw)
        if needs.divergence:
            assert reference is not None
            divergence_BKT = self.recipe.likelihood.divergence(policy, reference)
        if needs.mismatched:
            other = batch.mismatched()
            with torch.no_grad():
                mismatched = (self._log_prob(other, draw), self._reference_log_prob(other, draw))
        if needs.value:
            with self.accelerator.autocast():
                value_BKT = self.recipe.likelihood.value(self.model, batch)
        return ObjectiveInputs(
            policy=policy,
            reference=reference,
            behavior=batch.behavior,
            mismatched=mismatched,
            divergence_BKT=divergence_BKT,
            value_BKT=value_BKT,
            behavior_value_BKT=batch.behavior_value_BKT,
            statistics=batch.statistics,
            scores_BK=batch.scores_BK,
            mask_BK=batch.mask_BK,
        )

    def _at_once(self, batch: CandidateBatch, draw: Draw, share: float) -> ObjectiveOutput:
        needs = self.recipe.objective.needs
        policy = self._log_prob(batch, draw, keep_output=needs.divergence or needs.collision)
        output = self.recipe.objective(self.inputs(batch, draw, policy))
        self.accelerator.backward(output.loss * share)
        return output

    def _by_candidate(self, batch: CandidateBatch, draw: Draw, share: float) -> ObjectiveOutput:
        """The same gradient from one candidate at a time: first all log-probs without gradient, then the loss's
        derivative with respect to each, then a backward pass a candidate with that derivative as its weight."""
        columns = _columns(batch, draw)
        collision = self.recipe.objective.needs.collision
        with torch.no_grad():
            whole = _joined([self._log_prob(*column, keep_output=collision) for column in columns])
        step_BKT = whole.step_BKT.requires_grad_()
        output = self.recipe.objective(self.inputs(batch, draw, whole))
        (slope_BKT,) = torch.autograd.grad(output.loss, step_BKT)
        # A column without candidates has log-probs without a graph.
        present = [k for k in range(len(columns)) if bool(batch.mask_BK[:, k].any())]
        for k in present:
            column = columns[k]
            surrogate = (self._log_prob(*column).step_BKT * slope_BKT[:, k : k + 1]).sum()
            last = k == present[-1]
            with nullcontext() if last else self.accelerator.no_sync(self.model.module):
                self.accelerator.backward(surrogate * share)
        return output


def _columns(batch: CandidateBatch, draw: Draw) -> list[tuple[CandidateBatch, Draw]]:
    return [(batch.only_candidate(k), draw.only_candidate(k)) for k in range(batch.shape[1])]


def _joined(parts: Sequence[LogProbs]) -> LogProbs:
    collisions = [part.collision_BKT for part in parts if part.collision_BKT is not None]
    return replace(
        parts[0],
        collision_BKT=torch.cat(collisions, 1) if collisions else None,
        step_BKT=torch.cat([part.step_BKT for part in parts], 1),
        mask_BKT=torch.cat([part.mask_BKT for part in parts], 1),
    )
