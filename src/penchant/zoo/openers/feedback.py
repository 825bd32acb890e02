"""Continuations by SmolLM2, compared by five simulated annotators, as groups of four with shares and log strengths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ANNOTATORS, AGREEMENT, K, TOKENS = 5, 0.75, 4, 24


def ranked(model: Any, judge: Any, prompts: list[str], path: Path) -> int:
    """Draws, votes, labels, and writes `path`; returns the number of groups.

    Args:
        model: a loaded language model.
        judge: whose taste the annotators share, each with Bradley-Terry noise of its own.
        prompts: what to continue.
        path: the Parquet file.
    """
    from penchant.feedback import Group, SimulatedAnnotator, export_groups, labelled, temperature_for
    from penchant.feedback.groups import Candidate, Prompt
    from penchant.feedback.rankings import VERDICT
    from penchant.models.completion import Decoding

    asked = [Prompt(text=prompt) for prompt in prompts for _ in range(K)]
    drawn = model.complete(asked, seeds=list(range(K)) * len(prompts), decoding=Decoding(max_tokens=TOKENS, top_p=0.95))
    texts = [c.text for c in drawn]
    scores = judge.score([p.text for p in asked], texts)[:, 0].reshape(-1, K)
    temperature = temperature_for(AGREEMENT, scores.tolist())
    annotators = [SimulatedAnnotator(name=judge.name, number=n, temperature=temperature) for n in range(ANNOTATORS)]
    groups = []
    for prompt, own, given in zip(prompts, np.array(texts).reshape(-1, K).tolist(), scores.tolist(), strict=True):
        if not all(text.strip() for text in own):
            continue
        group = Group(
            prompt=prompt, candidates=tuple(Candidate(text=t, model="smollm2") for t in own), licence="Apache-2.0"
        )
        voted = labelled(group.judged(*(v for a in annotators for v in a.verdicts(group, given))))
        # Thirty votes a group say no more to a loss than the two labels made of them.
        groups.append(replace(voted, judgements=tuple(j for j in voted.judgements if j.dimension != VERDICT)))
    export_groups(groups, path)
    return len(groups)
