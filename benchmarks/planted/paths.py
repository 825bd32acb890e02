"""Denoising paths and grids of codes: what a step, or a column, was drawn from."""

from planted.mutant import Mutant

DELAY = "models/delay.py"
MUSIC = "models/music_scoring.py"
SHARED = "likelihoods/_denoising.py"
STEPS = "likelihoods/transitions.py"
PATHS = "likelihoods/denoising_path.py"
AS_FLOW = "likelihoods/as_flow.py"

MUTANTS = (
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
    Mutant(
        "as flow mean unscaled",
        AS_FLOW,
        "return mean_N * across(step.next_a_N + step.next_s_N, mean_N)",
        "return mean_N",
    ),
    Mutant(
        "as flow deviation unscaled",
        AS_FLOW,
        "return self.step.std(_straight(step)) * (step.next_a_N + step.next_s_N)",
        "return self.step.std(_straight(step))",
    ),
    Mutant("as flow velocity turned", AS_FLOW, "noise_N - x0_N", "x0_N - noise_N"),
    Mutant("as flow time is s", AS_FLOW, "1.0, step.s_N / (step.a_N + step.s_N))", "1.0, step.s_N)"),
)
