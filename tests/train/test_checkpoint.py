"""A checkpoint is whole or absent, whatever the disk does."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from penchant.errors import CheckpointError
from penchant.train import checkpoint
from penchant.train.checkpoint import Checkpoint, load, load_latest, save

FILES = ("tensors.safetensors", "state.json", "manifest.json")


def at(step: int) -> Checkpoint:
    tensors = {"parameter.0": torch.full((4, 3), float(step)), "optimiser.0.step": torch.tensor(float(step))}
    return Checkpoint(step=step, tensors=tensors, state={"names": 1, "slots": {"0.rms": 0.1 + step}})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def newest(folder: Path) -> int:
    found = load_latest(folder)
    assert found is not None
    assert torch.equal(found[0].tensors["parameter.0"], at(found[0].step).tensors["parameter.0"])
    return found[0].step


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 3 and 6."""
    for step in (3, 6):
        save(tmp_path, at(step), keep=2)
    return tmp_path


def test_what_was_saved_is_loaded_bit_for_bit_in_every_type(tmp_path):
    tensors = {
        "half": torch.randn(3).bfloat16(),
        "single": torch.randn(2, 5).t(),
        "double": torch.randn(1).double(),
        "count": torch.tensor(7),
        "none": torch.empty(0, 4),
    }
    state = {"tiny": 5e-324, "third": 1 / 3, "text": "ä☃", "nothing": None, "deep": {"a": [1, 2.5, True]}}
    back = load(save(tmp_path, Checkpoint(step=12, tensors=tensors, state=state), keep=1))
    assert back.step == 12
    assert back.state == state
    assert back.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert back.tensors[name].dtype == value.dtype
        assert torch.equal(back.tensors[name], value)


@pytest.mark.parametrize("name", FILES)
def test_a_flip_of_any_byte_is_detected_and_the_older_checkpoint_taken(name, two):
    file = two / "step-00000006" / name
    whole = file.read_bytes()
    for position in range(len(whole)):
        harmed = bytearray(whole)
        harmed[position] ^= 1 << position % 8
        file.write_bytes(harmed)
        found = load_latest(two)
        assert found is not None
        assert found[0].step == 3, f"byte {position} of {name}"
        assert "step-00000006" in found[1][0]
    file.write_bytes(whole)
    assert newest(two) == 6


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, None])
def test_a_file_cut_short_or_gone_is_detected_and_the_older_checkpoint_taken(name, share, two):
    file = two / "step-00000006" / name
    whole = file.read_bytes()
    file.unlink()
    if share is not None:
        file.write_bytes(whole[: int(len(whole) * share)])
    found = load_latest(two)
    assert found is not None
    assert found[0].step == 3
    assert len(found[1]) == 1
    assert "step-00000006" in found[1][0]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_checkpoint_is_detected(name, two):
    shutil.copy(two / "step-00000003" / name, two / "step-00000006" / name)
    assert newest(two) == 3


@pytest.mark.parametrize("text", ["[]", "7", '"x"', "null", "{}", '{"state.json": 1}', '{"tensors.safetensors": {}}'])
def test_a_manifest_that_says_something_else_is_detected(text, two):
    (two / "step-00000006" / "manifest.json").write_text(text)
    assert newest(two) == 3


