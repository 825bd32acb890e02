"""Real stages: tiny diffusers pipelines draw, judges score pictures, rewards run in environments of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from penchant.cli import main
from penchant.errors import RecipeError
from penchant.feedback import decode_image, open_store, read, verify
from penchant.models import Policy
from penchant.recipe_file import from_toml, to_toml
from penchant.synthesis import Pictures, Pipeline, Reward, Row, Synthesis, Work, rank, synthesize
from penchant.synthesis.dataset import fingerprint
from penchant.synthesis.plan import plan
from penchant.synthesis.run import LEDGER
from penchant.testing import build

sys.path.insert(0, str(Path(__file__).parents[1] / "judges"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny Stable Diffusion, and six prompts."""
    folder = tmp_path_factory.mktemp("real")
    build("stable-diffusion", folder / "sd")
    (folder / "prompts.txt").write_text("\n".join(f"prompt {i}" for i in range(6)))
    return folder


def real(folder: Path, out: Path, **more) -> Synthesis:
    policy = Policy(path=str(folder / "sd"))
    settings = {
        "name": "real",
        "prompts": str(folder / "prompts.txt"),
        "generators": (
            Pictures(name="plain", policy=policy, steps=2, guidance=1.0, batch_size=4),
            Pictures(name="guided", policy=policy, steps=2, guidance=3.0, batch_size=4, format="webp"),
            Pipeline(
                name="stock",
                path=str(folder / "sd"),
                call=(("num_inference_steps", 2), ("guidance_scale", 2.0), ("height", 32), ("width", 32)),
                batch_size=4,
            ),
        ),
        "rewards": (Reward(name="sharp", judge="sharpness"), Reward(name="colour", judge="colourfulness")),
        "out": str(out),
        "work": Work(workers=2),
    }
    return Synthesis(**(settings | more))


def quiet(line: str) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def made(folder):
    return synthesize(real(folder, folder / "out"), say=quiet)


def test_pictures_are_drawn_scored_and_ranked(made):
    from penchant.judges import load

    assert (made.groups, made.failures, made.left_out) == (6, (), {})
    assert verify(made.data).ok
    sharp = load("sharpness")
    for group in open_store(made.data):
        mimes = {c.model: c.media.mime for c in group.candidates}
        assert mimes == {"plain": "image/png", "guided": "image/webp", "stock": "image/png"}
        by_dimension = {j.dimension: j for j in group.judgements}
        images = [decode_image(c.media.bytes())[0] for c in group.candidates]
        expected = sharp.score([group.prompt] * 3, images)[:, 0]
        assert by_dimension["sharp"].values == pytest.approx(expected.tolist())
        assert by_dimension["sharp"].source == f"reward:sharpness@{sharp.version}"
        assert set(by_dimension["overall"].values) <= {0.0, 0.25, 0.5, 0.75, 1.0}


def test_a_picture_is_that_of_its_model_seed_and_settings(folder, made):
    from io import BytesIO

    import penchant

    plain = [next(c for c in group.candidates if c.model == "plain") for group in open_store(made.data)[:4]]
    model, prompts, seeds = (
        penchant.load(str(folder / "sd")),
        [f"prompt {i}" for i in range(4)],
        [c.seed for c in plain],
    )
    images = model.generate(prompts, seeds=seeds, steps=2, guidance=1.0, batch_size=4)
    out = BytesIO()
    images[0].save(out, "PNG")
    assert plain[0].media.bytes() == out.getvalue()


def test_a_pipeline_that_penchant_cannot_train_draws_as_well(folder, tmp_path):
    """PixArt-Sigma, one of the four of the paper, in tiny."""
    from diffusers import DDIMScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    from penchant.testing.parts import byte_tokenizer, tiny_t5
    from penchant.testing.pictures import tiny_vae

    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=32,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=16,
        norm_num_groups=1,
    )
    PixArtSigmaPipeline(
        tokenizer=byte_tokenizer(template="$A <end>", lowercase=False),
        text_encoder=tiny_t5(width=32),
        vae=tiny_vae(channels=4, scaling_factor=0.13),
        transformer=transformer,
        scheduler=DDIMScheduler(),
    ).save_pretrained(str(tmp_path / "pixart"))
    call = (("num_inference_steps", 2), ("height", 16), ("width", 16), ("use_resolution_binning", False))
    stage = Pipeline(name="pixart", path=str(tmp_path / "pixart"), call=call, batch_size=3)
    rows = [Row(prompt=f"prompt {i}", seed=i) for i in range(3)]
    first, again = (stage.load().run(rows, tmp_path / "media") for _ in range(2))
    assert first == again
    assert len({output["sha256"] for output in first}) == 3


