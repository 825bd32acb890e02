"""Plants wrong losses one at a time in a copy of the package and asks whether the tests notice.

    python benchmarks/mutants.py              # all; exits 1 if any survives
    python benchmarks/mutants.py ztsnr swap   # those whose name contains a word
    python benchmarks/mutants.py --list

A mutant is (name, file, old text, new text). An old text that is not found exactly once means the source has moved on
and the mutant tests nothing: that is an error, not a survivor.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import hypothesis  # noqa: F401  loaded once, for all the forks
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
# Of the conformance suite one test is enough: a wrong loss is as finite and differentiable as a right one.
TESTS = (
    "tests/objectives/test_meaning.py",
    "tests/objectives/test_meaning_text.py",
    "tests/objectives/test_irepo.py",
    "tests/objectives/test_rwr.py",
    "tests/objectives/test_composed.py",
    "tests/objectives/test_divergences.py",
    "tests/objectives/test_listwise.py",
    "tests/objectives/test_rl_meaning.py",
    "tests/objectives/test_rl_advantages.py",
    "tests/objectives/test_rl_values.py",
    "tests/objectives/test_rl_matching.py",
    "tests/objectives/test_rl_kl.py",
    "tests/oracles",
    "tests/objectives/test_pairs_and_beta.py",
    "tests/likelihoods/test_denoising.py",
    "tests/likelihoods/test_gaussian.py",
    "tests/likelihoods/test_flow_dpo.py",
    "tests/likelihoods/test_denoising_path.py",
    "tests/sampling/test_guidance.py",
    "tests/reward_models/test_reward_losses_meaning.py",
    "tests/models/test_delay.py",
    "tests/objectives/test_conformance.py::test_padding_changes_nothing_and_has_exactly_zero_gradient",
)
DPO, KTO, MAPO, DSPO = (f"objectives/{name}.py" for name in ("dpo", "kto", "mapo", "dspo"))
RANK, LIST = (f"objectives/{name}.py" for name in ("rankdpo", "listwise"))
PAIRED, PAIRS, READ, SIMPO, ORPO, AOT, WPO, TPO, MIXTURE, IREPO, LD, DIVERGENCES, NUMERICS, BT = (
    f"objectives/{name}.py"
    for name in (
        "paired",
        "pairs",
        "inputs",
        "simpo",
        "orpo",
        "aot",
        "wpo",
        "tpo",
        "mixture",
        "irepo",
        "ld_dpo",
        "divergences",
        "numerics",
        "bradley_terry",
    )
)
RWR, WEIGHTS = (f"objectives/{name}.py" for name in ("rwr", "reward_weights"))
ADVANTAGES, HISTORY, RATIOS, GRADIENT, VALUES = (
    f"objectives/{name}.py" for name in ("advantages", "prompt_history", "ratios", "policy_gradient", "values")
)
GRPO, GSPO, GMPO, DR_GRPO, CISPO, SAPO, VESPO, RLOO, REINFORCE, PPO, NFT, EXPERT = (
    f"objectives/{name}.py"
    for name in (
        "grpo",
        "gspo",
        "gmpo",
        "dr_grpo",
        "cispo",
        "sapo",
        "vespo",
        "rloo",
        "reinforce",
        "ppo",
        "diffusion_nft",
        "expert_iteration",
    )
)
REWARDS, ACCURACY = (f"reward_models/{name}.py" for name in ("losses", "accuracy"))
GUIDANCE, ODE = (f"sampling/{name}.py" for name in ("guidance", "ode"))
DELAY, MUSIC = "models/delay.py", "models/music_scoring.py"
SHARED, GAUSSIAN, DIFFUSION = (f"likelihoods/{name}.py" for name in ("_denoising", "gaussian", "diffusion"))
STEPS, PATHS = (f"likelihoods/{name}.py" for name in ("transitions", "denoising_path"))


@dataclass(frozen=True)
class Mutant:
    """One wrong line."""

    name: str
    file: str
    old: str
    new: str

    def mutated(self) -> str:
        """The file's wrong source; refuses a mutant whose place is gone or not unique."""
        source = (ROOT / "src/penchant" / self.file).read_text()
        if source.count(self.old) != 1:
            raise SystemExit(f"mutant '{self.name}': {source.count(self.old)} places in {self.file} read {self.old!r}.")
        return source.replace(self.old, self.new)

    def plant(self, package: Path) -> None:
        """Write the wrong source into a copy of the package."""
        (package / self.file).write_text(self.mutated())

    def restore(self, package: Path) -> None:
        """Put the right file back."""
        shutil.copyfile(ROOT / "src/penchant" / self.file, package / self.file)


