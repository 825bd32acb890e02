"""Ray on a cluster of this machine: the same data set as local processes make, also when actors are killed."""

from __future__ import annotations

import os
import random
import signal
import threading

import psutil
import pytest
import toy_stages
from synthesis_fixtures import PROMPTS, make, recipe
from toy_stages import Digits, Words

from penchant.synthesis import Work
from penchant.synthesis.ray_executor import RayExecutor

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One cluster for all tests; stages of this folder travel by value, as a notebook's do."""
    ray.cloudpickle.register_pickle_by_value(toy_stages)
    # Ray's workers step aside for everybody (niceness 15), which beside a second test process is for ever.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
def test_local_and_ray_make_the_same_data_set(tmp_path):
    for name in ("local", "ray"):
        (tmp_path / name).mkdir()
    local = make(recipe(tmp_path / "local"))
    there = make(recipe(tmp_path / "ray", work=Work(executor="ray", workers=2)))
    assert there.fingerprint == local.fingerprint
    assert there.tally.computed == local.tally.computed
    # The ledger knows no executor: what Ray began, processes finish.
    again = make(recipe(tmp_path / "ray"))
    assert sum(again.tally.computed.values()) == 0


def _actors() -> list[int]:
    """Process ids of the actors: Ray names a process by what it runs."""
    found = (p.info for p in psutil.process_iter(["pid", "cmdline"]))
    return [p["pid"] for p in found if p["cmdline"] and p["cmdline"][0].startswith("ray::Bench")]


@pytest.mark.slow
def test_killed_actors_change_nothing_and_faults_are_reported(tmp_path):
    (tmp_path / "sound").mkdir()
    sound = make(recipe(tmp_path / "sound"))
    pace = {"pause": 0.1, "batch_size": 2}
    plan = recipe(
        tmp_path,
        generators=(Words(name="plain", **pace), Words(name="fancy", style="fancy", **pace)),
        rewards=(Digits(name="last", **pace), Digits(name="second", place=2, **pace)),
    )
    executor = RayExecutor(tmp_path / "out" / "data", workers=2)
    kills, over, rng = [], threading.Event(), random.Random(0)

    def killer() -> None:
        while len(kills) < 5 and not over.wait(rng.uniform(0.5, 1.5)):
            if actors := _actors():
                os.kill(rng.choice(actors), signal.SIGKILL)
                kills.append(actors)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        made = make(plan, executor=executor)
    finally:
        over.set()
        thread.join()
        executor.close()
    assert kills
    assert made.tally.lost_workers >= 1
    assert (made.failures, made.fingerprint) == ((), sound.fingerprint)


@pytest.mark.slow
def test_a_hanging_reward_is_reported_by_name(tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join([*(f"prompt {i}" for i in range(PROMPTS - 1)), "bad 1"]))
    plan = recipe(tmp_path, rewards=(Digits(name="last"), Digits(name="second", place=2, fault="hang", timeout=2.0)))
    executor = RayExecutor(tmp_path / "out" / "data", workers=2)
    try:
        made = make(plan, executor=executor)
    finally:
        executor.close()
    assert {(f.stage, f.reason) for f in made.failures} == {("second", "no answer within 2 s")}
    assert made.groups == PROMPTS
