"""Feedback: groups of candidates with judgements, read from anywhere, kept safely, seen through views."""

from __future__ import annotations

from penchant.feedback.annotators import SimulatedAnnotator, temperature_for
from penchant.feedback.audio_encoding import encode_sound
from penchant.feedback.audio_files import decode_sound, sound_of
from penchant.feedback.clip import Clip
from penchant.feedback.doctor import Diagnosis, doctor
from penchant.feedback.export import export_audio_alpaca, export_groups, export_parquet, export_videoalign
from penchant.feedback.footage import sample_frames
from penchant.feedback.groups import Candidate, Feedback, Group, Judgement, Media, Prompt, rank_values
from penchant.feedback.loudness import equalised
from penchant.feedback.media import decode_image
from penchant.feedback.rankings import labelled, log_strengths, verdict, votes_to_judgement, win_matrix
from penchant.feedback.reading import read, stream
from penchant.feedback.report import ReadingReport
from penchant.feedback.sound import Sound
from penchant.feedback.store import append, open_store, replace_groups, verify, write
from penchant.feedback.video_files import clip_of, decode_clip, encode_clip
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
    "Clip",
    "Diagnosis",
    "Feedback",
    "Group",
    "Judgement",
    "LabelledRow",
    "Media",
    "Pair",
    "Prompt",
    "Ranked",
    "ReadingReport",
    "ScoredGroup",
    "Selection",
    "SimulatedAnnotator",
    "Sound",
    "TiePolicy",
    "append",
    "best_vs_worst",
    "binary",
    "clip_of",
    "decode_clip",
    "decode_image",
    "decode_sound",
    "doctor",
    "encode_clip",
    "encode_sound",
    "equalised",
    "export_audio_alpaca",
    "export_groups",
    "export_parquet",
    "export_videoalign",
    "labelled",
    "log_strengths",
    "open_store",
    "pairs",
    "rank_values",
    "ranked",
    "read",
    "replace_groups",
    "sample_frames",
    "scores",
    "select",
    "sound_of",
    "stream",
    "temperature_for",
    "verdict",
    "verify",
    "votes_to_judgement",
    "win_matrix",
    "write",
]
