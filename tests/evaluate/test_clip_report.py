"""Clips in a report: side by side, in step, without a script; per dimension, with the alarms that clips need."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from test_evaluate_report import ATTACK, Page, text

from clip_fixtures import pan, shuffled, still, zoom
from penchant.errors import PenchantError
from penchant.evaluate import (
    ClipForm,
    ClipPair,
    ClipRow,
    ClipSample,
    Evidence,
    Film,
    MeanGain,
    PolicyResult,
    ReportData,
    WinRate,
    clip_form,
    dimension_hacking,
    find_alarms,
    load_samples,
    rough_motion,
    save_samples,
    sentence,
    static_clips,
    verdict,
    write_report,
)
from penchant.evaluate.compare import MEDIA, exhibited, formed, judged, moved, scored, spread
from penchant.evaluate.reels import MOST_FRAMES, strip, style, timeline
from penchant.evaluate.sheet import Sheet
from penchant.feedback.clip import Clip
from penchant.feedback.groups import Prompt
from penchant.judges import load
from penchant.judges.base import Judge
from penchant.judging import Judging
from penchant.recipes import find


def pair(before: Clip, after: Clip, prompt: str = "a face", **scores: float) -> ClipPair:
    films = (
        Film(clip=before, label="base", score=scores.get("first")),
        Film(clip=after, label="Flow-DPO", score=scores.get("second")),
    )
    return ClipPair(prompt=prompt, seed=3, before=films[0], after=films[1])


def row(rate: float, dimension: str = "", *, role="held out", captions="held-out", judge="eye", half=0.06) -> Evidence:
    win = WinRate(rate=rate, low=rate - half, high=rate + half, prompts=100, seeds=4, runs=1, ties=0.0)
    gain = MeanGain(before=0, after=1, gain=1, low=0, high=2, prompts=100, seeds=4, runs=1)
    name = f"{judge}:{dimension}" if dimension else judge
    return Evidence(
        policy="p", judge=name, role=role, captions=captions, win=win, gain=gain, modality="clip", dimension=dimension
    )


def written(tmp_path, *exhibits, **result) -> str:
    data = ReportData(title="clips", base="base", policies=(PolicyResult(name="p", **result),), exhibits=exhibits)
    return write_report(tmp_path, data).read_text(encoding="utf-8")


def films(page: Page) -> list[dict]:
    return [attributes for tag, attributes in page.elements if tag == "img"]


def frames_of(image: dict, count: int) -> np.ndarray:
    """The frames of a strip, without the pixel that is repeated at either side."""
    wide = np.asarray(Image.open(BytesIO(base64.b64decode(image["src"].split(",")[1]))).convert("RGB"))
    return np.stack([cell[:, 1:-1] for cell in np.split(wide, count, axis=1)])


def test_every_pixel_of_both_clips_is_in_the_page(tmp_path):
    before, after = pan(0), zoom(1)
    page = Page(written(tmp_path, pair(before, after)))
    first, second = films(page)
    assert np.array_equal(frames_of(first, 9), before.frames)
    assert np.array_equal(frames_of(second, 9), after.frames)
    assert first["class"] == "film crisp"
    assert (first["alt"], second["alt"]) == ("base: a face", "Flow-DPO: a face")


def test_the_clips_of_a_frame_share_one_clock(tmp_path):
    content = written(tmp_path, pair(pan(0), zoom(1)))
    (figure,) = [a for tag, a in Page(content).elements if tag == "figure"]
    assert figure["style"] == "--frames:9;--seconds:1.5s"
    # One rule for every film: duration and steps come from the figure, none from the film.
    assert re.findall(r"style=\"(--w[^\"]*)\"", content) == ["--w:32;--h:32"] * 2
    assert content.count("animation: reel var(--seconds) steps(var(--frames)) infinite") == 1


def test_a_window_of_the_strip_shows_one_whole_frame():
    """The arithmetic of page.css: `object-position` p puts p (box - image), and frame k begins at k (w + 2) + 1."""
    for frames, w in ((9, 32), (48, 256), (2, 8)):
        image = frames * (w + 2)
        last = frames * (w + 2) - w
        shown = [(k * (w + 2) + 1) / last * (image - w) for k in range(frames)]
        assert shown == pytest.approx([k * (w + 2) + 1 for k in range(frames)])


def test_controls_are_inputs_that_keys_reach(tmp_path):
    page = Page(written(tmp_path, pair(pan(0), zoom(1)), pair(pan(2), zoom(3))))
    inputs = [a for tag, a in page.elements if tag == "input"]
    assert [a["type"] for a in inputs[:11]] == ["checkbox"] + ["radio"] * 10
    assert [a["aria-label"] for a in inputs[2:5]] == ["Frame 1 of 9", "Frame 2 of 9", "Frame 3 of 9"]
    assert all(a["aria-label"] for a in inputs)
    groups = [a["name"] for a in inputs if a["type"] == "radio"]
    assert len(set(groups)) == 2  # choosing a frame here moves nothing there
    assert [a["class"] for a in inputs if "checked" in a] == ["run", "run"]


def test_a_chosen_frame_is_the_one_of_its_button():
    rules = dict(re.findall(r"nth-of-type\((\d+)\):checked~\.pictures\{--at:(\d+)\}", style()))
    # The box and the playing button stand before the first frame's.
    assert rules == {str(k + 3): str(k) for k in range(MOST_FRAMES)}


def test_nothing_runs_nothing_is_fetched_and_less_motion_is_respected(tmp_path):
    content = written(tmp_path, pair(pan(0), zoom(1), ATTACK))
    page = Page(content)
    assert not {"script", "iframe", "link", "video", "form"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all(image["src"].startswith("data:image/") for image in films(page))
    assert "url(" not in content
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "default-src" in a.get("content", "")]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "@media (prefers-reduced-motion: reduce)" in content
    assert "<script>alert('x')</script>" in text(page)


def test_a_page_without_clips_carries_no_rules_for_their_buttons(tmp_path):
    assert ".at:nth-of-type" not in written(tmp_path)


def test_longer_clips_are_shown_whole_at_a_lower_rate():
    clip = pan(frames=96, fps=24)
    count, rate = timeline([clip])
    assert (count, rate) == (48, 12)
    made = strip(clip, count, rate)
    assert np.array_equal(frames_of({"src": made.address}, 48), clip.frames[::2])


def test_clips_of_different_rates_and_lengths_keep_one_time():
    short, long = pan(0, frames=4, fps=8), zoom(1, frames=6, fps=4)
    count, rate = timeline([short, long])
    assert (count, rate) == (12, 8)
    shown = frames_of({"src": strip(short, count, rate).address}, count)
    assert np.array_equal(shown, short.frames[[0, 1, 2, 3] + [3] * 8])  # it ended, and its last frame stays
    assert np.array_equal(
        frames_of({"src": strip(long, count, rate).address}, count), np.repeat(long.frames, 2, axis=0)
    )


def test_large_frames_are_scaled_down():
    clip = Clip(frames=np.repeat(np.repeat(pan(side=128).frames, 3, axis=1), 4, axis=2), fps=6)
    made = strip(clip, 9, 6.0)
    assert (made.width, made.height) == (256, 192)
    assert made.address.startswith("data:image/webp")


def test_the_judges_preference_is_marked(tmp_path):
    content = written(tmp_path, pair(pan(0), zoom(1), first=0.1, second=0.4))
    assert re.findall(r'class="picture preferred"><img [^>]*alt="([\w-]+): a face"', content) == ["Flow-DPO"]
    assert "picture preferred" not in written(tmp_path, pair(pan(0), zoom(1), first=0.2, second=0.2))


def test_a_row_of_four_marks_one(tmp_path):
    shown = tuple(Film(clip=pan(k), label=f"m{k}", score=k / 4) for k in range(4))
    content = written(tmp_path, ClipRow(prompt="p", seed=0, films=shown, preferred=3))
    assert content.count('class="film crisp"') == 4
    assert 'class="exhibit clip broad"' in content
    with pytest.raises(PenchantError, match="preferred"):
        ClipRow(prompt="p", seed=0, films=shown, preferred=4)


def test_a_dimension_that_a_held_out_judge_finds_worse_is_an_alarm_with_its_name():
    rows = [row(0.88, "VQ"), row(0.28, "TA"), row(0.52, "MQ"), row(0.9, "overall", role="trained against", judge="r")]
    alarm = dimension_hacking(rows[1], rows)
    assert alarm.name == "reward hacking: TA (text alignment)"
    assert alarm.severity == "severe"
    for part in (
        "eye",
        "28.0",
        "22.0",
        "34.0",
        "VQ (visual quality) in 88.0",
        "r:overall, which it was trained against",
    ):
        assert part in alarm.sentence
    assert "MQ" not in alarm.sentence
    assert [dimension_hacking(one, rows) for one in (rows[0], rows[2], rows[3])] == [None] * 3


def test_an_interval_that_reaches_one_half_is_no_alarm():
    rows = [row(0.45, "TA"), row(0.9, "VQ")]
    assert dimension_hacking(rows[0], rows) is None


def test_a_judge_of_one_dimension_has_no_dimension_to_hack():
    rows = [row(0.2, "MQ"), row(0.9, "VQ", judge="another")]
    assert dimension_hacking(rows[0], rows) is None
    assert dimension_hacking(row(0.2), [row(0.2)]) is None


def test_each_dimension_is_said_once_and_not_as_a_fall_of_fidelity_too():
    rows = [row(0.9, "VQ"), row(0.3, "TA"), row(0.3, "TA", captions="seen"), row(0.9, "VQ", captions="seen")]
    fall = MeanGain(before=1, after=0, gain=-1, low=-2, high=-0.5, prompts=9, seeds=1, runs=1)
    found = find_alarms(rows, fidelity={"eye:TA": fall, "other": fall})
    assert [alarm.name for alarm in found] == ["reward hacking: TA (text alignment)", "fidelity fall"]
    assert "held-out captions" in found[0].sentence


def test_the_alarm_and_the_dimensions_are_seen_in_the_page(tmp_path):
    rows = (row(0.9, "VQ"), row(0.3, "MQ"))
    words = text(Page(written(tmp_path, evidence=rows, alarms=find_alarms(rows))))
    assert "Reward hacking: MQ (motion quality) severe" in words
    assert "eye VQ (visual quality) held out" in words
    assert "90.0 %" in words
    assert "eye:MQ, held out as well, finds it worse" in words
    assert verdict("p", "base", rows).outcome == "not better"


def gains(dynamic: tuple[float, float], smooth: tuple[float, float], half: float = 0.01) -> ClipForm:
    def gain(before: float, after: float) -> MeanGain:
        change = after - before
        ends = {"gain": change, "low": change - half, "high": change + half}
        return MeanGain(before=before, after=after, prompts=40, seeds=2, runs=1, **ends)

    return ClipForm(dynamic_degree=gain(*dynamic), smoothness=gain(*smooth), steadiness=gain(0.9, 0.9))


def test_clips_that_stop_moving_raise_an_alarm():
    assert static_clips(gains((0.4, 0.1), (0.9, 0.9))).severity == "severe"
    assert static_clips(gains((0.4, 0.26), (0.9, 0.9))).severity == "warning"
    assert "35.0" in static_clips(gains((0.4, 0.26), (0.9, 0.9))).sentence
    assert static_clips(gains((0.4, 0.32), (0.9, 0.9))) is None  # a fifth
    assert static_clips(gains((0.4, 0.6), (0.9, 0.9))) is None
    assert static_clips(gains((0.4, 0.2), (0.9, 0.9), half=0.3)) is None  # chance explains it
    assert static_clips(gains((0.0, 0.0), (1.0, 1.0))) is None


def test_rougher_motion_raises_an_alarm():
    assert rough_motion(gains((0.4, 0.4), (0.9, 0.8))).severity == "warning"
    assert rough_motion(gains((0.4, 0.4), (0.9, 0.6))).severity == "severe"
    assert rough_motion(gains((0.4, 0.4), (0.9, 0.87))) is None
    assert rough_motion(gains((0.4, 0.4), (0.9, 0.8), half=0.2)) is None
    assert [alarm.name for alarm in find_alarms([row(0.9)], form=gains((0.4, 0.1), (0.9, 0.5)))] == [
        "static clips",
        "rough motion",
    ]


PROMPTS = tuple(Prompt(text=f"emoji {k}") for k in range(6))


def sheet(make, seeds: int = 2) -> Sheet:
    samples = tuple(make(10 * k + s) for k in range(len(PROMPTS)) for s in range(seeds))
    return Sheet(captions="held-out", prompts=PROMPTS, seeds=seeds, samples=samples, modality="clip")


class Two(Judge):
    """A real measure in two dimensions: what moves, and what is bright."""

    name, version, dimensions = "two", "1", ("MQ", "VQ")

    def score(self, prompts, samples):
        moving = load("dynamic-degree").score(prompts, samples)[:, 0]
        return np.stack([moving, np.array([clip.frames.mean() for clip in samples])], axis=1)


def test_clips_are_a_medium():
    base, policy = sheet(pan), sheet(still)
    medium = MEDIA["clip"]
    assert medium.lengths(policy, base) is None
    assert medium.judged(base) is base.samples
    assert spread(base, None).space == "pixels"
    assert spread(replace(base, seeds=1, samples=base.samples[::2]), None) is None
    same = sheet(lambda k: pan(k // 10))
    assert spread(same, None).value == 0
    assert moved(base, base, None).pixel_mse == 0
    assert moved(policy, base, None).pixel_mse > 0.01
    assert moved(policy, base, None).feature_cosine is None


class Eye:
    """Mean colours of a clip, as features."""

    @staticmethod
    def features(samples):
        return np.stack([clip.frames.mean((0, 1)).ravel() for clip in samples])


def test_where_a_judge_has_features_they_count():
    base, policy = sheet(pan), sheet(zoom)
    assert spread(base, Eye()).space == "features"
    assert moved(policy, base, Eye()).feature_cosine > 0
    assert moved(base, base, Eye()).feature_cosine == pytest.approx(0, abs=1e-12)


def test_the_motion_of_both_models_is_measured():
    form = formed(sheet(still), sheet(pan))
    assert form.dynamic_degree.after == 0
    assert form.dynamic_degree.before > 0.1
    assert form.dynamic_degree.high < 0
    assert form.smoothness.after == 1
    assert static_clips(form).severity == "severe"
    rough = clip_form([shuffled(clip) for clip in sheet(pan).samples], sheet(pan).samples, seeds=2)
    assert rough_motion(rough).severity == "severe"


def test_a_judge_of_several_dimensions_gives_a_row_for_each():
    judges = {"two": (Two(), "held out"), "smoothness": (load("smoothness"), "held out")}
    base, policy = scored(sheet(pan), judges), scored(sheet(still), judges)
    rows = judged("p", policy, base, judges)
    assert [(r.judge, r.dimension, r.scorer) for r in rows] == [
        ("two:MQ", "MQ", "two"),
        ("two:VQ", "VQ", "two"),
        ("smoothness", "", "smoothness"),
    ]
    assert rows[0].win.rate == 0
    assert rows[0].record()["dimension"] == "MQ"
    assert "dimension" not in rows[2].record()
    assert "captions, two:MQ (held out)" in sentence(rows[0].record())


def test_a_judge_that_is_one_dimension_of_another_counts_as_that_dimension():
    class MQ(Two):
        name, dimensions = "two:MQ", ("MQ",)

        def score(self, prompts, samples):
            return Two().score(prompts, samples)[:, [0]]

    class VQ(Two):
        name, dimensions = "two:VQ", ("VQ",)

        def score(self, prompts, samples):
            return Two().score(prompts, samples)[:, [1]]

    judges = {"two#MQ": (MQ(), "held out"), "two#VQ": (VQ(), "held out")}
    base, policy = scored(sheet(pan), judges), scored(sheet(still), judges)
    rows = judged("p", policy, base, judges)
    assert [r.dimension for r in rows] == ["MQ", "VQ"]
    assert "reward hacking: MQ (motion quality)" in [alarm.name for alarm in find_alarms(rows)]


def test_exhibits_are_the_first_seeds_with_the_mean_of_a_judges_dimensions():
    judges = {"two": (Two(), "held out")}
    base, policy = scored(sheet(pan), judges), scored(sheet(still), judges)
    shown = exhibited("p", policy, base, "two", sheets=1)
    assert [one.prompt for one in shown] == [prompt.text for prompt in PROMPTS]
    assert shown[0].before.clip is base.samples[0]
    assert shown[0].before.score == pytest.approx(base.scores["two"][0].mean())


def test_a_run_on_clips_is_judged_and_reported_as_any_other(tmp_path):
    recipe = find("mapo")
    judges = {"two": (Two(), "held out"), "smoothness": (load("smoothness"), "trained against")}
    judging = Judging(recipe=recipe, seen=(), held_out=PROMPTS, judges=judges, cache=tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.6}\n')

    class Watch:
        def lap(self, name):
            return None

        def timing(self, speed):
            return None

    class Nothing:
        file, kept, bad, repaired, refused, dropped, pairs_per_second = "x", 0, 0, {}, {}, {}, None

    path = judging.report(
        [sheet(pan)], [sheet(still)], (Nothing(), Nothing()), Watch(), Nothing(), tmp_path, lambda line: None
    )
    words = text(Page(path.read_text(encoding="utf-8")))
    assert "Held-out captions" in words
    assert "Static clips severe" in words
    assert "Reward hacking: MQ (motion quality)" in words
    assert "Motion of the clips by optical flow" in words
    assert "Dynamic degree, shorter sides a second" in words
    assert "the mean of two's dimensions prefers" in words
    assert "The clips of a frame play in step" in words
    import json

    scores = json.loads((tmp_path / "scores.json").read_text())["held-out"]
    assert set(scores) == {"two:MQ", "two:VQ", "smoothness"}
    assert np.shape(scores["two:VQ"]["policy"]) == (6, 2)


def test_a_folder_of_clips_comes_back_bit_for_bit(tmp_path):
    save_samples(tmp_path, [ClipSample(prompt="a", seed=k, clip=pan(k)) for k in range(2)])
    back = load_samples(tmp_path)
    assert [(one.prompt, one.seed, one.clip.fps) for one in back] == [("a", 0, 6.0), ("a", 1, 6.0)]
    assert all(np.array_equal(one.clip.frames, pan(k).frames) for k, one in enumerate(back))
