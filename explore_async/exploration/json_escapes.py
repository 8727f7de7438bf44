r"""Mends the escapes of JSON that a model wrote: LaTeX with one backslash where JSON demands two.

JSON reads \frac as a form feed and "rac", \theta as a tab and "heta", and refuses \sqrt. Some escapes are never meant
(a backspace, a form feed, those that JSON does not have), and some words never begin a line ("eq", "abla"). Where "\nu"
or "\tan" may be either, the rest of the document decides: whether its other commands have one backslash or two.
"""

from __future__ import annotations

import re
from typing import Final

_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)  # without an end too: else quadratic in time
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)([A-Za-z]*)", re.DOTALL)
_IN_LINE: Final = re.compile(
    r"(?<!\$)\$(?![\s$])(?:[^$\\\n]|\\.){1,300}?(?<!\s)\$(?![\d$])|\\{1,2}\(.{1,300}?\\{1,2}\)", re.DOTALL
)
"""Mathematics within a line: there is neither a tab nor a line break."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ONLY_COMMANDS: Final = _names(
    """
    textbf textit textrm textsf texttt textsc textup textmd textnormal textstyle textcolor textwidth textsuperscript
    textsubscript textquotedblleft textquotedblright textgreater textless textbackslash textasciitilde texteuro
    tfrac tbinom theta times tilde triangle triangledown triangleleft triangleright triangleq therefore
    thickapprox thicksim thinspace thickspace tiny twoheadrightarrow twoheadleftarrow toprule thispagestyle
    nabla natural ncong nearrow neq nequiv newcommand newline ngeq ngeqslant nleftarrow nLeftarrow nleftrightarrow nleq
    nleqslant nobreak noindent nolimits nonumber notin nprec nRightarrow nrightarrow nsim nsubset nsubseteq nsucc
    nsupseteq nthroot nvdash nwarrow
    """
)
"""Commands that begin with t or n and leave no word when their first letter is taken for an escape."""
_PERHAPS_COMMANDS: Final = _names("tag tan tanh tau text to top ne neg nexists ni nless nmid norm not nparallel nu num")
"""Commands of which a word, a name or an abbreviation may be left: "\tan" is a tab and "an" too."""
_WITH_BRACES: Final = frozenset({"tag", "text", "norm", "num"})
_MAY_BE_WRONG: Final = re.compile(
    rf'\\(?:[^"\\/nt]|(?:{"|".join(sorted(_ONLY_COMMANDS | _PERHAPS_COMMANDS))})(?![A-Za-z]))'
)
_COMMAND: Final = re.compile(r"[A-Za-z]{2}|[A-Za-z][^A-Za-z&\s\\]|[()\[{}]")
"""The text after both backslashes of a command that is written properly; before a space they end a row of a matrix."""
_SPACE: Final = re.compile(r"\s|\\[nt]|&|\"|\Z")
_SINGLE_BEGIN: Final = re.compile(r"(?<!\\)\\begin\b")


def as_meant(source: str) -> str:
    """The JSON with escapes that are read as the model meant them. Properly written JSON stays as it is, but for lines
    that begin with the rest of a command's name.
    """
    if not _MAY_BE_WRONG.search(source.replace("\\\\", "  ")):
        return source
    single = double = False
    for escape in _ESCAPE.finditer(source):
        first, name = escape[1], escape[1] + escape[2]
        if first == "\\":
            double = double or bool(_COMMAND.match(source, escape.end(1)))
        elif not _is_plain(first, name):
            single = single or first not in "nt" or name in _ONLY_COMMANDS
    return _STRING.sub(lambda string: _mended(string[0], single=single, double=double), source)


def _mended(string: str, *, single: bool, double: bool) -> str:
    """`single`, `double`: commands elsewhere in the document have one backslash, two, or some one and some two."""
    if "\\" not in string:
        return string
    has_rows = _SINGLE_BEGIN.search(string) is not None
    in_line = [span.span() for span in _IN_LINE.finditer(string)] if single or double or "$" in string else []

    def mended(escape: re.Match[str]) -> str:
        whole, first, name = escape[0], escape[1], escape[1] + escape[2]
        if _is_plain(first, name):
            return whole.removeprefix("\\") if first == "'" else whole
        if first == "\\":
            behind = escape.end(1)
            ends_row = has_rows or (single and not double and _SPACE.match(string, behind))
            return f"\\\\{whole}" if ends_row and not _COMMAND.match(string, behind) else whole
        if first in "nt":
            is_command = name in _ONLY_COMMANDS or (
                name in _PERHAPS_COMMANDS
                and (
                    (single and not double)
                    or (name in _WITH_BRACES and string[escape.end() : escape.end() + 1] == "{")
                    or any(start < escape.start() < end for start, end in in_line)
                )
            )
            return f"\\{whole}" if is_command else whole
        return f"\\{whole}"

    return _ESCAPE.sub(mended, string)


def _is_plain(first: str, name: str) -> bool:
    """True for escapes without a command: of a quotation mark, a slash, a character by number, a line's end."""
    return len(first) > 1 or first in {'"', "/", "'"} or name == "r"
