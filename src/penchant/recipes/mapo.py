"""MaPO (Hong et al., arXiv 2406.06424): Pick-Style at the embedded scale, and SDXL.

| value         | SDXL                  | source                                                              |
|---------------|-----------------------|---------------------------------------------------------------------|
| loss          | the code's (v1)       | utils.compute_loss; the paper's v2 forms are presets of `MaPO`       |
| beta_mapo     | 0.1                   | train.py default                                                    |
| learning rate | 1e-5, constant        | README command (train.py's default, 5e-4, is for other work)         |
| batch         | 8 x 2 accumulation    | train.py defaults                                                   |
| steps         | 2000                  | train.py default                                                    |
| optimiser     | AdamW (8 bit there)   | README; ours is the full-precision one                              |
| VAE           | sdxl-vae-fp16-fix     | README                                                              |
| flip          | pair, together        | train.py                                                            |
"""

from __future__ import annotations

from penchant.likelihoods import Diffusion
from penchant.models.spec import Policy
from penchant.objectives import MaPO
from penchant.recipe import Evaluation, Preferences, Recipe, Training


def embedded() -> Recipe:
    """Pick-Style with real pictures: the same caption drawn by the preferred artist and by another."""
    return Recipe(
        name="mapo",
        policy=Policy(path="zoo:emoji"),
        likelihood=Diffusion(),
        objective=MaPO.code(),
        feedback=Preferences(path="zoo:emoji/artists"),
        train=Training(steps=80, batch_size=16, lr=5e-6, warmup=8, weight_decay=0.0),
        evaluation=Evaluation(
            prompts="zoo:emoji/prompts",
            count=60,
            seeds=2,
            steps=16,
            guidance=2.0,
            judges=("zoo:emoji/style#fluent", "zoo:emoji/judge"),
        ),
        # The model is small: a second thread adds a tenth of speed for a quarter more CPU time.
        threads=1,
    )


def sdxl() -> Recipe:
    """SDXL base, the authors' code's values."""
    return Recipe(
        name="sdxl-mapo",
        policy=Policy(
            path="stabilityai/stable-diffusion-xl-base-1.0",
            vae_path="madebyollin/sdxl-vae-fp16-fix",
            resolution=1024,
            gradient_checkpointing=True,
        ),
        likelihood=Diffusion(),
        objective=MaPO.code(),
        feedback=Preferences(path="pick-style-cartoon"),
        train=Training(steps=2000, batch_size=16, micro_batch=8, lr=1e-5, precision="bf16", flip=True, save_every=200),
    )
