"""The bound of diffusion and flow models, guidance by a reward, and the losses of reward models."""

from planted.mutant import Mutant

REWARDS = "reward_models/losses.py"
ACCURACY = "reward_models/accuracy.py"
GUIDANCE = "sampling/guidance.py"
ODE = "sampling/ode.py"
SHARED = "likelihoods/_denoising.py"
GAUSSIAN = "likelihoods/gaussian.py"
DIFFUSION = "likelihoods/diffusion.py"

MUTANTS = (
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
)
