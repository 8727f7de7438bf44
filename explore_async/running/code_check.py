"""A check for data whose answers are code: `function: "explore_async.running.code_check:python"` of `checks`."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping

_FENCED = re.compile(r"\A\s*```(?:python|py)?[ \t]*\n(.*?)^```\s*\Z", re.DOTALL | re.MULTILINE)


def python(example: Mapping[str, str]) -> tuple[bool, str]:
    """Passes an output that is Python code with a function in it, between marks of Markdown or not. Runs nothing."""
    text = example["output"]
    code = fenced[1] if (fenced := _FENCED.match(text)) else text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a text is sound code
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        return False, f"no Python{f', line {line}' if line else ''}: {getattr(error, 'msg', error)}"
    has_function = any(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in ast.walk(tree))
    return has_function, "" if has_function else "no function"
