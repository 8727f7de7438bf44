"""A check for data whose answers are code: `function: "explore_async.running.code_check:python"` of `checks`."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import warnings
from collections.abc import Iterator, Mapping

_FENCED = re.compile(r"\A\s*```(?:python|py)?[ \t]*\n(.*?)^```\s*\Z", re.DOTALL | re.MULTILINE)
_OF_MODULES = {"__name__", "__file__", "__doc__"}


def python(example: Mapping[str, str]) -> tuple[bool, str]:
    """Passes an output that is Python code, also in a fence of Markdown, with functions that do something, and without
    unknown names. Runs nothing.
    """
    text = example["output"]
    code = fenced[1] if (fenced := _FENCED.match(text)) else text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a text is sound code
            tree = ast.parse(code)
            names = symtable.symtable(code, "output", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        return False, f"no Python{f', line {line}' if line else ''}: {getattr(error, 'msg', error)}"
    functions = [part for part in ast.walk(tree) if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
    if not functions:
        return False, "no function"
    if empty := next(filter(_is_empty, functions), None):
        return False, f"{empty.name} does nothing"
    takes_any = any(isinstance(part, ast.ImportFrom) and part.names[0].name == "*" for part in ast.walk(tree))
    unknown = set() if takes_any else set(_globals(names)) - _defined(names) - set(dir(builtins)) - _OF_MODULES
    return not unknown, f"unknown: {', '.join(sorted(unknown))}" if unknown else ""


def _is_empty(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """True where its body is only words: a text, `pass`, `...`."""
    return all(
        isinstance(step, ast.Pass) or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
        for step in function.body
    )


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    """The names that the code uses and that belong to no function."""
    is_module = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (is_module or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _globals(inner)


def _defined(table: symtable.SymbolTable) -> set[str]:
    """The names that the module itself defines, and those that functions declare as global."""
    of_module = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    waiting = list(table.get_children())
    while waiting:
        inner = waiting.pop()
        of_module |= {symbol.get_name() for symbol in inner.get_symbols() if symbol.is_declared_global()}
        waiting += inner.get_children()
    return of_module
