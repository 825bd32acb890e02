"""Credit: what a recipe rests on. Keys are those that objectives, likelihoods and recipes declare in `cite`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

REFERENCES = {
    "rafailov2023dpo": "Rafailov, Sharma, Mitchell, Ermon, Manning, Finn. Direct Preference Optimization: Your "
    "Language Model is Secretly a Reward Model. NeurIPS 2023. arXiv:2305.18290",
    "wallace2024diffusiondpo": "Wallace, Dang, Rafailov, Zhou, Lou, Purushwalkam, Ermon, Xiong, Joty, Naik. Diffusion "
    "Model Alignment Using Direct Preference Optimization. CVPR 2024. arXiv:2311.12908",
    "liu2025videoalign": "Liu et al. Improving Video Generation with Human Feedback. 2025. arXiv:2501.13918",
    "cideron2024musicrl": "Cideron, Girgin, Verzetti, Vincent, Kastelic, Borsos, McWilliams, Ungureanu, Bachem, "
    "Pietquin, Geist, Hussenot, Zeghidour, Agostinelli. MusicRL: Aligning Music Generation to Human Preferences. 2024. "
    "arXiv:2402.04229",
    "zhai2023siglip": "Zhai, Mustafa, Kolesnikov, Beyer. Sigmoid Loss for Language Image Pre-Training. ICCV 2023. "
    "arXiv:2303.15343",
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
    "an2025dto": "An, Wang, Zhou, Hsieh. Don't Think Longer, Think Wisely: Optimizing "
    "Thinking Dynamics for Large Reasoning Models. NeurIPS 2025. arXiv:2505.21765",
    "le2024irepo": "Le, Han, Nguyen, Hong, Tran. iREPO: implicit Reward Pairwise Difference based Empirical Preference "
    "Optimization. 2024. arXiv:2405.15230",
    "meng2024simpo": "Meng, Xia, Chen. SimPO: Simple Preference Optimization with a Reference-Free Reward. NeurIPS "
    "2024. arXiv:2405.14734",
    "gupta2025alphapo": "Gupta, Tang et al. AlphaPO: Reward Shape Matters for LLM Alignment. ICML 2025. "
    "arXiv:2501.03884",
    "xu2024cpo": "Xu, Sharaf, Chen, Tan, Shen, Van Durme, Murray, Kim. Contrastive Preference Optimization: Pushing "
    "the Boundaries of LLM Performance in Machine Translation. ICML 2024. arXiv:2401.08417",
    "hong2024orpo": "Hong, Lee, Thorne. ORPO: Monolithic Preference Optimization without Reference Model. EMNLP 2024. "
    "arXiv:2403.07691",
    "jung2024bco": "Jung, Han, Nam, On. Binary Classifier Optimization for Large Language Model Alignment. 2024. "
    "arXiv:2404.04656",
    "chen2024nca": "Chen, He, Yuan, Cui, Su, Zhu. Noise Contrastive Alignment of Language Models with Explicit "
    "Rewards. NeurIPS 2024. arXiv:2402.05369",
    "ji2024exo": "Ji, Lu, Niu, Ke, Wang, Zhu, Tang, Huang. Towards Efficient Exact Optimization of Language Model "
    "Alignment. ICML 2024. arXiv:2402.00856",
    "wu2024sppo": "Wu, Sun, Yuan, Ji, Yang, Gu. Self-Play Preference Optimization for Language Model Alignment. 2024. "
    "arXiv:2405.00675",
    "melnyk2024aot": "Melnyk, Mroueh, Belgodere, Rigotti, Nitsure, Yurochkin, Greenewald, Navratil, Ross. "
    "Distributional Preference Alignment of LLMs via Optimal Transport. NeurIPS 2024. arXiv:2406.05882",
    "lu2024discopop": "Lu, Holt, Fanconi, Chan, Foerster, van der Schaar, Lange. Discovering Preference Optimization "
    "Algorithms with and for Large Language Models. NeurIPS 2024. arXiv:2406.08414",
    "wang2024fdpo": "Wang, Jiang, Yang, Liu, Chen. Beyond Reverse KL: Generalizing Direct Preference Optimization with "
    "Diverse Divergence Constraints. ICLR 2024. arXiv:2309.16240",
    "lambert2024tulu3": "Lambert et al. Tulu 3: Pushing Frontiers in Open Language Model Post-Training. 2024. "
    "arXiv:2411.15124",
    "liu2024lddpo": "Liu, Bai, Han, Weng, Xu, Cao, Wang, Cai. Length Desensitization in Direct Preference "
    "Optimization. 2024. arXiv:2409.06411",
    "zhou2024wpo": "Zhou, Agrawal, Zhang, Indurthi, Zhao, Song, Xu, Zhu. WPO: Enhancing RLHF with Weighted Preference "
    "Optimization. EMNLP 2024. arXiv:2406.11827",
    "saeidi2024tpo": "Saeidi, Verma, RRV, Rastogi, Baral. Triple Preference Optimization: Achieving Better Alignment "
    "using a Single Step Optimization. 2024. arXiv:2405.16681",
    "wang2024mpo": "Wang et al. Enhancing the Reasoning Ability of Multimodal Large Language Models via Mixed "
    "Preference Optimization. 2024. arXiv:2411.10442",
    "peters2007rwr": "Peters, Schaal. Reinforcement Learning by Reward-Weighted Regression for Operational Space "
    "Control. ICML 2007.",
    "rao1967ties": "Rao, Kupper. Ties in Paired-Comparison Experiments: A Generalization of the Bradley-Terry Model. "
    "Journal of the American Statistical Association 62, 1967.",
    "deutsch2023ties": "Deutsch, Foster, Freitag. Ties Matter: Meta-Evaluating Modern Metrics with Pairwise Accuracy "
    "and Tie Calibration. EMNLP 2023. arXiv:2305.14324",
    "wang2024qwen2vl": "Wang et al. Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any "
    "Resolution. 2024. arXiv:2409.12191",
    "ho2020ddpm": "Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020. arXiv:2006.11239",
    "lipman2023flow": "Lipman, Chen, Ben-Hamu, Nickel, Le. Flow Matching for Generative Modeling. ICLR 2023. "
    "arXiv:2210.02747",
    "black2024ddpo": "Black, Janner, Du, Kostrikov, Levine. Training Diffusion Models with Reinforcement Learning. "
    "ICLR 2024. arXiv:2305.13301",
    "liu2025flowgrpo": "Liu, Liu, Liang, Li, Liu, Wang, Wan, Zhang, Ouyang. Flow-GRPO: Training Flow Matching Models "
    "via Online RL. NeurIPS 2025. arXiv:2505.05470",
    "xue2025dancegrpo": "Xue et al. DanceGRPO: Unleashing GRPO on Visual Generation. 2025. arXiv:2505.07818",
    "wang2025cps": "Wang, Yu. Coefficients-Preserving Sampling for Reinforcement Learning with Flow Matching. 2025. "
    "arXiv:2509.05952",
    "majumder2024tango2": "Majumder, Hung, Ghosal, Hsu, Mihalcea, Poria. Tango 2: Aligning Diffusion-based "
    "Text-to-Audio Generations through Direct Preference Optimization. ACM Multimedia 2024. arXiv:2404.09956",
    "evans2024stableaudio": "Evans, Parker, Carr, Zukowski, Taylor, Pons. Stable Audio Open. 2024. arXiv:2407.14358",
    "copet2023musicgen": "Copet, Kreuk, Gat, Remez, Kant, Synnaeve, Adi, Defossez. Simple and Controllable Music "
    "Generation. NeurIPS 2023. arXiv:2306.05284",
    "hu2022lora": "Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen. LoRA: Low-Rank Adaptation of Large Language "
    "Models. ICLR 2022. arXiv:2106.09685",
    "shao2024deepseekmath": "Shao, Wang, Zhu, Xu, Song, Zhang, Li, Wu, Guo. DeepSeekMath: Pushing the Limits of "
    "Mathematical Reasoning in Open Language Models. 2024. arXiv:2402.03300",
    "yu2025dapo": "Yu et al. DAPO: An Open-Source LLM Reinforcement Learning System at Scale. 2025. arXiv:2503.14476",
    "liu2025drgrpo": "Liu, Chen, Li, Qi, Pang, Du, Lee, Lin. Understanding R1-Zero-Like Training: A Critical "
    "Perspective. 2025. arXiv:2503.20783",
    "minimax2025m1": "MiniMax. MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention. 2025. "
    "arXiv:2506.13585",
    "zheng2025gspo": "Zheng et al. Group Sequence Policy Optimization. 2025. arXiv:2507.18071",
    "luspo2026": "Length-Unbiased Sequence Policy Optimization: Revealing and Controlling Response Length Variation in "
    "RLVR. 2026. arXiv:2602.05261",
    "zhao2025gmpo": "Zhao et al. Geometric-Mean Policy Optimization. 2025. arXiv:2507.20673",
    "gao2025sapo": "Gao et al. Soft Adaptive Policy Optimization. 2025. arXiv:2511.20347",
    "vespo2026": "VESPO: Variational Sequence-Level Soft Policy Optimization for Stable Off-Policy LLM Training. 2026. "
    "arXiv:2602.10693",
    "ahmadian2024rloo": "Ahmadian, Cremer, Galle, Fadaee, Kreutzer, Pietquin, Ustun, Hooker. Back to Basics: "
    "Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs. ACL 2024. arXiv:2402.14740",
    "williams1992reinforce": "Williams. Simple Statistical Gradient-Following Algorithms for Connectionist "
    "Reinforcement Learning. Machine Learning 8, 1992.",
    "schulman2017ppo": "Schulman, Wolski, Dhariwal, Radford, Klimov. Proximal Policy Optimization Algorithms. 2017. "
    "arXiv:1707.06347",
    "schulman2016gae": "Schulman, Moritz, Levine, Jordan, Abbeel. High-Dimensional Continuous Control Using "
    "Generalized Advantage Estimation. ICLR 2016. arXiv:1506.02438",
    "ziegler2019finetuning": "Ziegler, Stiennon, Wu, Brown, Radford, Amodei, Christiano, Irving. Fine-Tuning Language "
    "Models from Human Preferences. 2019. arXiv:1909.08593",
    "anthony2017expert": "Anthony, Tian, Barber. Thinking Fast and Slow with Deep Learning and Tree Search. NeurIPS "
    "2017. arXiv:1705.08439",
    "dong2023raft": "Dong et al. RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment. TMLR 2023. "
    "arXiv:2304.06767",
    "zheng2025diffusionnft": "Zheng et al. DiffusionNFT: Online Diffusion Reinforcement with Forward Process. 2025. "
    "arXiv:2509.16117",
}

# Papers that brought an objective to a likelihood: it is they that such a recipe repeats.
_TOGETHER = {
    ("DPO", "Diffusion"): ("wallace2024diffusiondpo",),
    ("DPO", "FlowMatching"): ("liu2025videoalign",),
    ("RWR", "FlowMatching"): ("liu2025videoalign",),
}


def keys(recipe: Any) -> tuple[str, ...]:
    """The reference keys of exactly what a recipe of any verb runs, its own paper first."""
    objective, likelihood = getattr(recipe, "objective", None), getattr(recipe, "likelihood", None)
    together = _TOGETHER.get((type(objective).__name__, type(likelihood).__name__), ())
    adapter = ("hu2022lora",) if getattr(getattr(recipe, "policy", None), "lora", 0) else ()
    own = getattr(recipe, "cite", ())
    # A reward model's recipe has these two in their place.
    reward = (*_cited(getattr(recipe, "loss", None)), *_cited(getattr(recipe, "backbone", None)))
    return tuple(dict.fromkeys((*own, *_cited(objective), *together, *_cited(likelihood), *adapter, *reward)))


def _cited(part: object) -> Iterator[str]:
    """The keys of a part and of all that it is made of: an objective, its divergence, the members of a mixture."""
    yield from getattr(part, "cite", ())
    if isinstance(part, tuple):
        for member in part:
            yield from _cited(member)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from _cited(getattr(part, field.name))


def bibliography(recipe: Any) -> list[str]:
    """The references of exactly what a recipe runs, in words."""
    return [REFERENCES[key] for key in keys(recipe)]
