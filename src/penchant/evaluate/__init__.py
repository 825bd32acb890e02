"""Evidence: win rates with intervals, drift and diversity, alarms, samples and the report."""

from __future__ import annotations

from penchant.evaluate.alarm import Alarm
from penchant.evaluate.alarms import (
    diversity_collapse,
    few_prompts,
    fidelity_fall,
    find_alarms,
    no_held_out_judge,
    rough_motion,
    static_clips,
    winner_drift,
)
from penchant.evaluate.clip_form import ClipForm, clip_form
from penchant.evaluate.contents import PolicyResult, Reading, ReadingReason, ReportData, Timing
from penchant.evaluate.curves import Curve, WinnerChange, read_metrics, winner_change
from penchant.evaluate.diversity import Diversity, feature_diversity, pixel_diversity
from penchant.evaluate.drift import Drift, SequenceKL, feature_drift, measure_drift, pixel_drift
from penchant.evaluate.evidence import Evidence, measure, sentence
from penchant.evaluate.exhibits import Exhibit, ImagePair, ImageRow, Picture
from penchant.evaluate.form import TextForm, text_form
from penchant.evaluate.hacking import dimension_hacking, reward_hacking, traded, traded_in_training
from penchant.evaluate.length_control import ControlledRate, controlled_rate
from penchant.evaluate.passages import Passage, TextPair, TextRow
from penchant.evaluate.players import Player, PlayerRow, sound_player, tune_player
from penchant.evaluate.reels import ClipPair, ClipRow, Film
from penchant.evaluate.report import write_report
from penchant.evaluate.samples import (
    ClipSample,
    Sample,
    SoundSample,
    TextSample,
    contact_sheet,
    load_samples,
    paired,
    pixel_grid,
    save_samples,
)
from penchant.evaluate.sound_form import SoundForm, sound_form
from penchant.evaluate.tournament import Bout, Standing, Tournament, bout, tournament
from penchant.evaluate.tune_form import TuneForm, tune_form
from penchant.evaluate.verdict import Verdict, verdict
from penchant.evaluate.winrate import MeanGain, WinRate, mean_gain, outcomes, win_rate

__all__ = [
    "Alarm",
    "Bout",
    "ClipForm",
    "ClipPair",
    "ClipRow",
    "ClipSample",
    "ControlledRate",
    "Curve",
    "Diversity",
    "Drift",
    "Evidence",
    "Exhibit",
    "Film",
    "ImagePair",
    "ImageRow",
    "MeanGain",
    "Passage",
    "Picture",
    "Player",
    "PlayerRow",
    "PolicyResult",
    "Reading",
    "ReadingReason",
    "ReportData",
    "Sample",
    "SequenceKL",
    "SoundForm",
    "SoundSample",
    "Standing",
    "TextForm",
    "TextPair",
    "TextRow",
    "TextSample",
    "Timing",
    "Tournament",
    "TuneForm",
    "Verdict",
    "WinRate",
    "WinnerChange",
    "bout",
    "clip_form",
    "contact_sheet",
    "controlled_rate",
    "dimension_hacking",
    "diversity_collapse",
    "feature_diversity",
    "feature_drift",
    "few_prompts",
    "fidelity_fall",
    "find_alarms",
    "load_samples",
    "mean_gain",
    "measure",
    "measure_drift",
    "no_held_out_judge",
    "outcomes",
    "paired",
    "pixel_diversity",
    "pixel_drift",
    "pixel_grid",
    "read_metrics",
    "reward_hacking",
    "rough_motion",
    "save_samples",
    "sentence",
    "sound_form",
    "sound_player",
    "static_clips",
    "text_form",
    "tournament",
    "traded",
    "traded_in_training",
    "tune_form",
    "tune_player",
    "verdict",
    "win_rate",
    "winner_change",
    "winner_drift",
    "write_report",
]