def test_a_lost_picture_is_drawn_again(folder, tmp_path):
    first = synthesize(real(folder, tmp_path), say=quiet)
    lost = open_store(first.data)[0].candidates[0]
    Path(lost.media.path).unlink()
    again = synthesize(real(folder, tmp_path), say=quiet)
    # One of a batch of four alone need not have the same bits; it is there, and everything is whole.
    assert again.tally.computed[lost.model] == 1
    assert verify(again.data).ok
    assert again.groups == 6


def test_other_weights_under_the_same_path_are_other_work(folder, tmp_path):
    import shutil

    shutil.copytree(folder / "sd", tmp_path / "sd")
    shutil.copy(folder / "prompts.txt", tmp_path)
    stage = real(tmp_path, tmp_path / "out").generators[0]
    before = stage.identity()
    from penchant.synthesis import stages

    build("stable-diffusion", tmp_path / "sd", seed=1)
    stages._identity.cache_clear()  # what a new process begins with
    assert stage.identity() != before


def test_two_rewards_that_need_different_versions_of_a_package_vote_in_one_pipeline(folder, tmp_path):
    from reward_environments import environment, wheel

    api = "class Grader:\n    def grade(self, many): return [-len(d) for d in many]\n"
    old = environment(tmp_path / "old", wheel(tmp_path, "1.0", "def grade(data): return len(data)\n"))
    new = environment(tmp_path / "new", wheel(tmp_path, "2.0", api))
    head = "from importlib.metadata import version\nimport tastes\n\n\n"
    head += "class Reward:\n    name, version = 'taste', version('tastes')\n"
    (tmp_path / "uses_old.py").write_text(head + "    def score(self, p, s): return [tastes.grade(x) for x in s]\n")
    (tmp_path / "uses_new.py").write_text(head + "    def score(self, p, s): return tastes.Grader().grade(s)\n")
    rewards = (
        Reward(name="old", judge=f"{tmp_path}/uses_old.py:Reward", python=old),
        Reward(name="new", judge=f"{tmp_path}/uses_new.py:Reward", python=new),
        Reward(name="sharp", judge="sharpness"),
    )
    made = synthesize(real(folder, tmp_path / "out", rewards=rewards), say=quiet)
    assert (made.groups, made.failures) == (6, ())
    for group in open_store(made.data):
        by_dimension = {j.dimension: j for j in group.judgements}
        assert by_dimension["old"].source == "reward:taste@1.0"
        assert by_dimension["new"].source == "reward:taste@2.0"
        assert [-v for v in by_dimension["new"].values] == list(by_dimension["old"].values)


def test_a_served_reward_that_raises_hangs_or_says_nothing_is_reported_by_name(folder, tmp_path):
    (tmp_path / "odd.py").write_text(
        "import time\n"
        "def Raises(): return lambda p, s: 1 / 0\n"
        "def Hangs(): return lambda p, s: time.sleep(60)\n"
        "def Silent(): return lambda p, s: [None if x.endswith('3') else 1.0 for x in p]\n"
    )
    rewards = tuple(
        Reward(name=name.lower(), judge=f"{tmp_path}/odd.py:{name}", python=sys.executable, timeout=1.5)
        for name in ("Raises", "Hangs", "Silent")
    )
    recipe = real(folder, tmp_path / "out", rewards=(*rewards, Reward(name="sharp", judge="sharpness")), limit=4)
    made = synthesize(recipe, say=quiet)
    reasons = {f.stage: f.reason for f in made.failures}
    assert "ZeroDivisionError" in reasons["raises"]
    assert "no answer" in reasons["hangs"] or "timed out" in reasons["hangs"]
    assert reasons["silent"] == "returned nan"
    assert {f.stage: sum(o.stage == f.stage for o in made.failures) for f in made.failures} == {
        "raises": 12,
        "hangs": 12,
        "silent": 3,
    }
    assert made.groups == 4


