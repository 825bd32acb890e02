"""Do soft labels from several annotators beat hard ones, and the more so the noisier the annotators?

SmolLM2-135M continues the beginning of a story in four ways; five simulated annotators of known reliability
(Bradley-Terry noise around VADER, judge A) compare them. iREPO, DPO, IPO, robust DPO and SimPO then train on the same
generations, the same votes and the same pairs (the highest against the lowest strength), with three seeds. Judge B
(`tone`, a sentence encoder that knows no word list) and judge A compare the answers to held-out prompts with those of
the base. At one agreement iREPO and DPO go a second round, each from its own last iterate.

Learning rates: for iREPO and for DPO the one of `RATES` with the best mean of A on validation prompts, on generations
and votes of a seed that nothing else uses; the other methods take DPO's (Adam's steps do not grow with a loss). Robust
DPO is told the true share of wrong labels, which in life nobody knows.

    python reproduce/irepo.py            # resumable: what is finished is kept; tables say what is missing
    python reproduce/irepo.py --tables   # only record what is there
    python reproduce/irepo.py --fresh
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from irepo_runs import (
    AGAIN,
    AGREEMENTS,
    AT,
    HELD_OUT,
    METHODS,
    ORDER,
    RATES,
    RUNS,
    SECOND,
    SEEDS,
    SWEEP,
    SWEPT,
    A,
    B,
    again,
    answers,
    folder_of,
    judges,
    percent,
    scored,
    slug,
    spec,
    train,
    wrong_share,
)


def sweep() -> dict[str, Any]:
    """The mean of A on validation prompts by method and rate, and every method's rate."""
    path = RUNS / "sweep.json"
    if path.exists():
        return json.loads(path.read_text())
    base = RUNS / "base"
    found: dict[str, Any] = {"base": float(scored(base, "validation", A).mean()), "means": {}, "rates": {}}
    for method in SWEPT:
        means = {}
        for rate in RATES:
            out = RUNS / f"sweep-{slug(method)}-{rate:g}"
            train(method, AT, SWEEP, rate, out)
            means[f"{rate:g}"] = float(scored(out, "validation", A).mean())
            print(f"sweep: {method} at {rate:g}: A {means[f'{rate:g}']:+.3f}, base {found['base']:+.3f}", flush=True)
        found["means"][method] = means
        found["rates"][method] = max(RATES, key=lambda rate: means[f"{rate:g}"])
    found["rates"] |= {method: found["rates"]["DPO"] for method in METHODS if method not in SWEPT}
    path.write_text(json.dumps(found, indent=1))
    return found


def jobs() -> Iterator[tuple[str, float, int]]:
    """Every run of the first round, in an order in which what is there can always be compared."""
    for agreements in (ORDER[:2], ORDER[2:]):
        for seed in SEEDS:
            for agreement in agreements:
                for method in METHODS:
                    yield method, agreement, seed


def run_all() -> None:
    """Whatever is not done; the tables are written again after every group of runs."""
    rates = sweep()["rates"]
    answers(RUNS / "base", "held-out")
    for method, agreement, seed in jobs():
        out = folder_of(method, agreement, seed)
        started = time.process_time()
        train(method, agreement, seed, rates[method], out)
        answers(out, "held-out")
        print(f"{out.name}: {time.process_time() - started:.0f} CPU s", flush=True)
        if method == METHODS[-1]:
            record_what_is_there()
    for seed in SEEDS:
        for method in SECOND:
            answers(again(method, seed, rates[method]), "held-out")
    record_what_is_there()


# --- tables -----------------------------------------------------------------------------------------------------------


