"""DPO of a language model in one file: our functions, none of our abstractions. Read it to see what a run does.

python examples/flat_text_dpo.py MODEL_FOLDER PAIRS.jsonl OUT_FOLDER [STEPS]
"""

from __future__ import annotations

import sys

import torch
from torch.nn.utils.rnn import pad_sequence

import penchant as pc
from penchant.feedback import select
from penchant.types import CandidateBatch, ObjectiveInputs

BATCH, LR = 4, 1e-4


def main(model_path: str, pairs_path: str, out: str, steps: int = 20) -> list[float]:
    """Trains a LoRA adapter on pairs of texts and saves it; returns the losses."""
    model = pc.load(model_path, lora=8)
    reference = pc.Reference(kind="adapter_off").build(model)
    likelihood, objective = pc.Autoregressive(), pc.DPO(beta=0.1)
    groups = select(pc.read(pairs_path), ties="drop")
    optimiser = torch.optim.AdamW(model.trainable_parameters(), lr=LR)

    losses = []
    for step in range(steps):
        chosen = [groups[(step * BATCH + i) % len(groups)] for i in range(BATCH)]

        # What a group is to a language model: tokens of its prompt and of its candidates, their lengths, and scores.
        prompts = [torch.tensor(model.prompt_tokens(g.group.asked())) for g in chosen]
        answers = [torch.tensor(model.completion_tokens(c)) for g in chosen for c in g.group.candidates]
        batch = CandidateBatch(
            group_ids=tuple(g.group.id for g in chosen),
            sample_ids=tuple(tuple(c.id for c in g.group.candidates) for g in chosen),
            prompts=tuple(g.group.prompt for g in chosen),
            candidates={
                "tokens": pad_sequence(answers, batch_first=True).unflatten(0, (BATCH, 2)),
                "length": torch.tensor([len(a) for a in answers]).view(BATCH, 2),
            },
            condition={
                "prompt": pad_sequence(prompts, batch_first=True),
                "prompt_length": torch.tensor([len(p) for p in prompts]),
            },
            scores_BK=torch.tensor([g.scores for g in chosen]),
            mask_BK=torch.ones(BATCH, 2, dtype=torch.bool),
        )

        # The prompt is computed once for both answers, the head on answer tokens only.
        draw = likelihood.draw(batch, seed=0, epoch=0)
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
