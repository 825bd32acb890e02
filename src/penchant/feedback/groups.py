"""Groups: a prompt, its K candidates, and what anybody said about them.

Every public layout, every judge and every vote of the studio is brought to this record, and trainers only ever see
views of it (`views.py`). Conventions: judgement values are oriented so that larger = better and stand in the order of
the candidates; ids are content hashes, so the same sample has the same id in every file, run and cache.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, overload

from penchant.errors import FeedbackError, MediaError
from penchant.feedback.report import ReadingReport

Kind = Literal["pair", "rank", "score", "vote", "binary"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def digest(*parts: str) -> str:
    """sha256 (hex) of several texts, each preceded by its length, so that no two lists of parts run together alike."""
    sha = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        sha.update(f"{len(encoded)}:".encode() + encoded)
    return sha.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Media:
    """An image, clip or sound by content: `data` in memory, or `path` on disk when it is read only on demand."""

    sha256: str
    mime: str
    data: bytes | None = field(default=None, repr=False)
    path: str | None = None

    @classmethod
    def of(cls, data: bytes, *, path: str | None = None) -> Media:
        """The media of some bytes; with `path` only the address is kept and the bytes are read again when asked for."""
        return cls(
            sha256=hashlib.sha256(data).hexdigest(),
            mime=sniff_mime(data),
            data=None if path is not None else data,
            path=path,
        )

    def bytes(self) -> bytes:
        """The encoded bytes. Raises MediaError if the file is gone or no longer has the recorded sha256."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise MediaError(
                f"media {self.sha256[:12]} has neither bytes nor a path.",
                remedy="read the feedback again from its file.",
            )
        try:
            data = Path(self.path).read_bytes()
        except OSError as error:
            raise MediaError(
                f"media cannot be read ({error.strerror}).", file=self.path, remedy="restore the file, or read again."
            ) from error
        # Hashing costs a tenth of decoding, and a silently altered sample would poison every cache keyed by the hash.
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise MediaError(
                f"media was altered: its sha256 is no longer {self.sha256[:12]}...",
                file=self.path,
                remedy="restore it.",
            )
        return data


_PNG = b"\x89PNG\r\n\x1a\n"
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (_PNG, "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    # MPEG 1, 2 and 2.5, layer III, with and without a checksum.
    *((b"\xff" + bytes([second]), "audio/mpeg") for second in (0xFA, 0xFB, 0xF2, 0xF3, 0xE2, 0xE3)),
)


