"""Checkpoints that are whole or absent: written aside, hashed, fsynced, renamed. safetensors and JSON only.

A folder `step-00000120/` holds `tensors.safetensors`, `state.json` and `manifest.json` (sizes and sha256 of both). It
is written as `.step-00000120.partial` and renamed when complete, so a killed save is never seen. Loading verifies; a
damaged folder is reported and the next older one taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from penchant.errors import CheckpointError

_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was saved at the end of `step` steps."""

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def save(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Publishes a checkpoint under `folder`, then removes all but the newest `keep`.

    Raises:
        CheckpointError: too little space, or the disk refused; older checkpoints are untouched.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    final = folder / f"step-{checkpoint.step:08d}"
    partial = folder / f".{final.name}.partial"
    tensors = {k: v.detach().cpu().contiguous() for k, v in checkpoint.tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        _require_space(folder, sum(t.numel() * t.element_size() for t in tensors.values()))
        partial.mkdir()
        save_file(tensors, partial / _TENSORS)
        (partial / _STATE).write_text(json.dumps({"step": checkpoint.step, **checkpoint.state}, indent=1))
        names = (_TENSORS, _STATE)
        manifest = {n: {"bytes": (partial / n).stat().st_size, "sha256": _sha256(partial / n)} for n in names}
        (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        for name in (*names, _MANIFEST):
            _fsync(partial / name)
        if final.exists():
            _discard(final)
        partial.rename(final)
        _fsync(folder)
        _prune(folder, final, keep)
    # A full disk reaches us as a SafetensorError when the tensors meet it.
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} could not be written ({error}).",
            file=final,
            remedy="make room or permit writing; older checkpoints are intact.",
        ) from error
    return final


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Removes all but `newest` and the `keep` - 1 before it.

    What is numbered beyond `newest` was damaged, or the run would have gone on from there: it must not take its place.
    """
    others = [path for path in _folders(folder) if path != newest]
    older = [path for path in others if path.name < newest.name]
    for path in others:
        if path not in older[: keep - 1]:
            _discard(path)


def load_latest(folder: Path) -> tuple[Checkpoint, list[str]] | None:
    """The newest checkpoint that verifies and a sentence for each newer one that does not; None if there is none.

    Raises:
        CheckpointError: checkpoints exist but none of them is whole.
    """
    damaged: list[str] = []
    for candidate in _folders(folder):
        try:
            return load(candidate), damaged
        except CheckpointError as error:
            damaged.append(str(error))
    if damaged:
        raise CheckpointError(
            f"no checkpoint is whole: {' '.join(damaged)}", file=folder, remedy="delete the folder and start again."
        )
    return None


def load(path: Path) -> Checkpoint:
    """One checkpoint folder, verified.

    Raises:
        CheckpointError: a file is missing, of another size or content, or unreadable.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        for name in (_TENSORS, _STATE):
            entry = manifest[name]
            if (path / name).stat().st_size != entry["bytes"] or _sha256(path / name) != entry["sha256"]:
                raise CheckpointError("was altered after it was written.", file=path / name, remedy="use an older one.")
        state = json.loads((path / _STATE).read_text())
        return Checkpoint(step=int(state.pop("step")), tensors=load_file(path / _TENSORS), state=state)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"cannot be read ({error}).", file=path, remedy="use an older one.") from error


def _folders(folder: Path) -> list[Path]:
    """Published checkpoints, newest first."""
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True)


def _discard(path: Path) -> None:
    # Renamed first: a removal killed half-way must not leave something that looks like a checkpoint.
    trash = path.with_name(f".{path.name}.trash")
    shutil.rmtree(trash, ignore_errors=True)
    path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < 1.2 * needed:
        raise OSError(f"{free} bytes are free and {int(1.2 * needed)} are needed")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
