"""DTO: a model's own traces made better, as feedback (An et al., arXiv 2505.21765).

segmentation   a thought as thinking patterns
exits          how likely the model is right if it must answer now; the earliest sufficient point
pruning        which patterns before it the answer does not need
finalising     the cut thought gets an end and its answer
optimisation   the four in a row
pairs          better against original, and the pairs it is compared with
construction   problems in, a store of feedback out
"""

from penchant.thoughts.construction import Construction, Made, construct, make
from penchant.thoughts.cost import ModelShape, attention_flops, prefill_flops
from penchant.thoughts.exits import ExitRule
from penchant.thoughts.finalising import ExitAnswer, Finalising
from penchant.thoughts.optimisation import Method, Optimised, optimise
from penchant.thoughts.pruning import ExitPruning, RatedPruning
from penchant.thoughts.reader import NamedPatterns
from penchant.thoughts.rollouts import Rollouts
from penchant.thoughts.segmentation import Markers, segment
from penchant.thoughts.traces import R1, ThoughtFormat, Trace

__all__ = [
    "R1",
    "Construction",
    "ExitAnswer",
    "ExitPruning",
    "ExitRule",
    "Finalising",
    "Made",
    "Markers",
    "Method",
    "ModelShape",
    "NamedPatterns",
    "Optimised",
    "RatedPruning",
    "Rollouts",
    "ThoughtFormat",
    "Trace",
    "attention_flops",
    "construct",
    "make",
    "optimise",
    "prefill_flops",
    "segment",
]