def test_a_recipe_survives_toml(folder, tmp_path):
    recipe = real(folder, tmp_path)
    (tmp_path / "synthesis.toml").write_text(to_toml(recipe))
    assert from_toml(tmp_path / "synthesis.toml", Synthesis) == recipe
    with pytest.raises(RecipeError, match="no Recipe"):
        from_toml(tmp_path / "synthesis.toml")


def test_the_dimension_that_votes_can_be_named(folder):
    with pytest.raises(RecipeError, match="sharpness"):
        Reward(name="r", judge="sharpness", dimension="sharpnes").load()


# --- the command line ---


def test_synthesize_by_recipe_file_then_again_by_folder(folder, tmp_path, capsys, made):
    recipe = real(folder, tmp_path / "out")
    (tmp_path / "mine.toml").write_text(to_toml(recipe))
    assert main(["synthesize", str(tmp_path / "mine.toml"), "--limit", "4"]) == 0
    assert "4 groups" in capsys.readouterr().out
    assert main(["synthesize", str(tmp_path / "out"), "reward:open-nsfw"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert lines["open-nsfw"] == ["12", "12", "0", "0"]
    assert lines["plain"] == ["4", "0", "4", "0"]
    with pytest.raises(SystemExit):
        main(["synthesize", str(tmp_path / "out"), "--limits", "4"])


def test_score_and_rank_from_the_command_line(made, tmp_path, capsys):
    out = tmp_path / "scored"
    assert main(["score", str(made.data), "--judges", "sharpness,colourfulness", "--out", str(out)]) == 0
    assert main(["rank", str(out / "data"), "--aggregation", "half-credit", "--out", str(tmp_path / "r.parquet")]) == 0
    capsys.readouterr()
    ranked = read(tmp_path / "r.parquet")
    assert fingerprint(ranked) == fingerprint(rank(open_store(out / "data").groups, "half-credit")[0])
    assert main(["score", str(made.data)]) == 2
    assert "--judges" in capsys.readouterr().err


def test_what_has_no_scores_cannot_be_ranked(capsys, tmp_path):
    assert main(["rank", "zoo:emoji/artists", "--out", str(tmp_path / "x")]) == 2
    assert "penchant score" in capsys.readouterr().err


def test_each_verb_says_whose_recipe_it_is(capsys):
    assert main(["align", "synpic"]) == 2
    assert "penchant synthesize synpic" in capsys.readouterr().err
    assert main(["synthesize", "rankdpo"]) == 2
    assert "penchant align rankdpo" in capsys.readouterr().err


def test_the_plan_of_the_paper_s_data_is_the_paper_s_bill(capsys):
    """10 A100-days and below $205.60 + for 232,000 images (section 3 of arXiv 2410.18013)."""
    from penchant.recipes import find_synthesis

    found = plan(find_synthesis("sdxl-synpic"), devices=80)
    assert found.images == 232_000
    assert found.days == pytest.approx(10, rel=0.01)
    assert found.days * 24 * found.price == pytest.approx(205.60, rel=0.01)
    assert main(["synthesize", "sdxl-synpic", "--plan", "--devices", "80", "--limit", "1000"]) == 0
    assert "1,000 prompts, 4,000 samples; on 80 devices" in capsys.readouterr().out


def test_a_plan_uses_what_was_measured(folder, made):
    found = plan(real(folder, folder / "out"))
    assert all(line.measured for line in found.lines)
    assert (folder / "out" / LEDGER).exists()
    account = json.loads((folder / "out" / "made.json").read_text())
    assert account["fingerprint"] == made.fingerprint
    seconds = {line.name: line.seconds * line.units for line in found.lines}
    assert seconds == pytest.approx(account["tally"]["seconds"], rel=1e-6)
