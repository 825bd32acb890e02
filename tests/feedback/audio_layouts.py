"""Tiny self-made tables in the layouts of sounds, with real recordings inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audio_fixtures import melody, written
from penchant.feedback.audio_encoding import encode_sound


def flac(seed: int) -> bytes:
    return encode_sound(melody(seed, seconds=0.5), "flac")


def mp3(seed: int) -> bytes:
    return written(melody(seed, seconds=1.0), "mp3", "libmp3lame", "fltp")


def cell(data: bytes | None, path: str | None = "a.flac") -> dict[str, Any]:
    """An audio cell as the hub writes it."""
    return {"bytes": data, "path": path}


def battle(k: int = 0, **changes: Any) -> dict[str, Any]:
    """A row of Music Arena; A wins unless changed."""
    row = {
        "battle_uuid": f"battle-{k}",
        "date": "2025-08-01",
        "prompt": f"a slow tune, number {k}",
        "is_instrumental": True,
        "is_prebaked": False,
        "user_pseudonym": "user-7",
        "preference": "A",
        "feedback": None,
        "timestamp": 1_754_000_000.5,
        "lyrics": None,
    }
    for side, seed in (("a", 2 * k), ("b", 2 * k + 1)):
        row |= {f"audio_{side}": cell(mp3(seed)), f"system_{side}": f"system-{side}"}
        row |= {f"total_listening_time_{side}": 4.5 + seed, f"listen_data_{side}": "[]", f"hardware_{side}": "h100"}
        row |= {f"system_time_{side}": 3.0, f"gateway_time_{side}": 3.5, f"duration_{side}": 1.0}
        row |= {f"sample_rate_{side}": 16_000}
    return row | changes


def alpaca_row(k: int = 0, **changes: Any) -> dict[str, Any]:
    row = {"prompt": f"a dog barks, {k}", "chosen": cell(flac(2 * k)), "rejected": cell(flac(2 * k + 1))}
    return row | {"strategy": "perturbed prompt"} | changes


def crpo_row(k: int = 0, **changes: Any) -> dict[str, Any]:
    row = {"captions": f"rain on a roof, {k}", "chosen": cell(flac(2 * k)), "reject": cell(flac(2 * k + 1))}
    return row | {"duration": 1, "iteration": k} | changes


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def music_arena(folder: Path) -> Path:
    return write_rows(folder / "train-00000-of-00001.parquet", [battle(0), battle(1, preference="TIE")])


def music_arena_all(folder: Path) -> Path:
    rows = [battle(0), battle(1, preference="B")]
    return write_rows(
        folder / "battles.parquet",
        [{k: v for k, v in row.items() if not k.startswith("total_listening_time")} for row in rows],
    )


def audio_alpaca(folder: Path) -> Path:
    return write_rows(folder / "train.parquet", [alpaca_row(0), alpaca_row(1)])


def crpo(folder: Path) -> Path:
    return write_rows(folder / "train.parquet", [crpo_row(0), crpo_row(1)])


MAKERS = {
    "music-arena": music_arena,
    "music-arena-all": music_arena_all,
    "audio-alpaca": audio_alpaca,
    "crpo": crpo,
}
