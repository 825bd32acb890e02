"""`Form`: the outward form of any modality's samples, policy beside base."""

from __future__ import annotations

from penchant.evaluate.clip_form import ClipForm
from penchant.evaluate.form import TextForm
from penchant.evaluate.sound_form import SoundForm
from penchant.evaluate.tune_form import TuneForm

Form = TextForm | ClipForm | TuneForm | SoundForm
