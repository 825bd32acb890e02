"""Music to listen to, side by side, in a page where no script may run: the browser's own players, and pictures.

All players of a row are at one loudness, for listeners take the louder for the better. A page that opens anywhere must
stay small, so long pieces are cut, with a fade, and what is not played is drawn paler.
"""

from __future__ import annotations

import base64
import io
import wave as pcm
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from penchant.errors import FeedbackError, MediaError, PenchantError
from penchant.evaluate.figures import count, duration, number
from penchant.evaluate.markup import Markup, el
from penchant.evaluate.rolls import Stave, piano_roll, spectrogram, wave
from penchant.feedback.sound import Sound
from penchant.feedback.tune import Caption, Tune, caption_of, parse
from penchant.sampling.samplers import Modality

LONGEST = 20.0
"""Seconds of a piece that a page plays; Ogg Opus needs about 8 kB for each."""

_PLAIN_LONGEST, _PLAIN_RATE = 10.0, 11_025
"""The same without PyAV, when a page holds 16-bit WAV, 22 kB for each second at this rate."""

_FADE = 0.5  # seconds in which a piece that is cut dies away


@dataclass(frozen=True, kw_only=True, eq=False)
class Player:
    """A piece of music, the model it came from, and the judge's score of it, if any.

    `sound` is what is played, None where there is nothing to hear, of which `silent` says why; `heard` is the share of
    the piece that it is. `tune` is what is drawn, None to draw the sound itself. `facts` are words about its length,
    `finished` says whether it ended by itself.
    """

    sound: Sound | None
    label: str
    score: float | None = None
    tune: Tune | None = None
    heard: float = 1.0
    facts: tuple[str, ...] = ()
    finished: bool = True
    silent: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlayerRow:
    """Music of one prompt: of several models at one seed, the base first, or of several seeds (`seed` is None).

    `preferred` is the index of the piece that the judge prefers, None for a tie or where nobody judged.
    """

    modality: Modality

    prompt: str
    seed: int | None
    players: tuple[Player, ...]
    preferred: int | None = None

    def __post_init__(self) -> None:
        if not self.players or (self.preferred is not None and not 0 <= self.preferred < len(self.players)):
            raise PenchantError(
                f"piece {self.preferred} of {len(self.players)} cannot be the preferred one.", field="preferred"
            )

    @classmethod
    def of(cls, prompt: str, seed: int | None, players: Sequence[Player]) -> PlayerRow:
        """The players at one loudness; the judge prefers the highest score, if one is the highest.

        Raises:
            PenchantError: there is no player.
        """
        scores = [player.score for player in players]
        known = [score for score in scores if score is not None]
        best = max(known) if len(known) == len(players) and known else None
        preferred = scores.index(best) if best is not None and scores.count(best) == 1 else None
        kind: Modality = "sound" if any(player.tune is None for player in players) else "tune"
        return cls(
            modality=kind,
            prompt=prompt,
            seed=seed,
            players=_equal(players),
            preferred=preferred if len(players) > 1 else None,
        )

    def figure(self) -> Markup:
        """Players and pictures as a <figure>; all pictures of it have one scale of time, and of pitch."""
        tunes = [player.tune for player in self.players if player.tune is not None]
        stave = Stave.of(tunes) if tunes else None
        seconds = max([player.sound.seconds for player in self.players if player.sound], default=1.0)
        cells = [
            _cell(player, _picture(player, stave, seconds), self.prompt, index == self.preferred)
            for index, player in enumerate(self.players)
        ]
        caption = el(
            "figcaption",
            el("span", self.prompt, dir="auto", class_="prompt"),
            None if self.seed is None else el("span", f"seed {self.seed}", class_="seed"),
        )
        return el("figure", caption, *cells, class_="exhibit broad heard")


def tune_player(
    text: str,
    prompt: str,
    *,
    label: str,
    score: float | None = None,
    finished: bool = True,
    seconds: float | None = None,
) -> Player:
    """A tune on a plucked string.

    Args:
        text: the tune in the notation of `penchant.feedback.tune`.
        prompt: its caption, which says by its metre how fast; another prompt is played in 4/4.
        label: the model's name.
        score: the judge's.
        finished: whether it ended by itself.
        seconds: play so much of it; None for `LONGEST`.
    """
    from penchant.feedback.tune_sound import play

    tune = parse(text)
    shown = Player(
        sound=None,
        label=label,
        score=score,
        tune=tune,
        facts=(f"{count(len(tune.notes))} notes", f"{count(tune.bars)} bars"),
        finished=finished,
        silent="No note to play.",
    )
    if not tune.notes:
        return shown
    try:
        whole = play(tune, _caption(prompt))
    except MediaError as error:  # whatever a policy writes is shown, with what is wrong about it
        return replace(shown, silent=f"Cannot be played: {error.problem}")
    heard = shortened(whole, seconds)
    return replace(shown, sound=heard, heard=min(1.0, heard.seconds / whole.seconds))


