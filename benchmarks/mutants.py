"""Plants wrong losses one at a time in a copy of the package and asks whether the tests notice.

    python benchmarks/mutants.py              # all; exits 1 if any survives
    python benchmarks/mutants.py ztsnr swap   # those whose name contains a word
    python benchmarks/mutants.py --list

A mutant is (name, file, old text, new text). An old text that is not found exactly once means the source has moved on
and the mutant tests nothing: that is an error, not a survivor.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import hypothesis  # noqa: F401  loaded once, for all the forks
import pytest
import torch

from planted import MUTANTS

ROOT = Path(__file__).resolve().parent.parent
# Of the conformance suite one test is enough: a wrong loss is as finite and differentiable as a right one.
TESTS = (
    "tests/objectives/test_meaning.py",
    "tests/objectives/test_meaning_text.py",
    "tests/objectives/test_irepo.py",
    "tests/objectives/test_rwr.py",
    "tests/objectives/test_composed.py",
    "tests/objectives/test_divergences.py",
    "tests/objectives/test_listwise.py",
    "tests/objectives/test_rl_meaning.py",
    "tests/objectives/test_rl_advantages.py",
    "tests/objectives/test_rl_values.py",
    "tests/objectives/test_rl_matching.py",
    "tests/objectives/test_rl_kl.py",
    "tests/oracles",
    "tests/objectives/test_pairs_and_beta.py",
    "tests/likelihoods/test_denoising.py",
    "tests/likelihoods/test_gaussian.py",
    "tests/likelihoods/test_flow_dpo.py",
    "tests/likelihoods/test_denoising_path.py",
    "tests/sampling/test_guidance.py",
    "tests/reward_models/test_reward_losses_meaning.py",
    "tests/models/test_delay.py",
    "tests/objectives/test_conformance.py::test_padding_changes_nothing_and_has_exactly_zero_gradient",
)


def run_tests(copy: Path) -> int:
    """Run the tests on the copy in this process; the exit status of pytest, or 9 if the copy was not what ran."""
    os.chdir(ROOT)
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    import penchant

    if not Path(str(penchant.__file__)).is_relative_to(copy):
        print(f"the copy does not shadow the installed package: {penchant.__file__}")
        return 9
    return int(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *TESTS]))


def caught(copy: Path) -> tuple[bool, str]:
    """Whether the tests fail on the copy, and the test that did; in a fork, which has torch but no penchant loaded."""
    assert "penchant" not in sys.modules
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            status = run_tests(copy)
            sys.stdout.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        lines = output.read().splitlines()
    if status not in (0, 1):
        raise SystemExit("pytest could not run:\n" + "\n".join(lines[-20:]))
    failed = [line.split(" ")[1] for line in lines if line.startswith("FAILED")]
    return status == 1, failed[0].split("/", 1)[1] if failed else ""


def main(words: list[str]) -> int:
    """Plant, test and restore each mutant; print the table."""
    if words == ["--list"]:
        print("\n".join(m.name for m in MUTANTS))
        return 0
    chosen = [m for m in MUTANTS if not words or any(w in m.name for w in words)]
    for mutant in chosen:
        mutant.mutated()
    survivors, start = [], time.monotonic()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "src/penchant", copy / "penchant", ignore=shutil.ignore_patterns("__pycache__"))
        if caught(copy)[0]:
            raise SystemExit("the tests fail on the unchanged package: nothing can be said about mutants.")
        for mutant in chosen:
            mutant.plant(copy / "penchant")
            seen, test = caught(copy)
            mutant.restore(copy / "penchant")
            survivors += [] if seen else [mutant.name]
            print(f"{'caught  ' if seen else 'SURVIVED'}  {mutant.name:36}  {test}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught in {time.monotonic() - start:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