CLEAN_DPO = "(1 - e) * softplus(-logit) + e * softplus(logit)"
MUTANTS = (
    Mutant("dpo sign", DPO, CLEAN_DPO, "(1 - e) * softplus(logit) + e * softplus(-logit)"),
    Mutant("dpo label smoothing inverted", DPO, CLEAN_DPO, "e * softplus(-logit) + (1 - e) * softplus(logit)"),
    Mutant("dpo beta halved", DPO, CLEAN_DPO, CLEAN_DPO.replace("logit", "(logit / 2)")),
    Mutant("robust dpo not debiased", DPO, "- e * softplus(won - lost)) / (1 - 2 * e)", "- e * softplus(won - lost))"),
    Mutant("rankdpo sign", RANK, "(delta_BKK * softplus(-logit_BKK))", "(delta_BKK * softplus(logit_BKK))"),
    Mutant("rankdpo gain is the score", RANK, "* math.log(2))", "* math.log(2)).log1p()"),
    Mutant("rankdpo discount log(tau)", RANK, "torch.log1p(place)", "torch.log(place + 1e-3)"),
    Mutant("rankdpo discount not inverted", RANK, "math.log(log_base) / torch.log1p(place)", "torch.log1p(place)"),
    Mutant("rankdpo log base ignored", RANK, "math.log(log_base) / torch", "1 / torch"),
    Mutant(
        "rankdpo ranks upside down",
        RANK,
        "discount_BK = inverse_discounts(scores_BK,",
        "discount_BK = inverse_discounts(-scores_BK,",
    ),
    Mutant("rankdpo ties by the first place", RANK, "running[above_BK + equal_BK]", "running[above_BK + 1]"),
    Mutant("rankdpo without discount", RANK, "(discount_BK[:, :, None] - discount_BK[:, None, :])", "1"),
    Mutant("plackett-luce worst first", LIST, "(scores_BK[:, :, None] > scores", "(scores_BK[:, :, None] < scores"),
    Mutant("plackett-luce ties compete", LIST, "(scores_BK[:, :, None] > scores", "(scores_BK[:, :, None] >= scores"),
    Mutant("plackett-luce without itself", LIST, "torch.cat([itself_BK, relative_BKK], -1)", "relative_BKK"),
    Mutant("listnet divergence turned", LIST, "log_target_BK.exp() * (log", "log_policy_BK.exp() * (log"),
    Mutant("listnet temperature multiplies", LIST, "/ self.temperature)", "* self.temperature)"),
    Mutant(
        "reference dropped",
        "objectives/inputs.py",
        "return log_prob(inputs) - reference_log_prob(inputs)",
        "return log_prob(inputs) + 0 * reference_log_prob(inputs)",
    ),
    Mutant(
        "reference added",
        "objectives/inputs.py",
        "return log_prob(inputs) - reference_log_prob(inputs)",
        "return log_prob(inputs) + reference_log_prob(inputs)",
    ),
    Mutant(
        "candidate mask ignored",
        "objectives/inputs.py",
        "torch.where(inputs.mask_BK, at_least_float32(value_BK), 0)",
        "at_least_float32(value_BK)",
    ),
    Mutant(
        "candidate mask ignored by pairs",
        "objectives/pairs.py",
        "both_BKK = mask_BK[:, :, None] & mask_BK[:, None, :]",
        "both_BKK = torch.ones_like(mask_BK[:, :, None] & mask_BK[:, None, :])",
    ),
    Mutant(
        "chosen by position",
        "objectives/pairs.py",
        "(scores_BK[:, :, None] > scores_BK[:, None, :])",
        "torch.ones_like(both_BKK).triu(1)",
    ),
    Mutant(
        "preferred and other swapped",
        "objectives/pairs.py",
        "value_BK[:, :, None] - value_BK[:, None, :]",
        "value_BK[:, None, :] - value_BK[:, :, None]",
    ),
    Mutant(
        "best and worst swapped", "objectives/pairs.py", "best_BK, worst_BK = extremes", "worst_BK, best_BK = extremes"
    ),
    Mutant(
        "pairs summed, not averaged",
        "objectives/pairs.py",
        "credit_BKK / counted_BKK.sum((-1, -2), keepdim=True).clamp(min=1)",
        "credit_BKK",
    ),
    Mutant(
        "ties train both ways",
        "objectives/pairs.py",
        "scores_BK[:, :, None] > scores",
        "scores_BK[:, :, None] >= scores",
    ),
    Mutant("hinge margin sign", "objectives/hinge.py", "(1 - (won - lost)).relu()", "(1 + (won - lost)).relu()"),
    Mutant("hinge without margin", "objectives/hinge.py", "(1 - (won - lost)).relu()", "(lost - won).relu()"),
    Mutant("ipo target", "objectives/ipo.py", "(won - lost - 0.5)", "(won - lost - 1)"),
    Mutant(
        "ipo on totals",
        "objectives/ipo.py",
        "read.per_step(self.divergence(read.log_ratio(inputs)), inputs)",
        "self.divergence(read.log_ratio(inputs))",
    ),
    Mutant(
        "ipo divides before the divergence",
        "objectives/ipo.py",
        "read.per_step(self.divergence(read.log_ratio(inputs)), inputs)",
        "self.divergence(read.per_step(read.log_ratio(inputs), inputs))",
    ),
    # Losses of pairs that share `pair_loss`.
    Mutant(
        "both sides the winner",
        PAIRS,
        "torch.where(counted_BKK, value_BKK.mT, 0)",
        "torch.where(counted_BKK, value_BKK, 0)",
    ),
    Mutant(
        "winner's cost for every candidate",
        PAIRED,
        "(weight_BKK.sum(-1) * winner_BK)",
        "(weight_BKK.sum(-2) * winner_BK)",
    ),
    Mutant("gradient factor halved", PAIRED, "(up.abs() + down.abs()) / 2", "up.abs() / 2"),
    Mutant("total in place of mean", READ, 'policy.mean() if reduce == "mean" else', "policy.total() if False else"),
    Mutant(
        "length of the padding", READ, "inputs.policy.mask_BKT.sum(-1).clamp(min=1)", "inputs.policy.mask_BKT.shape[-1]"
    ),
    Mutant("bound divided by its draws again", READ, 'if inputs.policy.density == "bound":', "if False:"),
    Mutant("margin gamma added", DPO, "logit = won - lost - gamma", "logit = won - lost + gamma"),
    Mutant("simpo on totals", SIMPO, 'read.log_prob(inputs, "mean")', "read.log_prob(inputs)"),
    Mutant(
        "simpo gamma times beta",
        SIMPO,
        "self.label_smoothing, self.gamma)",
        "self.label_smoothing, self.gamma * self.beta)",
    ),
    Mutant("alphapo exponent sign", SIMPO, "-self.alpha)", "self.alpha)"),
    Mutant(
        "cpo on means",
        "objectives/cpo.py",
        "self.beta * read.log_prob(inputs),",
        'self.beta * read.log_prob(inputs, "mean"),',
    ),
    Mutant(
        "cpo imitates totals",
        "objectives/cpo.py",
        'self.nll_weight * read.log_prob(inputs, "mean")',
        "self.nll_weight * read.log_prob(inputs)",
    ),
    Mutant("cpo pushes the winner down", "objectives/cpo.py", "-self.nll_weight", "self.nll_weight"),
    Mutant("orpo against the preference", ORPO, "softplus(lost - won)", "softplus(won - lost)"),
    Mutant("orpo probabilities for odds", ORPO, "logp_BK - log1mexp(logp_BK)", "logp_BK"),
    Mutant("orpo on totals", ORPO, 'read.log_prob(inputs, "mean")', "read.log_prob(inputs)"),
    Mutant("orpo without imitation", ORPO, "winner_BK=-logp_BK", "winner_BK=None"),
    Mutant("bco loser up", "objectives/bco.py", "softplus(-won) + softplus(lost)", "softplus(-won) + softplus(-lost)"),
    Mutant(
        "nca winner without anchor", "objectives/nca.py", "(softplus(won) + softplus(lost)) / 2", "softplus(lost) / 2"
    ),
    Mutant(
        "nca half dropped",
        "objectives/nca.py",
        "(softplus(won) + softplus(lost)) / 2",
        "softplus(won) + softplus(lost)",
    ),
    Mutant(
        "exo forward divergence",
        "objectives/exo.py",
        "torch.sigmoid(logit) * (logsigmoid(logit) - math.log1p(-e))",
        "-(1 - e) * logsigmoid(logit)",
    ),
    Mutant(
        "exo label inverted",
        "objectives/exo.py",
        "logsigmoid(logit) - math.log1p(-e)",
        "logsigmoid(logit) - math.log(e)",
    ),
    Mutant("sppo targets swapped", "objectives/sppo.py", "(won - 0.5)", "(won + 0.5)"),
    Mutant("sppo step of 1 / beta", "objectives/sppo.py", "(lost + 0.5)", "(lost + 1)"),
    Mutant(
        "discopop blend turned",
        "objectives/discopop.py",
        "torch.sigmoid(-logit / self.tau)",
        "torch.sigmoid(logit / self.tau)",
    ),
    Mutant(
        "discopop tau multiplies",
        "objectives/discopop.py",
        "logsigmoid(logit / self.tau)",
        "logsigmoid(logit * self.tau)",
    ),
    Mutant(
        "apo zero winner down",
        "objectives/apo.py",
        "torch.sigmoid(-won) + torch.sigmoid(lost)",
        "torch.sigmoid(won) + torch.sigmoid(lost)",
    ),
    Mutant(
        "apo down winner up",
        "objectives/apo.py",
        "torch.sigmoid(won) + torch.sigmoid(lost - won)",
        "torch.sigmoid(-won) + torch.sigmoid(lost - won)",
    ),
    Mutant(
        "length-normalised dpo on totals",
        "objectives/length_normalised.py",
        "read.per_step(self.divergence(read.log_ratio(inputs)), inputs)",
        "self.divergence(read.log_ratio(inputs))",
    ),
    Mutant("ld-dpo discounts the shared part", LD, "> length_BK[:, None, :, None]", "<= length_BK[:, None, :, None]"),
    Mutant("ld-dpo alpha inverted", LD, "(1 - self.alpha) * tail_BKK", "self.alpha * tail_BKK"),
    Mutant("ld-dpo own length", LD, "length_BK[:, None, :, None]", "length_BK[:, :, None, None]"),
    Mutant("aot not sorted", AOT, "lower_B[place].sort(stable=True).values", "lower_B[place][order]"),
    Mutant(
        "aot against the order",
        AOT,
        "lower_B[place].sort(stable=True)",
        "lower_B[place].sort(stable=True, descending=True)",
    ),
    Mutant(
        "aot counts groups without order",
        AOT,
        "ordered_B.nonzero()[:, 0]",
        "torch.ones_like(ordered_B).nonzero()[:, 0]",
    ),
    Mutant("aot loss at another group", AOT, "(place[order],)", "(place,)"),
    Mutant("wpo weight of one answer", WPO, "typical_BK[:, first] * typical_BK[:, second]", "typical_BK[:, first]"),
    Mutant(
        "wpo weight with gradient", WPO, "policy.step_BKT.detach() - collision_BKT", "policy.step_BKT - collision_BKT"
    ),
    Mutant("wpo without collision", WPO, "policy.step_BKT.detach() - collision_BKT", "policy.step_BKT.detach()"),
    Mutant(
        "wpo sum over tokens", WPO, "read.present(relative.mean(), inputs)", "read.present(relative.total(), inputs)"
    ),
    Mutant(
        "wpo group weight for every pair",
        WPO,
        "(counted_BP * both_BP * loss_BP).sum(-1)",
        "(counted_BP * loss_BP).sum(-1) * both_BP.mean(-1)",
    ),
    Mutant("mixture without weights", MIXTURE, "[weight * output.loss_B", "[output.loss_B"),
    Mutant("mixture first part alone", MIXTURE, "torch.stack(weighted).sum(0)", "weighted[0]"),
    Mutant(
        "reference-free with the reference",
        "objectives/reference_free.py",
        "replace(inputs, reference=uniform)",
        "inputs if inputs.reference is not None else replace(inputs, reference=uniform)",
    ),
    Mutant("tpo compares the gold answer", TPO, "mask_BK=inputs.mask_BK & ~gold_BK", "mask_BK=inputs.mask_BK"),
    Mutant(
        "tpo imitates the chosen answer",
        TPO,
        "replace(inputs, mask_BK=gold_BK)",
        "replace(inputs, mask_BK=inputs.mask_BK & ~gold_BK)",
    ),
    Mutant("tpo imitates totals", TPO, 'SFT(reduce="mean")', "SFT()"),
    Mutant(
        "irepo target sign",
        IREPO,
        "score_BK[:, :, None] - score_BK[:, None, :]",
        "score_BK[:, None, :] - score_BK[:, :, None]",
    ),
    Mutant("irepo beta on the target", IREPO, "(won - lost - target_BKK)", "(won - lost - self.beta * target_BKK)"),
    Mutant("irepo without square", IREPO, ".square()", ".abs()"),
    Mutant("irepo mean ignored", IREPO, 'if self.reduce == "mean":', "if False:"),
    Mutant("irepo all pairs", IREPO, 'pairing: Pairing = "best_worst"', 'pairing: Pairing = "all"'),
    Mutant("forward divergence sign", DIVERGENCES, "power_log(log_ratio, -1.0)", "power_log(log_ratio, 1.0)"),
    Mutant("jensen-shannon without its constant", DIVERGENCES, "math.log(2) + logsigmoid", "logsigmoid"),
    Mutant("alpha as in the paper", DIVERGENCES, "self.alpha - 1)", "-self.alpha)"),
    Mutant("power transform not divided", NUMERICS, "tangent) / k", "tangent)"),
    Mutant("power transform cut off", NUMERICS, "torch.where(near, limit, scaled) - limit", "torch.zeros_like(scaled)"),
    Mutant("log1mexp of log(1 + exp)", NUMERICS, "torch.log1p(-large.exp())", "torch.log1p(large.exp())"),
    Mutant("reward margin subtracted", BT, "lost_BKK + margin - won_BKK", "lost_BKK - margin - won_BKK"),
    Mutant("rewards centred by their difference", BT, "(won_BKK + lost_BKK).square()", "(won_BKK - lost_BKK).square()"),
    Mutant("mapo on text by totals", MAPO, '-2 * read.log_prob(inputs, "mean")', "-2 * read.log_prob(inputs)"),
    Mutant("sft mean ignored", "objectives/sft.py", "read.log_prob(inputs, self.reduce)", "read.log_prob(inputs)"),
    Mutant("sft on the worst", "objectives/sft.py", "best_BK, _ = extremes", "_, best_BK = extremes"),
    Mutant("rwr sign", RWR, "loss_B = -(weight_BK * logp_BK)", "loss_B = (weight_BK * logp_BK)"),
    Mutant("rwr without weights", RWR, "-(weight_BK * logp_BK)", "-(known_BK * logp_BK)"),
    Mutant("rwr summed, not averaged", RWR, " / known_BK.sum(-1).clamp(min=1)", ""),
    Mutant("rwr missing rewards are zero", RWR, "inputs.mask_BK & ~inputs.scores_BK.isnan()", "inputs.mask_BK"),
    Mutant(
        "rwr temperature multiplies",
        WEIGHTS,
        "reward_BK / self.temperature).clamp",
        "reward_BK * self.temperature).clamp",
    ),
    Mutant("rwr exponential overflows", WEIGHTS, ".clamp(max=math.log(self.largest)).exp()", ".exp()"),
    Mutant("rwr softmax over the batch", WEIGHTS, "low).softmax(-1)", "low).flatten().softmax(-1).view_as(reward_BK)"),
    Mutant("rwr softmax weights sum to one", WEIGHTS, "known_BK.sum(-1, keepdim=True) * share_BK", "share_BK"),
    Mutant(
        "rwr clip without a floor", WEIGHTS, "reward_BK.clamp(self.low, self.high)", "reward_BK.clamp(max=self.high)"
    ),
    Mutant("rwr normalised by the sum", WEIGHTS, "weight_BK * count / weight_BK.sum()", "weight_BK / weight_BK.sum()"),
    Mutant("mapo phi increasing", MAPO, "self.power * log_phi(", "-self.power * log_phi("),
    Mutant("mapo sft weight", MAPO, "error_BK[:, :, None] + self.beta", "0.5 * error_BK[:, :, None] + self.beta"),
    Mutant("mapo sft on the loser", MAPO, "error_BK[:, :, None] + self.beta", "error_BK[:, None, :] + self.beta"),
    Mutant("mapo error halved", MAPO, "error_BK = -2 * read", "error_BK = -1 * read"),
    Mutant("mapo amplitude dropped", MAPO, "self.amplitude * torch.expm1", "torch.expm1"),
    Mutant(
        "kto baseline not clamped",
        KTO,
        "policy.mask_BKT.any(-1), (0, 1)).clamp(min=0)",
        "policy.mask_BKT.any(-1), (0, 1))",
    ),
    Mutant(
        "kto baseline with gradient",
        KTO,
        "read.log_ratio(inputs).detach(), inputs.mask_BK",
        "read.log_ratio(inputs), inputs.mask_BK",
    ),
    Mutant(
        "kto labels inverted",
        KTO,
        "desirable_BK = inputs.scores_BK > threshold",
        "desirable_BK = inputs.scores_BK <= threshold",
    ),
    Mutant(
        "kto weights swapped",
        KTO,
        "weights[0] * torch.sigmoid(-gain_BK), weights[1]",
        "weights[1] * torch.sigmoid(-gain_BK), weights[0]",
    ),
    Mutant(
        "dspo surprise detached",
        DSPO,
        "torch.sigmoid(-margins(reward_BK, weight_BKK))",
        "torch.sigmoid(-margins(reward_BK, weight_BKK)).detach()",
    ),
    Mutant("dspo divergence dropped", DSPO, "- c_BKK * (1 - c_BKK) * distance_BK", "- 0 * c_BKK * distance_BK"),
    Mutant(
        "beta of diffusers without its two", "objectives/beta.py", '"diffusers", "diffusion-kto")', '"diffusion-kto",)'
    ),
    Mutant("half dropped", SHARED, "scatter(-0.5 * mean_error", "scatter(-mean_error"),
    Mutant(
        "sum instead of mean over dims",
        GAUSSIAN,
        "error.flatten(batch_dims).mean(-1)",
        "error.flatten(batch_dims).sum(-1)",
    ),
    Mutant(
        "error in half precision",
        GAUSSIAN,
        "(at_least_float32(prediction) - at_least_float32(target)).square()",
        "(prediction.bfloat16() - target.bfloat16()).square().to(at_least_float32(prediction))",
    ),
    Mutant(
        "sum over timesteps drawn",
        "types.py",
        "return summed_BK / self.mask_BKT.sum(-1).clamp(min=1)",
        "return summed_BK",
    ),
    Mutant("noise not shared", DIFFUSION, "shared=self.share_noise", "shared=False"),
    Mutant("timestep not shared", DIFFUSION, "shared=self.share_timestep", "shared=False"),
    Mutant("flow time not shared", "likelihoods/flow_matching.py", "shared=self.share_timestep", "shared=False"),
    Mutant(
        "draw depends on the batch",
        SHARED,
        "generator(self.seed, self.epoch, id, purpose)) for id in",
        "generator(self.seed, self.epoch + len(batch.group_ids), id, purpose)) for id in",
    ),
    Mutant("v target sign", GAUSSIAN, '"v_prediction": lambda: (-s, a)', '"v_prediction": lambda: (s, -a)'),
    Mutant("velocity sign", GAUSSIAN, '"velocity": lambda: (-one, one)', '"velocity": lambda: (one, -one)'),
    Mutant(
        "signal and noise swapped",
        GAUSSIAN,
        "return power.sqrt(), (1 - power).sqrt()",
        "return (1 - power).sqrt(), power.sqrt()",
    ),
    Mutant(
        "ztsnr omitted",
        DIFFUSION,
        "return gaussian.zero_terminal_snr(model.alphas_cumprod) if self.zero_terminal_snr else model",
        "return model",
    ),
    Mutant("refiner range ignored", DIFFUSION, "first + uniform % (end - first)", "uniform % 1000"),
    Mutant("flow shift omitted", "likelihoods/flow_matching.py", "self.shift or model.shift)", "1.0)"),
    Mutant("flow weight of t, not 1 - t", "likelihoods/flow_matching.py", "(1 - sigma_N).square()", "sigma_N.square()"),
    Mutant(
        "captions never dropped", SHARED, "rows[name] = torch.where(where_N, empty.to(rows[name]), rows[name])", "pass"
    ),
    # Reward models: losses of annotated pairs, and the calibration of ties.
    Mutant(
        "theta where the paper prints it",
        REWARDS,
        "logsigmoid(difference - math.log",
        "logsigmoid(difference + math.log",
    ),
    Mutant("probability of a tie not normalised", REWARDS, "math.log(self.theta**2 - 1)", "math.log(self.theta**2)"),
    Mutant(
        "a tie is the first one's win",
        REWARDS,
        "pairs.label_BD == SAME, same_BD, likelihood_BD",
        "pairs.label_BD == SAME, first_BD, likelihood_BD",
    ),
    Mutant(
        "ties trained as wins",
        REWARDS,
        "return -logsigmoid(pairs.won()), pairs.decided()",
        "return -logsigmoid(pairs.won()), pairs.label_BD != UNLABELLED",
    ),
    Mutant(
        "the loser wins",
        REWARDS,
        "self.label_BD == B_BETTER, -self.difference(), self.difference()",
        "self.label_BD == B_BETTER, self.difference(), -self.difference()",
    ),
    Mutant("ratings not centred", REWARDS, "(rating_ED - 3.0)", "rating_ED"),
    Mutant("missing ratings regressed on", REWARDS, "rating_ED != 0", "rating_ED >= 0"),
    Mutant("rated margin turned", REWARDS, "pairs.won() - pairs.won_rating()", "pairs.won() + pairs.won_rating()"),
    Mutant("reductions exchanged", REWARDS, 'if self.reduction == "labelled"', 'if self.reduction == "all"'),
    Mutant(
        "half of equal differences tied",
        ACCURACY,
        "np.concatenate([size_N != threshold[:-1], [True]])",
        "np.ones(len(right), bool)",
    ),
    Mutant("never no tie", ACCURACY, "threshold[:-1], [True]]))", "threshold[:-1], [True]]))[1:]"),
    Mutant(
        "a difference of zero is right", ACCURACY, "(d_N * label_N > 0)[decided_N]", "(d_N * label_N >= 0)[decided_N]"
    ),
    # Online RL: advantages, ratios, policy gradients, and losses without ratios.
    Mutant(
        "advantage not divided",
        ADVANTAGES,
        "return away_BK / (_deviation(reward_BK, known_BK, self.correction, -1) + self.eps)",
        "return away_BK",
    ),
    Mutant(
        "advantage by the group where the batch is meant",
        ADVANTAGES,
        "self.correction, (-2, -1)) + self.eps)",
        "self.correction, -1) + self.eps)",
    ),
    Mutant(
        "advantage ignores the collection's deviation",
        ADVANTAGES,
        "            return away_BK / (statistics.std + self.eps)",
        "            return away_BK / (reward_BK.std() + self.eps)",
    ),
    Mutant("deviation divides by n", ADVANTAGES, "keepdim=True) - correction).clamp", "keepdim=True)).clamp"),
    Mutant("leave one out leaves none out", ADVANTAGES, "* count_B1 / (count_B1 - 1).clamp(min=1)", ""),
    Mutant(
        "unscorable rewards are zero",
        ADVANTAGES,
        "known_BK = inputs.mask_BK & ~inputs.scores_BK.isnan()\n    reward_BK",
        "known_BK = inputs.mask_BK\n    reward_BK",
    ),
    Mutant("penalty is a bonus", ADVANTAGES, "reward_BK = reward_BK - torch", "reward_BK = reward_BK + torch"),
    Mutant(
        "several rewards not brought to one unit",
        ADVANTAGES,
        " / (_deviation(reward_BKD, known_BKD, 1, 1) + 1e-4)",
        "",
    ),
    Mutant("advantages not held", ADVANTAGES, ".clamp(-self.largest, self.largest)", ""),
    Mutant(
        "history of the collection alone",
        HISTORY,
        "if len(past := self._rewards[prompt]) >= self.least else everything",
        "if False else everything",
    ),
    Mutant("history forgets nothing", HISTORY, "deque(maxlen=self.size)).append", "deque()).append"),
    Mutant(
        "ratio upside down",
        RATIOS,
        "return policy_steps(inputs) - behavior_steps(inputs)",
        "return behavior_steps(inputs) - policy_steps(inputs)",
    ),
    Mutant(
        "behavior ignored", RATIOS, "inputs.policy if inputs.behavior is None else inputs.behavior", "inputs.policy"
    ),
    Mutant(
        "sequence ratio is the joint one",
        RATIOS,
        "return raised(total_BK1 / counted_steps(inputs).sum(-1, keepdim=True).clamp(min=1))",
        "return raised(total_BK1)",
    ),
    Mutant(
        "joint ratio is the sequence's",
        RATIOS,
        'if level == "joint" and inputs.policy.density != "bound":',
        "if False:",
    ),
    Mutant(
        "k3 of the inverse ratio",
        RATIOS,
        "k3_BKT = raised(away_BKT) - away_BKT - 1",
        "k3_BKT = raised(-away_BKT) + away_BKT - 1",
    ),
    Mutant("k1 sign", RATIOS, "return -away_BKT\n", "return away_BKT\n"),
    Mutant("k2 not halved", RATIOS, "return away_BKT.square() / 2", "return away_BKT.square()"),
    Mutant(
        "weighted k3 with a detached weight",
        RATIOS,
        'else ratios(inputs, "token") * k3_BKT',
        'else ratios(inputs, "token").detach() * k3_BKT',
    ),
    Mutant("kl term dropped", GRADIENT, "loss_BKT = loss_BKT + beta * kl_BKT", "loss_BKT = loss_BKT + 0 * kl_BKT"),
    Mutant("kl term a reward", GRADIENT, "loss_BKT = loss_BKT + beta * kl_BKT", "loss_BKT = loss_BKT - beta * kl_BKT"),
    Mutant("ppo clip takes the better of the two", GRADIENT, "-torch.minimum(free_BKt", "-torch.maximum(free_BKt"),
    Mutant(
        "ppo clip missing", GRADIENT, "ratio_BKt.clamp(1 - low, 1 + high) * advantage_BK1", "ratio_BKt * advantage_BK1"
    ),
    Mutant("ppo clip symmetric", GRADIENT, "ratio_BKt.clamp(1 - low, 1 + high)", "ratio_BKt.clamp(1 - low, 1 + low)"),
    Mutant("dual clip ignored", GRADIENT, "ratio_BKt if dual is None else ratio_BKt.clamp(max=dual)", "ratio_BKt"),
    Mutant(
        "token normaliser by groups",
        GRADIENT,
        "return loss_BKT.sum((-2, -1)) / a_group",
        "return loss_BKT.sum((-2, -1)) / steps_BKT.sum((-2, -1)).clamp(min=1)",
    ),
    Mutant(
        "steps of the collection ignored",
        GRADIENT,
        "/ len(steps_BKT) if known is None else known.steps",
        "/ len(steps_BKT)",
    ),
    Mutant("sequence normaliser sums", GRADIENT, 'if normaliser == "sequence" else length', "if False else length"),
    Mutant("candidates summed, not averaged", GRADIENT, ".sum(-1) / inputs.mask_BK.sum(-1).clamp(min=1)", ".sum(-1)"),
    Mutant("grpo keeps stale samples", GRPO, "torch.where(kept_BK1 | (advantage_BK1 >= 0), loss, 0)", "loss"),
    Mutant("grpo leaves out stale good samples", GRPO, "kept_BK1 | (advantage_BK1 >= 0)", "kept_BK1"),
    Mutant("dr grpo with a deviation", DR_GRPO, 'GroupRelative(scale="none")', "GroupRelative()"),
    Mutant("dapo without clip-higher", "objectives/dapo.py", "clip_high: float = 0.28", "clip_high: float = 0.2"),
    Mutant("bnpo by sequences", "objectives/bnpo.py", 'normaliser="batch"', 'normaliser="sequence"'),
    Mutant(
        "gspo by tokens",
        GSPO,
        'level="sequence",\n            clip_low=self.clip_low,\n            clip_high=self.clip_high,\n            '
        "beta",
        'level="token",\n            clip_low=self.clip_low,\n            clip_high=self.clip_high,\n            beta',
    ),
    Mutant("luspo without the length", GSPO, '            normaliser="constant",\n            length=1.0,\n', ""),
    Mutant(
        "gmpo clips the mean",
        GMPO,
        "kept_BKT = sign_BK1 * torch.minimum(sign_BK1 * log_BKT, sign_BK1 * held_BKT)",
        "kept_BKT = log_BKT",
    ),
    Mutant(
        "gmpo without direction",
        GMPO,
        "kept_BKT = sign_BK1 * torch.minimum(sign_BK1 * log_BKT, sign_BK1 * held_BKT)",
        "kept_BKT = held_BKT",
    ),
    Mutant(
        "cispo weight with gradient",
        CISPO,
        "ratio_BKT.detach().clamp(max=self.ceiling)",
        "ratio_BKT.clamp(max=self.ceiling)",
    ),
    Mutant("cispo weight not held", CISPO, "ratio_BKT.detach().clamp(max=self.ceiling)", "ratio_BKT.detach()"),
    Mutant(
        "cispo drops held tokens",
        CISPO,
        "ratio_BKT.detach().clamp(max=self.ceiling)",
        "torch.where(ratio_BKT > self.ceiling, 0, ratio_BKT).detach()",
    ),
    Mutant(
        "sapo one temperature",
        SAPO,
        "torch.where(advantage_BK1 > 0, self.tau_good, self.tau_bad)",
        "torch.full_like(advantage_BK1, self.tau_good)",
    ),
    Mutant("sapo without its four", SAPO, "4 / tau_BK1", "1 / tau_BK1"),
    Mutant("vespo not one at one", VESPO, "lambda_BK1 * (1 - log_BK1.exp())", "-lambda_BK1 * log_BK1.exp()"),
    Mutant("vespo weight with gradient", VESPO, "log_ratio_steps(inputs).detach()", "log_ratio_steps(inputs)"),
    Mutant(
        "rloo penalty dropped",
        RLOO,
        "advantages(inputs, self.advantage, penalty_BK)",
        "advantages(inputs, self.advantage)",
    ),
    Mutant("rloo by tokens", RLOO, 'level="joint"', 'level="token"'),
    Mutant(
        "reinforce sign", REINFORCE, "loss_BKT = -(1 - self.alpha) * policy", "loss_BKT = (1 - self.alpha) * policy"
    ),
    Mutant("reinforce without 1 - alpha", REINFORCE, "-(1 - self.alpha) * policy_steps", "-policy_steps"),
    Mutant(
        "reinforce baseline with gradient", REINFORCE, "advantage_BKT = error_BKT.detach()", "advantage_BKT = error_BKT"
    ),
    Mutant(
        "reinforce without its baseline",
        REINFORCE,
        "advantage_BKT = error_BKT.detach()",
        "advantage_BKT = return_BK[:, :, None].expand_as(value_BKT)",
    ),
    Mutant("reinforce kl dropped", REINFORCE, "loss_BKT + self.alpha * kl_BKT", "loss_BKT + 0 * kl_BKT"),
    Mutant(
        "reinforce value loss dropped", REINFORCE, "self.value_weight * error_BKT.square()", "0 * error_BKT.square()"
    ),
    Mutant(
        "reinforce value loss halved",
        REINFORCE,
        "self.value_weight * error_BKT.square()",
        "self.value_weight / 2 * error_BKT.square()",
    ),
    Mutant("reinforce always the mean", REINFORCE, 'if self.reduce == "mean" else 1', "if True else 1"),
    Mutant(
        "reinforce learns from unscorable samples",
        REINFORCE,
        "steps_BKT & ~inputs.scores_BK.isnan()[:, :, None]",
        "steps_BKT",
    ),
    Mutant("gae without lambda", VALUES, "gamma * lam * ahead_BK", "gamma * ahead_BK"),
    Mutant(
        "gae without the next value",
        VALUES,
        "reward_BKT[..., t] + gamma * value_next_BK - value_BK",
        "reward_BKT[..., t] - value_BK",
    ),
    Mutant("gae through padding", VALUES, "torch.where(counts_BK, value_BK, value_next_BK)", "value_BK"),
    Mutant("reward at every step", VALUES, "return steps_BKT & (to_come_BKT == 1)", "return steps_BKT"),
    Mutant("ppo penalty is a bonus", PPO, "return reward_BKT - self.beta", "return reward_BKT + self.beta"),
    Mutant("ppo value clip takes the smaller", PPO, "torch.maximum(error_BKT", "torch.minimum(error_BKT"),
    Mutant("ppo target without the value", PPO, "target_BKT = found_BKT + old_BKT", "target_BKT = found_BKT"),
    Mutant("ppo target with gradient", PPO, "return value_BKT.detach()", "return value_BKT"),
    Mutant(
        "ppo value loss not halved",
        PPO,
        "error_BKT = (value_BKT - target_BKT).square() / 2",
        "error_BKT = (value_BKT - target_BKT).square()",
    ),
    Mutant("nft cross term dropped", NFT, "b * error_BKT - b * (1 - b) * far_BKT", "b * error_BKT"),
    Mutant(
        "nft mirror image turned",
        NFT,
        "(1 + b) * old_BKT - b * error_BKT + b * (1 + b) * far_BKT",
        "(1 + b) * old_BKT + b * error_BKT + b * (1 + b) * far_BKT",
    ),
    Mutant("nft errors halved", NFT, "error_BKT = -2 * policy_steps", "error_BKT = -1 * policy_steps"),
    Mutant(
        "nft bad samples pull",
        NFT,
        "good_BK1 * towards_BKT + (1 - good_BK1) * away_BKT",
        "(1 - good_BK1) * towards_BKT + good_BK1 * away_BKT",
    ),
    Mutant("nft share not held", NFT, "(advantage_BK / self.largest).clamp(-1, 1)", "(advantage_BK / self.largest)"),
    Mutant("nft without 1 / beta", NFT, "* self.largest / self.beta", "* self.largest"),
    Mutant("nft size with gradient", NFT, "error_BKT.detach().clamp(min=0).sqrt()", "error_BKT.clamp(min=0).sqrt()"),
    Mutant("expert of the worst", EXPERT, "known_BK)[0]", "known_BK)[1]"),
    Mutant("expert without a threshold", EXPERT, "known_BK & (inputs.scores_BK > self.threshold)", "known_BK"),
    Mutant("expert of all", EXPERT, 'if self.keep == "best"', "if False"),
    # Flow-NRG and the solver that it steers.
    Mutant("guidance against the reward", GUIDANCE, "(prediction_N - push_N)", "(prediction_N + push_N)"),
    Mutant("guidance of another prediction", GUIDANCE, "s * gaussian.noise_slope(quantity, a, s) * grad", "s * grad"),
    Mutant("guidance without its noise", GUIDANCE, "self.scale * s * gaussian", "self.scale * gaussian"),
    Mutant("guidance at pure noise", GUIDANCE, "and at.a > PURE_NOISE and inside", "and inside"),
    Mutant("guidance interval ignored", GUIDANCE, "self.interval[0] <= at.level <= self.interval[1]", "True"),
    Mutant("guidance clip over the batch", GUIDANCE, ".flatten(1).norm(dim=1)", ".norm().expand(len(value_N))"),
    Mutant("noise slope sign", GAUSSIAN, "return q - p * s_N / a_N", "return q + p * s_N / a_N"),
    Mutant("solver without noise", ODE, "next_.a * x0_N + next_.s * eps_N", "next_.a * x0_N"),
    Mutant(
        "classifier-free guidance turned",
        ODE,
        "without_N + guidance * (prediction_N - without_N)",
        "prediction_N + guidance * (without_N - prediction_N)",
    ),
    Mutant(
        "divergence not squared",
        SHARED,
        "mean_error(policy.output, reference.output, batch_dims=3)",
        "mean_error(policy.output, reference.output, batch_dims=3).sqrt()",
    ),
    Mutant("delay of stereo as of mono", DELAY, "tuple(k // channels for k", "tuple(k for k"),
    Mutant("delay turned round", DELAY, "tuple(k // channels for k", "tuple((codebooks - 1 - k) // channels for k"),
    Mutant("delay undone from the start", DELAY, "grid[..., k, wait : wait + frames] for", "grid[..., k, :frames] for"),
    Mutant("padding counts as said", DELAY, "(column >= wait) & (column < end)", "column >= wait"),
    Mutant("silence counts as said", DELAY, "(column >= wait) & (column < end)", "column < end + wait"),
    Mutant("a column reads itself", DELAY, "torch.full_like(grid[..., :1], silent), grid[..., :-1]", "grid"),
    Mutant("guidance from the conditional branch", MUSIC, "return without + guidance", "return with_text + guidance"),
    Mutant("guidance turned round", MUSIC, "(with_text - without)", "(without - with_text)"),
    Mutant(
        "null branch hears the text", MUSIC, "torch.cat([states, torch.zeros_like(states)])", "torch.cat([states] * 2)"
    ),
    Mutant("top-k before temperature", MUSIC, "filtered(logits / temperature, top_k)", "filtered(logits, top_k)"),
    Mutant("top-k of one less", MUSIC, "logits < least", "logits <= least"),
    Mutant("codebooks averaged", MUSIC, "torch.where(self.spoken, value, 0).sum(-2)", "value.mean(-2)"),
    Mutant("path log-prob summed", STEPS, "density_N.flatten(1).mean(-1)", "density_N.flatten(1).sum(-1)"),
    Mutant("path log-prob without its scale", STEPS, " - std.log() - 0.5", " - 0.5"),
    Mutant("path log-prob without the half", STEPS, "-0.5 * z_N.square()", "-z_N.square()"),
    Mutant("path kl without the half", STEPS, "/ (2 * std.square())", "/ std.square()"),
    Mutant("path sde noise against data", STEPS, "pull_N = sigma_N.square()", "pull_N = -sigma_N.square()"),
    Mutant("path sde sigma not squared", STEPS, "pull_N = sigma_N.square() / (2", "pull_N = sigma_N / (2"),
    Mutant("path sde velocity unweighted", STEPS, "pull_N * (1 - step.s_N)", "pull_N"),
    Mutant("path sde step turned", STEPS, "1 - pull_N * step.length_N", "1 + pull_N * step.length_N"),
    Mutant(
        "path sde std is sigma", STEPS, "return self._sigma(step) * step.length_N.sqrt()", "return self._sigma(step)"
    ),
    Mutant("path sde without a first sigma", STEPS, "step.s_N == 1, step.next_s_N", "step.s_N == 2, step.next_s_N"),
    Mutant("path sde sigma turned", STEPS, "(step.s_N / room_N)", "(room_N / step.s_N)"),
    Mutant("path dance std is eta", STEPS, "self.eta * step.length_N.sqrt()", "self.eta * step.length_N"),
    Mutant("path cps angle in full", STEPS, "self.noise * math.pi / 2)", "self.noise * math.pi)"),
    Mutant(
        "path cps log-prob scaled",
        STEPS,
        "return -gaussian.mean_error(next_N, mean_N)",
        "return -0.5 * gaussian.mean_error(next_N, mean_N)",
    ),
    Mutant("path ddim variance for std", STEPS, "kept_N).clamp(min=0).sqrt()", "kept_N).clamp(min=0)"),
    Mutant(
        "path ddim noise kept in full", STEPS, "(step.next_s_N.square() - std_N.square())", "(step.next_s_N.square())"
    ),
    Mutant(
        "path ddim posterior of the wrong end",
        STEPS,
        "self.eta * step.next_s_N / step.s_N",
        "self.eta * step.s_N / step.next_s_N",
    ),
    Mutant(
        "path code kl is exact",
        STEPS,
        'if self.kl == "exact" else self._sigma(step)',
        "if self.kl else self._sigma(step)",
    ),
    Mutant("path guidance turned", SHARED, "guidance * (with_N - without_N)", "guidance * (without_N - with_N)"),
    Mutant("path guidance from the prompt", SHARED, "return without_N + guidance", "return with_N + guidance"),
    Mutant("path kl of missing candidates", PATHS, "torch.where(policy.mask_BKT, kl_BKT, 0)", "kl_BKT"),
    Mutant(
        "path scored at the next state", PATHS, "held[NEXT][b, k, t], kernel.mean", "held[STATE][b, k, t], kernel.mean"
    ),
    Mutant(
        "path last step trained",
        PATHS,
        "noisy = tuple(range(self.steps - self.skip_last))",
        "noisy = tuple(range(self.steps))",
    ),
    Mutant("path window anywhere", PATHS, "max(1, int(self.window_range * self.steps))", "self.steps"),
)


