"""The other end of `verifiers.py`: a process that checks one answer at a time, so that a check may hang or crash.

    python verifier_process.py math-verify|reasoning-gym SECONDS

Standard library and the named package only. `{"ready": true}` stands on stdout once the package is imported; then one
line of JSON in, `{"truth", "answer"}`, gives one line out: `{"score"}`, `{"error"}` if the check failed on the answer,
or `{"unusable"}` if there is no checking against that truth. An answer is written by a model under training, so it is
never run as code: scorers of reasoning-gym call `eval` and sympy's `parse_expr` on it, and both are replaced by ones
that know arithmetic alone.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

# Bytes of address space; sympy can ask for a number of any size.
_MEMORY = 4 * 2**30
# What an expression may name: variables of one letter, and functions and constants of school mathematics.
_NAME = r"[^\W\d](?:_?\d+)?|a?(?:sin|cos|tan)h?|sec|csc|cot|exp|log|ln|sqrt|[aA]bs|pi|oo"
_LITERAL = (ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Load)
_ARITHMETIC = (*_LITERAL, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)


class Unusable(Exception):
    """A truth that nothing can be checked against."""


def literal(source: str, *_: Any) -> Any:
    """`eval` of literals and arithmetic on them.

    Raises:
        ValueError: a name, a call or anything else stands in it.
    """
    tree = ast.parse(str(source).strip(), mode="eval")
    if not all(isinstance(node, _ARITHMETIC) for node in ast.walk(tree)):
        raise ValueError("refused: more than a literal.")
    return builtins.eval(compile(tree, "<answer>", "eval"), {"__builtins__": {}})


def refuse_code(source: object) -> None:
    """Sympy's parser evaluates Python: only signs, numbers, variables and known functions get there.

    Raises:
        ValueError: a quote, an attribute, a bracket or an unknown name stands in the expression.
    """
    text = str(source)
    known = all(re.fullmatch(_NAME, name) for name in re.findall(r"[^\W\d]\w*", text))
    if not known or not re.fullmatch(r"[\w\s+\-*/^().,=!]*", text) or re.search(r"\.\s*[^\W\d]", text):
        raise ValueError("refused: no expression of numbers, variables and known functions.")


def _guard_sympy() -> None:
    # Before the packages are imported: some take the name with them.
    import sympy
    import sympy.parsing
    from sympy.parsing import sympy_parser

    parse = sympy_parser.parse_expr

    def guarded(source: str, *arguments: Any, **options: Any) -> Any:
        refuse_code(source)
        return parse(source, *arguments, **options)

    for module in (sympy, sympy.parsing, sympy_parser):
        module.parse_expr = guarded


def math_verify_check() -> Callable[[Any, str], float]:
    """1 if `math_verify` finds the last answer of the text equal to the truth."""
    from math_verify import parse, verify

    def check(truth: Any, answer: str) -> float:
        text = str(truth)
        # A bare \frac{1}{2} is LaTeX to a reader and nothing to the parser.
        gold = parse(text if re.search(r"\$|\\boxed|\\\(|\\\[", text) else f"${text}$", parsing_timeout=None)
        if not gold:
            raise Unusable("no mathematics")
        return float(verify(gold, parse(answer, parsing_timeout=None), timeout_seconds=None))

    return check


def reasoning_gym_check() -> Callable[[Any, str], float]:
    """What the scorer of the entry's data set gives the answer, in [0, 1]."""
    import reasoning_gym

    for name, module in list(sys.modules.items()):
        if name.startswith("reasoning_gym."):
            module.__dict__["eval"] = literal

    scorers: dict[str, Callable[[str, Any], float]] = {}

    def check(truth: Any, answer: str) -> float:
        try:
            name = truth["metadata"]["source_dataset"]
            if name not in scorers:
                scorers[name] = reasoning_gym.get_score_answer_fn(name)
        except (KeyError, TypeError, ValueError) as error:
            raise Unusable(f"no scorer: {error}") from error
        given = float(scorers[name](answer, truth))
        # JSON has no tuples, and some scorers compare with one.
        return given if given == 1 else max(given, float(scorers[name](answer, _tuples(truth))))

    return check


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


CHECKS = {"math-verify": math_verify_check, "reasoning-gym": reasoning_gym_check}


def main(kind: str, seconds: float) -> None:
    """Answers until stdin closes."""
    # What packages print goes to stderr; only this file writes to the other end.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))

    def say(**content: Any) -> None:
        out.write(json.dumps(content) + "\n")
        out.flush()

    try:
        _guard_sympy()
        check = CHECKS[kind]()
    except ImportError as error:
        return say(error=str(error))
    say(ready=True)
    for line in sys.stdin:
        task = json.loads(line)
        # The other end kills what is late; this is for when it was killed itself, and nothing catches it.
        signal.alarm(math.ceil(2 * seconds) + 5)
        try:
            say(score=check(task["truth"], task["answer"]))
        except Unusable as error:
            say(unusable=str(error))
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}"[:500])
        signal.alarm(0)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
