"""Our side of the text benchmark: penchant's loop, a step a turn; it also makes models and pairs.

The loop is the library's own, put together as `penchant.run.align` does it, and made to wait for its turn.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from text_peer import Job, Turns


def recipe_of(job: Job) -> Any:
    """The run that the library is given."""
    import penchant as pc
    from penchant.likelihoods import Autoregressive
    from penchant.objectives import SimPO
    from penchant.recipe import Preferences, Training
    from penchant.references import Reference

    cached = job.options["reference"] == "cached"
    # A frozen trunk may be in half precision on a GPU; weights that train stay in float32 on both sides.
    dtype: Any = "bfloat16" if job.device == "cuda" and job.lora else "float32"
    return pc.Recipe(
        name="text",
        policy=pc.Policy(path=job.folder, lora=job.lora, dtype=dtype),
        likelihood=Autoregressive(),
        objective=pc.DPO(beta=0.1) if job.objective == "dpo" else SimPO(beta=2.5, gamma=1.25),
        feedback=Preferences(path=f"{job.folder}/pairs.jsonl"),
        reference=Reference(cache=f"{job.folder}/reference-{os.getpid()}.sqlite" if cached else None),
        train=Training(
            steps=job.steps,
            batch_size=job.batch,
            micro_batch=job.options.get("micro_batch"),
            lr=job.lr,
            weight_decay=0.0,
            precision="bf16" if job.device == "cuda" else job.options.get("precision", "no"),
        ),
    )


def groups_of(job: Job) -> Any:
    """The pairs, read and scored by the library."""
    from penchant.feedback import read, select

    return select(read(f"{job.folder}/pairs.jsonl")).groups


def work(job: Job) -> None:
    """Trains in turn."""
    turns = Turns(job.device)
    import torch
    from accelerate import Accelerator

    import penchant as pc
    from penchant.run import FixedFeedback
    from penchant.train.encoding import Encoder
    from penchant.train.loop import Loop
    from penchant.train.scoring import Scorer

    torch.set_num_threads(1)
    recipe, groups = recipe_of(job), groups_of(job)
    accelerator = Accelerator(mixed_precision=recipe.train.precision, cpu=job.device == "cpu")
    model = pc.load(recipe.policy).to(accelerator.device)
    reference = recipe.reference.build(model) if recipe.objective.needs.reference else None
    encoder = Encoder(model, Path(job.folder) / f"encodings-{os.getpid()}.sqlite", seed=recipe.seed, flip=False)
    encoder.prepare(groups)
    data = FixedFeedback(groups=groups, encoder=encoder)
    scorer = Scorer(recipe=recipe, model=model, reference=reference, accelerator=accelerator)
    loop = Loop(recipe, model, scorer, data, Path(job.folder) / f"run-{os.getpid()}", accelerator)
    if job.options["reference"] == "cached":
        fill(turns, loop)
    loop.scorer.train_mode()
    turns.answer(**turns.reference)
    for _ in range(job.steps):
        turns.wait()
        turns.answer(loss=loop.take_step()["loss"])


def fill(turns: Turns, loop: Any) -> None:
    """The reference pass: every pair once."""
    turns.mark()
    recipe, count = loop.recipe, len(loop.data)
    for start in range(0, count, recipe.train.batch_size):
        batch = loop.data.batch(range(start, min(start + recipe.train.batch_size, count))).to(loop.model.device)
        draw = recipe.likelihood.draw(batch, seed=recipe.seed, epoch=0)
        with loop.accelerator.autocast():
            loop.scorer.reference.log_prob(recipe.likelihood, loop.model, batch, draw)
    turns.reference = {**turns.spent(), "pairs": count}


def prepare(job: Job) -> None:
    """Makes model and pairs, and writes the pairs down in the order in which the loop will visit them."""
    from penchant.train.order import visits
    from text_materials import MODELS, write_model, write_pairs

    name, folder = job.variant, Path(job.folder)
    facts: dict[str, Any] = write_model(name, folder)
    write_pairs(
        folder / "pairs.jsonl",
        count=job.options["pairs"],
        vocab_size=MODELS[name].vocab_size,
        longest=job.options["longest"],
    )
    groups = groups_of(job)
    lines = []
    for step in range(job.steps):
        for turn in visits(seed=0, step=step, batch_size=job.batch, count=len(groups)):
            group = groups[turn.index]
            best, worst = sorted(zip(group.scores, group.group.candidates, strict=True), key=lambda one: -one[0])
            lines.append({"prompt": group.group.prompt, "chosen": best[1].text, "rejected": worst[1].text})
    (folder / "visits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    texts = [[len(c.text.split()) + 1 for c in g.group.candidates] for g in groups]
    facts["mean_tokens"] = {
        "prompt": statistics.mean(len(g.group.prompt.split()) for g in groups),
        "chosen_and_rejected": statistics.mean(map(sum, texts)),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    (prepare if job.objective == "none" else work)(job)


if __name__ == "__main__":
    main()