def test_if_none_is_whole_nothing_is_loaded_and_every_one_is_named(two):
    for path in two.glob("step-*"):
        (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint is whole.*step-00000006.*step-00000003"):
        load_latest(two)


def test_no_checkpoint_at_all_is_no_error(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_as_many_stay_as_are_kept(keep, tmp_path):
    for step in range(1, 6):
        save(tmp_path, at(step), keep=keep)
    assert names(tmp_path) == [f"step-{step:08d}" for step in range(6 - keep, 6)]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_checkpoint_of_a_later_step_does_not_displace_a_new_one(keep, two):
    (two / "step-00000006" / "tensors.safetensors").unlink()
    assert newest(two) == 3
    save(two, at(4), keep=keep)
    assert newest(two) == 4
    assert "step-00000006" not in names(two)


def test_a_checkpoint_of_the_same_step_is_replaced(two):
    (two / "step-00000006" / "state.json").write_text("{}")
    save(two, at(6), keep=2)
    assert newest(two) == 6


def test_what_a_killed_save_left_behind_is_never_loaded_and_swept_by_the_next(two):
    shutil.copytree(two / "step-00000006", two / ".step-00000009.partial")
    shutil.copytree(two / "step-00000006", two / ".step-00000001.trash")
    assert newest(two) == 6
    save(two, at(9), keep=2)
    assert names(two) == ["step-00000006", "step-00000009"]


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 100 bytes: what a full disk does, done by the kernel."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refusing(owner: object, name: str, number: int) -> Callable[[], contextmanager]:
    """A disk that answers `number` to one kind of call."""

    @contextmanager
    def inner() -> Iterator[None]:
        def refuse(*args: object, **kwargs: object) -> None:
            raise OSError(number, os.strerror(number))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, refuse)
            yield

    return inner


FAULTS = {
    "a full disk while tensors are written": small_files,
    "a full disk while text is written": refusing(Path, "write_text", errno.ENOSPC),
    "a full disk at fsync": refusing(os, "fsync", errno.ENOSPC),
    "a broken disk at fsync": refusing(os, "fsync", errno.EIO),
    "a rename that fails": refusing(Path, "rename", errno.EIO),
    "a rename that is not permitted": refusing(Path, "rename", errno.EACCES),
    "a folder that cannot be made": refusing(Path, "mkdir", errno.EROFS),
    "a disk that does not answer": refusing(shutil, "disk_usage", errno.EIO),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_refuses_is_a_clear_error_and_the_old_checkpoints_stay_whole(fault, two):
    with FAULTS[fault](), pytest.raises(CheckpointError, match=r"step 9 could not be written.*Remedy"):
        save(two, at(9), keep=1)
    assert newest(two) == 6
    assert load(two / "step-00000003").step == 3
    save(two, at(9), keep=2)
    assert newest(two) == 9


def test_too_little_space_is_said_before_anything_is_written(two, monkeypatch):
    usage = shutil.disk_usage(two)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(CheckpointError, match="10 bytes are free"):
        save(two, at(9), keep=1)
    assert names(two) == ["step-00000003", "step-00000006"]


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        save(tmp_path / "checkpoints", at(1), keep=1)


class Killed(BaseException):
    """What SIGKILL is to the process: nothing after it runs."""


def kill_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the process at the `call`-th touch of the disk; a removal it meets is left half done."""
    touched = [0]

    def dying(owner: object, name: str) -> None:
        real = getattr(owner, name)

        def inner(*args, **kwargs):
            touched[0] += 1
            if touched[0] > call:
                if name == "rmtree" and Path(args[0]).exists():
                    next(iter(sorted(Path(args[0]).iterdir()))).unlink()
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, inner)

    for owner, name in (
        (Path, "mkdir"),
        (Path, "write_text"),
        (Path, "rename"),
        (os, "fsync"),
        (shutil, "rmtree"),
        (checkpoint, "_sha256"),
    ):
        dying(owner, name)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_save_killed_at_any_touch_of_the_disk_leaves_a_newest_checkpoint_that_is_whole(keep, two, tmp_path_factory):
    saved = []
    for call in range(100):
        folder = tmp_path_factory.mktemp("killed") / "checkpoints"
        shutil.copytree(two, folder)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(call, patch)
            try:
                save(folder, at(9), keep=keep)
                break
            except Killed:
                pass
        saved.append(newest(folder))
        save(folder, at(9), keep=keep)
        assert newest(folder) == 9
        assert len(names(folder)) == keep
    assert len(saved) > 8
    assert saved == sorted(saved)
    assert {saved[0], saved[-1]} == {6, 9}
