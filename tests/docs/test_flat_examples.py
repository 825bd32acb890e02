"""The flat examples run on tiny models and lower their loss."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

from penchant.testing import build

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "train"))

from loop_fixtures import rows, write  # noqa: E402


def test_flat_diffusion_dpo(tmp_path):
    folder, pairs = build("stable-diffusion", tmp_path / "sd"), write(tmp_path / "pairs.parquet", rows(5))
    main = runpy.run_path(str(ROOT / "examples" / "flat_diffusion_dpo.py"))["main"]
    assert abs(main(str(folder), str(pairs), str(tmp_path / "out"), 2)[0] - 0.6931) < 1e-3
    assert any((tmp_path / "out").iterdir())


def test_flat_text_dpo(tmp_path):
    folder, pairs = build("llama", tmp_path / "llama"), tmp_path / "pairs.jsonl"
    texts = [{"prompt": f"About {w}.", "chosen": f"I like {w}.", "rejected": f"{w}? No."} for w in ("tea", "rain")]
    pairs.write_text("\n".join(map(json.dumps, texts)))
    main = runpy.run_path(str(ROOT / "examples" / "flat_text_dpo.py"))["main"]
    losses = main(str(folder), str(pairs), str(tmp_path / "out"), 6)
    assert abs(losses[0] - 0.6931) < 1e-3
    assert losses[-1] < losses[0]
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
