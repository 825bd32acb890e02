"""Synthetic preferences: generate, score, aggregate, as stages over a ledger."""

from __future__ import annotations

from penchant.synthesis.generators import Pictures, Pipeline
from penchant.synthesis.rewards import Reward
from penchant.synthesis.run import Made, rank, score, synthesize
from penchant.synthesis.spec import Synthesis, Work
from penchant.synthesis.stages import Failure, Row, Stage, Worker

__all__ = [
    "Failure",
    "Made",
    "Pictures",
    "Pipeline",
    "Reward",
    "Row",
    "Stage",
    "Synthesis",
    "Work",
    "Worker",
    "rank",
    "score",
    "synthesize",
]
