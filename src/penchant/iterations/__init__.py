"""Rounds of whole runs: the policy draws samples, somebody judges them, a run learns from it, and it goes round again.

`Iterations` describes the rounds, `iterate` runs them; `drawing` and `panels` are the two stages before training.
"""

from __future__ import annotations

from penchant.iterations.driver import Iterated, iterate
from penchant.iterations.panels import JudgePanel, LanguageModelPanel, People, SimulatedPanel
from penchant.iterations.rounds import Round
from penchant.iterations.spec import Draws, Iterations

__all__ = [
    "Draws",
    "Iterated",
    "Iterations",
    "JudgePanel",
    "LanguageModelPanel",
    "People",
    "Round",
    "SimulatedPanel",
    "iterate",
]
