"""The small parts of the loop, each by itself: order, rate, average, metrics, guard, signals, lock."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.errors import DivergedError, RecipeError
from penchant.recipe import Training
from penchant.train.guards import FiniteGuard, StopRequest, locked
from penchant.train.meters import Averages, Meter, MetricsFile
from penchant.train.optimisation import Ema, learning_rate
from penchant.train.order import visits

counts = st.integers(1, 40)


def sequence(*, seed: int, batch_size: int, count: int, steps: int) -> list[tuple[int, int]]:
    turns = [turn for s in range(steps) for turn in visits(seed=seed, step=s, batch_size=batch_size, count=count)]
    return [(turn.epoch, turn.index) for turn in turns]


@given(seed=st.integers(0, 9), batch_size=st.integers(1, 17), count=counts)
@settings(max_examples=60, deadline=None)
def test_every_epoch_visits_each_group_once(seed, batch_size, count):
    steps = math.ceil(3 * count / batch_size)
    turns = sequence(seed=seed, batch_size=batch_size, count=count, steps=steps)
    for epoch in range(3):
        assert sorted(index for e, index in turns if e == epoch) == list(range(count))


@given(seed=st.integers(0, 9), a=st.integers(1, 9), b=st.integers(1, 9), count=counts)
@settings(max_examples=60, deadline=None)
def test_the_order_does_not_depend_on_the_batch_layout(seed, a, b, count):
    first = sequence(seed=seed, batch_size=a, count=count, steps=b)
    assert first == sequence(seed=seed, batch_size=b, count=count, steps=a)


def test_the_order_is_a_function_of_seed_and_step_whatever_was_asked_before():
    whole = [visits(seed=1, step=s, batch_size=4, count=11) for s in range(9)]
    assert [visits(seed=1, step=s, batch_size=4, count=11) for s in reversed(range(9))] == whole[::-1]


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed: int, epoch: int) -> list[int]:
        return [turn.index for turn in visits(seed=seed, step=epoch, batch_size=30, count=30)]

    found = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(one) for one in found}) == 9


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.5 + 0.5 * math.cos(math.pi / 4), 0.5, 0.5 - 0.5 * math.cos(math.pi / 4)]),
    ],
)
def test_the_rate_warms_up_and_then_keeps_its_schedule(schedule, expected):
    train = Training(steps=6, warmup=2, lr=1.0, schedule=schedule)
    assert [learning_rate(train, step) for step in range(6)] == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert learning_rate(Training(steps=3, lr=0.25), 0) == 0.25
    assert learning_rate(Training(steps=3, lr=0.25, schedule="cosine"), 0) == 0.25


def test_the_average_of_weights_is_the_one_worked_by_hand():
    weight = torch.nn.Parameter(torch.tensor([0.0]))
    ema = Ema([weight], 0.25)
    weight.data.fill_(11.0)
    ema.update()
    # The first decay is (1 + 1) / (10 + 1).
    assert ema.shadow[0].item() == pytest.approx(11 * 9 / 11)
    weight.data.fill_(21.0)
    ema.update()
    # The second, (1 + 2) / (10 + 2), reaches the asked 0.25.
    assert ema.shadow[0].item() == pytest.approx(0.25 * 9 + 0.75 * 21)
    assert weight.item() == 21.0
    ema.apply()
    assert weight.item() == pytest.approx(18.0)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_of_steps_that_will_be_repeated_and_a_torn_line_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": s, "loss": 0.1 * s}) + "\n" for s in range(1, 6)) + '{"step": 6, "lo')
    metrics = MetricsFile(path, step=3)
    metrics.write(4, {"loss": 7.0})
    metrics.close()
    assert [line["step"] for line in lines(path)] == [1, 2, 3, 4]
    assert lines(path)[-1] == {"step": 4, "loss": 7.0}


def test_a_number_that_is_not_finite_is_null_so_that_the_file_stays_json(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl", step=0)
    metrics.write(1, {"loss": math.nan, "grad_norm": math.inf, "lr": 1e-5})
    metrics.close()
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": None, "grad_norm": None, "lr": 1e-5}]


def test_metrics_survive_a_disk_that_refuses_while_they_are_cut(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')

    def refuse(self: Path, target: object) -> None:
        raise OSError("refused")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="refused"):
        MetricsFile(path, step=1)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_metric_that_is_undefined_somewhere_is_averaged_over_the_rest_but_a_loss_is_not():
    averages = Averages()
    averages.add({"loss": 1.0, "rewards/accuracies": math.nan, "logps/chosen": -1.0}, 1)
    averages.add({"loss": 4.0, "rewards/accuracies": 0.5, "logps/chosen": -4.0}, 2)
    assert averages.means() == {"loss": 3.0, "rewards/accuracies": 0.5, "logps/chosen": -3.0}
    averages.add({"loss": math.nan}, 1)
    assert math.isnan(averages.means()["loss"])


def test_the_line_on_the_terminal_says_what_matters():
    meter = Meter(10, 0, 4)
    meter.update({"loss": 0.5, "rewards/accuracies": 0.75, "logps/chosen": -3.0})
    line = meter.line(5)
    assert line.startswith("step 5/10  loss 0.5  accuracy 0.75  ")
    assert "groups/s" in line
    assert "ETA" in line


BROKEN = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize(("loss", "norm"), [(bad, 1.0) for bad in BROKEN] + [(0.1, bad) for bad in BROKEN])
def test_a_step_whose_loss_or_gradient_is_not_finite_is_refused(loss, norm, tmp_path):
    guard = FiniteGuard(2, tmp_path)
    assert not guard.admits(loss=loss, norm=norm, step=7, groups=["a"])
    with pytest.raises(DivergedError, match="2 steps in a row"):
        guard.admits(loss=loss, norm=norm, step=8, groups=["b", "c"])
    told = json.loads((tmp_path / "diverged.json").read_text())
    assert told == {"step": 8, "loss": str(loss), "norm": str(norm), "groups": ["b", "c"]}


def test_only_broken_steps_in_a_row_stop_a_run(tmp_path):
    guard = FiniteGuard(2, tmp_path)
    for step in range(10):
        assert guard.admits(loss=0.1 if step % 2 else math.nan, norm=1.0, step=step, groups=[]) is bool(step % 2)
    assert guard.skipped == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_remembered_and_the_second_ends(number):
    before = signal.getsignal(number)
    with StopRequest().listening() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal == number
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert stop.exit_code == 128 + number
    assert signal.getsignal(number) is before


def test_a_run_folder_has_one_writer_at_a_time(tmp_path):
    with locked(tmp_path / "run"):
        with pytest.raises(RecipeError, match="another run is writing here"), locked(tmp_path / "run"):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "run"):
        pass
