"""The doctor looks at clips: what stands still, what is the same, what its table states otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from clip_layouts import pair_row, videoalign, write_csv

from clip_fixtures import encoded, pan, sound, still, zoom
from penchant.feedback import Candidate, Clip, Group, Judgement, Media, doctor, encode_clip, read


def group(first: Clip, second: Clip, *, prompt: str = "a face", **values: tuple[float, float]) -> Group:
    judgements = tuple(Judgement(kind="pair", dimension=k, values=v) for k, v in (values or {"MQ": (1, 0)}).items())
    sides = tuple(Candidate(media=Media.of(encode_clip(clip))) for clip in (first, second))
    return Group(prompt=prompt, candidates=sides, judgements=judgements)


def test_sizes_and_rates_are_told(tmp_path):
    diagnosis = doctor(videoalign(tmp_path))
    assert diagnosis["clips"].message == "4 clips decoded in 1 shapes: 64x64, 12 frames at 12 a second (4)."
    assert {"static clips", "stated rates", "duplicate clips", "broken clips", "image sizes"}.isdisjoint(
        finding.name for finding in diagnosis.findings
    )
    assert diagnosis.exit_code == 0


def test_every_dimension_has_its_ties_and_its_first_place():
    groups = [group(pan(k), zoom(k), prompt=f"p{k}", MQ=(1, 0), TA=(0.5, 0.5) if k < 6 else (0, 1)) for k in range(12)]
    diagnosis = doctor(groups)
    told = diagnosis["dimensions"].details["dimensions"]
    assert (told["MQ"]["judged"], told["MQ"]["ties"], told["MQ"]["first_wins"]) == (12, 0, 1)
    assert told["MQ"]["p"] == pytest.approx(2 * 0.5**12)
    assert (told["TA"]["ties"], told["TA"]["first_wins"]) == (0.5, 0)
    assert diagnosis["dimensions"].severity == "warning"
    assert "MQ" in diagnosis["dimensions"].remedy
    assert "TA" not in diagnosis["dimensions"].remedy
    assert "ties" not in diagnosis  # nobody judged the whole, so nothing is missing there


def test_where_pairs_were_compared_and_clips_rated_the_comparisons_count():
    rated = Judgement(kind="score", dimension="MQ", values=(1.0, 5.0), source="simulated:likert")
    diagnosis = doctor([group(pan(), zoom(), MQ=(1, 0)).judged(rated)])
    assert diagnosis["dimensions"].details["dimensions"]["MQ"]["first_wins"] == 1
    only = Group(prompt="p", candidates=group(pan(), zoom()).candidates, judgements=(rated,))
    assert doctor([only])["dimensions"].details["dimensions"]["MQ"]["first_wins"] == 0


def test_overall_judgements_alone_have_no_dimensions():
    assert "dimensions" not in doctor([group(pan(), zoom(), overall=(1, 0))])


def test_clips_that_stand_still_and_what_they_win():
    groups = [group(still(k), pan(k), prompt=f"p{k}", MQ=(1, 0), VQ=(0.5, 0.5)) for k in range(3)]
    groups += [group(pan(8), still(8), prompt="p8", MQ=(1, 0)), group(still(5), still(6), prompt="p9", MQ=(1, 0))]
    finding = doctor(groups)["static clips"]
    assert (finding.count, finding.details["wins"], finding.details["decided"]) == (6, 3, 4)
    assert finding.severity == "warning"
    assert "dynamic degree" in finding.remedy


def test_hardly_visible_noise_is_no_motion():
    noisy = still().frames.astype(int) + np.random.default_rng(0).integers(0, 2, still().frames.shape)
    clip = Clip(frames=noisy.clip(0, 255).astype(np.uint8), fps=6.0)
    assert doctor([group(clip, pan())])["static clips"].count == 1


def test_the_same_clip_in_two_files_is_found():
    clip = pan(side=64)
    files = [Media.of(encode_clip(clip)), Media.of(encoded(clip, "matroska", "ffv1", pixels="bgr0"))]
    assert files[0].sha256 != files[1].sha256
    sides = tuple(Candidate(media=one) for one in files)
    pair = Group(prompt="p", candidates=sides, judgements=(Judgement(kind="pair", values=(1, 0)),))
    diagnosis = doctor([pair])
    assert diagnosis["same clip on both sides"].details["groups"] == [pair.id]
    assert diagnosis["duplicate clips"].details["files"] == [sorted(one.sha256 for one in files)]
    other = doctor([group(pan(side=64), pan(side=64, step=3))])
    assert "same clip on both sides" not in other
    assert "duplicate clips" not in other


@pytest.mark.parametrize(("changes", "found"), [({"fps_A": 24}, 1), ({"num_frames_B": 121}, 1), ({"fps_A": 12.01}, 0)])
def test_a_table_that_states_another_rate_is_told(changes, found, tmp_path):
    videoalign(tmp_path)
    diagnosis = doctor(write_csv(tmp_path / "other.csv", [pair_row() | changes]))
    assert ("stated rates" in diagnosis) == bool(found)
    if found:
        assert diagnosis["stated rates"].count == found


def test_clips_that_do_not_decode_are_errors():
    broken = Media.of(sound())
    pair = group(pan(), zoom())
    bad = Group(prompt="p", candidates=(Candidate(media=broken), pair.candidates[1]), judgements=pair.judgements)
    diagnosis = doctor([pair, bad])
    assert diagnosis["broken clips"].count == 1
    assert "sound and no picture" in diagnosis["broken clips"].message
    assert diagnosis.exit_code == 1
    assert "broken clips" not in doctor([pair, bad], images=0)


def test_reading_says_what_the_doctor_says(tmp_path):
    feedback = read(videoalign(tmp_path))
    assert doctor(feedback).summary().splitlines()[0].endswith("2 rows read, 2 kept, 0 refused")