def run_tests(copy: Path) -> int:
    """Run the tests on the copy in this process; the exit status of pytest, or 9 if the copy was not what ran."""
    os.chdir(ROOT)
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    import penchant

    if not Path(str(penchant.__file__)).is_relative_to(copy):
        print(f"the copy does not shadow the installed package: {penchant.__file__}")
        return 9
    return int(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *TESTS]))


def caught(copy: Path) -> tuple[bool, str]:
    """Whether the tests fail on the copy, and the test that did; in a fork, which has torch but no penchant loaded."""
    assert "penchant" not in sys.modules
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            status = run_tests(copy)
            sys.stdout.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        lines = output.read().splitlines()
    if status not in (0, 1):
        raise SystemExit("pytest could not run:\n" + "\n".join(lines[-20:]))
    failed = [line.split(" ")[1] for line in lines if line.startswith("FAILED")]
    return status == 1, failed[0].split("/", 1)[1] if failed else ""


def main(words: list[str]) -> int:
    """Plant, test and restore each mutant; print the table."""
    if words == ["--list"]:
        print("\n".join(m.name for m in MUTANTS))
        return 0
    chosen = [m for m in MUTANTS if not words or any(w in m.name for w in words)]
    for mutant in chosen:
        mutant.mutated()
    survivors, start = [], time.monotonic()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "src/penchant", copy / "penchant", ignore=shutil.ignore_patterns("__pycache__"))
        if caught(copy)[0]:
            raise SystemExit("the tests fail on the unchanged package: nothing can be said about mutants.")
        for mutant in chosen:
            mutant.plant(copy / "penchant")
            seen, test = caught(copy)
            mutant.restore(copy / "penchant")
            survivors += [] if seen else [mutant.name]
            print(f"{'caught  ' if seen else 'SURVIVED'}  {mutant.name:36}  {test}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught in {time.monotonic() - start:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
