"""Policy gradients: advantages, ratios, values, and what stands on them."""

from planted.mutant import Mutant

ADVANTAGES = "objectives/advantages.py"
HISTORY = "objectives/prompt_history.py"
RATIOS = "objectives/ratios.py"
GRADIENT = "objectives/policy_gradient.py"
VALUES = "objectives/values.py"
GRPO = "objectives/grpo.py"
GSPO = "objectives/gspo.py"
GMPO = "objectives/gmpo.py"
DR_GRPO = "objectives/dr_grpo.py"
CISPO = "objectives/cispo.py"
SAPO = "objectives/sapo.py"
VESPO = "objectives/vespo.py"
RLOO = "objectives/rloo.py"
REINFORCE = "objectives/reinforce.py"
PPO = "objectives/ppo.py"
NFT = "objectives/diffusion_nft.py"
EXPERT = "objectives/expert_iteration.py"

MUTANTS = (
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
)
