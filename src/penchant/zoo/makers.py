"""`penchant pretrain NAME`: how each shipped model and data set was made, as one resumable program."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penchant.errors import RecipeError, nearest


def build(name: str, out: Path, *, device: str = "cpu", threads: int | None = None) -> None:
    """Builds `name` under `out`; parts that are already there are kept, so an interrupted build goes on.

    Raises:
        RecipeError: there is nothing of that name to build.
    """
    import torch

    makers = {"emoji": emoji, "thinker": thinker, "openers": openers, "clips": clips, "tunes": tunes}
    if name not in makers:
        raise RecipeError(f"there is no '{name}' to build.", field="name", remedy=nearest(name, list(makers)))
    if threads is not None:
        torch.set_num_threads(threads)
    makers[name](out, device)


def emoji(out: Path, device: str) -> None:
    """Pictures, generator, scorers, style classifier, feedback and prompts."""
    from penchant.zoo.emoji import data, feedback, generator, scorers

    out.mkdir(parents=True, exist_ok=True)
    pictures_path, started = out / "pictures.parquet", time.process_time()
    if not pictures_path.exists():
        print(f"{data.build(pictures_path, out / 'downloads')} pictures", flush=True)
    pictures = data.load(pictures_path)
    made: dict[str, object] = {}
    if not all((out / part / "config.json").exists() for part in ("labeller", "judge", "voter", "style")):
        words, scorer_budget = generator.vocabulary(pictures), scorers.Budget()
        made["scorers"] = scorers.train(pictures, words, out, budget=scorer_budget, device=device)
    if not (out / "pipeline" / "model_index.json").exists():
        budget = generator.Budget()
        made["generator"] = generator.train(pictures, out / "pipeline", budget, device, labeller=out / "labeller")
    shown = [p for p in pictures if generator.drawn(p)]
    captions = sorted({p.caption for p in shown if p.split == "train"})
    prompts = sorted({p.caption for p in shown if p.split == "validation"})
    (out / "captions.txt").write_text("\n".join(captions) + "\n")
    (out / "prompts.txt").write_text("\n".join(prompts) + "\n")
    if not (out / "artists.parquet").exists():
        made["artists"] = feedback.write(feedback.artist_pairs(shown), out / "artists.parquet")
    if not (out / "samples.parquet").exists():
        from penchant.judges import load as load_judge
        from penchant.models import load as load_model

        model = load_model(str(out / "pipeline")).to(device)
        _sheet(model, [*captions, *prompts], out / "sheet.png")
        pairs = feedback.sample_pairs(model, load_judge(str(out / "labeller")), captions, steps=20)
        made["samples"] = feedback.write(pairs, out / "samples.parquet")
    made["cpu_seconds"] = time.process_time() - started
    with (out / "made.jsonl").open("a") as stream:
        stream.write(json.dumps(made) + "\n")


def thinker(out: Path, device: str) -> None:
    """The small reasoning model, a transformers folder, and its measured quality."""
    from penchant.models import load
    from penchant.zoo.thinker import measure, training

    if (out / "made.jsonl").exists():
        return
    made: dict[str, object] = {}
    out.mkdir(parents=True, exist_ok=True)
    _chains(out)
    if not (out / "model.safetensors").exists():
        made["training"] = training.train(out, training.Budget(), device)
    made["measured"] = measure.measure(load(str(out)).to(device))
    if not (out / "thoughts.parquet").exists():
        made["thoughts"] = _thoughts(out)
    with (out / "made.jsonl").open("a") as stream:
        stream.write(json.dumps(made) + "\n")


def _thoughts(out: Path) -> int:
    """Pairs of the thinker's traces and their better versions, by the recipe `thinker-thoughts`."""
    from dataclasses import replace

    from penchant.feedback import export_groups
    from penchant.models.spec import Policy
    from penchant.thoughts import construct
    from penchant.zoo.thinker.thoughts import thinker_thoughts

    recipe = replace(
        thinker_thoughts(),
        policy=Policy(path=str(out)),
        problems=str(out / "problems.jsonl"),
        out=str(out / "construction"),
    )
    groups = construct(recipe).groups
    export_groups(groups, out / "thoughts.parquet")
    return len(groups)


def _chains(out: Path) -> None:
    """Chains to learn from and held-out ones, up to six terms, and the answers of both."""
    from penchant.zoo.thinker.problems import problems

    training, held_out = problems(200, (3, 6), 11, split="train"), problems(160, (3, 6), 13)
    lines = [json.dumps({"prompt": p.prompt, "answer": p.answer}) for p in (*training, *held_out)]
    (out / "problems.jsonl").write_text("\n".join(lines[: len(training)]) + "\n")
    (out / "answers.jsonl").write_text("\n".join(lines) + "\n")
    (out / "held_out.txt").write_text("\n".join(p.prompt for p in held_out) + "\n")


def tunes(out: Path, device: str) -> None:
    """The small model of tunes, a transformers folder, its captions and measured quality; its samples, its judges."""
    from penchant.models import load
    from penchant.zoo.tunes import data, measure, training

    if (out / "made.jsonl").exists():
        _judges_of_tunes(out, device)
        return
    made: dict[str, object] = {}
    out.mkdir(parents=True, exist_ok=True)
    strains, started = out / "strains.parquet", time.process_time()
    if not strains.exists():
        records, counts = data.build(data.tunes(data.fetch(out / "downloads")))
        data.write(records, strains)
        (out / "counts.json").write_text(json.dumps(counts, indent=1))
    records = data.load(strains)
    (out / "captions.txt").write_text("\n".join(data.captions(records)) + "\n")
    (out / "prompts.txt").write_text("\n".join(data.HELD_OUT) + "\n")
    if not (out / "model.safetensors").exists():
        made["training"] = training.train(out, records, training.Budget(), device)
    made["strains"] = json.loads((out / "counts.json").read_text())
    made["measured"] = measure.measure(load(str(out)).to(device), records)
    made["cpu_seconds"] = round(time.process_time() - started)
    with (out / "made.jsonl").open("a") as stream:
        stream.write(json.dumps(made) + "\n")
    _judges_of_tunes(out, device)


