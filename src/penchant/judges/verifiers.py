"""Verifiers: judges that know the right answer. One dimension, `right`, 1 or 0.

    verifier = ExactMatch.of(groups, marker="#")          # truths from extra["answer"] of the groups
    verifier = MathVerify("answers.jsonl")                # lines {"prompt": ..., "answer": ...}
    verifier = ReasoningGym({prompt: entry})              # entries as reasoning_gym gives them

`exact-match` is ours, `math-verify` the package of that name (LaTeX), `reasoning-gym` the scorer of each entry's data
set. The last two are checked in a process of their own (`verifier_process.py`), under a time-out: sympy can hang, and
a check that hangs is a 0, counted, in a process that is then replaced. What was checked once is not checked again.
"""

from __future__ import annotations

import importlib.util
import json
import queue
import selectors
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Float

from penchant.errors import FeedbackError, ModelError
from penchant.feedback.groups import Group, digest
from penchant.judges.answers import NUMBER, boxed, equal, marked
from penchant.judges.base import Judge
from penchant.judges.packages import version
from penchant.judges.texts import texts

_SCRIPT = Path(__file__).with_name("verifier_process.py")
# Seconds in which the package of a verifier is imported.
_STARTUP = 120.0
Truths = Mapping[str, Any] | str | None


@final
class ExactMatch(Judge):
    r"""1 if the answer of a text equals the truth.

    Ours: the answer is what follows the last `marker`, and a text without it has none, so that a trace cut short does
    not count by the number that it ends in. Without a marker it is the last `\boxed{...}`, else the last number where
    the truth is a number, else the last line that is not empty.
    """

    name, dimensions, verifies = "exact-match", ("right",), True

    def __init__(self, truths: Truths = None, *, marker: str | None = None) -> None:
        """
        Args:
            truths: the answer to each prompt, or a JSON-lines file of `prompt` and `answer`.
            marker: what the answer follows, e.g. "####".

        Raises:
            FeedbackError: the answers cannot be read.
        """
        self._truths, self.marker = _Table.of(truths, "answer"), marker
        self.version = f"1+{self._truths.version}" + (f"+{marker}" if marker else "")
        self.counts: Counter[str] = Counter()

    @classmethod
    def of(cls, groups: Iterable[Group], *, marker: str | None = None) -> ExactMatch:
        """The verifier of some groups, whose `extra["answer"]` is the truth."""
        return cls(_of_groups(groups, "answer"), marker=marker)

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> Float[np.ndarray, "N 1"]:
        """1 right, 0 not; `counts` grows by what was found.

        Raises:
            FeedbackError: a prompt has no known answer.
            ModelError: a sample is no text.
        """
        read = texts(samples, judge=self.name)
        found = [self._outcome(str(self._truths[p]), s) for p, s in zip(prompts, read, strict=True)]
        self.counts.update(found)
        return np.array([[float(outcome == "right")] for outcome in found]).reshape(-1, 1)

    def _outcome(self, truth: str, text: str) -> str:
        answer = boxed(text) if self.marker is None else marked(text, self.marker)
        if answer is None and self.marker is None:
            lines = text.strip().splitlines()
            answer = lines[-1] if lines and not NUMBER.fullmatch(truth.strip()) else text.strip() or None
        if answer is None:
            return "no answer"
        return "right" if equal(truth, answer) else "wrong"


@final
class MathVerify(Judge):
    """1 if `math_verify` finds the answer of a text mathematically equal to the truth; it reads LaTeX and numbers.

    A text may end its thought in several boxes: what stands in the last ones together is the answer. Needs
    `math-verify` (Apache-2.0).
    """

    name, dimensions, verifies = "math-verify", ("right",), True

    def __init__(self, truths: Truths = None, *, timeout: float = 5.0, processes: int = 1) -> None:
        """
        Args:
            truths: the answer to each prompt (LaTeX or a number), or a JSON-lines file of `prompt` and `answer`.
            timeout: seconds that a check may take.
            processes: how many checks run at a time.

        Raises:
            ModelError: the package is missing.
            FeedbackError: the answers cannot be read.
        """
        self._truths = _Table.of(truths, "answer")
        self.version = f"{_installed('math_verify', 'math-verify')}+{self._truths.version}"
        self._pool = _Pool("math-verify", timeout, processes)
        self.counts = self._pool.counts

    @classmethod
    def of(cls, groups: Iterable[Group], *, timeout: float = 5.0, processes: int = 1) -> MathVerify:
        """The verifier of some groups, whose `extra["answer"]` is the truth."""
        return cls(_of_groups(groups, "answer"), timeout=timeout, processes=processes)

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> Float[np.ndarray, "N 1"]:
        """1 right, 0 not; `counts` grows by what was found.

        Raises:
            FeedbackError: a prompt has no known answer, or it cannot be read as mathematics.
            ModelError: a sample is no text.
        """
        read = texts(samples, judge=self.name)
        return self._pool.score([(self._truths[p], s) for p, s in zip(prompts, read, strict=True)])

    def close(self) -> None:
        """Ends the processes; a later score starts them again."""
        self._pool.close()

    def __enter__(self) -> MathVerify:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@final
