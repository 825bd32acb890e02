"""From the ledger to ranked groups: every reward's scores beside the votes and what they add up to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np

from penchant.feedback.groups import Candidate, Group, Judgement
from penchant.synthesis.driver import candidate
from penchant.synthesis.ledger import Ledger
from penchant.synthesis.stages import Row, Stage
from penchant.synthesis.votes import Aggregation, aggregate, pairs, vote_matrix

OVERALL = "overall"
_AGGREGATES = frozenset(f"judge:{aggregation}" for aggregation in get_args(Aggregation))


@dataclass(kw_only=True)
class Left:
    """What did not come into the data set, by reason."""

    reasons: dict[str, list[str]] = field(default_factory=dict)

    def out(self, reason: str, what: str) -> None:
        """Counts one."""
        self.reasons.setdefault(reason, []).append(what)


def drawn(rows: Mapping[str, Sequence[tuple[Stage, Row]]], ledger: Ledger, folder: Path, left: Left) -> list[Group]:
    """Groups of what was drawn for each prompt, without judgements.

    A sample that another generator drew bit by bit alike is left out: a group compares different samples.
    """
    groups = []
    for prompt, planned in rows.items():
        ids = [stage.unit_id(row) for stage, row in planned]
        outputs, candidates = ledger.get(ids), dict[str, Candidate]()
        for id, (stage, row) in zip(ids, planned, strict=True):
            if id not in outputs:
                left.out("sample not drawn", f"{stage.name}: {prompt}")
                continue
            found = candidate(outputs[id], stage, row.seed, folder)
            if found.id in candidates:
                left.out("the same sample drawn twice", f"{stage.name}: {prompt}")
            else:
                candidates[found.id] = found
        if len(candidates) < 2:
            left.out("fewer than two samples", prompt)
        else:
            # By content hash: a candidate's place shall not betray its generator.
            groups.append(Group(prompt=prompt, candidates=tuple(candidates[id] for id in sorted(candidates))))
    return groups


def scored(groups: Iterable[Group], rewards: Sequence[Stage], ledger: Ledger, left: Left) -> list[Group]:
    """Groups with one `score` judgement a reward, of the dimension that has the reward's name."""
    found = []
    for group in groups:
        judgements = []
        for reward in rewards:
            ids = [reward.unit_id(Row(prompt=group.prompt, candidate=c)) for c in group.candidates]
            outputs = ledger.get(ids)
            for _ in (id for id in ids if id not in outputs):
                left.out("sample not scored", f"{reward.name}: {group.prompt}")
            versions = {str(output["version"]) for output in outputs.values()}
            judgements.append(
                Judgement(
                    kind="score",
                    dimension=reward.name,
                    values=tuple(outputs[id]["value"] if id in outputs else None for id in ids),
                    source=f"reward:{max(versions, default=reward.name)}",
                )
            )
        # Scores of the same rewards from an earlier pass are replaced, those of others stay.
        others = tuple(j for j in group.judgements if j.dimension not in {r.name for r in rewards})
        found.append(replace(group, judgements=others + tuple(judgements)))
    return found


def ranked(groups: Sequence[Group], aggregation: Aggregation, rewards: Sequence[str], left: Left) -> list[Group]:
    """Groups with the aggregate as an `overall` judgement; its `extra` keeps the votes, reward by pair.

    An earlier aggregate is replaced. What people or others said of the whole stays beside it, and whoever trains then
    names the source.
    """
    scores = [_scores(group, rewards) for group in groups]
    shares = aggregate(scores, aggregation)
    result = []
    for group, scores_RK, share_K in zip(groups, scores, shares, strict=True):
        if np.isnan(share_K).all():
            left.out("nobody voted", group.prompt)
            continue
        votes = [[None if np.isnan(v) else int(v) for v in row] for row in vote_matrix(scores_RK)]
        overall = Judgement(
            kind="score",
            dimension=OVERALL,
            values=tuple(None if np.isnan(v) else float(v) for v in share_K),
            source=f"judge:{aggregation}",
            extra={"rewards": list(rewards), "pairs": pairs(len(share_K)), "votes": votes},
        )
        others = tuple(j for j in group.judgements if j.source not in _AGGREGATES)
        result.append(replace(group, judgements=(*others, overall)))
    return result


def voters(groups: Iterable[Group]) -> list[str]:
    """Dimensions that hold a reward's scores, in the order in which they are met; people's ratings are no reward's."""
    met = (j.dimension for g in groups for j in g.judgements if j.kind == "score" and j.source.startswith("reward:"))
    return list(dict.fromkeys(met))


def _scores(group: Group, rewards: Sequence[str]) -> np.ndarray:
    by_name = {j.dimension: j.values for j in group.judgements if j.source.startswith("reward:")}
    missing = (None,) * len(group.candidates)
    rows = [[np.nan if v is None else v for v in by_name.get(name, missing)] for name in rewards]
    return np.array(rows, dtype=np.float64)


def fingerprint(groups: Iterable[Group]) -> str:
    """sha256 of what a data set says, whatever order, file or machine it was written in."""
    lines = sorted(map(_line, groups))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _line(group: Group) -> str:
    candidates = [(c.id, c.model, c.seed) for c in group.candidates]
    judgements = [(j.kind, j.dimension, j.values, j.source, dict(j.extra)) for j in group.judgements]
    return json.dumps([group.prompt, candidates, judgements], default=list, ensure_ascii=False)
