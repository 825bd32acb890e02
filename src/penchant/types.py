"""The waist of the house: what likelihoods, feedback and objectives say to each other.

Conventions, once and for every modality:

- log-probabilities are oriented so that larger = more likely; scores so that larger = better;
- time runs from t = 0 (data) to t = 1 (noise);
- a denoising log-prob is -1/2 times the *mean* squared error over all non-batch dimensions, reduced in float32;
- candidates are ordered by their scores, never by their position in the batch.

Shape legend: B prompts (groups), K candidates a prompt, T tokens / timesteps drawn / denoising transitions,
N = B*K*T rows of one model call, `...` the shape of a latent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Density = Literal["exact", "bound", "path"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LogProbs:
    """Log-probabilities of B x K samples in T steps.

    `output` keeps what the likelihood's `divergence` compares (predictions, means, token states) when an objective
    needs a divergence from the reference; otherwise it is None. `collision_BKT` is log sum_v p_v^2 at each step (the
    log-probability that two draws of the policy agree there), without gradient, when an objective weighs by it;
    otherwise None.
    """

    step_BKT: Float[Tensor, "B K T"]
    mask_BKT: Bool[Tensor, "B K T"]
    density: Density
    output: Any = None
    collision_BKT: Float[Tensor, "B K T"] | None = None

    def to(self, device: torch.device | str) -> LogProbs:
        """The same log-probs on `device`; a kept output stays behind."""
        return replace(
            self,
            step_BKT=self.step_BKT.to(device),
            mask_BKT=self.mask_BKT.to(device),
            output=None,
            collision_BKT=None if self.collision_BKT is None else self.collision_BKT.to(device),
        )

    def per_step(self) -> Float[Tensor, "B K T"]:
        """Log-probs by step, zero where masked."""
        return torch.where(self.mask_BKT, self.step_BKT, torch.zeros_like(self.step_BKT))

    def total(self) -> Float[Tensor, "B K"]:
        """Log-prob of each sample: the sum over T; for a bound the mean over the T independent draws."""
        summed_BK = self.per_step().sum(-1)
        if self.density == "bound":
            return summed_BK / self.mask_BKT.sum(-1).clamp(min=1)
        return summed_BK

    def mean(self) -> Float[Tensor, "B K"]:
        """Length-normalised log-prob: the mean over unmasked steps."""
        return self.per_step().sum(-1) / self.mask_BKT.sum(-1).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a micro-batch cannot know: of all rollouts that were collected together, or of the batch at hand.

    Attributes:
        steps: tokens or transitions that count, a group, on average.
        mean: of the rewards of all candidates.
        std: their standard deviation (of a sample: divided by n - 1); 0 for a single candidate.
    """

    steps: float
    mean: float
    std: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateBatch:
    """B prompts with K candidates each, encoded and ready for a model.

    `candidates` holds tensors [B, K, ...] (latents, tokens, micro-conditioning), `condition` tensors [B, ...] that all
    candidates of a prompt share (text embeddings). `group_ids` key the counted randomness, `sample_ids` (content
    hashes) the caches. A missing candidate is False in `mask_BK`; its tensors are padding. `behavior` holds
    the log-probs at which the policy itself drew the candidates, when it did, `behavior_value_BKT` what its value
    network said then, and `statistics` what is known of all that it drew with them.
    """

    group_ids: tuple[str, ...]
    sample_ids: tuple[tuple[str, ...], ...]
    prompts: tuple[str, ...]
    candidates: Mapping[str, Tensor]
    condition: Mapping[str, Tensor]
    scores_BK: Float[Tensor, "B K"]
    mask_BK: Bool[Tensor, "B K"]
    behavior: LogProbs | None = None
    behavior_value_BKT: Float[Tensor, "B K T"] | None = None
    statistics: Statistics | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(B, K)."""
        return self.scores_BK.shape[0], self.scores_BK.shape[1]

    def to(self, device: torch.device | str) -> CandidateBatch:
        """The same batch with every tensor on `device`."""
        return replace(
            self,
            candidates={k: v.to(device) for k, v in self.candidates.items()},
            condition={k: v.to(device) for k, v in self.condition.items()},
            scores_BK=self.scores_BK.to(device),
            mask_BK=self.mask_BK.to(device),
            behavior=None if self.behavior is None else self.behavior.to(device),
            behavior_value_BKT=None if self.behavior_value_BKT is None else self.behavior_value_BKT.to(device),
        )

    def only_candidate(self, k: int) -> CandidateBatch:
        """The batch with candidate `k` alone (K = 1), for passes that go through a group one candidate at a time."""
        return replace(
            self,
            sample_ids=tuple((ids[k],) for ids in self.sample_ids),
            candidates={name: v[:, k : k + 1] for name, v in self.candidates.items()},
            scores_BK=self.scores_BK[:, k : k + 1],
            mask_BK=self.mask_BK[:, k : k + 1],
            behavior=None,
            behavior_value_BKT=None,
        )

    def mismatched(self) -> CandidateBatch:
        """Every prompt with the *next* prompt's candidates: the unrelated completions of KTO's baseline."""
        order = torch.arange(self.shape[0]).roll(-1)
        index = order.to(self.scores_BK.device)
        return replace(
            self,
            sample_ids=tuple(self.sample_ids[int(i)] for i in order),
            candidates={name: v[index] for name, v in self.candidates.items()},
            scores_BK=self.scores_BK[index],
            mask_BK=self.mask_BK[index],
            behavior=None,
            behavior_value_BKT=None,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """One sample that a policy drew in order to learn from it.

    Attributes:
        sample: what judges are given (a `Completion`, a picture, a `Clip`, a `Sound`).
        candidate: what a `CandidateBatch` holds of it, without the dimensions B and K.
        behavior_T: log-probs of its T steps at which they were drawn; None for a density that has none.
        finished: whether the sample ended by itself; False for one that was cut at the limit.
    """

    sample: Any
    candidate: Mapping[str, Tensor]
    behavior_T: Float[Tensor, " T"] | None = None
    finished: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """What a denoising likelihood draws for a batch, once, for policy and reference alike.

    `time_BKT` is the discrete timestep (diffusion, integer) or sigma (flow, in [0, 1]); `noise_BKT` the noise
    [B, K, T, ...]; `dropped_B` marks prompts whose caption is dropped. By default a group's candidates share all three.
    `key_B` names the draw of each group (for the reference cache). Exact densities draw nothing: every tensor is None.
    """

    key_B: tuple[str, ...]
    time_BKT: Tensor | None = None
    noise_BKT: Tensor | None = None
    dropped_B: Tensor | None = None

    def only_candidate(self, k: int) -> Draw:
        """The draw that belongs to candidate `k`."""
        return replace(
            self,
            time_BKT=None if self.time_BKT is None else self.time_BKT[:, k : k + 1],
            noise_BKT=None if self.noise_BKT is None else self.noise_BKT[:, k : k + 1],
        )


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an objective must be given; `compatible` refuses recipes that cannot give it.

    `scores` says what it reads of them: their sign about a middle (label), their order, shares in [0, 1], or values.
    """

    reference: bool = False
    behavior: bool = False
    mismatched: bool = False
    divergence: bool = False
    value: bool = False
    collision: bool = False
    min_candidates: int = 2
    density: frozenset[Density] = frozenset({"exact", "bound", "path"})
    scores: Literal["none", "label", "order", "share", "logit", "reward"] = "order"


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectiveInputs:
    """Everything an objective may read. `mismatched` = (policy, reference) on unrelated completions (KTO's baseline);
    `divergence_BKT` = how far the policy's step lies from the reference's (`Likelihood.divergence`), with gradient;
    `value_BKT` = the value network's forecast, before each step, of the reward to come, with gradient;
    `behavior_value_BKT` = the same as it was when the samples were drawn, where that was kept; `statistics` = of
    everything collected together, None if nothing but this batch is known.
    """

    policy: LogProbs
    reference: LogProbs | None = None
    behavior: LogProbs | None = None
    mismatched: tuple[LogProbs, LogProbs] | None = None
    divergence_BKT: Float[Tensor, "B K T"] | None = None
    value_BKT: Float[Tensor, "B K T"] | None = None
    behavior_value_BKT: Float[Tensor, "B K T"] | None = None
    statistics: Statistics | None = None
    scores_BK: Float[Tensor, "B K"]
    mask_BK: Bool[Tensor, "B K"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectiveOutput:
    """One loss a group; the loop takes the mean over all groups of a step, so micro-batches add up exactly.

    `metrics` are detached scalars with the field's names (rewards/chosen, rewards/margins, rewards/accuracies, ...).
    """

    loss_B: Float[Tensor, B]
    metrics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Float[Tensor, ""]:
        """Mean over groups."""
        return self.loss_B.mean()


class Objective(ABC):
    """A loss on log-probs and scores: a frozen dataclass of constants, `needs`, and a call that fits on a screen."""

    needs: ClassVar[Needs]
    cite: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __call__(self, inputs: ObjectiveInputs) -> ObjectiveOutput:
        """The loss of every group."""


class Likelihood(ABC):
    """How a model scores a sample."""

    density: ClassVar[Density]
    cite: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def draw(self, batch: CandidateBatch, *, seed: int, epoch: int) -> Draw:
        """Timesteps, noise and caption dropout as a pure function of (seed, epoch, group id)."""

    @abstractmethod
    def log_prob(self, model: Any, batch: CandidateBatch, draw: Draw, *, keep_output: bool = False) -> LogProbs:
        """Log-probs of every candidate under `model`, differentiable in its parameters."""

    def value(self, model: Any, batch: CandidateBatch) -> Float[Tensor, "B K T"]:
        """The forecast of `model`'s value network before every step, with gradient; few likelihoods have one."""
        raise NotImplementedError(f"{type(self).__name__} has no value network.")

    @abstractmethod
    def divergence(self, policy: LogProbs, reference: LogProbs) -> Float[Tensor, "B K T"]:
        """How far apart the two models' kept outputs are at each step; zero where masked.

        Where a step has a distribution (tokens, transitions of a path) this is KL(policy || reference) of it, exactly,
        in nats; for a denoising bound it is the mean squared distance of the predictions.
        """


class Denoiser(ABC):
    """What a diffusion or flow model is to a likelihood; the adapters in `models/` bring every pipeline to this.

    `prediction` is "epsilon", "v_prediction" or "sample" for diffusion models and "velocity" (noise - data) for flows.
    `alphas_cumprod` is the training schedule of a diffusion model, `shift` the static timestep shift of a flow.
    """

    prediction: Literal["epsilon", "v_prediction", "sample", "velocity"]
    alphas_cumprod: Tensor | None
    shift: float

    @abstractmethod
    def denoise(
        self,
        noisy_N: Tensor,
        time_N: Tensor,
        condition: Mapping[str, Tensor],
        candidates: Mapping[str, Tensor],
    ) -> Tensor:
        """The prediction for each row.

        Args:
            noisy_N: noisy latents [N, ...].
            time_N: integer timesteps [N] (diffusion) or sigma in [0, 1] [N] (flow); adapters convert for their model.
            condition: prompt tensors, each [N, ...].
            candidates: candidate tensors other than the latents (micro-conditioning), each [N, ...].

        Returns:
            prediction [N, ...] in the convention of `prediction`.
        """

    @abstractmethod
    def unconditional(self) -> Mapping[str, Tensor]:
        """The condition of the empty prompt, each [1, ...]."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a likelihood wants of a language model beside log-probs.

    Attributes:
        temperature: the logits are divided by it.
        collision: also log sum_v p_v^2 of each step.
        distributions: also each step's whole distribution, for a divergence.
    """

    temperature: float = 1.0
    collision: bool = False
    distributions: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenScores:
    """What a language model answers: log-probs, and what was asked for beside them.

    `distributions` has one method, `kl(other)`: KL(self || other) in the shape of `logp`.
    """

    logp: Tensor
    collision: Tensor | None = None
    distributions: Any = None


class LanguageModel(ABC):
    """What a language model is to the autoregressive likelihood; `models/causal_lm.py` brings transformers' to this.

    `follows_masks` is False for a model whose attention is not known to obey a mask of ours exactly; `null_prompt` says
    whether a prompt of length 0 is the unconditional branch that it was trained with.
    """

    follows_masks: bool
    null_prompt: ClassVar[bool] = False

    @abstractmethod
    def score_tree(self, packed: Any, asked: Asked) -> TokenScores:
        """Scores [N] of a `likelihoods.packing.Packed`'s targets."""

    @abstractmethod
    def score_plain(self, batch: CandidateBatch, asked: Asked) -> TokenScores:
        """The same as [B, K, T], from one row a candidate and whole logits; beyond a completion's end anything."""
