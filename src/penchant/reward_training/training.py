"""What the one loop needs to train a reward model: the pairs of a step, and their way from samples to gradients.

Everything random is counted by (seed, epoch, pair), so a run that was killed and resumed ends with the same bits as one
that never stopped.

Shapes: B pairs of a micro-batch, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from penchant.reward_models.losses import Comparisons
from penchant.reward_models.network import RewardNetwork
from penchant.reward_training.data import AnnotatedPair, Library, comparisons, in_random_order, mirrored
from penchant.reward_training.spec import RewardRecipe
from penchant.train.meters import Averages
from penchant.train.order import visits


class Pupil:
    """A reward network as the loop trains it; `module` is the network, or its distributed wrapper."""

    def __init__(self, network: RewardNetwork) -> None:
        self.module: Any = network
        self.backbone = network.backbone

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.module.parameters()).device

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Every weight but those of a frozen prior."""
        return [p for p in self.module.parameters() if p.requires_grad]


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Annotated pairs that meet the network together."""

    pairs: tuple[AnnotatedPair, ...]

    @property
    def group_ids(self) -> tuple[str, ...]:
        """The pairs' names."""
        return tuple(pair.id for pair in self.pairs)

    def to(self, device: torch.device) -> Self:
        """The same: samples become tensors where they are scored."""
        return self


class Lessons:
    """The loop's data: a fixed set of annotated pairs.

    Attributes:
        divisor: what the loss of the current step is divided by, over all processes and micro-batches.
    """

    def __init__(self, recipe: RewardRecipe, pairs: Sequence[AnnotatedPair]) -> None:
        self.recipe, self.pairs, self.divisor = recipe, pairs, 1.0

    def __len__(self) -> int:
        return len(self.pairs)

    def before_step(self, step: int, model: Any) -> None:
        """Counts what is labelled in the step; it depends on labels and ratings alone."""
        size, seed = self.recipe.train.batch_size, self.recipe.seed
        turns = visits(seed=seed, step=step, batch_size=size, count=len(self.pairs))
        pairs, zero = [self.pairs[turn.index] for turn in turns], torch.zeros(size, len(self.recipe.dimensions))
        self.divisor = max(1.0, float(self.recipe.loss.total(comparisons(pairs, zero, zero))[1]))

    def batch(self, indices: Sequence[int]) -> PairBatch:
        """The pairs at `indices`."""
        return PairBatch(pairs=tuple(self.pairs[i] for i in indices))

    def metrics(self) -> Mapping[str, float]:
        """Nothing: the scorer tells it all."""
        return {}

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Nothing: which pairs a step sees follows from the step."""
        return {}, {}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Nothing was kept."""


@dataclass(frozen=True, kw_only=True)
class PairScorer:
    """From annotated pairs to gradients: both samples of each are scored in one pass."""

    recipe: RewardRecipe
    pupil: Pupil
    lessons: Lessons
    library: Library
    accelerator: Any

    def train_mode(self) -> None:
        """Dropout, if the network has any, belongs to training."""
        self.pupil.module.train()

    def backward(self, batches: Sequence[tuple[int, PairBatch]], *, share: float, averages: Averages) -> None:
        """Adds the gradient of the pairs of (epoch, batch)es that are `share` of a step, and their metrics."""
        seed = self.recipe.seed
        shown = [
            (in_random_order(pair, seed=seed, epoch=epoch), epoch) for epoch, batch in batches for pair in batch.pairs
        ]
        scored = self._scored(shown)
        loss, _ = self.recipe.loss.total(scored)
        # Gradients of processes are averaged, and the divisor is that of all of them.
        loss = loss * self.accelerator.num_processes / self.lessons.divisor
        self.accelerator.backward(loss)
        averages.add(self._metrics(scored, float(loss.detach()) / share), len(shown))

    def _scored(self, shown: Sequence[tuple[AnnotatedPair, int]]) -> Comparisons:
        """The pairs with their rewards; winner and loser go through the network in one batch."""
        seed, flip, backbone = self.recipe.seed, self.recipe.train.flip, self.pupil.backbone
        flips = [flip and mirrored(pair, seed=seed, epoch=epoch) for pair, epoch in shown]
        pairs = [pair for pair, _ in shown]
        samples = [pair.first for pair in pairs] + [pair.second for pair in pairs]
        prepared = [self.library.prepared(s, flip=flip) for s, flip in zip(samples, flips * 2, strict=True)]
        rows = backbone.collate([pair.prompt for pair in pairs] * 2, prepared)
        rows = backbone.drawn(rows, [(pair.id, epoch) for pair, epoch in shown], seed=seed)
        with self.accelerator.autocast():
            reward_ND = self.pupil.module({name: value.to(self.pupil.device) for name, value in rows.items()})
        return comparisons(pairs, *reward_ND.float().chunk(2))

    def _metrics(self, pairs: Comparisons, loss: float) -> dict[str, float]:
        # A mean over nothing is NaN, which the averages leave out.
        decided_BD, won_BD = pairs.decided(), pairs.won().detach()
        right_BD = (won_BD > 0) & decided_BD
        accuracy_D = right_BD.sum(0) / decided_BD.sum(0)
        found = {f"accuracy/{name}": float(value) for name, value in zip(self.recipe.names, accuracy_D, strict=True)}
        won = won_BD[decided_BD]
        found["rewards/accuracies"] = float((won > 0).float().mean())
        found["rewards/margins"] = float(won.mean())
        return {"loss": loss, **found}
