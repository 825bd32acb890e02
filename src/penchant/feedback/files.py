"""Files to records: Parquet in small record batches, JSON lists and lines (also gzipped), CSV, folders of these."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from penchant.errors import FeedbackError, PenchantError

MAX_LINE = 256 * 1024 * 1024
MAX_JSON = 4 * 1024**3
_BATCH = 32
_SNIFFED = 32
_SPLIT = re.compile(r"(?:^|[-_.])(train|validation|valid|val|dev|test)(_(?:unique|prefs|sft|gen))?(?=[-_.]|$)")
_JSON = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_CSV = ".csv"

Record = dict[str, Any] | PenchantError


def data_files(path: Path) -> list[Path]:
    """The data files of a path: itself, or a folder's Parquet files (any depth), else its JSON files, else its CSV
    files (both top level).

    Raises FeedbackError if there is none, or the file has another ending.
    """
    if not path.exists():
        raise FeedbackError("there is no such file or folder.", file=path, remedy="check the path.")
    if path.is_file():
        if path.name.endswith((".parquet", *_JSON, _CSV)):
            return [path]
        raise FeedbackError(
            "the file is neither Parquet nor JSON nor CSV.",
            file=path,
            remedy=f"give .parquet, {', '.join(_JSON)}, {_CSV} or a folder.",
        )
    found = sorted(path.rglob("*.parquet"))
    for ending in (_JSON, _CSV):
        found = found or sorted(p for p in path.iterdir() if p.name.endswith(ending))
    if not found:
        raise FeedbackError(
            "the folder holds no Parquet or JSON or CSV file.",
            file=path,
            remedy=f"give a folder with .parquet, {_JSON[0]} or {_CSV} files.",
        )
    return found


def split_of(path: Path) -> str | None:
    """The split a file's name states (train-00000-of-00012.parquet -> train, test_prefs-... -> test_prefs), or None."""
    found = _SPLIT.search(path.name.lower())
    return found.group(1) + (found.group(2) or "") if found else None


def columns_of(path: Path) -> frozenset[str]:
    """Column names: the schema of a Parquet file, or all keys of the first records of a JSON or CSV file."""
    if path.suffix == ".parquet":
        return frozenset(_open_parquet(path).schema_arrow.names)
    if not (records := _first_records(path, frozenset())):
        raise FeedbackError(
            "the file holds no record.", file=path, remedy="it is empty or of another kind; fetch it again."
        )
    return frozenset().union(*records)


def first_record(path: Path, columns: frozenset[str]) -> Mapping[str, Any]:
    """The first record that can be read, of a Parquet file `columns` alone; empty if none of the first can."""
    return next(iter(_first_records(path, columns)), {})


def _first_records(path: Path, columns: frozenset[str]) -> list[dict[str, Any]]:
    return [record for record in islice(records_of(path, columns), _SNIFFED) if isinstance(record, dict)]


def records_of(path: Path, columns: frozenset[str]) -> Iterator[Record]:
    """Every record in order; for one that cannot be read, the error it is refused with.

    Of a Parquet file only `columns` are read. Raises FeedbackError when the file as a whole is damaged.
    """
    if path.suffix == ".parquet":
        return _parquet_records(path, columns)
    return _csv_records(path) if path.suffix == _CSV else _json_records(path)


def _open_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Measured on one row group of 100 MB: 205 MB held with these options, 302 MB with the defaults.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        raise FeedbackError(
            "the Parquet file is damaged or incomplete.", file=path, remedy="fetch the file again."
        ) from error


def _parquet_records(path: Path, columns: frozenset[str]) -> Iterator[Record]:
    import pyarrow as pa

    file = _open_parquet(path)
    wanted = [name for name in file.schema_arrow.names if name in columns]
    try:
        for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
            for index in range(batch.num_rows):
                yield _parquet_row(batch, index)
    except (pa.ArrowException, OSError) as error:
        raise FeedbackError(
            "the Parquet file is damaged in the middle.", file=path, remedy="fetch the file again."
        ) from error


def _parquet_row(batch: Any, index: int) -> Record:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[index].as_py()
        # Arrow does not check its strings when it reads them.
        except UnicodeDecodeError:
            return FeedbackError("a text is not valid UTF-8.", field=name, remedy="write it again as UTF-8.")
        # Nanosecond timestamps beyond Python's microseconds: the number is all the same to us.
        except ValueError:
            row[name] = str(column[index])
    return row


def _open_text(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _json_records(path: Path) -> Iterator[Record]:
    try:
        with _open_text(path) as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
            file.seek(0)
            yield from _json_list(file, path) if start.startswith(b"[") else _json_lines(file, path)
    except (OSError, EOFError) as error:
        raise FeedbackError(
            "the file is damaged or cannot be read.", file=path, remedy="fetch the file again."
        ) from error


def _json_list(file: IO[bytes], path: Path) -> Iterator[Record]:
    content = file.read(MAX_JSON + 1)
    if len(content) > MAX_JSON:
        raise FeedbackError("the JSON list is too large to hold.", file=path, remedy="write it as JSON lines.")
    try:
        records = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FeedbackError(
            f"the file is not valid JSON ({error}).", file=path, remedy="fetch the file again."
        ) from error
    for record in records:
        yield record if isinstance(record, dict) else _no_record()


def _json_lines(file: IO[bytes], path: Path) -> Iterator[Record]:
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise FeedbackError("a line is too long.", file=path, remedy="write one record a line.")
        if line.strip():
            yield _json_line(line)


def _json_line(line: bytes) -> Record:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return FeedbackError("a text is not valid UTF-8.", remedy="write it again as UTF-8.")
    except (ValueError, RecursionError):
        return FeedbackError("a line is not valid JSON.", remedy="write one JSON object a line.")
    return record if isinstance(record, dict) else _no_record()


def _no_record() -> FeedbackError:
    return FeedbackError("a record is not a JSON object.", remedy="write one JSON object for each row.")


def _csv_records(path: Path) -> Iterator[Record]:
    """Every cell is a text, or None where it is empty: a table of texts knows no types."""
    csv.field_size_limit(MAX_LINE)
    try:
        # Bytes that are no UTF-8 become lone surrogates, so that one bad row does not cost the others.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            while (row := _csv_row(rows)) is not None:
                if row:
                    yield row if isinstance(row, PenchantError) else _csv_record(header, row)
    except OSError as error:
        raise FeedbackError("the file cannot be read.", file=path, remedy="fetch the file again.") from error


def _csv_row(rows: Iterator[list[str]]) -> list[str] | PenchantError | None:
    """The next row, the error it is refused with, or None at the end."""
    try:
        return next(rows, None)
    except csv.Error as error:
        return FeedbackError(f"a line is not valid CSV ({error}).", remedy="quote texts that hold commas or quotes.")


def _csv_record(header: list[str], row: list[str]) -> Record:
    if len(row) != len(header):
        return FeedbackError(
            "a row has another number of cells than the header.", remedy="quote texts that hold commas or quotes."
        )
    if any("\ud800" <= char <= "\udfff" for cell in row for char in cell):
        return FeedbackError("a text is not valid UTF-8.", remedy="write it again as UTF-8.")
    return {name: cell or None for name, cell in zip(header, row, strict=True)}
