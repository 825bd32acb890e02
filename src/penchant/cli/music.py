"""The verb `listen`: several policies side by side, to be heard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penchant.cli.words import options


def listen(words: Sequence[str]) -> int:
    """`penchant listen RUN [RUN ...]`."""

    def show(
        runs: tuple[Path, ...],
        out: Path = Path("listening.html"),
        base: str | None = None,
        prompts: str | None = None,
        count: int | None = None,
        seeds: int | None = None,
        exhibits: int = 4,
        seconds: float | None = None,
        tie_margin: float = 0.0,
    ) -> int:
        """Writes a page with the music of several finished runs and of their base, at the same prompts and seeds and at
        one loudness: players, piano rolls, win / tie / loss, rewards over KL, and every alarm.

        Args:
            runs: run folders, in the order of the page.
            out: the page to write.
            base: model to compare with; none means where the first run began.
            prompts: file of prompts, or zoo:NAME; none means the first run's evaluation prompts.
            count: how many prompts; none means as in the first run's evaluation.
            seeds: samples a prompt; none means as in the first run's evaluation.
            exhibits: prompts with players.
            seconds: of a piece that are played; none means what a page has room for.
            tie_margin: score differences up to this are ties.
        """
        from penchant.listening import Listening
        from penchant.listening import listen as listen_to
        from penchant.models.loading import quiet

        quiet()
        listening = Listening(
            base=base,
            prompts=prompts,
            count=count,
            seeds=seeds,
            exhibits=exhibits,
            seconds=seconds,
            tie_margin=tie_margin,
        )
        listen_to(runs, out, listening)
        return 0

    return options("listen", show, words)