def _judges_of_tunes(out: Path, device: str) -> None:
    """Draws what listeners vote on; takes in what `penchant train-reward RECIPE --out OUT/runs/RECIPE` made, halved."""
    from penchant.models import load as load_model
    from penchant.zoo.clips.rewards import halve
    from penchant.zoo.tunes import pairs, rewards

    if not (out / "samples.parquet").exists():
        captions = (out / "captions.txt").read_text().splitlines()
        pairs.draw(load_model(str(out)).to(device), captions, out / "samples.parquet")
    for part, recipe in rewards.RECIPES.items():
        trained = out / "runs" / recipe / "model"
        if trained.exists() and not (out / part).exists():
            halve(trained, out / part)


def openers(out: Path, device: str) -> None:
    """Beginnings of stories, and ranked continuations of SmolLM2."""
    from penchant.judges import load as load_judge
    from penchant.models import load as load_model
    from penchant.zoo.openers import feedback, prompts

    out.mkdir(parents=True, exist_ok=True)
    training, held_out = prompts.openers()
    (out / "prompts.txt").write_text("\n".join(training) + "\n")
    (out / "held_out.txt").write_text("\n".join(held_out) + "\n")
    if not (out / "ranked.parquet").exists():
        started = time.process_time()
        model = load_model("zoo:smollm2", chat="plain").to(device)
        groups = feedback.ranked(model, load_judge("vader"), training[:120], out / "ranked.parquet")
        made = {"ranked": groups, "cpu_seconds": time.process_time() - started}
        with (out / "made.jsonl").open("a") as stream:
            stream.write(json.dumps(made) + "\n")


def clips(out: Path, device: str) -> None:
    """Footage, text-to-video generator, captions, sheets, samples; annotated pairs are made of the footage on use."""
    from penchant.models import load as load_model
    from penchant.zoo.clips import data, feedback, footage, generator, measure

    out.mkdir(parents=True, exist_ok=True)
    loops_path, started = out / "clips.parquet", time.process_time()
    if not loops_path.exists():
        print(f"{data.build(loops_path, out / 'downloads')} clips", flush=True)
    loops = data.load(loops_path)
    if not (out / "footage" / footage.INDEX).exists():
        footage.write(loops, out / "footage")
    captions = {split: sorted(loop.caption for loop in loops if loop.split == split) for split in data.SPLITS}
    (out / "captions.txt").write_text("\n".join(captions["train"]) + "\n")
    (out / "prompts.txt").write_text("\n".join(captions["validation"]) + "\n")
    made: dict[str, object] = {}
    known, budget = [loop for loop in loops if data.known(loop)], generator.Budget()
    if not (out / "pipeline" / "model_index.json").exists():
        fused = shutil.which("g++") is not None
        made["generator"] = generator.train(known, out / "pipeline", out / "runs", budget, fused=fused)
    if not (out / "drawn" / feedback.INDEX).exists():
        model = load_model(str(out / "pipeline")).to(device)
        _clip_sheets(model, captions, out)
        reader, _ = generator.train_reader(known, out / "runs", budget)
        made["measured"] = measure.measure(model, reader, known, guidances=(1.0, 2.5))
        made["drawn"] = feedback.draw(model, captions["train"], out / "drawn", steps=20)
    _rewards_of_clips(out)
    made["cpu_seconds"] = time.process_time() - started
    with (out / "made.jsonl").open("a") as stream:
        stream.write(json.dumps(made) + "\n")


def _rewards_of_clips(out: Path) -> None:
    """Takes in what `penchant train-reward RECIPE --out OUT/runs/RECIPE` left; the reward labels the drawn clips."""
    from penchant.judges import load as load_judge
    from penchant.zoo.clips import feedback, rewards

    for part, recipe in rewards.RECIPES.items():
        trained = out / "runs" / recipe / "model"
        if trained.exists() and not (out / part).exists():
            rewards.halve(trained, out / part)
    if (out / "reward").exists():
        feedback.label(out / "drawn", load_judge(str(out / "reward")))


def _clip_sheets(model: Any, captions: dict[str, list[str]], out: Path) -> None:
    """By split, 24 clips still for a person to look at; 24 drawn captions also moving, for the documentation."""
    from penchant.evaluate.compare import choose
    from penchant.zoo.clips import sheets

    for split, own in captions.items():
        shown = choose(own, 24)
        clips = model.generate(shown, seeds=range(len(shown)), steps=25, guidance=2.5, batch_size=12)
        sheets.still(clips, shown, out / f"sheet-{split}.png", columns=4)
        if split == "train":
            sheets.animated(clips, shown, out / "sheet.webp", columns=8)


def _sheet(model: Any, captions: Sequence[str], path: Path) -> None:
    """40 captions that the generator knows, drawn by count, one picture each: for a person to look at."""
    from penchant.evaluate import contact_sheet
    from penchant.evaluate.compare import choose

    shown = choose(captions, 40)
    images = model.generate(shown, seeds=range(len(shown)), steps=25, guidance=3.0, batch_size=20)
    contact_sheet(images, shown, columns=10, tile=96).save(path)
