"""The verb around rounds: `iterate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from penchant.cli.words import found


def iterate(words: Sequence[str]) -> int:
    """`penchant iterate RECIPE [objective:NAME] [--resume] [overrides]`."""
    if not words or words[0].startswith("-"):
        print("usage: penchant iterate RECIPE [--resume] [OPTIONS]; `penchant iterate irepo --help` lists the options")
        return 0 if words and words[0] in ("-h", "--help") else 2
    import tyro

    from penchant.cli.runs import _swap
    from penchant.iterations import Iterations
    from penchant.iterations import iterate as run_rounds
    from penchant.iterations.driver import FILE
    from penchant.recipes import find_iterations

    address, folder = words[0], Path(words[0])
    spec = found(address, Iterations, file=FILE, by_name=find_iterations)
    parts = [w for w in words[1:] if w.startswith(("objective:", "likelihood:"))]
    rest = [w for w in words[1:] if w != "--resume" and w not in parts]
    prog = f"penchant iterate {address}"
    spec = tyro.cli(Iterations, default=_swap(spec, parts), args=rest, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    if spec.out is None and (folder.name == FILE or (folder / FILE).exists()):
        spec = replace(spec, out=str(folder.parent if folder.name == FILE else folder))
    from penchant.models.loading import quiet

    quiet()
    result = run_rounds(spec, resume="--resume" in words)
    return 0 if result.stopped_by is None else 128 + result.stopped_by
