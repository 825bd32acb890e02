"""Music at real scale. `stable-audio-dpo`: Diffusion-DPO as Tango 2 used it (arXiv 2404.09956), on Stable Audio Open.

| value         | Tango 2 (its README's command, tango2-train.py)  | here                                            |
|---------------|--------------------------------------------------|-------------------------------------------------|
| model         | Tango, a U-Net of 866 M on mel latents, epsilon  | Stable Audio Open 1.0, a DiT of 1.1 B, v: ours  |
| weights       | all of the U-Net                                 | all of the transformer                          |
| feedback      | audio-alpaca, 15,000 pairs, 10 s a sound         | the same; 10 s are asked for, silence behind    |
| beta          | 2000, half of the mean error (models.py)         | 2000, our unit is the same                      |
| noise, time   | one for both of a pair, uniform                  | the same                                        |
| optimiser     | AdamW, 0.9, 0.999, decay 1e-2                    | the same                                        |
| learning rate | 9.6e-7, 200 steps of warm-up, then linear to 0   | the same                                        |
| clip          | none                                             | none                                            |
| batch         | 4 x 4 accumulated on each of its GPUs            | 64: that of four processes, ours                |
| epochs        | 5, the first of them plain training on winners   | the 4 of DPO; the first is `sft`, left out      |
| caption drop  | none in the command                              | none                                            |
| precision     | whatever accelerate was told                     | bf16 with checkpointing, ours                   |

A rate of 9.6e-7 is for all weights. For an adapter, `--policy.lora 16 --lr 1e-4` is where we would begin; nobody
measured it. Stable Audio Open's weights have a community licence and must be asked for on the hub.
"""

from __future__ import annotations

from penchant.likelihoods import Diffusion
from penchant.models.spec import Policy
from penchant.objectives import DPO
from penchant.recipe import Preferences, Recipe, Training

_PAIRS, _EPOCHS, _BATCH = 15_000, 4, 64


def stable_audio_dpo() -> Recipe:
    """Stable Audio Open on audio-alpaca."""
    return Recipe(
        name="stable-audio-dpo",
        policy=Policy(
            path="stabilityai/stable-audio-open-1.0", seconds=10.0, dtype="bfloat16", gradient_checkpointing=True
        ),
        likelihood=Diffusion(prediction="v_prediction"),
        objective=DPO(beta=2000.0),
        feedback=Preferences(path="audio-alpaca"),
        train=Training(
            steps=_EPOCHS * _PAIRS // _BATCH,
            batch_size=_BATCH,
            micro_batch=4,
            lr=9.6e-7,
            schedule="linear",
            warmup=200,
            weight_decay=1e-2,
            clip=None,
            precision="bf16",
            save_every=200,
        ),
        cite=("majumder2024tango2", "evans2024stableaudio"),
    )
