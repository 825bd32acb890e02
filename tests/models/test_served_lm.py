"""Generation through a server: a real HTTP server with a tiny real model, in a process of its own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penchant
from penchant.errors import ModelError
from penchant.feedback.groups import Prompt
from penchant.models.completion import Decoding, TextGenerator
from penchant.models.served_lm import ServedLM
from penchant.testing import build

SERVER = Path(__file__).with_name("lm_server.py")
ASKED = Prompt(text="ab", messages=({"role": "user", "content": "ab"},))
DECODING = Decoding(max_tokens=6, temperature=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return build("llama", tmp_path_factory.mktemp("served") / "llama")


@pytest.fixture(scope="module")
def url(folder):
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def local(folder):
    return penchant.load(folder)


def asked(url: str, model: str) -> list[dict[str, Any]]:
    """What the server was asked of a model so far."""
    with urllib.request.urlopen(url + "/log", timeout=10) as answer:
        return [entry for entry in json.loads(answer.read()) if entry["body"]["model"] == model]


def test_a_served_model_is_a_text_generator(url):
    assert isinstance(ServedLM(url=url, model="tiny"), TextGenerator)


def test_a_row_depends_on_its_prompt_and_seed(url):
    model = ServedLM(url=url, model="tiny")
    decoding = Decoding(max_tokens=12, temperature=1.0, top_p=0.9)
    first, same, other = model.complete([ASKED, ASKED, ASKED], seeds=[3, 3, 4], decoding=decoding)
    assert first == same != other
    assert first.tokens == ()
    assert 0 < len(first.log_probs) <= 12


def test_greedy_completions_are_the_model_s_own_with_and_without_a_tokenizer_here(url, local, folder):
    greedy = Decoding(max_tokens=10, temperature=0.0)
    opened = [Prompt(text="ab", messages=ASKED.messages, opening="So "), ASKED]
    expected = local.complete(opened, seeds=[0, 0], decoding=greedy)
    here = ServedLM(url=url, model="tiny", tokenizer=str(folder), extra={"return_token_ids": True})
    found = here.complete(opened, seeds=[0, 0], decoding=greedy)
    assert [f.text for f in found] == [e.text for e in expected]
    assert [f.tokens for f in found] == [e.tokens for e in expected]
    assert [f.finished for f in found] == [e.finished for e in expected]
    (there,) = ServedLM(url=url, model="tiny").complete([ASKED], seeds=[0], decoding=greedy)
    assert there.text == expected[1].text


def test_plain_text_is_continued_from_its_opening(url, folder):
    greedy = Decoding(max_tokens=8, temperature=0.0)
    model = ServedLM(url=url, model="tiny")
    opened, whole = model.complete(
        [Prompt(text="ab", opening="cd"), Prompt(text="abcd")], seeds=[0, 0], decoding=greedy
    )
    assert opened == whole
    plain = penchant.load(folder, chat="plain").complete([Prompt(text="abcd")], seeds=[0], decoding=greedy)[0]
    assert whole.text == plain.text
    tokens = ServedLM(url=url, model="tiny", tokenizer=str(folder), chat="plain")
    assert tokens.complete([Prompt(text="ab", opening="cd")], seeds=[0], decoding=greedy)[0].text == plain.text


def test_a_chat_with_an_opening_is_refused_without_a_tokenizer(url):
    with pytest.raises(ModelError, match=r"field 'opening': .* Remedy: give `tokenizer`"):
        ServedLM(url=url, model="tiny").complete(
            [Prompt(text="ab", messages=ASKED.messages, opening="So ")], seeds=[0], decoding=DECODING
        )


def test_each_prompt_goes_where_it_belongs(url):
    model = ServedLM(url=url, model="tiny:paths")
    model.complete([ASKED, Prompt(text="plain")], seeds=[1, 2], decoding=DECODING)
    always = ServedLM(url=url + "/v1/", model="tiny:paths", chat="template")
    always.complete([Prompt(text="plain")], seeds=[3], decoding=Decoding(max_tokens=1, stop=("x",), temperature=0.5))
    seen = {entry["body"]["seed"]: entry for entry in asked(url, "tiny:paths")}
    assert [seen[seed]["path"].removeprefix("/v1") for seed in (1, 2, 3)] == [
        "/chat/completions",
        "/completions",
        "/chat/completions",
    ]
    assert seen[3]["body"]["messages"] == [{"role": "user", "content": "plain"}]
    assert seen[3]["body"]["stop"] == ["x"]
    assert "logprobs" not in seen[3]["body"]
    assert "stop" not in seen[1]["body"]
    assert (seen[1]["body"]["max_tokens"], seen[1]["body"]["temperature"], seen[1]["body"]["top_p"]) == (6, 1.0, 1.0)
    assert seen[1]["key"] is None


def test_rows_come_back_in_order_and_do_not_depend_on_their_neighbours(url):
    prompts = [Prompt(text=c) for c in "abcdefgh"]
    together = ServedLM(url=url, model="tiny", concurrency=4).complete(prompts, seeds=range(8), decoding=DECODING)
    apart = [
        ServedLM(url=url, model="tiny", concurrency=1).complete([p], seeds=[s], decoding=DECODING)[0]
        for s, p in enumerate(prompts)
    ]
    assert [c.text for c in together] == [c.text for c in apart]


def test_log_probs_are_read_at_temperature_one_alone(url, local):
    model = ServedLM(url=url, model="tiny", extra={"return_token_ids": True})
    (warm,) = model.complete([ASKED], seeds=[5], decoding=DECODING)
    (hot,) = model.complete([ASKED], seeds=[5], decoding=Decoding(max_tokens=6, temperature=2.0))
    assert len(warm.log_probs) == len(warm.tokens) > 0
    assert all(value <= 0 for value in warm.log_probs)
    assert hot.log_probs == ()
    assert hot.tokens
    silent = ServedLM(url=url, model="tiny", log_probs=False)
    assert silent.complete([ASKED], seeds=[5], decoding=DECODING)[0].log_probs == ()


def test_the_probabilities_of_first_tokens_are_the_model_s(url, local):
    import torch

    with torch.no_grad():
        logits = local.bare(torch.tensor([local.prompt_tokens(ASKED)])).logits[0, -1]
    top = logits.softmax(-1).topk(20)
    likely = [local.tokenizer.decode([int(i)]) for i in top.indices]
    choices = [word for word in likely if word.isalpha()][:2]
    expected = [sum(float(p) for p, w in zip(top.values, likely, strict=True) if w.strip() == c) for c in choices]
    model = ServedLM(url=url, model="tiny")
    np.testing.assert_allclose(model.choose([ASKED], [[*choices, "no such"]]), [[*expected, 0.0]], rtol=1e-5)
    assert model.tells_probabilities()
    plain = model.choose([Prompt(text="ab")], [["a", "b"]])
    assert plain.shape == (1, 2)


def test_a_server_without_log_probs_is_said(url):
    model = ServedLM(url=url, model="mute")
    assert not model.tells_probabilities()
    with pytest.raises(ModelError, match="gives no log-probs"):
        model.choose([ASKED], [["a", "b"]])
    assert model.complete([ASKED], seeds=[0], decoding=DECODING)[0].log_probs == ()


def test_a_busy_server_is_asked_again(url):
    model = ServedLM(url=url, model="busy:2", retries=2)
    assert model.complete([ASKED], seeds=[0], decoding=DECODING)[0].text is not None
    assert len(asked(url, "busy:2")) == 3


def test_a_server_that_fails_at_every_try_is_named_with_its_words(url):
    with pytest.raises(ModelError) as caught:
        ServedLM(url=url, model="broken", retries=1).complete([ASKED], seeds=[0], decoding=DECODING)
    for words in (url, "failed 2 times", "status 500, the engine died", "Remedy"):
        assert words in str(caught.value)
    assert len(asked(url, "broken")) == 2


def test_a_refusal_is_not_tried_again(url):
    with pytest.raises(ModelError, match=r"status 404, The model `unknown` does not exist.*/v1/models"):
        ServedLM(url=url, model="unknown").complete([ASKED], seeds=[0], decoding=DECODING)
    assert len(asked(url, "unknown")) == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("slow", "no answer within 0.3 s"),
        ("hangs up", "failed 1 times"),
        ("garbage", "JSONDecodeError"),
        ("odd", r"answers in another shape: \{\"choices\": \[\]\}"),
        ("elsewhere", "sends elsewhere"),
        ("thinks", "without its reasoning parser"),
    ],
)
def test_an_answer_that_is_none_is_said(model, words, url):
    timeout = 0.3 if model == "slow" else 60
    with pytest.raises(ModelError, match=words):
        ServedLM(url=url, model=model, retries=0, timeout=timeout).complete([ASKED], seeds=[0], decoding=DECODING)


def test_nobody_there_is_said():
    with pytest.raises(ModelError, match=r"http://127.0.0.1:9/v1.*ConnectionRefusedError"):
        ServedLM(url="http://127.0.0.1:9", model="m", retries=0).complete([ASKED], seeds=[0], decoding=DECODING)


def test_a_redirect_is_not_followed_with_the_key(url, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret-key")
    with pytest.raises(ModelError, match="sends elsewhere"):
        ServedLM(url=url, model="elsewhere", key_variable="SOME_KEY").complete([ASKED], seeds=[0], decoding=DECODING)
    assert not [entry for entry in asked(url, "elsewhere") if entry["path"].endswith("stolen")]


def test_the_key_comes_from_the_environment_and_stands_nowhere(url, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SOME_KEY", "secret-key")
    model = ServedLM(url=url, model="keyed", key_variable="SOME_KEY")
    assert model.complete([ASKED], seeds=[0], decoding=DECODING)
    assert "secret-key" not in repr(model)
    # The server quotes what it was sent; the error does not.
    monkeypatch.setenv("SOME_KEY", "wrong-key")
    with pytest.raises(ModelError, match=r"status 401, Incorrect key: Bearer \*\*\*.*into SOME_KEY") as caught:
        model.complete([ASKED], seeds=[0], decoding=DECODING)
    assert "wrong-key" not in f"{caught.value}{caught.value.__cause__}{caplog.text}"
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ModelError, match="set SOME_KEY in the environment"):
        model.complete([ASKED], seeds=[0], decoding=DECODING)


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://host/v1", "/models/tiny", "http://"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ModelError, match="no address of a server"):
        ServedLM(url=address, model="m")


def test_a_password_in_the_address_is_refused_and_not_shown():
    with pytest.raises(ModelError, match="key_variable") as caught:
        ServedLM(url="http://me:hunter2@host/v1", model="m")
    assert "hunter2" not in str(caught.value)


def test_after_a_failure_the_rows_still_waiting_are_not_asked(url):
    prompts = [Prompt(text=str(n)) for n in range(50)]
    with pytest.raises(ModelError):
        ServedLM(url=url, model="odd", concurrency=2, retries=0).complete(prompts, seeds=range(50), decoding=DECODING)
    time.sleep(0.3)
    assert len([e for e in asked(url, "odd") if e["path"].endswith("/completions") and "prompt" in e["body"]]) < 50


def test_requests_go_out_as_many_at_a_time_as_asked(url):
    start, threads = time.monotonic(), threading.active_count()
    model = ServedLM(url=url, model="slow", concurrency=4, timeout=30)
    model.complete([Prompt(text=str(n)) for n in range(4)], seeds=range(4), decoding=Decoding(max_tokens=1))
    assert time.monotonic() - start < 4 * 2
    assert threading.active_count() == threads
