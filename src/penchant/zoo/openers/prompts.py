"""The beginnings: somebody did something and ... All combinations, in a drawn order; held-out ones share no event."""

from __future__ import annotations

import random

WHO = (
    "The baker",
    "My neighbour",
    "The young doctor",
    "Our teacher",
    "The old fisherman",
    "Her brother",
    "The new manager",
    "A tired nurse",
    "The train driver",
    "His grandmother",
    "The farmer",
    "The two sisters",
    "The postman",
    "A small boy",
    "The pianist",
    "The captain",
    "The students",
    "My uncle",
    "The waiter",
    "The gardener",
)
TRAINING = (
    "opened the letter and",
    "came home after the long trip and",
    "heard the news on the radio and",
    "looked at the empty street and",
    "walked into the crowded hall and",
    "tasted the soup and",
    "met an old friend at the station and",
    "waited for the results and",
    "found a box in the attic and",
    "watched the rain through the window and",
    "sat down at the table and",
    "turned off the light and",
)
HELD_OUT = (
    "read the last page of the book and",
    "picked up the phone and",
    "thought about the summer and",
    "finished the work late at night and",
)


def openers() -> tuple[list[str], list[str]]:
    """(240 beginnings to learn from, 80 held-out ones)."""
    draw = random.Random(0)
    training, held_out = ([f"{who} {did}" for who in WHO for did in events] for events in (TRAINING, HELD_OUT))
    draw.shuffle(training)
    draw.shuffle(held_out)
    return training, held_out