def sniff_mime(data: bytes) -> str:
    """Media type by the first bytes, never by a file name; `application/octet-stream` when unknown."""
    # RF64 is RIFF with room for more than 4 GB.
    if data[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(data[8:12], "application/octet-stream")
    if data[4:8] == b"ftyp":
        return "audio/mp4" if data[8:11] in (b"M4A", b"M4B") else "video/mp4"
    # Files of before 2001 begin with any of their parts.
    if data[4:8] in (b"moov", b"mdat", b"wide", b"free"):
        return "video/quicktime"
    if data.startswith(_PNG) and b"acTL" in data[: data.find(b"IDAT")]:
        return "image/apng"
    return next((mime for magic, mime in _MAGIC if data.startswith(magic)), "application/octet-stream")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One sample for a prompt: media or text. `id` is its content hash unless given (for media alone, the sha256)."""

    id: str = ""
    media: Media | None = None
    text: str | None = None
    model: str | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.media is None and self.text is None:
            raise FeedbackError("a candidate has neither media nor text.", remedy="give one of the two.")
        if not self.id:
            object.__setattr__(self, "id", self._content_id())

    def _content_id(self) -> str:
        if self.text is None:
            assert self.media is not None
            return self.media.sha256
        return digest("text", self.text, *([self.media.sha256] if self.media else []))


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one judge said about a group: K `values` in candidate order, larger = better, None = not judged.

    pair: winner 1, loser 0, tie 0.5 and 0.5. rank: `rank_values` of the rank list. score: the judge's own scale.
    vote: how many votes each candidate got. binary: 1 good, 0 bad, each candidate by itself.
    `annotator` is a hash, never a name; `source` is `human`, `reward:NAME@VERSION`, `judge:NAME` or `simulated:NAME`.
    """

    kind: Kind
    values: tuple[float | None, ...]
    dimension: str = "overall"
    annotator: str | None = None
    source: str = "human"
    weight: float = 1.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FeedbackError(
                f"unknown judgement kind '{self.kind}'.", field="kind", remedy=f"one of {', '.join(KINDS)}."
            )
        values = tuple(None if v is None else float(v) for v in self.values)
        if not all(v is None or math.isfinite(v) for v in values):
            raise FeedbackError("a judgement value is not finite.", field="values", remedy="use None for `not judged`.")
        if self.kind != "score" and any(v is not None and (v < 0 or (v > 1 and self.kind != "vote")) for v in values):
            raise FeedbackError(
                f"a value of a {self.kind} judgement is out of range.",
                field="values",
                remedy="pair, rank and binary values lie in [0, 1], votes are 0 or more; for a scale use kind `score`.",
            )
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise FeedbackError(
                "a judgement weight is negative or not finite.", field="weight", remedy="use 0 or more."
            )
        if not (self.source == "human" or self.source.startswith(("reward:", "judge:", "simulated:"))):
            raise FeedbackError(
                f"unknown judgement source '{self.source}'.",
                field="source",
                remedy="one of human, reward:NAME@VERSION, judge:NAME, simulated:NAME.",
            )
        object.__setattr__(self, "values", values)


def rank_values(ranks: Sequence[float | None]) -> tuple[float | None, ...]:
    """A rank list (1 = best, ties equal) as the share of the other judged candidates beaten, a tie counting half.

    Only the order of the ranks matters, so lists with gaps or beyond K read alike: (1, 1, 7) -> (0.75, 0.75, 0).
    """
    judged = [r for r in ranks if r is not None]
    others = max(len(judged) - 1, 1)
    return tuple(
        None if r is None else (sum(r < o for o in judged) + 0.5 * (sum(r == o for o in judged) - 1)) / others
        for r in ranks
    )


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a text model is asked.

    `messages` is the conversation, when there is one, as (role, content) for the model's chat template; `opening` is
    how the answer begins already: a completion continues it.
    """

    text: str
    messages: tuple[Mapping[str, Any], ...] = ()
    opening: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A prompt, K candidates and N judgements (each with K values).

    `id` is the hash of the prompt and the *sorted* candidate ids unless given: the same comparison shown the other way
    round is the same group. `provenance` says where it was read, `extra` what the layout knew beside.
    """

    id: str = ""
    prompt: str
    candidates: tuple[Candidate, ...]
    judgements: tuple[Judgement, ...] = ()
    split: str | None = None
    licence: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.candidates:
            raise FeedbackError("a group has no candidates.", field="candidates", remedy="give at least one.")
        for judgement in self.judgements:
            if len(judgement.values) != len(self.candidates):
                raise FeedbackError(
                    f"a judgement has {len(judgement.values)} values for {len(self.candidates)} candidates.",
                    field="judgements",
                    remedy="give one value for each candidate, None where it was not judged.",
                )
        if not self.id:
            object.__setattr__(self, "id", digest("group", self.prompt, *sorted(c.id for c in self.candidates)))

    def asked(self) -> Prompt:
        """The prompt as a text model is asked it: the conversation is `extra["messages"]`, if the layout had one."""
        return Prompt(text=self.prompt, messages=tuple(self.extra.get("messages", ())))

    def only(self, indices: Sequence[int]) -> Group:
        """The group with the candidates at `indices`, in that order; the id stays, so its counted draws do too."""
        return replace(
            self,
            candidates=tuple(self.candidates[i] for i in indices),
            judgements=tuple(replace(j, values=tuple(j.values[i] for i in indices)) for j in self.judgements),
        )

    def judged(self, *judgements: Judgement) -> Group:
        """The group with further judgements."""
        return replace(self, judgements=self.judgements + judgements)


@dataclass(frozen=True, kw_only=True)
class Feedback(Sequence[Group]):
    """A sequence of groups, and the report of how they were read (None when they were made in memory)."""

    groups: tuple[Group, ...]
    report: ReadingReport | None = None

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> Feedback: ...
    def __getitem__(self, index: int | slice) -> Group | Feedback:
        return replace(self, groups=self.groups[index]) if isinstance(index, slice) else self.groups[index]

    def filter(self, keep: Callable[[Group], bool]) -> Feedback:
        """The groups for which `keep` is true."""
        return replace(self, groups=tuple(g for g in self.groups if keep(g)))

    def split(self, name: str) -> Feedback:
        """The groups of one split. Raises FeedbackError naming the known splits if there is none."""
        chosen = self.filter(lambda group: group.split == name)
        if not chosen.groups:
            known = sorted({str(group.split) for group in self.groups})
            raise FeedbackError(f"no group is in split '{name}'.", field="split", remedy=f"known: {', '.join(known)}.")
        return chosen


def plain(value: object) -> Any:
    """`value` as JSON knows it (lists, dicts, str, float, int, bool, None), so that it survives the store unchanged."""
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=_plain_scalar))
    except (TypeError, ValueError) as error:
        raise FeedbackError(
            f"a value cannot be kept as JSON ({error}).", remedy="use numbers, texts and lists."
        ) from error


def _plain_scalar(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
