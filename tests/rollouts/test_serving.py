"""Rollouts through a server that takes up the policy's adapter round by round: a real model behind real HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from online_fixtures import WORDS, metrics, quiet, recipe
from torch.testing import assert_close

import penchant
from penchant.errors import ModelError, RecipeError
from penchant.feedback.groups import Prompt
from penchant.likelihoods import Autoregressive
from penchant.models.completion import Decoding
from penchant.recipe import Server
from penchant.rollouts import Collector
from penchant.rollouts.actors import actor_of
from penchant.rollouts.rewards import Purse
from penchant.run import align
from penchant.types import Draw

SERVER = Path(__file__).parents[1] / "models" / "lm_server.py"


@pytest.fixture(scope="module")
def url(llama: Path) -> Iterator[str]:
    command = [sys.executable, str(SERVER), str(llama)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    process.kill()
    process.communicate()


def told(url: str, folder: str) -> list[tuple[str, str]]:
    with urllib.request.urlopen(url.replace("/v1", "/log"), timeout=10) as answer:
        log = json.loads(answer.read())
    found = [(entry["path"].rsplit("/", 1)[-1], entry["body"]["model"]) for entry in log]
    return [(path, name.removeprefix(f"{folder}-")) for path, name in found if name.startswith(f"{folder}-")]


def test_the_server_draws_with_the_adapter_of_the_moment(llama, prompts, tmp_path, url):
    server, accelerator = Server(url=url, folder=str(tmp_path / "adapters"), concurrency=4), Accelerator()
    run = recipe(llama, prompts, tmp_path, rollouts={"server": server})
    model = penchant.load(llama, lora=2)
    asked = [Prompt(text=word) for word in WORDS]
    data = Collector(run, asked, actor_of(run, model, accelerator), Purse(run.feedback), accelerator)
    for step in (0, 2):
        data.before_step(step, model)
        batch = data.batch(range(4))
        scored = Autoregressive().log_prob(model, batch, Draw(key_B=batch.group_ids)).per_step().detach()
        assert batch.behavior is not None
        assert_close(batch.behavior.per_step(), scored, rtol=1e-4, atol=1e-4)
        # The next round's samples must come from other weights than these.
        for parameter in model.trainable_parameters():
            torch.nn.init.normal_(parameter, std=0.3)


def test_a_run_hands_over_each_round_once_and_takes_the_last_one_back(llama, prompts, tmp_path, url):
    folder = tmp_path / "adapters"
    run = recipe(llama, prompts, tmp_path / "run", rollouts={"server": Server(url=url, folder=str(folder / "one"))})
    align(run, say=quiet)
    commands = [entry for entry in told(url, "one") if entry[0].endswith("adapter")]
    loaded = [name for path, name in commands if path == "load_lora_adapter"]
    assert loaded == ["round-0", "round-1", "round-2"]
    assert commands[-1] == ("unload_lora_adapter", "round-1")
    assert [path.name for path in (folder / "one").iterdir()] == ["round-2"]
    assert len([entry for entry in told(url, "one") if entry[0] == "completions"]) == 3 * 16
    assert len(metrics(tmp_path / "run")) == 6


def test_what_cannot_be_served_is_refused(llama, prompts, tmp_path, url):
    server = Server(url=url, folder=str(tmp_path))
    with pytest.raises(RecipeError, match="takes up adapters"):
        recipe(llama, prompts, tmp_path, lora=0, rollouts={"server": server})
    cool = {"decoding": Decoding(max_tokens=6, temperature=0.5), "server": server}
    with pytest.raises(RecipeError, match="use 1 with a server"):
        recipe(llama, prompts, tmp_path, rollouts=cool, likelihood=Autoregressive(temperature=0.5))
    gone = recipe(llama, prompts, tmp_path, rollouts={"server": Server(url="http://127.0.0.1:9", folder=str(tmp_path))})
    model, accelerator = penchant.load(llama, lora=2), Accelerator()
    actor = actor_of(gone, model, accelerator)
    actor.lm = replace(actor.lm, retries=0)
    with pytest.raises(ModelError, match="failed 1 times"):
        actor.draw(model, [Prompt(text="a")], [0], round=0)
