"""Diffusion-DPO in one file: our functions, none of our abstractions. Read it to see what a run does.

python examples/flat_diffusion_dpo.py MODEL_FOLDER PAIRS.parquet OUT_FOLDER [STEPS]
"""

from __future__ import annotations

import sys

import torch

import penchant as pc
from penchant.feedback import select
from penchant.feedback.media import decode_image
from penchant.types import CandidateBatch, ObjectiveInputs

BATCH, LR = 4, 1e-5


def main(model_path: str, pairs_path: str, out: str, steps: int = 20) -> list[float]:
    """Trains a LoRA adapter on pairs and saves it; returns the losses."""
    model = pc.load(model_path, lora=4)
    reference = pc.Reference(kind="adapter_off").build(model)
    likelihood, objective = pc.Diffusion(), pc.DPO(beta=5000.0)
    groups = select(pc.read(pairs_path), ties="drop")
    optimiser = torch.optim.AdamW(model.trainable_parameters(), lr=LR)

    losses = []
    for step in range(steps):
        chosen = [groups[(step * BATCH + i) % len(groups)] for i in range(BATCH)]
        epoch = step * BATCH // len(groups)

        # What a group is to a model: latents of its candidates, the embedding of its prompt, and scores.
        media = [c for g in chosen for c in g.group.candidates]
        pictures = [decode_image(c.media.bytes())[0] for c in media if c.media is not None]
        latents = model.encode_images(pictures, ids=[c.id for c in media])["latents"]
        batch = CandidateBatch(
            group_ids=tuple(g.group.id for g in chosen),
            sample_ids=tuple(tuple(c.id for c in g.group.candidates) for g in chosen),
            prompts=tuple(g.group.prompt for g in chosen),
            candidates={"latents": latents.unflatten(0, (BATCH, 2))},
            condition=model.encode_prompts([g.group.prompt for g in chosen]),
            scores_BK=torch.tensor([g.scores for g in chosen]),
            mask_BK=torch.ones(BATCH, 2, dtype=torch.bool),
        )

        # One draw of timestep and noise for both candidates and both models.
        draw = likelihood.draw(batch, seed=0, epoch=epoch)
        policy_log_probs = likelihood.log_prob(model, batch, draw)
        reference_log_probs = reference.log_prob(likelihood, model, batch, draw)
        output = objective(
            ObjectiveInputs(
                policy=policy_log_probs,
                reference=reference_log_probs,
                scores_BK=batch.scores_BK,
                mask_BK=batch.mask_BK,
            )
        )
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        losses.append(output.loss.item())
        print(f"step {step}  loss {losses[-1]:.4f}  accuracy {output.metrics['rewards/accuracies'].item():.2f}")

    model.save(out)
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:4], steps=int(sys.argv[4]) if len(sys.argv) > 4 else 20)
