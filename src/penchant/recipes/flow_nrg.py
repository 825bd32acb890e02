"""Flow-NRG (Liu et al., arXiv 2501.13918, eq. 11 and appendix C): rewards on noised latents.

| value           | paper                              | `wan-flow-nrg`                                            |
|-----------------|------------------------------------|-----------------------------------------------------------|
| network         | first few layers of the generator  | 4 of Wan 2.1 1.3B's 30 (the number is undisclosed: ours)  |
| head            | 3 outputs (form undisclosed)       | of every token a small network, then their mean           |
| what trains     | all of it                          | the same                                                  |
| loss            | Bradley-Terry, ties left out       | the same                                                  |
| noise           | identical for winner and loser     | the same: `backbone.noise` "shared"                       |
| time            | undisclosed                        | uniform before the model's shift                          |
| optimiser       | Adam, 5e-6                         | AdamW, 5e-6, no decay                                     |
| epochs, batch   | 2, 144 pairs                       | the same, one pair at a time on each process              |
| pairs           | 169,000 for training               | a table of VideoAlign's layout                            |
| guidance scale  | 100 at sampling time               | `penchant sample --scale 100`; with a clip, see the page  |

The embedded scale draws independent noise for the two sides: with the paper's, where labels have no noise of their own,
gradients do not fall towards noise and guidance leaves the data (`docs/methods/flow-nrg.md`, where it did so in the
plane and not on clips). Its sizes and numbers are ours.
"""

from __future__ import annotations

from penchant.recipe import Training
from penchant.recipes.videoreward import DIMENSIONS
from penchant.reward_models.latent import GeneratorTrunk
from penchant.reward_models.losses import BradleyTerry
from penchant.reward_training.spec import Annotations, RewardRecipe

# 182,000 triplets less 13,000 for validation (section 3.1), in batches of 144.
_STEPS_AN_EPOCH = 169_000 // 144


def embedded() -> RewardRecipe:
    """The first layers of the shipped video model on its noised latents (simulated annotators); minutes on a CPU."""
    return RewardRecipe(
        name="flow-nrg",
        feedback=Annotations(path="zoo:clips/annotated"),
        dimensions=DIMENSIONS,
        loss=BradleyTerry(),
        # Four of five layers: with a small network of its own the reward learnt hardly anything of the prompt.
        backbone=GeneratorTrunk(generator="zoo:clips", layers=4),
        pooling="mean",
        train=Training(
            steps=300, batch_size=32, lr=3e-4, schedule="cosine", warmup=30, weight_decay=0.05, save_every=100
        ),
    )


def wan() -> RewardRecipe:
    """The first layers of Wan 2.1 1.3B with the paper's values."""
    return RewardRecipe(
        name="wan-flow-nrg",
        feedback=Annotations(path="videoalign_train.csv"),
        dimensions=DIMENSIONS,
        loss=BradleyTerry(),
        backbone=GeneratorTrunk(generator="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", layers=4, noise="shared", width=512),
        pooling="mean",
        train=Training(
            steps=2 * _STEPS_AN_EPOCH,
            batch_size=144,
            micro_batch=1,
            lr=5e-6,
            weight_decay=0.0,
            precision="bf16",
            save_every=200,
        ),
    )