class ReasoningGym(Judge):
    r"""1 if the scorer of an entry's data set gives the answer full marks; it has partial marks for some (not kept).

    The answer is what follows the last `marker`; without a marker, what stands in the last `<answer>` tag, else in the
    last `\boxed{...}`, else the whole text. Needs `reasoning-gym` (Apache-2.0).
    """

    name, dimensions, verifies = "reasoning-gym", ("right",), True

    def __init__(
        self, truths: Truths = None, *, marker: str | None = None, timeout: float = 5.0, processes: int = 1
    ) -> None:
        """
        Args:
            truths: the entry of each prompt as the package gives it (`metadata.source_dataset` names the scorer), or a
                JSON-lines file of `prompt` and `entry`.
            marker: what the answer follows, e.g. "#".
            timeout: seconds that a check may take.
            processes: how many checks run at a time.

        Raises:
            ModelError: the package is missing.
            FeedbackError: the entries cannot be read.
        """
        self._truths, self.marker = _Table.of(truths, "entry"), marker
        installed = _installed("reasoning_gym", "reasoning-gym")
        self.version = f"{installed}+{self._truths.version}" + (f"+{marker}" if marker else "")
        self._pool = _Pool("reasoning-gym", timeout, processes)
        self.counts = self._pool.counts

    @classmethod
    def of(
        cls, groups: Iterable[Group], *, marker: str | None = None, timeout: float = 5.0, processes: int = 1
    ) -> ReasoningGym:
        """The verifier of some groups, whose `extra["entry"]` is the truth."""
        return cls(_of_groups(groups, "entry"), marker=marker, timeout=timeout, processes=processes)

    def score(self, prompts: Sequence[str], samples: Sequence[str]) -> Float[np.ndarray, "N 1"]:
        """1 right, 0 not; `counts` grows by what was found.

        Raises:
            FeedbackError: a prompt has no known entry, or its data set has no scorer.
            ModelError: a sample is no text.
        """
        read = texts(samples, judge=self.name)
        return self._pool.score([(self._truths[p], self._answer(s)) for p, s in zip(prompts, read, strict=True)])

    def close(self) -> None:
        """Ends the processes; a later score starts them again."""
        self._pool.close()

    def __enter__(self) -> ReasoningGym:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, text: str) -> str | None:
        if self.marker is not None:
            return marked(text, self.marker)
        _, tag, tagged = text.rpartition("<answer>")
        if tag and "</answer>" in tagged:
            return tagged.partition("</answer>")[0].strip()
        found = boxed(text)
        return text.strip() or None if found is None else found


class _Table:
    """The truth of each prompt."""

    def __init__(self, truths: Mapping[str, Any], file: str | None = None) -> None:
        if not truths:
            raise FeedbackError("there are no answers.", file=file, remedy="give the truth of each prompt.")
        self._truths, self._file = dict(truths), file
        self.version = digest(json.dumps(self._truths, sort_keys=True, default=str))[:12]

    @classmethod
    def of(cls, truths: Truths, field: str) -> _Table:
        if not isinstance(truths, str):
            return cls(truths or {})
        read: dict[str, Any] = {}
        try:
            for row, line in enumerate(Path(truths).read_text(encoding="utf-8").splitlines()):
                record = json.loads(line)
                _add(read, record["prompt"], record[field], file=truths, row=row)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, FeedbackError):
                raise
            remedy = f'one JSON object a line, {{"prompt": ..., "{field}": ...}}.'
            raise FeedbackError(f"holds no answers ({error}).", file=truths, remedy=remedy) from error
        return cls(read, truths)

    def __getitem__(self, prompt: str) -> Any:
        try:
            return self._truths[prompt]
        except KeyError:
            remedy = "give the truth of every prompt that is to be scored."
            raise FeedbackError(f"'{prompt[:80]}' has no known answer.", file=self._file, remedy=remedy) from None


