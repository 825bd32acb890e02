"""Losses on preferences: pairs, rankings, scores, votes."""

from planted.mutant import Mutant

DPO = "objectives/dpo.py"
KTO = "objectives/kto.py"
MAPO = "objectives/mapo.py"
DSPO = "objectives/dspo.py"
RANK = "objectives/rankdpo.py"
LIST = "objectives/listwise.py"
PAIRED = "objectives/paired.py"
PAIRS = "objectives/pairs.py"
READ = "objectives/inputs.py"
SIMPO = "objectives/simpo.py"
ORPO = "objectives/orpo.py"
AOT = "objectives/aot.py"
WPO = "objectives/wpo.py"
TPO = "objectives/tpo.py"
MIXTURE = "objectives/mixture.py"
IREPO = "objectives/irepo.py"
LD = "objectives/ld_dpo.py"
DIVERGENCES = "objectives/divergences.py"
NUMERICS = "objectives/numerics.py"
BT = "objectives/bradley_terry.py"
RWR = "objectives/rwr.py"
WEIGHTS = "objectives/reward_weights.py"
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
)
