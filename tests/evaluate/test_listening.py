"""`penchant listen`: real runs of a tiny model of tunes, side by side on one page."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_evaluate_report import Page, text

import penchant as pc
import tune_fixtures
from penchant.cli import main
from penchant.errors import RecipeError
from penchant.evaluate import Curve, ReportData, bout
from penchant.evaluate.compare import scored
from penchant.evaluate.listening import Contestant, Showing, listening_data
from penchant.evaluate.page import page
from penchant.evaluate.sheet import Sheet
from penchant.feedback.audio_files import decode_sound
from penchant.feedback.groups import Prompt
from penchant.feedback.loudness import heard
from penchant.judges import load
from penchant.likelihoods import Autoregressive
from penchant.listening import Listening, listen
from penchant.models.completion import Completion, Decoding
from penchant.objectives import REINFORCE
from penchant.recipe import Evaluation, Recipe, RewardTerm, Rollouts, Training
from penchant.recipe_file import to_toml
from penchant.run import align

HELD_OUT = ("hornpipe in 4/4, major", "jig in 3/4, major", "polka in 4/4, major")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """The base, R trained online for a few steps, and U: the base pushed towards one tune without an end."""
    root = tmp_path_factory.mktemp("music")
    start = tune_fixtures.base(root / "base", steps=60)
    (root / "asked.txt").write_text("\n".join(tune_fixtures.CAPTIONS))
    (root / "held.txt").write_text("\n".join((*HELD_OUT, tune_fixtures.CAPTIONS[0])))
    recipe = Recipe(
        name="R",
        policy=pc.Policy(path=str(start), notation="tune"),
        likelihood=Autoregressive(),
        objective=REINFORCE(alpha=0.05),
        feedback=Rollouts(
            prompts=str(root / "asked.txt"),
            rewards=(RewardTerm(judge="tune-rules#tonic"), RewardTerm(judge="tune-rules#valid")),
            candidates=2,
            prompts_a_round=4,
            decoding=Decoding(max_tokens=40),
        ),
        train=Training(steps=6, batch_size=4, lr=1e-3),
        evaluation=Evaluation(
            prompts=str(root / "held.txt"),
            count=8,
            seeds=4,
            decoding=Decoding(max_tokens=40, temperature=0.99),
            judges=("tune-rules#leap",),
        ),
        out=str(root / "R"),
    )
    align(recipe, say=lambda line: None)
    second = root / "U"
    tune_fixtures.pushed(start, second / "model", "endless", steps=25)
    (second / "recipe.toml").write_text(to_toml(replace(recipe, name="U", out=str(second))))
    shutil.copy(root / "R" / "outcome.json", second)
    x = np.linspace(0, 1, 60)
    lines = [
        {"step": i + 1, "kl": k, "rewards/mean": k, "rewards/valid": 0.2 + k, "rewards/tonic": 0.8 - 0.6 * k * k}
        for i, k in enumerate((x + 0.01 * np.random.default_rng(0).normal(size=60)).tolist())
    ]
    (second / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"base": start, "R": root / "R", "U": second, "root": root}


@pytest.fixture(scope="module")
def listened(runs, tmp_path_factory) -> tuple[str, list[str]]:
    said: list[str] = []
    path = listen(
        [runs["R"], runs["U"]], tmp_path_factory.mktemp("page") / "music.html", Listening(exhibits=2), said.append
    )
    assert path.stat().st_size < 6e6
    return path.read_text(encoding="utf-8"), said


def test_every_policy_plays_the_same_prompts_at_one_loudness(listened):
    content, _ = listened
    found = Page(content)
    players = [attributes for tag, attributes in found.elements if tag == "audio"]
    assert len(players) == 2 * 3
    assert [player["aria-label"].split(":")[0] for player in players] == ["base", "R", "U"] * 2
    prompts = [player["aria-label"].split(": ")[1] for player in players]
    assert prompts[:3] == [prompts[0]] * 3 != prompts[3:]
    levels = [heard(decode_sound(base64.b64decode(player["src"].split(",")[1]))[0]) for player in players[:3]]
    assert max(levels) - min(levels) < 0.5
    rolls = re.findall(r'aria-label="(\w+): piano roll, (\d+) notes', content)
    assert [name for name, _ in rolls] == ["base", "R", "U"] * 2
    assert content.count('class="cut"') >= 2  # U never ends


def test_prompts_that_a_run_trained_on_are_left_out(listened):
    content, said = listened
    words = text(Page(content))
    assert tune_fixtures.CAPTIONS[0] not in words.split("How to run it again")[0]
    assert said[0] == "sampling 12 tunes of 3 prompts"
    assert "Held-out captions" in words


def test_the_page_says_who_wins_what_it_cost_and_what_is_wrong(listened):
    words = text(Page(listened[0]))
    for part in (
        "One against another",
        "Row against column by tune-rules#leap; equal scores are ties. 3 prompts × 4 seeds.",
        "Row against column by tune-rules#tonic",
        "What rewards cost",
        "Reward tonic, over KL",
        "Score by tune-rules#leap, over KL from the base",
        "KL, nats a tune",
        "Ends missing severe U",
        "Tunes alike severe U",
        "One reward falls while another rises in training warning U",
        "The reward tonic fell from",
        "trained against",
        "penchant listen",
    ):
        assert part in words, part
    # U's drift is measured with both models at hand.
    assert re.search(r"KL, nats a tune — \d", words)


def test_the_page_needs_nothing_but_itself(listened):
    found = Page(listened[0])
    assert not {"script", "iframe", "link", "form"} & {tag for tag, _ in found.elements}
    sources = [attributes["src"] for _, attributes in found.elements if "src" in attributes]
    assert all(source.startswith("data:") for source in sources)


def test_the_command_line_listens_to_other_prompts_and_another_base(runs, tmp_path, capsys):
    (tmp_path / "few.txt").write_text("air in 3/4, major\nsong in 4/4, major\n")
    out = tmp_path / "deep" / "page.html"
    words = ["listen", str(runs["U"]), "--out", str(out), "--prompts", str(tmp_path / "few.txt")]
    code = main(
        [
            *words,
            "--seeds",
            "2",
            "--exhibits",
            "1",
            "--seconds",
            "2",
            "--tie-margin",
            "0.5",
            "--base",
            str(runs["base"]),
        ]
    )
    assert code == 0
    assert "page.html" in capsys.readouterr().out
    content = text(Page(out.read_text(encoding="utf-8")))
    assert "air in 3/4, major" in content or "song in 4/4, major" in content
    assert "a difference up to 0.500 is a tie. 2 prompts × 2 seeds." in content
    assert "first 2.0 s" in content


def test_what_cannot_be_listened_to_is_refused_with_a_remedy(runs, tmp_path):
    quiet = {"say": lambda line: None}
    with pytest.raises(RecipeError, match="no finished run"):
        listen([tmp_path], tmp_path / "x.html", **quiet)
    with pytest.raises(RecipeError, match="no run is named"):
        listen([], tmp_path / "x.html", **quiet)
    with pytest.raises(RecipeError, match="name each run once"):
        listen([runs["R"], runs["R"]], tmp_path / "x.html", **quiet)
    plain = tmp_path / "plain"
    shutil.copytree(runs["U"], plain)
    recipe = (plain / "recipe.toml").read_text()
    (plain / "recipe.toml").write_text(recipe.replace('notation = "tune"\n', ""))
    with pytest.raises(RecipeError, match=r"nobody can listen.*policy.notation"):
        listen([plain], tmp_path / "x.html", Listening(seeds=1, count=2), **quiet)
    assert not (tmp_path / "x.html").exists()


# The page's content alone.

PROMPTS = tuple(Prompt(text=caption) for caption in tune_fixtures.CAPTIONS)


def sheet(first: int) -> Sheet:
    tunes = [tune_fixtures.walk(first + k) for k in range(len(PROMPTS) * 2)]
    samples = tuple(Completion(text=tune, tokens=(1,), log_probs=(-1.0,), finished=True) for tune in tunes)
    drawn = Sheet(captions="held-out", prompts=PROMPTS, seeds=2, samples=samples, modality="tune")
    return scored(drawn, {"tune-rules": (JUDGES["tune-rules"], "held out"), "leap": (JUDGES["leap"], "held out")})


JUDGES = {"leap": load("tune-rules#leap"), "tune-rules": load("tune-rules")}


def data(*contestants: Contestant) -> ReportData:
    return listening_data(sheet(0), contestants, JUDGES, title="music", showing=Showing(exhibits=1, seconds=1.0))


def test_a_judge_is_held_out_for_the_policy_that_did_not_train_on_it():
    made = data(
        Contestant(name="R", sheet=sheet(50), trained_against=frozenset({"leap"})),
        Contestant(name="U", sheet=sheet(70), trained_against=frozenset({"tune-rules"})),
    )
    roles = [{row.scorer: row.role for row in policy.evidence} for policy in made.policies]
    assert roles[0] == {"tune-rules": "held out", "tune-rules#leap": "trained against"}
    assert roles[1] == {"tune-rules": "trained against", "tune-rules#leap": "held out"}


def test_the_matrix_shows_each_bout_from_both_sides():
    base, policy = sheet(0), sheet(50)
    made = data(Contestant(name="R", sheet=policy))
    own = [one.scores["leap"][:, 0].reshape(4, 2) for one in (policy, base)]
    found = bout(*own)
    assert made.tournaments[0].bout("R", "base").rate == found.rate
    words = text(Page(page(made)))
    shares = [f"{100 * s:.0f}" for s in (found.win, found.tie, found.loss)]
    assert " · ".join(shares) in words
    assert " · ".join(reversed(shares)) in words


def test_an_alarm_that_several_policies_share_is_said_once():
    same = Contestant(name="R", sheet=sheet(50))
    words = text(Page(page(data(same, replace(same, name="U")))))
    assert words.count("The held-out evidence rests on 4 prompts") == 1
    assert "Few prompts notice R, U" in words


def test_rewards_over_kl_use_a_samples_kl_where_all_runs_logged_it():
    steps = tuple(range(1, 21))

    def curves(**found: float) -> dict[str, Curve]:
        logged = {"rewards/mean": 1.0, "kl": 0.1, **{name.replace("_", "/"): value for name, value in found.items()}}
        return {n: Curve(steps=steps, values=tuple(v * s for s in steps)) for n, v in logged.items()}

    both = Contestant(name="R", sheet=sheet(50), curves=curves(kl_sequence=4.0))
    one = Contestant(name="U", sheet=sheet(50), curves=curves())
    assert "as training logged it, in nats a tune;" in text(Page(page(data(both))))
    assert "as training logged it, in nats a step;" in text(Page(page(data(both, one))))
    assert "What rewards cost" not in text(Page(page(data(Contestant(name="R", sheet=sheet(50))))))
