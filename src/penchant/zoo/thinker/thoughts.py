"""How the thinker's own traces are made better: the construction of the shipped pairs."""

from __future__ import annotations

from penchant.models.completion import Decoding
from penchant.models.spec import Policy
from penchant.thoughts import Construction, ExitRule, Finalising, Markers, Method, ThoughtFormat
from penchant.zoo.thinker.teacher import ANSWER, EXIT, FINALISE, MARKERS

FORMAT = ThoughtFormat(end=ANSWER, exit=EXIT, finalise=FINALISE, answer=ANSWER + " {}")


def thinker_thoughts() -> Construction:
    """The shipped thinker's own traces of chain sums, made better; minutes on one core."""
    return Construction(
        name="thinker-thoughts",
        policy=Policy(path="zoo:thinker"),
        problems="zoo:thinker/problems",
        marker=ANSWER,
        # The rest are held out for the evaluation.
        limit=200,
        format=FORMAT,
        method=Method(
            # A token is a character here, and every pattern of the thinker is a whole pass: none is a sliver.
            segmenter=Markers(words=MARKERS, shortest=0),
            exits=ExitRule(max_tokens=8, temperature=1.0, top_p=1.0),
            ending=Finalising(max_tokens=8, temperature=1.0, top_p=1.0),
        ),
        decoding=Decoding(max_tokens=320),
        licence="Apache-2.0",
    )