def row(method: str, label: str, folders: Sequence[Path]) -> dict[str, Any] | None:
    """What both judges say of the runs in `folders` (one a seed) against the base, and how far they moved."""
    from penchant.evaluate import mean_gain, win_rate

    folders = [out for out in folders if (out / "held-out.json").exists()]
    if not folders:
        return None
    base = RUNS / "base"
    found: dict[str, Any] = {"method": method, "setting": label, "seeds": len(folders)}
    for judge in (B, A):
        policy = np.stack([scored(out, "held-out", judge) for out in folders])
        before = np.broadcast_to(scored(base, "held-out", judge), policy.shape)
        wins, gain = win_rate(policy, before), mean_gain(policy, before)
        found[judge] = {
            "win_rate": [wins.rate, wins.low, wins.high],
            "by_seed": [float(win_rate(p, b).rate) for p, b in zip(policy, before, strict=True)],
            "gain": [gain.gain, gain.low, gain.high],
        }
    kept = [answers(out, "held-out") for out in folders]
    found["kl"] = float(np.mean([k["kl"] for k in kept]))
    found["tokens"] = float(np.mean([np.mean(k["tokens"]) for k in kept]))
    found["diversity"] = float(np.mean([diversity(k["texts"]) for k in kept]))
    return found


def diversity(texts: Sequence[str]) -> float:
    """Distance between the answers to different prompts: the mean of 1 - cosine of B's encoder."""
    feature_PF = judges()[B].features(texts)
    P = len(feature_PF)
    return float(1 - ((feature_PF @ feature_PF.T).sum() - P) / (P * (P - 1)))


def second(method: str) -> list[Path]:
    """Where a method's runs of the second round lie."""
    return [RUNS / f"second-{slug(method)}-{seed}" / "run" for seed in SEEDS]


def there(folders: Sequence[Path]) -> bool:
    """Whether all of them answered."""
    return all((out / "held-out.json").exists() for out in folders)


def every(method: str, agreement: float) -> list[Path]:
    """The first round's runs of a method at an agreement."""
    return [folder_of(method, agreement, seed) for seed in SEEDS]


def stacked(folders: Sequence[Path], judge: str) -> np.ndarray:
    """Scores [seeds, P, 1]."""
    return np.stack([scored(out, "held-out", judge) for out in folders])


def against(first: Sequence[Path], second: Sequence[Path]) -> dict[str, Any]:
    """How often the first runs beat the second at equal prompts and seeds, by both judges; those of all seeds that both
    have."""
    from penchant.evaluate import win_rate

    both = [(a, b) for a, b in zip(first, second, strict=True) if there([a, b])]
    found: dict[str, Any] = {"seeds": len(both)}
    for judge in (B, A) if both else ():
        wins = win_rate(stacked([a for a, _ in both], judge), stacked([b for _, b in both], judge))
        found[judge] = [wins.rate, wins.low, wins.high]
    return found


def duels() -> list[dict[str, Any]]:
    """iREPO against every other method: at each agreement, over all of them, and against DPO after the second round."""
    found = []
    for method in METHODS[1:]:
        for agreement in AGREEMENTS:
            one = against(every("iREPO", agreement), every(method, agreement))
            found.append({"second": method, "setting": f"{percent(agreement)} %", **one})
        if all(there(every(m, a)) for m in ("iREPO", method) for a in AGREEMENTS):
            found.append({"second": method, "setting": "all three", **over_all(method)})
    last = against(second("iREPO"), second("DPO"))
    return [d for d in (*found, {"second": "DPO", "setting": "second round", **last}) if d["seeds"]]


def over_all(method: str) -> dict[str, Any]:
    """iREPO against a method over all agreements: they share prompts and training seeds, and are drawn together."""
    from penchant.evaluate import win_rate

    found: dict[str, Any] = {"seeds": len(SEEDS)}
    for judge in (B, A):
        first, other = (
            np.concatenate([stacked(every(m, a), judge) for a in AGREEMENTS], axis=-1) for m in ("iREPO", method)
        )
        wins = win_rate(first, other)
        found[judge] = [wins.rate, wins.low, wins.high]
    return found


def losses() -> list[dict[str, Any]]:
    """What noise costs: each method's win rate by B at the lowest agreement less that at the highest, and how much
    less iREPO loses than the method; intervals over prompts and seeds, which both agreements share."""
    from penchant.evaluate import mean_gain, outcomes

    low, high = min(AGREEMENTS), max(AGREEMENTS)
    ready = [m for m in METHODS if there([*every(m, low), *every(m, high)])]
    base = scored(RUNS / "base", "held-out", B)
    won = {
        (m, a): outcomes(stacked(every(m, a), B), np.broadcast_to(base, (len(SEEDS), *base.shape)))
        for m in ready
        for a in (low, high)
    }
    found = []
    for method in ready:
        lost = mean_gain(won[method, low], won[method, high])
        entry = {"method": method, "change": [lost.gain, lost.low, lost.high]}
        if method != "iREPO" and "iREPO" in ready:
            less = mean_gain(won["iREPO", low] - won["iREPO", high], won[method, low] - won[method, high])
            entry["iREPO loses less by"] = [less.gain, less.low, less.high]
        found.append(entry)
    return found


