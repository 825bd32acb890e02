"""iREPO (arXiv 2405.15230) in rounds: the embedded scale, Phi-2 and Mistral-7B.

The paper gives the models, the loop and the loss; no code was released, and its numbers could not be read. So:

| value            | paper                            | here                                                           |
|------------------|----------------------------------|----------------------------------------------------------------|
| models           | Phi-2, Mistral-7B                | the same                                                       |
| reference        | the last iterate                 | the same                                                       |
| ranking          | Zermelo strengths, best vs worst | the same; 0.5 virtual wins a pair: ours                        |
| annotators       | several, people or AI judges     | five readings of a language model behind a server: ours        |
| rounds           | several                          | 3: ours                                                        |
| answers a prompt | several                          | 4 at temperature 1, top-p 0.95: ours                           |
| beta             | not known to us                  | 0.1: ours                                                      |
| learning rate    | not known to us                  | 5e-6 with LoRA of rank 64 (5e-7 for all weights): ours         |
| batch, epochs    | not known to us                  | 64 prompts, 1 epoch a round: ours                              |
| prompts          | not known to us                  | UltraFeedback's, 4096 a round: ours                            |
| judging          | MT-Bench, LM Evaluation Harness  | a held-out language model, on held-out prompts: ours           |

`penchant iterate NAME` runs them; `objective:dpo` makes them iterative DPO.
"""

from __future__ import annotations

from dataclasses import replace

from penchant.iterations import Draws, Iterations, LanguageModelPanel, SimulatedPanel
from penchant.likelihoods import Autoregressive
from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.objectives import IREPO
from penchant.recipe import Evaluation, Training


def embedded() -> Iterations:
    """SmolLM2 learns to continue stories gladly from five noisy simulated annotators; two rounds, minutes on a CPU."""
    decoding = Decoding(max_tokens=24, top_p=0.95)
    return Iterations(
        name="irepo",
        policy=Policy(path="zoo:smollm2", lora=16, chat="plain"),
        likelihood=Autoregressive(),
        objective=IREPO(beta=0.1),
        prompts="zoo:openers",
        annotators=(SimulatedPanel(judge="vader", agreement=0.75, annotators=5),),
        train=Training(batch_size=4, lr=2e-3, weight_decay=0.0),
        rounds=2,
        prompts_a_round=48,
        draws=Draws(candidates=4, decoding=decoding, batch_size=96),
        evaluation=Evaluation(
            prompts="zoo:openers/held-out",
            count=32,
            decoding=decoding,
            batch_size=64,
            judges=("tone",),
            trained_against=("vader",),
        ),
    )


def phi2() -> Iterations:
    """Phi-2 in three rounds on UltraFeedback's prompts; the annotators are a model behind a server."""
    return Iterations(
        name="llm-irepo",
        policy=Policy(path="microsoft/phi-2", lora=64, dtype="bfloat16", gradient_checkpointing=True, max_prompt=1024),
        likelihood=Autoregressive(),
        objective=IREPO(beta=0.1),
        prompts="ultrafeedback_binarized",
        annotators=(LanguageModelPanel(address="http://localhost:8000/v1#annotator", annotators=5),),
        train=Training(batch_size=64, micro_batch=1, lr=5e-6, precision="bf16", save_every=16),
        rounds=3,
        prompts_a_round=4096,
        draws=Draws(candidates=4, decoding=Decoding(max_tokens=512, top_p=0.95), batch_size=256),
        evaluation=Evaluation(
            prompts="held_out.jsonl",
            count=256,
            decoding=Decoding(max_tokens=512, temperature=0.7, top_p=0.95),
            judges=("language-model:http://localhost:8001/v1#judge",),
        ),
    )


def mistral() -> Iterations:
    """Mistral-7B-Instruct, otherwise as Phi-2."""
    small = phi2()
    path = "mistralai/Mistral-7B-Instruct-v0.2"
    return replace(small, name="llm-irepo-mistral", policy=replace(small.policy, path=path))
