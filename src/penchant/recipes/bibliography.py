"""Credit: what a recipe rests on. Keys are those that objectives declare in `cite`."""

from __future__ import annotations

from penchant.recipe import Recipe

REFERENCES = {
    "rafailov2023dpo": "Rafailov, Sharma, Mitchell, Ermon, Manning, Finn. Direct Preference Optimization: Your "
    "Language Model is Secretly a Reward Model. NeurIPS 2023. arXiv:2305.18290",
    "wallace2024diffusiondpo": "Wallace, Dang, Rafailov, Zhou, Lou, Purushwalkam, Ermon, Xiong, Joty, Naik. Diffusion "
    "Model Alignment Using Direct Preference Optimization. CVPR 2024. arXiv:2311.12908",
    "liu2025videoalign": "Liu et al. Improving Video Generation with Human Feedback. 2025. arXiv:2501.13918",
    "hong2024mapo": "Hong, Paul, Lee, Rasul, Thorne, Jeong. Margin-aware Preference Optimization for Aligning "
    "Diffusion Models without Reference. 2024. arXiv:2406.06424",
    "karthik2024rankdpo": "Karthik, Coskun, Akata, Tulyakov, Ren, Kag. Scalable Ranked Preference Optimization for "
    "Text-to-Image Generation. ICCV 2025. arXiv:2410.18013",
    "bai2025diffusionlpo": "Bai, Yu, Xu, Lu, Pan, Maeng, Kifer, Wang, Wang. Towards Better Optimization For Listwise "
    "Preference in Diffusion Models. 2025. arXiv:2510.01540",
    "cao2007listnet": "Cao, Qin, Liu, Tsai, Li. Learning to Rank: From Pairwise Approach to Listwise Approach. "
    "ICML 2007.",
    "chowdhury2024robustdpo": "Chowdhury, Kini, Natarajan. Provably Robust DPO: Aligning Language Models with Noisy "
    "Feedback. ICML 2024. arXiv:2403.00409",
    "azar2024ipo": "Azar, Guo, Piot, Munos, Rowland, Valko, Calandriello. A General Theoretical Paradigm to Understand "
    "Learning from Human Preferences. AISTATS 2024. arXiv:2310.12036",
    "zhao2023slichf": "Zhao, Joshi, Liu, Khalman, Saleh, Liu. SLiC-HF: Sequence Likelihood Calibration with Human "
    "Feedback. 2023. arXiv:2305.10425",
    "liu2024rso": "Liu, Zhao, Joshi, Khalman, Saleh, Liu, Liu. Statistical Rejection Sampling Improves Preference "
    "Optimization. ICLR 2024. arXiv:2309.06657",
    "ethayarajh2024kto": "Ethayarajh, Xu, Muennighoff, Jurafsky, Kiela. KTO: Model Alignment as Prospect Theoretic "
    "Optimization. ICML 2024. arXiv:2402.01306",
    "li2024diffusionkto": "Li, Kallidromitis, Gokul, Kato, Kozuka. Aligning Diffusion Models by Optimizing Human "
    "Utility. NeurIPS 2024. arXiv:2404.04465",
    "zhu2025dspo": "Zhu, Xiao, Honavar. DSPO: Direct Score Preference Optimization for Diffusion Model Alignment. "
    "ICLR 2025.",
    "doosterlinck2024apo": "D'Oosterlinck, Xu, Develder, Demeester, Singh, Potts, Kiela, Mehri. Anchored Preference "
    "Optimization and Contrastive Revisions. 2024. arXiv:2408.06266",
    "ho2020ddpm": "Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020. arXiv:2006.11239",
    "lipman2023flow": "Lipman, Chen, Ben-Hamu, Nickel, Le. Flow Matching for Generative Modeling. ICLR 2023. "
    "arXiv:2210.02747",
    "hu2022lora": "Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen. LoRA: Low-Rank Adaptation of Large Language "
    "Models. ICLR 2022. arXiv:2106.09685",
}

_OF_LIKELIHOOD = {"Diffusion": ("ho2020ddpm",), "FlowMatching": ("lipman2023flow",)}


def keys(recipe: Recipe) -> tuple[str, ...]:
    """The reference keys of exactly what a recipe runs."""
    adapter = ("hu2022lora",) if recipe.policy.lora else ()
    likelihood = _OF_LIKELIHOOD.get(type(recipe.likelihood).__name__, ())
    return tuple(dict.fromkeys((*recipe.objective.cite, *likelihood, *adapter)))


def bibliography(recipe: Recipe) -> list[str]:
    """The references of exactly what a recipe runs, in words."""
    return [REFERENCES[key] for key in keys(recipe)]