def sound_player(sound: Sound, *, label: str, score: float | None = None, seconds: float | None = None) -> Player:
    """A sound; the arguments are those of `tune_player`."""
    heard = shortened(sound, seconds)
    return Player(
        sound=heard,
        label=label,
        score=score,
        heard=min(1.0, heard.seconds / sound.seconds),
        facts=(duration(sound.seconds),),
    )


def shortened(sound: Sound, seconds: float | None = None) -> Sound:
    """The beginning of a sound, `seconds` of it or what a page has room for, fading at its end where it was cut."""
    limit = seconds if seconds is not None else LONGEST if _compresses() else _PLAIN_LONGEST
    length = round(limit * sound.rate)
    if length >= len(sound):
        return sound
    samples = sound.samples[:, :length].copy()
    fade = min(length, round(_FADE * sound.rate))
    samples[:, length - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return Sound(samples=samples, rate=sound.rate)


def audio_uri(sound: Sound) -> str:
    """The sound as a data: address: Ogg Opus where PyAV is installed, else one channel of 16-bit WAV at 11 kHz."""
    if _compresses():
        from penchant.feedback.audio_encoding import encode_sound

        kind, data = "ogg", encode_sound(sound, "ogg")
    else:
        kind, data = "wav", _plain(sound)
    return f"data:audio/{kind};base64,{base64.b64encode(data).decode()}"


def _compresses() -> bool:
    return find_spec("av") is not None


def _plain(sound: Sound) -> bytes:
    from scipy.signal import resample_poly

    samples, rate = sound.mono(), sound.rate
    if rate > _PLAIN_RATE:
        common = int(np.gcd(rate, _PLAIN_RATE))
        samples, rate = resample_poly(samples, _PLAIN_RATE // common, rate // common), _PLAIN_RATE
    buffer = io.BytesIO()
    with pcm.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples.clip(-1, 1) * 32_767).astype("<i2").tobytes())
    return buffer.getvalue()


def _equal(players: Sequence[Player]) -> tuple[Player, ...]:
    """The players at one loudness; what is silent, or too short to have a loudness, is said to be."""
    from penchant.feedback.loudness import equalised, loudness

    made, loud = list(players), []
    for index, player in enumerate(players):
        if player.sound is None:
            continue
        try:
            loudness(player.sound)
            loud.append(index)
        except MediaError as error:
            made[index] = replace(player, sound=None, silent=f"Cannot be heard: {error.problem}")
    sounds = [sound for index in loud if (sound := players[index].sound) is not None]
    for index, sound in zip(loud, equalised(sounds) if sounds else [], strict=True):
        made[index] = replace(made[index], sound=sound)
    return tuple(made)


def _caption(prompt: str) -> Caption:
    try:
        return caption_of(prompt)
    except FeedbackError:
        return Caption(dance="tune", beats=4, unit=4, mode="major")


def _picture(player: Player, stave: Stave | None, seconds: float) -> Markup | None:
    if player.tune is not None and stave is not None:
        return piano_roll(player.tune, stave, label=player.label, heard=player.heard, finished=player.finished)
    if player.sound is None:
        return None
    pictures = (picture(player.sound, seconds, label=player.label) for picture in (spectrogram, wave))
    return el("div", *pictures, class_="seen")


def _cell(player: Player, picture: Markup | None, prompt: str, preferred: bool) -> Markup:
    name = el("span", player.label, el("span", " preferred by the judge", class_="spoken") if preferred else None)
    facts = [*player.facts, *([] if player.finished else ["no end"])]
    facts += [] if player.heard == 1 or player.sound is None else [f"first {number(player.sound.seconds, 2)} s"]
    facts += [] if player.score is None else [number(player.score)]
    label = el("p", name, el("span", " · ".join(facts), class_="score"), class_="label")
    words = f"{player.label}: {prompt}"
    audio: Markup = el("p", player.silent, class_="quiet")
    if player.sound is not None:
        audio = el("audio", src=audio_uri(player.sound), controls=True, preload="metadata", aria_label=words)
    return el("div", label, picture, audio, class_="player preferred" if preferred else "player")
