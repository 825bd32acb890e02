"""Media by content: one file for each distinct sample, visible when it is whole.

    ROOT/media/ab/abcdef...

Files are written beside their place, synced and renamed. Who is killed while writing leaves a temporary file that
nothing names; who writes the same content again finds it there.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from penchant.errors import FeedbackError
from penchant.feedback.groups import Media

TEMPORARY = ".tmp-"


def media_path(root: Path, sha256: str) -> Path:
    """Where a sample lies."""
    return root / "media" / sha256[:2] / sha256


def write_media(root: Path, media: Media) -> None:
    """Files a sample under its hash, if it is not there.

    Raises FeedbackError if the sample is not what its hash says.
    """
    data = media.bytes()
    path = media_path(root, media.sha256)
    # The hash is checked for media held in memory too: a wrong one would be filed under another sample's name.
    if hashlib.sha256(data).hexdigest() != media.sha256:
        raise FeedbackError(
            f"media {media.sha256[:12]} does not have its sha256.", remedy="make media with Media.of(bytes)."
        )
    if not path.is_file() or path.stat().st_size != len(data):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)


def write_atomically(path: Path, data: bytes) -> None:
    """The whole file or none of it, on disk when this returns."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Makes the folder's renames durable."""
    # Windows cannot open a folder; there the rename itself is durable.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
