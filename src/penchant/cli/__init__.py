"""The command line: a verb, then the verb's own options. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from penchant.errors import PenchantError, RecipeError, nearest

HELP = """\
penchant aligns generative models to what people prefer.

  penchant align RECIPE [objective:NAME] [--resume] [--lr 1e-6 ...] train a policy on feedback and judge it
  penchant iterate RECIPE [objective:NAME] [--resume] [...]        draw, annotate, train from the last iterate, again
  penchant synthesize RECIPE [reward:ADDRESS ...] [--plan] [...]   prompts to ranked samples, no person in the loop
  penchant train-reward RECIPE [loss:NAME] [--resume] [...]        a reward model from annotated pairs, and its accuracy
  penchant think RECIPE                                            a model's thoughts made better: feedback for DTO
  penchant score DATA --judges a,b                                 let rewards score, and rank, samples that are there
  penchant rank DATA                                               rank anew by the scores that the samples carry
  penchant recipes                                                 every recipe, one line each
  penchant check RECIPE [objective:NAME] [likelihood:NAME]         do these parts fit together, and if not, why
  penchant cite RECIPE                                             the references of exactly what it runs
  penchant doctor DATA                                             what is in a preference file, and what is wrong
  penchant sample MODEL PROMPT [PROMPT ...] [--reward FOLDER]      samples at fixed seeds, steered by a reward if asked
  penchant evaluate RUN                                            judge a finished run again, and write its report
  penchant listen RUN [RUN ...] [--out FILE.html]                  music of several runs side by side, on one page
  penchant report RUN                                              where a run's report lies, and what it says
  penchant pretrain NAME                                           rebuild a model that penchant ships

RECIPE is a name of `penchant recipes`, a recipe.toml of a run, or `file.py:function`.
`penchant VERB --help` lists the verb's options."""


# Verb -> module and function.
VERBS = {
    "align": "penchant.cli.runs:align",
    "iterate": "penchant.cli.iterations:iterate",
    "synthesize": "penchant.cli.data:synthesize",
    "train-reward": "penchant.cli.rewards:train_reward",
    "think": "penchant.cli.data:think",
    "score": "penchant.cli.data:score",
    "rank": "penchant.cli.data:rank",
    "recipes": "penchant.cli.runs:recipes",
    "check": "penchant.cli.runs:check",
    "cite": "penchant.cli.runs:cite",
    "doctor": "penchant.cli.data:doctor",
    "sample": "penchant.cli.samples:sample",
    "evaluate": "penchant.cli.runs:evaluate",
    "listen": "penchant.cli.music:listen",
    "report": "penchant.cli.runs:report",
    "pretrain": "penchant.cli.runs:pretrain",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. Bad input is one sentence on stderr and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if words[0] == "--version":
        from penchant import __version__

        print(__version__)
        return 0
    verb, rest = words[0], words[1:]
    try:
        if verb not in VERBS:
            raise RecipeError(f"there is no verb '{verb}'.", remedy=nearest(verb, list(VERBS)))
        module, _, function = VERBS[verb].partition(":")
        return getattr(importlib.import_module(module), function)(rest)
    except PenchantError as error:
        print(f"penchant: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("penchant: interrupted.", file=sys.stderr)
        return 130
