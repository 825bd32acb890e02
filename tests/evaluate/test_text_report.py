"""The report of texts: whatever a model wrote is text and nothing else, and the page says texts and prompts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from penchant.errors import PenchantError
from penchant.evaluate import (
    Drift,
    Passage,
    PolicyResult,
    ReportData,
    SequenceKL,
    TextPair,
    TextRow,
    measure,
    sentence,
    text_form,
    verdict,
    write_report,
)
from penchant.evaluate.alarms import find_alarms
from penchant.evaluate.passages import MOST
from penchant.feedback.groups import Prompt
from penchant.models.completion import Completion

ATTACKS = (
    "<script>alert('x')</script>",
    '"><img src=x onerror=alert(1)>',
    "</div></figure></main></body><iframe src=javascript:alert(1)>",
    "</style><style>*{display:none}</style>",
    "<!-- unclosed",
    "&lt;script&gt; &#60;script&#62;",
    "\u202eevil\u202d \x1b[31mred\x07 \x00 \ud800",
    "{{7*7}} ${7*7} <%= 7*7 %>",
    "]]>><![CDATA[<script>alert(1)</script>",
)


class Page(HTMLParser):
    """Elements with their attributes, and the text of each element by class."""

    VOID = frozenset({"meta", "img", "br", "col"})

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict]] = []
        self.elements: list[tuple[str, dict]] = []
        self.by_class: dict[str, list[str]] = {}
        self.text: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))
            self.by_class.setdefault(dict(attrs).get("class") or "", []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] != "style":
            self.text.append(data)
            self.by_class[self.open[-1][1].get("class") or ""][-1] += data


def shown(text: str) -> str:
    return "".join(
        c if c in "\n\t" or (c >= " " and c != "\x7f" and not "\ud800" <= c <= "\udfff") else "\ufffd" for c in text
    )


def pair(text: str = "It is a fox.", prompt: Prompt | None = None, **fields) -> TextPair:
    before = Passage(text="A fox.", label="base", score=0.1, tokens=3)
    after = Passage(**{"text": text, "label": "DPO", "score": 0.2, "tokens": 12, **fields})
    return TextPair(prompt=prompt or Prompt(text="What is red?"), seed=0, before=before, after=after)


def policy(gain: float = 0.5, **fields) -> PolicyResult:
    rng = np.random.default_rng(0)
    base, lengths = rng.normal(size=(60, 2)), rng.integers(50, 90, size=(60, 2))
    row = measure(
        base + gain + rng.normal(size=base.shape),
        base,
        policy="DPO",
        judge="kind",
        role="held out",
        captions="held-out",
        modality="text",
        lengths=(lengths + rng.integers(-30, 40, size=(60, 2)), lengths),
    )
    return PolicyResult(name="DPO", evidence=(row,), **fields)


def written(tmp_path, *exhibits, result: PolicyResult | None = None) -> str:
    data = ReportData(title="t", base="the base", policies=(result or policy(),), exhibits=exhibits)
    return write_report(tmp_path, data).read_text(encoding="utf-8")


def plain(page: Page) -> str:
    return " ".join(" ".join(page.text).split()).replace("\u202f", " ")


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_text_is_shown_letter_by_letter_and_does_nothing(tmp_path, attack):
    conversation = Prompt(text=attack, messages=({"role": attack, "content": attack},), opening=attack)
    content = written(tmp_path, pair(attack, conversation, label=attack), pair(attack, Prompt(text=attack)))
    harmless = Page(written(tmp_path, pair("a", Prompt(text="b")), pair("a", conversation)))
    page = Page(content)
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in harmless.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "script" not in {tag for tag, _ in page.elements}
    assert {v for _, a in page.elements for k, v in a.items() if k in ("src", "href")} == set()
    texts = page.by_class["words"]
    assert texts.count(shown(attack)) == 2
    assert page.by_class["opening"].count(shown(attack)) == 2
    assert page.by_class["prompt"].count(shown(attack)) == 2
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", content)


def test_every_text_is_isolated_in_its_direction(tmp_path):
    page = Page(written(tmp_path, pair("\u202eabc")))
    boxes = [attributes for _, attributes in page.elements if attributes.get("class") in ("words", "prompt")]
    assert len(boxes) == 3
    assert all(attributes.get("dir") == "auto" for attributes in boxes)


def test_line_breaks_stay_and_very_long_texts_are_cut_with_a_word(tmp_path):
    page = Page(written(tmp_path, pair("one\n\ttwo\n"), pair("x" * (MOST + 1234))))
    assert "one\n\ttwo\n" in page.by_class["words"]
    assert max(map(len, page.by_class["words"])) == MOST
    assert "1 234 more characters" in plain(page)


def test_the_preferred_text_is_marked_and_the_facts_stand_beside_it(tmp_path):
    def marked(before: float | None, after: float | None) -> list[str]:
        both = TextPair(
            prompt=Prompt(text="?"),
            seed=0,
            before=Passage(text="a", label="base", score=before),
            after=Passage(text="b", label="DPO", score=after),
        )
        return re.findall(r'class="passage preferred"><p class="label"><span>(\w+)', written(tmp_path, both))

    assert marked(0.1, 0.2) == ["DPO"]
    assert marked(0.2, 0.1) == ["base"]
    assert marked(0.2, 0.2) == marked(None, 0.2) == []
    page = Page(written(tmp_path, pair(finished=False)))
    assert "12 tokens · unfinished · 0.200" in page.by_class["score"]
    assert "3 tokens · 0.100" in page.by_class["score"]


def test_a_conversation_shows_who_said_what(tmp_path):
    turns = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"})
    page = Page(written(tmp_path, pair(prompt=Prompt(text="x", messages=turns))))
    assert page.by_class["role"] == ["system", "user"]
    assert page.by_class["prompt"] == ["Be brief.", "Hello?"]


def test_an_empty_text_is_said_to_be_empty(tmp_path):
    words = plain(Page(written(tmp_path, pair(""), pair("  \n"))))
    assert "(empty)" in words
    assert "(spaces only)" in words


def test_several_policies_stand_beside_one_base_and_a_row_refuses_a_preferred_text_that_it_lacks(tmp_path):
    passages = tuple(Passage(text=f"text {i}", label=f"p{i}") for i in range(4))
    page = Page(written(tmp_path, TextRow(prompt=Prompt(text="?"), seed=1, passages=passages, preferred=2)))
    assert [text for text in page.by_class["words"] if text] == [f"text {i}" for i in range(4)]
    with pytest.raises(PenchantError, match="preferred"):
        TextRow(prompt=Prompt(text="?"), seed=1, passages=passages, preferred=4)


def test_a_report_of_texts_speaks_of_texts_and_prompts(tmp_path):
    samples = [Completion(text="a b", tokens=(1, 2), finished=True)] * 4
    result = policy(
        form=text_form(samples, samples, seeds=2),
        drift=Drift(feature_cosine=0.2, kl=SequenceKL(nats=12.34, error=0.52, per_token=0.081, texts=120)),
    )
    words = plain(Page(written(tmp_path, pair(), result=result)))
    assert "picture" not in words
    assert "caption" not in words
    for part in (
        "Held-out prompts",
        "the text that the judge prefers",
        "60 prompts",
        "At equal length",
        "12.3 ± 0.52",
        "0.0810",
        "Cut off at the limit of tokens",
        "nothing of the base’s text",
    ):
        assert part in words
    assert "pixel" not in words.lower()


def test_the_verdict_and_the_line_say_what_is_left_at_equal_length():
    (row,) = policy().evidence
    assert row.controlled is not None
    said = verdict("DPO", "the base", [row]).sentence
    assert said.startswith("DPO is better than the base")
    assert f"At equal length it would be preferred in {100 * row.controlled.rate:.1f}" in said
    line = sentence(row.record())
    assert line.startswith("held-out prompts, kind (held out): wins ")
    assert line.endswith(
        f"at equal length {100 * row.controlled.rate:.1f} % "
        f"[{100 * row.controlled.low:.1f}, {100 * row.controlled.high:.1f}]"
    )


def test_without_independent_evidence_the_alarm_asks_for_prompts():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40, 1))
    row = measure(scores, scores + 1, policy="a", judge="b", role="held out", captions="seen", modality="text")
    assert "held-out prompts" in find_alarms([row])[0].sentence


def test_rows_of_pictures_keep_the_record_that_they_had():
    scores = np.random.default_rng(0).normal(size=(40, 1))
    row = measure(scores, scores, policy="a", judge="b", role="held out", captions="seen")
    assert list(row.record()) == ["policy", "judge", "role", "captions", "win", "gain"]
    assert sentence(row.record()).startswith(
        "seen     captions, b (held out): wins 50.0 % [50.0, 50.0] over 40 prompts"
    )
