"""The report of a run: one HTML file that opens anywhere, forever, without a network."""

from __future__ import annotations

from pathlib import Path

from penchant.evaluate.contents import ReportData
from penchant.evaluate.page import page


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
    path = Path(path)
    content = page(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(content, encoding="utf-8")
    return partial.replace(path)
