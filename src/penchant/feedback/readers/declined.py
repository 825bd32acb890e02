"""Known layouts that are not read, each with the reason and what to do: a file of one deserves more than `unknown`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Declined:
    """A layout that no reader takes.

    Args:
        name: of the layout.
        required: columns that must all be there.
        any_of: columns of which one must be there, if any are given.
        only: if given, no other columns may be there.
        problem, remedy: the two sentences of the refusal.
    """

    name: str
    required: frozenset[str]
    any_of: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    problem: str
    remedy: str

    def matches(self, columns: frozenset[str]) -> bool:
        """Whether a file with these columns has this layout."""
        return (
            self.required <= columns
            and (not self.any_of or bool(self.any_of & columns))
            and (not self.only or columns <= self.only)
        )


_PICTURES = frozenset({"image", "images", "image_path", "BUFFER"})
_ABOUT_IMAGES = (
    "these rows ask about an image (RLHF-V, RLAIF-V, TRL vision); read as text they would lose what was asked.",
    "use feedback about text alone, {prompt, chosen, rejected} without an image column.",
)
_IDS = frozenset({"id", "prompt_id", "source", "split"})

DECLINED: tuple[Declined, ...] = (
    Declined(
        name="questions about images",
        required=frozenset({"chosen", "rejected"}),
        any_of=_PICTURES,
        problem=_ABOUT_IMAGES[0],
        remedy=_ABOUT_IMAGES[1],
    ),
    Declined(
        name="questions about images, as JSON text",
        required=frozenset({"text", "origin_dataset"}),
        any_of=_PICTURES,
        problem=_ABOUT_IMAGES[0],
        remedy=_ABOUT_IMAGES[1],
    ),
    Declined(
        name="hh-red-team",
        required=frozenset({"transcript", "min_harmlessness_score_transcript"}),
        problem="these are rated attacks of a red team (HH-RLHF, red-team-attempts), not two answers to one prompt.",
        remedy="read harmless-base of the same data set, which compares answers.",
    ),
    Declined(
        name="trl-stepwise",
        required=frozenset({"prompt", "completions", "labels"}),
        problem="these rows label the steps of one answer (TRL stepwise supervision), not two answers to one prompt.",
        remedy="read {prompt, chosen, rejected}, or {prompt, completion, label} with one label an answer.",
    ),
    Declined(
        name="trl-prompt-completion",
        required=frozenset({"prompt", "completion"}),
        only=_IDS | {"prompt", "completion"},
        problem="these rows hold answers that nobody judged (TRL prompt-completion).",
        remedy="add a boolean column `label`, or read preferences.",
    ),
    Declined(
        name="trl-prompt-only",
        required=frozenset({"prompt"}),
        only=_IDS | {"prompt", "tools"},
        problem="these rows hold prompts without answers (TRL prompt-only).",
        remedy="let a model answer them first and have the answers judged; or read preferences.",
    ),
    Declined(
        name="trl-language-modeling",
        required=frozenset(),
        any_of=frozenset({"text", "messages"}),
        only=_IDS | {"text", "messages"},
        problem="these rows hold texts that nobody compared or judged (TRL language modeling).",
        remedy="read preferences: {prompt, chosen, rejected}.",
    ),
)
