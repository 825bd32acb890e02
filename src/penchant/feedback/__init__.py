"""Feedback: groups of candidates with judgements, read from anywhere, kept safely, seen through views."""

from __future__ import annotations

from penchant.feedback.doctor import Diagnosis, doctor
from penchant.feedback.export import export_groups, export_parquet
from penchant.feedback.groups import Candidate, Feedback, Group, Judgement, Media, rank_values
from penchant.feedback.media import decode_image
from penchant.feedback.reading import read, stream
from penchant.feedback.report import ReadingReport
from penchant.feedback.store import append, open_store, replace_groups, verify, write
from penchant.feedback.views import (
    LabelledRow,
    Pair,
    Ranked,
    ScoredGroup,
    Selection,
    TiePolicy,
    best_vs_worst,
    binary,
    pairs,
    ranked,
    scores,
    select,
)

__all__ = [
    "Candidate",
    "Diagnosis",
    "Feedback",
    "Group",
    "Judgement",
    "LabelledRow",
    "Media",
    "Pair",
    "Ranked",
    "ReadingReport",
    "ScoredGroup",
    "Selection",
    "TiePolicy",
    "append",
    "best_vs_worst",
    "binary",
    "decode_image",
    "doctor",
    "export_groups",
    "export_parquet",
    "open_store",
    "pairs",
    "rank_values",
    "ranked",
    "read",
    "replace_groups",
    "scores",
    "select",
    "stream",
    "verify",
    "write",
]
