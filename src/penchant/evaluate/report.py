"""The report of a run: one HTML file that opens anywhere, forever, without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penchant.evaluate.contents import ReportData
from penchant.evaluate.page import page, sheet_page
from penchant.evaluate.players import PlayerRow


def write_report(folder: str | Path, data: ReportData) -> Path:
    """Write `report.html` into a folder, with style, pictures and charts inside it; an older one is replaced.

    The file is a pure function of `data`: the same numbers and pictures give the same bytes.

    Args:
        folder: made where it is missing.
        data: what to report.

    Returns:
        the path of the file.

    Raises:
        MediaError: a picture cannot be read.
    """
    return write_page(Path(folder) / "report.html", data)


def write_page(path: str | Path, data: ReportData) -> Path:
    """As `write_report`, into a file of any name; its folder is made where it is missing.

    Raises:
        MediaError: a picture cannot be read.
    """
    return _written(Path(path), page(data))


def write_sheet(path: str | Path, title: str, rows: Sequence[PlayerRow]) -> Path:
    """Write a page of music to listen to, with players and pictures inside it; an older one is replaced.

    Args:
        path: an HTML file; its folder is made where it is missing.
        title: its heading.
        rows: the music, in order.

    Returns:
        the path of the file.
    """
    return _written(Path(path), sheet_page(title, rows))


def _written(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(content, encoding="utf-8")
    return partial.replace(path)
