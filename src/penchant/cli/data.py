"""The verbs around preference data: `synthesize`, `think`, `score`, `rank`, `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penchant.cli.words import found, options
from penchant.errors import RecipeError

FILE = "synthesis.toml"


def synthesize(words: Sequence[str]) -> int:
    """`penchant synthesize RECIPE [reward:ADDRESS ...] [--plan [...]] [overrides]`."""
    if not words or words[0].startswith("-"):
        print("usage: penchant synthesize RECIPE [reward:ADDRESS] [--plan] [OPTIONS]; `... synpic --help` lists them")
        return 0 if words and words[0] in ("-h", "--help") else 2
    import tyro

    from penchant.recipes import find_synthesis
    from penchant.synthesis import Synthesis, run

    address, rest = words[0], [w for w in words[1:] if w != "--plan"]
    recipe = found(address, Synthesis, file=FILE, by_name=find_synthesis)
    added = [w for w in rest if w.startswith("reward:")]
    recipe = replace(recipe, rewards=recipe.rewards + tuple(_reward(w.removeprefix("reward:")) for w in added))
    rest = [w for w in rest if w not in added]
    prog, folder = f"penchant synthesize {address}", Path(address)
    if "--plan" in words:
        return _plan(recipe, rest, prog)
    recipe = tyro.cli(Synthesis, default=recipe, args=rest, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    if recipe.out is None and (folder.name == FILE or (folder / FILE).exists()):
        recipe = replace(recipe, out=str(folder.parent if folder.name == FILE else folder))
    made = run.synthesize(recipe)
    return 1 if made.failures else 0


def _plan(recipe: Any, words: Sequence[str], prog: str) -> int:
    import tyro

    from penchant.synthesis import Synthesis
    from penchant.synthesis.plan import plan

    def show(devices: int = 1, price: float = 0.86, megabytes: float = 0.5) -> Any:
        """What a data set will cost.

        Args:
            devices: how many GPUs (or processes) work at once.
            price: dollars a device-hour.
            megabytes: of one sample on disk.
        """
        return devices, price, megabytes

    (devices, price, megabytes), others = tyro.cli(show, args=list(words), prog=prog, return_unknown_args=True)
    recipe = tyro.cli(Synthesis, default=recipe, args=others, prog=prog, config=(tyro.conf.AvoidSubcommands,))
    print(plan(recipe, devices=devices, price=price, megabytes=megabytes))
    return 0


def _reward(address: str) -> Any:
    from penchant.synthesis import Reward

    return Reward(name=address.removeprefix("zoo:"), judge=address)


def think(words: Sequence[str]) -> int:
    """`penchant think RECIPE [overrides]`."""
    if not words or words[0].startswith("-"):
        print("usage: penchant think RECIPE [OPTIONS]; `penchant think thinker-thoughts --help` lists the options")
        return 0 if words and words[0] in ("-h", "--help") else 2
    import tyro

    from penchant.models.loading import quiet
    from penchant.recipes import find_construction
    from penchant.thoughts import Construction, construct

    recipe = found(words[0], Construction, file="construction.toml", by_name=find_construction)
    prog = f"penchant think {words[0]}"
    recipe = tyro.cli(
        Construction, default=recipe, args=list(words[1:]), prog=prog, config=(tyro.conf.AvoidSubcommands,)
    )
    quiet()
    construct(recipe)
    return 0


def score(words: Sequence[str]) -> int:
    """`penchant score DATA --judges a,b`."""

    def show(
        data: str,
        judges: str = "",
        out: Path = Path("scored"),
        aggregation: str = "strict-votes",
        workers: int = 2,
        limit: int | None = None,
    ) -> int:
        """Lets rewards score the samples of preference data, and ranks them by the votes of these rewards.

        Args:
            data: file, folder, store or zoo:NAME.
            judges: addresses of judges, with commas between them.
            out: folder for ledger and data set; with one more judge only its scores are computed.
            aggregation: strict-votes, half-credit, bradley-terry or mean-z.
            workers: processes.
            limit: read at most so many rows.
        """
        from penchant.assets import resolve
        from penchant.feedback import read
        from penchant.synthesis import Work, run

        feedback = read(resolve(data), limit=limit)
        rewards = [_reward(address) for address in judges.split(",") if address]
        if not rewards:
            raise RecipeError("names no judge.", field="judges", remedy="e.g. --judges zoo:emoji/labeller,sharpness.")
        made = run.score(feedback.groups, rewards, out, aggregation=aggregation, work=Work(workers=workers))  # type: ignore[arg-type]
        return 1 if made.failures else 0

    return options("score", show, words)


def rank(words: Sequence[str]) -> int:
    """`penchant rank DATA`."""

    def show(data: str, out: Path = Path("ranked"), aggregation: str = "strict-votes") -> int:
        """Ranks samples anew by the rewards' scores that they carry.

        Args:
            data: store that `synthesize` or `score` made.
            out: folder of the store to write, or a .parquet file for all in one, media embedded.
            aggregation: strict-votes, half-credit, bradley-terry or mean-z.
        """
        from penchant.assets import resolve
        from penchant.feedback import export_groups, read, replace_groups
        from penchant.synthesis import run
        from penchant.synthesis.dataset import fingerprint

        groups, left = run.rank(read(resolve(data)).groups, aggregation)  # type: ignore[arg-type]
        export_groups(groups, out) if out.suffix == ".parquet" else replace_groups(groups, out)
        for reason, what in left.items():
            print(f"left out: {len(what)} x {reason}")
        print(f"{len(groups)} groups ranked by {aggregation}, fingerprint {fingerprint(groups)[:16]}: {out}")
        return 0

    return options("rank", show, words)


def doctor(words: Sequence[str]) -> int:
    """`penchant doctor DATA`."""

    def show(data: str, json: bool = False, images: int = 2000, limit: int | None = None) -> int:
        """Reads a preference file and says what is in it and what is wrong with it.

        Args:
            data: file, folder, store or zoo:NAME.
            json: print the diagnosis as JSON.
            images: decode at most so many pictures.
            limit: read at most so many rows.
        """
        from penchant.assets import resolve
        from penchant.feedback import doctor as diagnose

        diagnosis = diagnose(resolve(data), images=images, limit=limit)
        print(diagnosis.to_json() if json else str(diagnosis))
        return diagnosis.exit_code

    return options("doctor", show, words)
