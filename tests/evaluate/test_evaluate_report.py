"""The report: one file, no network, nothing of a prompt runs, and it says what the numbers say."""

from __future__ import annotations

import base64
import math
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from penchant.errors import MediaError, PenchantError
from penchant.evaluate import (
    Alarm,
    Curve,
    Diversity,
    Drift,
    ImagePair,
    ImageRow,
    Picture,
    PolicyResult,
    Reading,
    ReadingReason,
    ReportData,
    Timing,
    measure,
    write_report,
)
from penchant.evaluate.charts import Line, interval_glyph, line_chart, ticks
from penchant.evaluate.figures import duration, number, size
from penchant.evaluate.markup import Markup, el

ATTACK = "<script>alert('x')</script> \"><img src=x onerror=alert(1)> & </title></style></svg>\x00\ud800"


class Page(HTMLParser):
    """Elements, their attributes and their text; complains of tags that do not balance."""

    VOID = frozenset({"meta", "img", "br", "col", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def picture(seed: int, side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def policy(name: str, gain: float, **fields) -> PolicyResult:
    rng = np.random.default_rng(len(name))
    base = rng.normal(size=(60, 2))
    rows = tuple(
        measure(
            base + shift + 0.3 * rng.normal(size=base.shape),
            base,
            policy=name,
            judge=judge,
            role=role,
            captions=captions,
        )
        for judge, role, shift in (("Kind & fair", "held out", gain), ("Proxy", "trained against", 0.5))
        for captions in ("seen", "held-out")
    )
    return PolicyResult(name=name, evidence=rows, **fields)


def full(name: str = "MaPO", gain: float = 0.4) -> PolicyResult:
    steps = tuple(range(1, 301))
    values = tuple(math.exp(-s / 100) for s in steps)
    return policy(
        name,
        gain,
        alarms=(Alarm(name="winner drift", severity="warning", sentence="It fell by <1>.", remedy="Raise beta."),),
        diversity=Diversity(value=0.2, space="features", prompts=60, seeds=2),
        drift=Drift(pixel_mse=0.02, log_ratio=-0.004),
        curves={
            "loss": Curve(steps=steps, values=values),
            "drift/chosen": Curve(steps=steps, values=(math.nan,) * 300),
        },
        timing=Timing(
            seconds=192, cpu_seconds=360, peak_bytes=1.83e9, pairs_per_second=11.6, stages=(("train", 150.0),)
        ),
        recipe_toml='[objective]\nname = "mapo" # <b>\n',
    )


def data(*policies: PolicyResult, **fields) -> ReportData:
    pair = ImagePair(
        prompt=ATTACK,
        seed=3,
        before=Picture(image=picture(0, 64), label="base", score=0.1),
        after=Picture(image=picture(1, 600), label=ATTACK, score=0.2),
    )
    reason = ReadingReason(fate="refused", reason=ATTACK, count=12, example=ATTACK)
    given = {
        "title": ATTACK,
        "base": "the base",
        "policies": policies or (full(),),
        "base_diversity": Diversity(value=0.4, space="features", prompts=60, seeds=2),
        "exhibits": (pair,),
        "reading": Reading(kept=1188, repaired=3, refused=12, reasons=(reason,)),
        "rerun": (f"penchant align '{ATTACK}'",),
        "citations": ("Hong et al., arXiv:2406.06424. https://example.org/paper",),
        "facts": (("seed", "0"),),
    }
    return ReportData(**{**given, **fields})


def written(tmp_path, report: ReportData) -> str:
    path = write_report(tmp_path / "run", report)
    assert path.name == "report.html"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def text(page: Page) -> str:
    return " ".join(" ".join(page.text).split()).replace("\u202f", " ")


def test_tags_balance_and_the_parts_are_there(tmp_path):
    page = Page(written(tmp_path, data()))
    words = text(page)
    for part in (
        "Evidence",
        "Alarms",
        "Before and after",
        "Training",
        "Drift and diversity",
        "The data, as read",
        "Cost",
    ):
        assert part in words
    for part in ("1 188 records kept", "3 min 12 s", "1.83 GB", "11.6", "50.0 %", "Raise beta.", 'name = "mapo" # <b>'):
        assert part in words


def test_a_hostile_prompt_is_text_and_nothing_else(tmp_path):
    content = written(tmp_path, data())
    page = Page(content)
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in content
    assert not {"script", "iframe", "link", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "\x00" not in content
    assert "<script>alert('x')</script>" in text(page)


def test_nothing_is_fetched(tmp_path):
    content = written(tmp_path, data())
    page = Page(content)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "@import" not in content
    assert "url(" not in content
    assert content.count("http://") + content.count("https://") == 1  # the citation's text
    policies = [a["content"] for tag, a in page.elements if tag == "meta" and "content-security" in str(a).lower()]
    assert "default-src 'none'" in policies[0]


def test_pictures_are_inside_scaled_and_small_ones_lossless(tmp_path):
    page = Page(written(tmp_path, data()))
    small, large = [attributes for tag, attributes in page.elements if tag == "img"]
    assert small["src"].startswith("data:image/png")
    decoded = Image.open(BytesIO(base64.b64decode(small["src"].split(",")[1])))
    assert (np.asarray(decoded) == np.asarray(picture(0, 64))).all()
    assert large["src"].startswith("data:image/webp")
    assert (large["width"], large["height"]) == ("512", "512")


def test_the_judges_preference_is_marked(tmp_path):
    def marked(before: float | None, after: float | None) -> list[str]:
        pair = ImagePair(
            prompt="fox",
            seed=0,
            before=Picture(image=picture(0, 8), label="base", score=before),
            after=Picture(image=picture(1, 8), label="MaPO", score=after),
        )
        content = written(tmp_path, data(exhibits=(pair,)))
        return re.findall(r'class="picture preferred"><img [^>]*alt="(\w+): fox"', content)

    assert marked(0.1, 0.2) == ["MaPO"]
    assert marked(0.2, 0.1) == ["base"]
    assert marked(0.2, 0.2) == marked(None, 0.2) == []


def test_the_verdict_is_as_honest_as_its_interval(tmp_path):
    assert "MaPO is better than the base" in text(Page(written(tmp_path, data(policy("MaPO", 0.4)))))
    words = text(Page(written(tmp_path, data(policy("MaPO", 0.0)))))
    assert "MaPO is not better than the base on this evidence" in words
    assert "includes 50 %" in words
    assert "is not known" in text(Page(written(tmp_path, data(PolicyResult(name="MaPO")))))


def test_several_policies_stand_beside_one_base(tmp_path):
    row = ImageRow(
        prompt="fox", seed=0, pictures=tuple(Picture(image=picture(i, 8), label=str(i)) for i in range(4)), preferred=2
    )
    policies = (full("MaPO"), full("DPO", -0.4), policy("SFT", 0.0))
    page = Page(written(tmp_path, data(*policies, exhibits=(row,))))
    words = text(page)
    for sentence in ("MaPO is better than", "DPO is worse than", "SFT is not better than"):
        assert sentence in words
    assert "300 values not finite, left out" in text(Page(written(tmp_path, data())))
    assert "Resolved recipe of DPO" in words
    evidence = [attributes for tag, attributes in page.elements if attributes.get("class") == "glyph" and tag == "svg"]
    assert len(evidence) == 1 + 3 * 4  # the scale, and every policy's four rows
    assert {"line s0", "line s1", "line s2"} <= {attributes.get("class") for _, attributes in page.elements}


def test_trained_and_held_out_judges_are_marked_and_held_out_comes_first(tmp_path):
    words = text(Page(written(tmp_path, data(policy("MaPO", 0.1)))))
    held, seen = words.index("Held-out captions"), words.index("Captions seen in training")
    assert held < words.index("Kind & fair held out", held) < words.index("Proxy trained against", held) < seen


def test_the_same_data_gives_the_same_bytes(tmp_path):
    assert written(tmp_path / "a", data()) == written(tmp_path / "b", data())


def test_an_empty_report_is_still_a_page(tmp_path):
    words = text(
        Page(written(tmp_path, ReportData(title="Nothing yet", base="the base", policies=(PolicyResult(name="MaPO"),))))
    )
    assert "No judge has scored this run's samples." in words
    assert "Training" not in words


def test_a_picture_that_is_none_is_refused_and_leaves_no_page(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"GIF89a not a picture")
    pair = Picture(image=tmp_path / "bad.png", label="base")
    with pytest.raises(MediaError, match=r"bad\.png"):
        write_report(tmp_path / "run", data(exhibits=(ImageRow(prompt="x", seed=0, pictures=(pair,)),)))
    assert not (tmp_path / "run").exists()


def test_reports_refuse_mixed_up_policies():
    with pytest.raises(PenchantError, match="named"):
        data(policy("MaPO", 0.1), policy("MaPO", 0.1))
    with pytest.raises(PenchantError, match="carries evidence"):
        data(PolicyResult(name="DPO", evidence=policy("MaPO", 0.1).evidence))
    with pytest.raises(PenchantError, match="preferred"):
        ImageRow(prompt="x", seed=0, pictures=(Picture(image=picture(0, 8), label="a"),), preferred=1)


def test_elements_escape_text_and_keep_markup():
    assert el("p", "a < b", Markup("<i>c</i>"), None, class_='"x"') == '<p class="&quot;x&quot;">a &lt; b<i>c</i></p>'
    assert el("img", alt="a", hidden=False, width=3) == '<img alt="a" width="3">'


def test_ticks_are_round_and_inside():
    assert ticks(0, 1, 6) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.013, 0.002, 4) == [-0.01, -0.005, 0]
    assert ticks(1, 600, 5) == [200, 400, 600]


def test_charts_survive_spikes_gaps_and_single_points():
    spiky = [0.5] * 400 + [1e9] + [math.nan] * 3 + [0.6] * 400
    for values in (spiky, [1.0], [0.0, 0.0], [math.inf, 2.0], [-1e-12, 1e-12]):
        chart = line_chart(
            [Line(name="a", curve=Curve(steps=tuple(range(len(values))), values=tuple(values)))], label="x"
        )
        assert "<path" in chart
        assert not re.search(r"nan|inf", chart)
        assert all(-1 <= float(y) <= 237 for y in re.findall(r"[ML]\S+ (\S+?)(?=[L\"])", chart))
    assert "No finite value" in line_chart([Line(name="a", curve=Curve(steps=(1,), values=(math.nan,)))], label="x")


@pytest.mark.parametrize(("last", "shown"), [(15.0, False), (14.0, True)])
def test_counts_that_never_move_have_no_chart(tmp_path, last, shown):
    curve = Curve(steps=(1, 2), values=(15.0, last))
    page = written(tmp_path, data(policy("DDPO", 0.4, curves={"rollouts/steps": curve})))
    assert ("Tokens or transitions of a sample" in page) == shown


def test_one_spike_does_not_flatten_a_curve():
    values = [0.5 + 0.4 * i / 240 for i in range(240)]
    values[100] = 1e6
    chart = line_chart([Line(name="a", curve=Curve(steps=tuple(range(240)), values=tuple(values)))], label="x")
    assert ">0.6<" in chart
    assert ">0.8<" in chart


@pytest.mark.parametrize(("shift", "hollow"), [(2.0, False), (-2.0, False), (0.0, True)])
def test_the_dot_is_full_only_where_one_half_is_left_out(shift, hollow):
    alternating = np.where(np.arange(50)[:, None] % 2, 1.0, -1.0).repeat(2, axis=1)
    row = measure(alternating + shift, np.zeros((50, 2)), policy="a", judge="b", role="held out", captions="seen")
    assert ("hollow" in interval_glyph(row.win)) == hollow


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.00"),
        (0.21, "0.210"),
        (-0.00412, "\u22120.00412"),
        (0.000731, "7.31\u00b710\u207b\u2074"),
        (1234.5, "1\u202f234"),
        (0.9996, "1.000"),
        (None, "\u2014"),
        (math.inf, "\u221e"),
        (math.nan, "not a number"),
    ],
)
def test_numbers_read_as_in_print(value, shown):
    assert number(value) == shown


def test_times_and_sizes_read_as_people_say_them():
    assert duration(3.2) == "3.20 s"
    assert duration(59.99) == "60.0 s"
    assert duration(412.7) == "6 min 53 s"
    assert duration(7300) == "2 h 1 min"
    assert size(512) == "512 B"
    assert size(1.83e9) == "1.83 GB"
