"""Rewards that raise, hang or return nothing; workers and drivers that are killed: the rest goes on, nothing is done
twice, and what is made in the end is what would have been made without."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from synthesis_fixtures import PROMPTS, make, recipe
from toy_stages import Digits, Words

from penchant.feedback import open_store
from penchant.synthesis import Work
from penchant.synthesis.ledger import Done, Failed, Ledger
from penchant.synthesis.local import LocalExecutor

HERE = Path(__file__).parent


def mixed(folder: Path) -> None:
    """Ten prompts, two of which the faulty reward does not like."""
    folder.mkdir(exist_ok=True)
    names = [f"prompt {i}" for i in range(PROMPTS - 2)] + ["bad 1", "bad 2"]
    (folder / "prompts.txt").write_text("\n".join(names))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The data set of the mixed prompts, made without faults."""
    folder = tmp_path_factory.mktemp("sound")
    mixed(folder)
    return make(recipe(folder)).fingerprint


REASONS = {
    "raise": "RuntimeError: a reward of somebody else broke",
    "hang": "no answer within 1.5 s",
    "nan": "returned nan",
    "die": "the worker died (exit code 9)",
}


@pytest.mark.parametrize("fault", list(REASONS))
def test_a_reward_that_keeps_failing_is_reported_by_name_and_the_rest_goes_on(tmp_path, sound, fault):
    mixed(tmp_path)
    faulty = Digits(name="second", place=2, fault=fault, timeout=1.5)
    plan = recipe(tmp_path, rewards=(Digits(name="last"), faulty))
    executor = LocalExecutor(tmp_path / "out" / "data", workers=2)
    try:
        made = make(plan, executor=executor)
    finally:
        executor.close()
    assert Counter((f.stage, f.reason) for f in made.failures) == {("second", REASONS[fault]): 4}
    assert {f.attempts for f in made.failures} == {3}
    assert all("bad" in f.input for f in made.failures)
    assert "second: 4 given up after 3 attempts" in made.summary()
    assert len(made.left_out["sample not scored"]) == 4
    assert made.groups == PROMPTS
    scored = {g.prompt: {j.dimension: j for j in g.judgements} for g in open_store(made.data)}
    assert scored["bad 1"]["second"].values == (None, None)
    assert None not in scored["bad 1"]["overall"].values  # the other reward's votes
    assert None not in scored["prompt 0"]["second"].values
    # Mended, only what failed is done, and nothing tells that it ever failed.
    mended = make(recipe(tmp_path))
    assert {k: v for k, v in mended.tally.computed.items() if v} == {"second": 4}
    assert (mended.failures, mended.fingerprint) == ((), sound)


@pytest.mark.parametrize("fault", ["raise", "nan", "die"])
def test_a_fault_that_passes_is_retried_and_leaves_no_trace(tmp_path, sound, fault):
    mixed(tmp_path)
    faulty = Digits(name="second", place=2, fault=fault, times=1, log=str(tmp_path / "log"))
    made = make(recipe(tmp_path, rewards=(Digits(name="last"), faulty)))
    assert (made.failures, made.fingerprint) == ((), sound)
    assert made.tally.retried > 0 or made.tally.lost_workers > 0


def test_a_generator_that_fails_costs_its_samples_only(tmp_path):

    mixed(tmp_path)
    broken = Words(name="fancy", style="{", log="/nonexistent/folder/log")
    made = make(recipe(tmp_path, generators=(Words(name="plain"), Words(name="other", style="o"), broken)))
    assert {f.stage for f in made.failures} == {"fancy"}
    assert len(made.failures) == len(made.left_out["sample not drawn"]) == PROMPTS
    assert {len(g.candidates) for g in open_store(made.data)} == {2}


@pytest.mark.slow
def test_workers_killed_at_random_moments_change_nothing(tmp_path, sound):
    """20 SIGKILLs; every unit is in the ledger once, and a batch is done again only if it was in flight."""
    mixed(tmp_path)
    log, pace = str(tmp_path / "log"), {"pause": 0.25, "batch_size": 1}
    plan = recipe(
        tmp_path,
        generators=(Words(name="plain", log=log, **pace), Words(name="fancy", style="fancy", log=log, **pace)),
        rewards=(Digits(name="last", log=log, **pace), Digits(name="second", place=2, log=log, **pace)),
    )
    executor = LocalExecutor(tmp_path / "out" / "data", workers=2)
    kills, over = [], threading.Event()

    def killer() -> None:
        rng = random.Random(0)
        while len(kills) < 20 and not over.wait(rng.uniform(0.2, 0.8)):
            pid = rng.choice(executor.pids)
            os.kill(pid, signal.SIGKILL)
            kills.append(pid)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        made = make(plan, executor=executor)
    finally:
        over.set()
        thread.join()
        executor.close()
    assert len(kills) >= 10
    assert (made.failures, made.fingerprint) == ((), sound)
    calls, units = len(Path(log).read_text().splitlines()), sum(made.tally.computed.values())
    assert units == 6 * PROMPTS
    assert calls - units <= len(kills)


