"""Flow-DPO, Flow-RWR and Flow-NRG where the truth is known: a flow between two Gaussians in the plane.

    python reproduce/flow_toy.py [--seeds 3]

A small network learns a mixture of two Gaussians by flow matching; people prefer the right one, and the more the
further right. Everything after that is penchant's: its likelihood, objectives, guidance and sampler on a `Denoiser` of
two numbers. Minutes on one CPU thread; writes `results/flow_toy.json` and `.md`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from runs import record
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from penchant.likelihoods import FlowMatching
from penchant.objectives import DPO, RWR, SFT
from penchant.sampling.guidance import RewardGuidance
from penchant.sampling.ode import Steering, integrate
from penchant.types import CandidateBatch, Denoiser, Objective, ObjectiveInputs

MODES = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
DEVIATION, GOOD_SHARE = 0.3, 0.53
STEPS, LEARNING_RATE, BATCH, SAMPLES = 600, 1e-4, 256, 4000
# What the specification recorded on a toy of this kind: P(good), distance to the nearest mode.
RECORDED: dict[str, tuple[float, float]] = {
    "pretrained": (0.53, 0.38),
    "SFT on winners": (0.75, 0.37),
    "Flow-RWR, exp(r)": (0.86, 0.36),
    "Flow-DPO, constant beta 20": (0.64, 0.40),
    "Flow-DPO, constant beta 5": (0.975, 0.92),
    "Flow-DPO, constant beta 1": (1.00, 1.59),
    "Flow-DPO, beta 20 (1-t)^2": (0.995, 0.96),
    "Flow-DPO, beta 5 (1-t)^2": (1.00, 1.41),
    "Flow-NRG, independent noise, w = 0.05": (0.56, 0.38),
    "Flow-NRG, independent noise, w = 0.2": (0.65, 0.38),
    "Flow-NRG, independent noise, w = 1": (0.94, 0.71),
}


def network(outputs: int, width: int = 128) -> nn.Sequential:
    """Of (x, y, t) -> outputs."""
    return nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs))


def at(network: nn.Module, x_N: Tensor, t_N: Tensor) -> Tensor:
    """The network at points and times."""
    return network(torch.cat([x_N, t_N.to(x_N.dtype)[:, None]], -1))


class Plane(Denoiser):
    """A flow model whose samples are points."""

    prediction, alphas_cumprod, shift = "velocity", None, 1.0

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def denoise(
        self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor], candidates: Mapping[str, Tensor]
    ) -> Tensor:
        return at(self.network, noisy_N, time_N)

    def unconditional(self) -> Mapping[str, Tensor]:
        return {}


@dataclass(frozen=True, kw_only=True)
class PlaneReward:
    """A reward on noised points."""

    network: nn.Module
    dimensions: tuple[str, ...] = ("right",)
    name: str = "plane"

    def score(self, noisy_N: Tensor, time_N: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        return at(self.network, noisy_N, time_N)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How long everything takes."""

    pretraining: int = 4000
    training: int = STEPS
    pairs: int = 4096
    samples: int = SAMPLES
    sampling: int = 50


def data(count: int, generator: torch.Generator) -> Tensor:
    """Points of the mixture."""
    good = (torch.rand(count, generator=generator) < GOOD_SHARE).long()
    return MODES[good] + DEVIATION * torch.randn(count, 2, generator=generator)


