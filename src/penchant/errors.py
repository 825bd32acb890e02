"""Errors that people read: what is wrong, where, and what to do about it."""

from __future__ import annotations


class PenchantError(ValueError):
    """Bad input, said once and completely.

    Args:
        problem: one sentence, what is wrong.
        file: the file or folder it stands in.
        row: zero-based row or record number inside `file`.
        field: the column, key or option.
        remedy: one sentence, what to do instead.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: object = None,
        row: int | None = None,
        field: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.file, self.row, self.field, self.remedy = problem, file, row, field, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        where = [f"{self.file}"] if self.file is not None else []
        where += [f"row {self.row}"] if self.row is not None else []
        where += [f"field '{self.field}'"] if self.field is not None else []
        text = f"{', '.join(where)}: {self.problem}" if where else self.problem
        return f"{text} Remedy: {self.remedy}" if self.remedy else text


class FeedbackError(PenchantError):
    """A preference file that cannot be read as what it claims to be."""


class MediaError(PenchantError):
    """An image, clip or sound that cannot be decoded under the caps."""


class RecipeError(PenchantError):
    """A recipe whose parts do not fit together."""


class ModelError(PenchantError):
    """A model folder that cannot be loaded or is of no supported family."""


class CheckpointError(PenchantError):
    """A checkpoint that is missing, incomplete or altered."""


class DivergedError(PenchantError):
    """Training produced a loss or gradient that is not finite more often than the policy allows."""


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """A remedy sentence naming the closest known word, e.g. `did you mean 'mapo'?`."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}."
