"""Whole rankings through the loop: groups of several sizes, with ties, on diffusion and flow."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from loop_fixtures import jpeg, recipe
from safetensors.torch import load_file
from torch.testing import assert_close

from penchant.errors import FeedbackError
from penchant.feedback import Candidate, Group, Judgement, Media, export_groups
from penchant.objectives import DPO, ListNet, PlackettLuce, RankDPO
from penchant.run import align

SHARES = [(1.0, 0.5, 0.5, 0.0), (0.25, 0.75, 0.5), (0.0, 1.0), (0.6, 0.6, 0.1, 0.9, 0.3)]


@pytest.fixture(scope="module")
def rankings(tmp_path_factory):
    """Groups of two to five pictures; a raw reward stands beside the shares."""
    rng, groups = np.random.default_rng(0), []
    for i, shares in enumerate(SHARES * 2):
        candidates = tuple(Candidate(media=Media.of(jpeg(rng))) for _ in shares)
        overall = Judgement(kind="score", values=shares, source="judge:strict-votes")
        raw = Judgement(kind="score", dimension="raw", values=tuple(20 + s for s in shares), source="reward:raw@1")
        groups.append(Group(prompt=f"prompt {i}", candidates=candidates, judgements=(overall, raw)))
    path = tmp_path_factory.mktemp("rankings") / "groups.parquet"
    export_groups(groups, path)
    return path


def quiet(line: str) -> None:
    """No progress."""


@pytest.mark.parametrize("flow", [False, True], ids=["diffusion", "flow"])
@pytest.mark.parametrize("objective", [RankDPO(beta=100.0), PlackettLuce(beta=100.0), ListNet(beta=100.0)], ids=str)
def test_rankings_train(objective, flow, sd15, sd3, rankings, tmp_path):
    spec = replace(recipe(sd3 if flow else sd15, rankings, tmp_path, flow=flow), objective=objective)
    align(spec, say=quiet)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert lines[0]["rewards/accuracies"] == 0.5
    assert lines[-1]["rewards/margins"] != 0


def test_one_candidate_at_a_time_ends_with_the_same_weights(sd15, rankings, tmp_path):
    for name, by_candidate in (("whole", False), ("single", True)):
        spec = recipe(sd15, rankings, tmp_path / name, by_candidate=by_candidate)
        align(replace(spec, objective=RankDPO(beta=100.0)), say=quiet)
    whole, single = (load_file(next((tmp_path / n / "model").glob("*.safetensors"))) for n in ("whole", "single"))
    for name, tensor in whole.items():
        assert_close(single[name], tensor, rtol=1e-3, atol=1e-5)


def test_scores_that_are_no_shares_are_refused_and_order_alone_takes_them(sd15, rankings, tmp_path):
    spec = recipe(sd15, rankings, tmp_path)
    spec = replace(spec, feedback=replace(spec.feedback, dimension="raw"))
    with pytest.raises(FeedbackError, match=r"shares in \[0, 1\].*penchant rank"):
        align(replace(spec, objective=RankDPO()), say=quiet)
    align(replace(spec, objective=DPO(beta=100.0)), say=quiet)
