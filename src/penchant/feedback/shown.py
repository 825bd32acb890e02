"""A candidate as judges and networks take it: a text, a picture, a clip or a sound, by what its bytes are."""

from __future__ import annotations

from typing import Any

from penchant.feedback.audio_files import is_sound, sound_of
from penchant.feedback.groups import Candidate
from penchant.feedback.media import decode_image
from penchant.feedback.video_files import clip_of, is_clip


def sample_of(candidate: Candidate) -> Any:
    """The text, the RGB picture, the `Clip` or the `Sound` of a candidate, decoded under caps.

    Raises:
        MediaError: it cannot be decoded.
    """
    if candidate.media is None:
        return candidate.text
    data = candidate.media.bytes()
    if is_sound(data):
        return sound_of(candidate)
    return clip_of(candidate) if is_clip(data) else decode_image(data)[0]
