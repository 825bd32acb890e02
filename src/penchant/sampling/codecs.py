"""How a sample becomes the bytes of a file and comes back: one small codec a modality."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, Protocol, final

from PIL import Image

from penchant.errors import MediaError
from penchant.feedback.audio_encoding import encode_sound
from penchant.feedback.audio_files import decode_sound
from penchant.feedback.clip import Clip
from penchant.feedback.sound import Sound
from penchant.feedback.video_files import decode_clip, encode_clip
from penchant.models.completion import Completion


class Codec(Protocol):
    """Writes samples of one modality as bytes, reads them back equal; `suffix` names the files."""

    suffix: str

    def encode(self, sample: Any) -> bytes:
        """The sample as bytes."""

    def decode(self, data: bytes) -> Any:
        """What `encode` was given.

        Raises:
            MediaError: the bytes are no such sample.
        """


@final
class PictureCodec:
    """Pictures as lossless PNG."""

    suffix = ".png"

    def encode(self, sample: Image.Image) -> bytes:
        """PNG bytes of a picture."""
        buffer = BytesIO()
        sample.save(buffer, "PNG")
        return buffer.getvalue()

    def decode(self, data: bytes) -> Image.Image:
        """An RGB picture."""
        try:
            return Image.open(BytesIO(data), formats=("PNG",)).convert("RGB")
        except (OSError, SyntaxError) as error:
            raise MediaError(f"is no PNG ({error}).") from error


@final
class TextCodec:
    """Completions as JSON in UTF-8: the text with its tokens and log-probs, so that nothing need be scored again."""

    suffix = ".json"

    def encode(self, sample: Completion) -> bytes:
        """JSON of a completion; floats keep all their bits."""
        record = {
            "text": sample.text,
            "tokens": sample.tokens,
            "log_probs": sample.log_probs,
            "finished": sample.finished,
        }
        return json.dumps(record).encode()

    def decode(self, data: bytes) -> Completion:
        """The completion."""
        try:
            record = json.loads(data)
            return Completion(
                text=record["text"],
                tokens=tuple(record["tokens"]),
                log_probs=tuple(record["log_probs"]),
                finished=record["finished"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise MediaError(f"is no completion ({error}).") from error


@final
class ClipCodec:
    """Clips as lossless animated PNG: frames and rate come back bit for bit (`penchant.feedback.animations`)."""

    suffix = ".apng"

    def encode(self, sample: Clip) -> bytes:
        """Animated PNG of a clip."""
        return encode_clip(sample)

    def decode(self, data: bytes) -> Clip:
        """The clip."""
        return decode_clip(data)[0]


@final
class SoundCodec:
    """Sounds as WAV of 32-bit floats: every bit comes back of what lies in [-1, 1], silence too."""

    suffix = ".wav"

    def encode(self, sample: Sound) -> bytes:
        """WAV of a sound."""
        return encode_sound(sample)

    def decode(self, data: bytes) -> Sound:
        """The sound."""
        return decode_sound(data, min_seconds=0, floor=0)[0]