def summarise() -> dict[str, Any]:
    """Everything that is there."""
    rows = [row(m, f"{percent(a)} %", every(m, a)) for a in AGREEMENTS for m in METHODS]
    rows += [row(m, f"{percent(AGAIN)} %, second round", second(m)) for m in SECOND]
    wrong = {
        f"{percent(a)}": [wrong_share(spec(a, s).folder / "round-000") for s in SEEDS if voted(a, s)]
        for a in AGREEMENTS
    }
    base = answers(RUNS / "base", "held-out")
    return {
        "sweep": sweep(),
        "wrong_labels": wrong,
        "base": {
            "tokens": float(np.mean(base["tokens"])),
            "diversity": diversity(base["texts"]),
            **{judge: float(scored(RUNS / "base", "held-out", judge).mean()) for judge in (A, B)},
        },
        "rows": [r for r in rows if r is not None],
        "iREPO against": duels(),
        "noise": losses(),
    }


def voted(agreement: float, seed: int) -> bool:
    """Whether the pairs of a seed and agreement are there."""
    return (spec(agreement, seed).folder / "round-000" / "pairs").exists()


def _percent(values: Sequence[float]) -> str:
    middle, low, high = (100 * v for v in values)
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def _points(values: Sequence[float]) -> str:
    middle, low, high = (100 * v for v in values)
    return f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]"


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    base = result["base"]
    lines = [
        f"{HELD_OUT} held-out prompts x training seeds; base: {base['tokens']:.1f} tokens, "
        f"diversity {base['diversity']:.3f}. Learning rates: "
        + ", ".join(f"{method} {rate:g}" for method, rate in result["sweep"]["rates"].items())
        + ". Pairs that contradict A: "
        + ", ".join(f"{100 * np.mean(v):.0f} % at agreement {k} %" for k, v in result["wrong_labels"].items() if v)
        + ".",
        "",
        "| agreement | method | seeds | B: wins against the base, % [95 %] | by seed, % | A (trained against): wins, % "
        "| KL, nats a text | tokens | diversity |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in result["rows"]:
        seeds = ", ".join(f"{100 * v:.0f}" for v in r[B]["by_seed"])
        lines.append(
            f"| {r['setting']} | {r['method']} | {r['seeds']} | {_percent(r[B]['win_rate'])} | {seeds} "
            f"| {_percent(r[A]['win_rate'])} | {r['kl']:.2f} | {r['tokens']:.1f} | {r['diversity']:.3f} |"
        )
    lines += ["", "| agreement | iREPO against | seeds | by B, % [95 %] | by A, % |", "|---|---|---|---|---|"]
    for d in result["iREPO against"]:
        lines.append(f"| {d['setting']} | {d['second']} | {d['seeds']} | {_percent(d[B])} | {_percent(d[A])} |")
    words = "win rate by B, 60 % less 90 % agreement, points"
    lines += ["", f"| method | {words} | iREPO loses less by, points |", "|---|---|---|"]
    for n in result["noise"]:
        less = n.get("iREPO loses less by")
        lines.append(f"| {n['method']} | {_points(n['change'])} | {_points(less) if less else ''} |")
    return "\n".join(lines)


def record_what_is_there() -> None:
    """Writes the tables of all finished runs."""
    from runs import record

    result = summarise()
    record("irepo", result, table(result))


def main() -> None:
    """Runs what is missing and records the tables."""
    import torch

    from penchant.models.loading import quiet as silence

    torch.set_num_threads(1)
    silence()
    if "--fresh" in sys.argv:
        shutil.rmtree(RUNS, ignore_errors=True)
    if "--tables" not in sys.argv:
        run_all()
    record_what_is_there()


if __name__ == "__main__":
    main()
