"""Rollouts: the policy samples inside training, judges reward what it drew, and the ordinary loop learns from it.

`Collector` is the loop's data: it draws in `before_step`, gives batches with rewards and behavior log-probs, and is
part of every checkpoint. `actors` draw, one for each kind of likelihood; `rewards` adds up what the judges say.
"""

from penchant.rollouts.collector import Collector

__all__ = ["Collector"]