def pretrained(seed: int, size: Size) -> Plane:
    """Flow matching on the mixture."""
    torch.manual_seed(seed)
    g, model = torch.Generator().manual_seed(seed), network(2)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, size.pretraining)
    for _ in range(size.pretraining):
        x0, noise, t = data(512, g), torch.randn(512, 2, generator=g), torch.rand(512, generator=g)
        x_t = (1 - t[:, None]) * x0 + t[:, None] * noise
        loss = (at(model, x_t, t) - (noise - x0)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Plane(model)


def points(model: Plane, count: int, *, seed: int, steps: int, steering: Steering | None = None) -> Tensor:
    """Samples of a model [count, 2]."""
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return integrate(model, noise, {}, steps=steps, steering=steering)


def measure(x_N: Tensor) -> dict[str, float]:
    """Share of the right mode, mean distance to the nearest mode, share further than three deviations from both."""
    distance_N = (x_N[:, None] - MODES).norm(dim=-1).min(-1).values
    return {
        "good": (x_N[:, 0] > 0).float().mean().item(),
        "distance": distance_N.mean().item(),
        "off": (distance_N > 3 * DEVIATION).float().mean().item(),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pairs of a model's samples and their rewards, of mean 0 and deviation 1."""

    latents_NK2: Tensor
    rewards_NK: Tensor = field(init=False)

    def __post_init__(self) -> None:
        right_NK = self.latents_NK2[..., 0]
        object.__setattr__(self, "rewards_NK", (right_NK - right_NK.mean()) / right_NK.std())

    def batch(self, index: Tensor) -> CandidateBatch:
        """The pairs at `index` as a batch."""
        names = tuple(f"pair-{i}" for i in index.tolist())
        return CandidateBatch(
            group_ids=names,
            sample_ids=tuple((f"{name}/0", f"{name}/1") for name in names),
            prompts=("",) * len(names),
            candidates={"latents": self.latents_NK2[index]},
            condition={},
            scores_BK=self.rewards_NK[index],
            mask_BK=torch.ones(len(names), 2, dtype=torch.bool),
        )


def aligned(
    base: Plane,
    pairs: Pairs,
    objective: Objective,
    likelihood: FlowMatching,
    seed: int,
    size: Size,
    *,
    rate: float = LEARNING_RATE,
) -> Plane:
    """The base after `size.training` steps of an objective."""
    policy, g = copy.deepcopy(base), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(policy.network.parameters(), lr=rate)
    for step in range(size.training):
        batch = pairs.batch(torch.randint(len(pairs.latents_NK2), (BATCH,), generator=g))
        draw = likelihood.draw(batch, seed=seed, epoch=step)
        with torch.no_grad():
            reference = likelihood.log_prob(base, batch, draw)
        inputs = ObjectiveInputs(
            policy=likelihood.log_prob(policy, batch, draw),
            reference=reference,
            scores_BK=batch.scores_BK,
            mask_BK=batch.mask_BK,
        )
        optimiser.zero_grad()
        objective(inputs).loss.backward()
        optimiser.step()
    return policy


def noised_reward(pairs: Pairs, *, shared: bool, seed: int, size: Size) -> PlaneReward:
    """A Bradley-Terry reward on noised pairs, with the same noise on both sides or with independent ones."""
    torch.manual_seed(seed)
    reward, g = PlaneReward(network=network(1)), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(reward.network.parameters(), lr=1e-3)
    for _ in range(5 * size.training):
        index = torch.randint(len(pairs.latents_NK2), (BATCH,), generator=g)
        x0, t = pairs.latents_NK2[index], torch.rand(BATCH, 1, generator=g)
        noise = torch.randn(BATCH, 1 if shared else 2, 2, generator=g)
        x_t = (1 - t[..., None]) * x0 + t[..., None] * noise
        r = reward.score(x_t.flatten(0, 1), t.expand(-1, 2).flatten(), {}).reshape(BATCH, 2)
        sign = (pairs.rewards_NK[index, 0] - pairs.rewards_NK[index, 1]).sign()
        loss = -logsigmoid(sign * (r[:, 0] - r[:, 1])).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return reward


def steepness(reward: PlaneReward, x0_N: Tensor, seed: int) -> dict[str, float]:
    """Mean norm of the reward's gradient at noised samples, by noise level."""
    noise = torch.randn(x0_N.shape, generator=torch.Generator().manual_seed(seed))
    guidance, found = RewardGuidance(weights={"right": 1.0}), {}
    for t in (0.1, 0.5, 0.9, 0.97):
        time_N = torch.full((len(x0_N),), t)
        gradient_N = guidance.gradient((1 - t) * x0_N + t * noise, time_N, reward=reward, condition={})
        found[f"{t:g}"] = gradient_N.norm(dim=-1).mean().item()
    return found


CONSTANT = FlowMatching(time="uniform")
DERIVED = FlowMatching(time="uniform", weight="one_minus_t_squared")
METHODS: dict[str, tuple[Objective, FlowMatching]] = {
    "SFT on winners": (SFT(), CONSTANT),
    "Flow-RWR, exp(r)": (RWR(), CONSTANT),
    "Flow-DPO, constant beta 20": (DPO(beta=20.0), CONSTANT),
    "Flow-DPO, constant beta 5": (DPO(beta=5.0), CONSTANT),
    "Flow-DPO, constant beta 1": (DPO(beta=1.0), CONSTANT),
    "Flow-DPO, beta 20 (1-t)^2": (DPO(beta=20.0), DERIVED),
    "Flow-DPO, beta 5 (1-t)^2": (DPO(beta=5.0), DERIVED),
}


def one_seed(seed: int, size: Size, methods: Mapping[str, tuple[Objective, FlowMatching]] = METHODS) -> dict[str, Any]:
    """Everything, once: the measures of each method, and how steep the two noised rewards are."""
    base = pretrained(seed, size)
    of_base = points(base, 2 * size.pairs, seed=seed + 1, steps=size.sampling)
    pairs = Pairs(latents_NK2=of_base.reshape(size.pairs, 2, 2))
    look = {"count": size.samples, "seed": seed + 2, "steps": size.sampling}
    found: dict[str, Any] = {"pretrained": measure(points(base, **look))}
    for name, (objective, likelihood) in methods.items():
        found[name] = measure(points(aligned(base, pairs, objective, likelihood, seed, size), **look))
    steep = {}
    for kind in ("independent", "shared"):
        reward = noised_reward(pairs, shared=kind == "shared", seed=seed, size=size)
        steep[kind] = steepness(reward, of_base[: size.samples], seed + 3)
        for scale in (0.05, 0.2, 1.0):
            steering = Steering(reward=reward, guidance=RewardGuidance(weights={"right": 1.0}, scale=scale))
            name = f"Flow-NRG, {kind} noise, w = {scale:g}"
            found[name] = measure(points(base, **look, steering=steering))
    return {"methods": found, "gradient": steep}


def _cell(values: list[float], digits: int) -> str:
    mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{mean:.{digits}f} ± {spread:.{digits}f}"


def table(seeds: list[dict[str, Any]]) -> str:
    """Markdown: means and deviations over seeds, beside what was recorded."""
    lines = [
        "| method | P(good) | distance to a mode | off the modes | recorded: P(good), distance |",
        "|---|---|---|---|---|",
    ]
    for name in seeds[0]["methods"]:
        rows = [one["methods"][name] for one in seeds]
        cells = [
            _cell([row[key] for row in rows], digits) for key, digits in (("good", 3), ("distance", 2), ("off", 2))
        ]
        told = RECORDED.get(name)
        lines.append(f"| {name} | {' | '.join(cells)} | {f'{told[0]:g}, {told[1]:g}' if told else ''} |")
    lines += ["", "| norm of the reward's gradient at t = | 0.1 | 0.5 | 0.9 | 0.97 |", "|---|---|---|---|---|"]
    for kind in ("independent", "shared"):
        values = [_cell([one["gradient"][kind][t] for one in seeds], 2) for t in ("0.1", "0.5", "0.9", "0.97")]
        lines.append(f"| {kind} noise | {' | '.join(values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    found = [one_seed(seed, Size()) for seed in range(seeds)]
    record("flow_toy", {"size": vars(Size()), "seeds": found}, table(found))


if __name__ == "__main__":
    main()