DRIVER = """
    import sys
    sys.path.insert(0, {here!r})
    from pathlib import Path
    from synthesis_fixtures import make, recipe
    from toy_stages import Digits, Words

    if __name__ == "__main__":
        pace = dict(log={log!r}, pause=0.05, batch_size=2)
        make(recipe(
            Path({folder!r}),
            generators=(Words(name="plain", **pace), Words(name="fancy", style="fancy", **pace)),
            rewards=(Digits(name="last", **pace), Digits(name="second", place=2, **pace)),
        ))
"""


@pytest.mark.slow
def test_drivers_killed_at_random_moments_change_nothing(tmp_path, sound):
    """SIGKILL to the driver again and again until it gets through: workers die with it, nothing is lost or double."""
    mixed(tmp_path)
    log, script = tmp_path / "log", tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER.format(here=str(HERE), log=str(log), folder=str(tmp_path))))
    rng, kills = random.Random(1), 0
    while True:
        process = subprocess.Popen([sys.executable, str(script)])
        # After a few batches more than there were, wherever that is.
        target = _lines(log) + rng.randint(2, 5)
        while process.poll() is None and _lines(log) < target:
            time.sleep(rng.uniform(0.001, 0.05))
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.kill()
        process.wait()
        kills += 1
    made = make(recipe(tmp_path))
    assert kills >= 5
    assert sum(made.tally.computed.values()) == 0
    assert (made.failures, made.fingerprint) == ((), sound)
    planned = 2 * PROMPTS // 2 + 2 * 2 * PROMPTS // 2
    # Reports that the driver had not read when it died are done again too: two workers, each with one call in flight.
    assert _lines(log) - planned <= kills * 2, "more was done again than two workers had in flight"


def _lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_workers_do_not_outlive_their_driver(tmp_path):
    mixed(tmp_path)
    code = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(HERE)!r})
        from pathlib import Path
        from penchant.synthesis.local import LocalExecutor
        if __name__ == "__main__":
            executor = LocalExecutor(Path({str(tmp_path)!r}), workers=2)
            print(*executor.pids, flush=True)
            sys.stdin.read()
    """)
    script = tmp_path / "idle.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    time.sleep(1.0)
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while any(_alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in pids if _alive(pid)]


def _alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.slow
def test_a_stopped_worker_is_found_and_replaced(tmp_path, sound):
    """SIGSTOP: alive, and silent."""
    mixed(tmp_path)
    pace = {"pause": 0.2, "timeout": 2.0, "log": str(tmp_path / "log")}
    plan = recipe(
        tmp_path,
        generators=(Words(name="plain", **pace), Words(name="fancy", style="fancy", **pace)),
        rewards=(Digits(name="last", **pace), Digits(name="second", place=2, **pace)),
    )
    executor = LocalExecutor(tmp_path / "out" / "data", workers=2, loading=10.0)
    stopped = executor.pids[0]

    def stop() -> None:
        while _lines(tmp_path / "log") < 4:
            time.sleep(0.01)
        os.kill(stopped, signal.SIGSTOP)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        made = make(plan, executor=executor)
        assert stopped not in executor.pids
    finally:
        thread.join()
        executor.close()
    assert (made.failures, made.fingerprint) == ((), sound)


def test_the_ledger_takes_a_unit_once_and_forgets_a_failure_that_was_mended(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    done = Done(id="a", stage="s", input="i", output={"value": 1.0}, seconds=0.1)
    failed = Failed(id="a", stage="s", input="i", reason="broke", attempts=3)
    assert ledger.commit([], [failed]) == 0
    assert ledger.failures() == [failed]
    assert ledger.commit([done, done]) == 1
    assert ledger.commit([done]) == 0
    assert (ledger.failures(), ledger.counts(), ledger.get(["a", "b"])) == ([], {"s": 1}, {"a": {"value": 1.0}})


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    from penchant.errors import RecipeError

    (tmp_path / "ledger.sqlite").write_text("no database" * 1000)
    with pytest.raises(RecipeError, match="no ledger"):
        Ledger(tmp_path / "ledger.sqlite")


def test_one_worker_is_enough(tmp_path, sound):
    mixed(tmp_path)
    assert make(recipe(tmp_path, work=Work(workers=1))).fingerprint == sound
