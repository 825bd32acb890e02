"""A candidate as judges and networks take it: a text, a picture or a clip, by what its bytes are."""

from __future__ import annotations

from typing import Any

from penchant.feedback.groups import Candidate
from penchant.feedback.media import decode_image
from penchant.feedback.video_files import clip_of, is_clip


def sample_of(candidate: Candidate) -> Any:
    """The text, the RGB picture or the `Clip` of a candidate, decoded under caps.

    Raises:
        MediaError: it cannot be decoded.
    """
    if candidate.media is None:
        return candidate.text
    data = candidate.media.bytes()
    return clip_of(candidate) if is_clip(data) else decode_image(data)[0]
