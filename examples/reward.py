"""A reward for the reward server: copy this file and change what stands in `score`. It needs no penchant.

python -m venv reward-venv && reward-venv/bin/pip install WHAT_THE_REWARD_NEEDS
reward-venv/bin/python src/penchant/judges/server.py examples/reward.py:Reward --port 8000
"""


class Reward:
    """How much of the prompt a text mentions, and in how few words. Made once: load models in `__init__`."""

    # Caches are keyed by the version: give a new one with every change of the scores.
    name, version = "mentions", "1"
    dimensions = ("mentioned", "words")
    orientation = ("larger", "smaller")

    def score(self, prompts, samples):
        """One list a sample, one float a dimension; NaN or None where there is no score.

        Texts come as str. Pictures come as the bytes of a PNG: `PIL.Image.open(io.BytesIO(sample))`.
        """
        return list(map(self.of, map(str.split, prompts), map(str.split, samples)))

    def of(self, wanted, words):
        """The share of the wanted words that is there, and the number of words."""
        return [len(set(wanted) & set(words)) / max(len(set(wanted)), 1), len(words)]
