"""Our own single file: groups of any size with every judgement, media embedded (`feedback.export_groups`)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from penchant.feedback.audio_files import is_sound
from penchant.feedback.groups import Group, Media
from penchant.feedback.readers.cells import clip, image, sound, text
from penchant.feedback.readers.layout import Layout, Row
from penchant.feedback.rows import group_of
from penchant.feedback.video_files import is_clip


def _group(row: Row) -> Group:
    def media(cell: dict[str, Any]) -> Media | None:
        if cell["sha256"] is None:
            return None
        # What is neither picture nor clip nor sound keeps its bytes as they are.
        if is_clip(cell["data"]):
            found = clip(row, "candidates", cell["data"], fps=json.loads(cell["settings"]).get("fps"))
        elif is_sound(cell["data"]):
            # What a model drew is feedback be it silent or short.
            found = sound(row, "candidates", cell["data"], min_seconds=0, floor=0)
        elif str(cell["mime"]).startswith("image/"):
            found = image(row, "candidates", cell["data"])
        else:
            found = Media.of(cell["data"])
        if found.sha256 != cell["sha256"]:
            raise row.error("media do not have their sha256.", "candidates", "export the groups again.")
        return found

    text(row, "prompt")
    try:
        group = group_of(row.values, media)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise row.error("the row was not written by penchant.", "candidates", "export the groups again.") from error
    # Groups that were made, not read, have no other origin than this file.
    return group if group.provenance else replace(group, provenance=row.provenance("penchant-groups"))


GROUPS = Layout(
    name="penchant-groups",
    required=frozenset({"prompt", "candidates", "judgements", "provenance"}),
    optional=frozenset({"id", "split", "licence", "extra"}),
    to_group=_group,
)