def _of_groups(groups: Iterable[Group], field: str) -> dict[str, Any]:
    truths: dict[str, Any] = {}
    for row, group in enumerate(groups):
        if field not in group.extra:
            remedy = f'keep the truth in extra["{field}"].'
            raise FeedbackError("a group has no answer.", row=row, field=f"extra.{field}", remedy=remedy)
        _add(truths, group.prompt, group.extra[field], file=None, row=row)
    return truths


def _add(truths: dict[str, Any], prompt: str, truth: Any, *, file: str | None, row: int) -> None:
    if truths.setdefault(prompt, truth) != truth:
        raise FeedbackError(
            f"'{prompt[:80]}' has two different answers.", file=file, row=row, remedy="keep one of them."
        )


@final
class _Pool:
    """Checks (truth, answer) in processes, each pair once. `counts` holds every row scored, by its outcome."""

    def __init__(self, kind: str, timeout: float, processes: int) -> None:
        self.counts: Counter[str] = Counter()
        self._found: dict[str, str] = {}
        self._checkers: queue.Queue[_Checker] = queue.Queue()
        self._size = processes
        for _ in range(processes):
            self._checkers.put(_Checker(kind, timeout))

    def score(self, rows: Sequence[tuple[Any, str | None]]) -> Float[np.ndarray, "N 1"]:
        keys = [digest(json.dumps(truth, sort_keys=True, default=str), str(answer)) for truth, answer in rows]
        self._found.update({key: "no answer" for key, (_, answer) in zip(keys, rows, strict=True) if answer is None})
        unseen = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._found}
        with ThreadPoolExecutor(self._size) as pool:
            self._found.update(zip(unseen, pool.map(self._check, unseen.values()), strict=True))
        outcomes = [self._found[key] for key in keys]
        self.counts.update(outcomes)
        return np.array([[float(outcome == "right")] for outcome in outcomes]).reshape(-1, 1)

    def _check(self, row: tuple[Any, str | None]) -> str:
        checker = self._checkers.get()
        try:
            return checker.outcome(*row)
        finally:
            self._checkers.put(checker)

    def close(self) -> None:
        for checker in list(self._checkers.queue):
            checker.stop()


@final
class _Checker:
    """One process, started when it is needed and replaced when it hangs or dies."""

    def __init__(self, kind: str, timeout: float) -> None:
        self.kind, self.timeout = kind, timeout
        self._child: subprocess.Popen[bytes] | None = None

    def outcome(self, truth: Any, answer: str | None) -> str:
        """right, wrong, failed (the check raised), timed out or crashed."""
        child = self._started()
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps({"truth": truth, "answer": answer}, default=str).encode() + b"\n")
            child.stdin.flush()
            said = self._line(child, self.timeout)
        except BrokenPipeError:
            said = {}
        if said is None or not said:
            self.stop()
            return "timed out" if said is None else "crashed"
        if "unusable" in said:
            remedy = "correct the truth of this prompt."
            raise FeedbackError(f"{self.kind} cannot use the truth {truth!r:.200} ({said['unusable']}).", remedy=remedy)
        # Full marks come as 1.0 from every scorer; floats that were added up may fall short by rounding.
        return "failed" if "error" in said else "right" if said["score"] > 1 - 1e-9 else "wrong"

    def stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.stop()
        # -P: the neighbours of the script are named like packages.
        command = [sys.executable, "-P", str(_SCRIPT), self.kind, str(self.timeout)]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        self._child = child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null)
        said = self._line(child, _STARTUP)
        if not said or "error" in said:
            self.stop()
            reason = (said or {}).get("error", "it ended without a word")
            remedy = f"run it by hand: {' '.join(command)}"
            raise ModelError(f"the process of {self.kind} does not start ({reason}).", remedy=remedy)
        return child

    @staticmethod
    def _line(child: subprocess.Popen[bytes], timeout: float) -> dict[str, Any] | None:
        """The next line; {} at its end, None if there is none in time."""
        assert child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                return None
        return json.loads(child.stdout.readline() or b"{}")


def _installed(module: str, distribution: str) -> str:
    # Not imported here: that takes seconds, and the process that checks does it again.
    if importlib.util.find_spec(module) is None:
        raise ModelError(f"'{module}' is not installed.", remedy='pip install "penchant[reasoning]"')
    return version(distribution, None)
