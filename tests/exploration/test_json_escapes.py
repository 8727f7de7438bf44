r"""LaTeX in JSON comes back as it was meant, with one backslash or two, and nothing else changes."""

from __future__ import annotations

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.exploration.json_escapes import as_meant
from explore_async.exploration.parsing import ExampleDraft, parse_examples
from explore_async.exploration.values import Completion

CLEAR = [
    *(
        r"\frac",
        r"\beta",
        r"\bar",
        r"\rho",
        r"\right",
        r"\rangle",
        r"\theta",
        r"\times",
        r"\textbf",
        r"\nabla",
        r"\neq",
    ),
    *(r"\notin", r"\forall", r"\sqrt", r"\pm", r"\alpha"),
]
UNCLEAR = [r"\tan", r"\tau", r"\to", r"\nu", r"\ne", r"\ni", r"\not"]


def read(text: str) -> list[ExampleDraft]:
    items = parse_examples(Completion(text, "stop", 1, 1), "json")
    assert all(isinstance(item, ExampleDraft) for item in items), items
    return items  # type: ignore[return-value]


def raw(*outputs: str) -> str:
    """A document as a model writes it that forgets to double its backslashes."""
    examples = ",".join(
        f'{{"instruction":"Do {number}","output":"{output.replace(chr(34), chr(92) + chr(34))}"}}'
        for number, output in enumerate(outputs)
    )
    return f'{{"examples":[{examples}]}}'


def outputs(text: str) -> list[str]:
    return [draft.output for draft in read(text)]


pieces = st.sampled_from(["{2}", "_n", "^{10}", " ", " x ", "(3)", "=", " seven words", ' "so"', " & ", ", "])


@given(
    st.lists(st.tuples(st.sampled_from([*CLEAR, *UNCLEAR, "\\(", "\\)", "\\{", "\\,"]), pieces), min_size=1, max_size=8)
)
def test_latex_with_one_backslash(written: list[tuple[str, str]]) -> None:
    """Commands of all kinds, those with an escape of JSON as their beginning too, once one of them can be nothing else."""
    text = r"\frac12 " + "".join(command + piece for command, piece in written)
    assert outputs(raw(text, "plain")) == [text.strip(), "plain"]


words = st.sampled_from(
    [
        *CLEAR,
        *UNCLEAR,
        "\n",
        "\t",
        "\r\n",
        "\\\\\n",
        "$",
        "an apple",
        "u",
        "else",
        "return x",
        "x",
        " ",
        '"',
        "\\(",
        "/",
        "é🌍",
    ]
)


@given(st.lists(words, max_size=12).map("".join))
def test_properly_written_json_stays(text: str) -> None:
    """Whatever a program writes as JSON comes back equal: line breaks, tabs, code, commands with both backslashes. The
    one exception is a line that begins with the rest of a command's name, or a $ that makes mathematics of it.
    """
    if re.search(r"[\n\t](?:heta|imes|extbf|abla|eq|otin|rac)(?![A-Za-z])", text) or "$" in text:
        return
    text = text.strip()
    source = orjson.dumps({"examples": [{"instruction": "Do it", "output": f"a{text}z"}]}).decode()
    assert outputs(source) == [f"a{text}z"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"Compute $\tan x$ and $2 \nu$.", r"Compute $\tan x$ and $2 \nu$."),
        (r"Choose:\n1\tan apple\n2\ta pear\nu is left", "Choose:\n1\tan apple\n2\ta pear\nu is left"),
        (r"def f():\n\treturn 1\n\ttop = 2", "def f():\n\treturn 1\n\ttop = 2"),
        (r"It\'s a dog\'s life", "It's a dog's life"),
        (r"\\sqrt{2} \times \frac{1}{2}\nnext line", "\\sqrt{2} \\times \\frac{1}{2}\nnext line"),
        (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        (r"\begin{bmatrix}1&2\\3&4\\x&-1\end{bmatrix}", r"\begin{bmatrix}1&2\\3&4\\x&-1\end{bmatrix}"),
        (r"\begin{bmatrix}1&\\sqrt{2}\\-3&4\end{bmatrix}", r"\begin{bmatrix}1&\sqrt{2}\\-3&4\end{bmatrix}"),
        (r"\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
        (r"match \bword\b and \d+ in C:\\Users\\nancy", r"match \bword\b and \d+ in C:\Users\nancy"),
        (r"\\d+ or \bword", r"\d+ or \bword"),
        (r"caf\u00e9 but \underline{x} and \u03b8", r"café but \underline{x} and θ"),
        (r"one\r\ntwo", "one\r\ntwo"),
        (r"$5\nu and $6", "$5\nu and $6"),
        (r"\text{if } x \neq 0", r"\text{if } x \neq 0"),
        (r"echo a \ && b", r"echo a \ && b"),
    ],
)
def test_what_a_model_meant(written: str, meant: str) -> None:
    """Mathematics, code, tables, prose, regular expressions: each as a model writes it in a JSON string."""
    assert outputs(f'{{"examples":[{{"instruction":"Do it","output":"{written}"}}]}}') == [meant]


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Sure:\n{}\nDone.", "<think>\\frac</think>{}", "{},"])
def test_it_is_mended_in_any_wrapping(around: str) -> None:
    """Also where the document is not the whole text, and where it is cut behind the first example."""
    text = around.replace("{}", raw(r"\(x = \frac{1}{2}\)", r"2 \times 3"))
    assert outputs(text) == [r"\(x = \frac{1}{2}\)", r"2 \times 3"]


def test_what_needs_no_mending_is_the_same_object() -> None:
    """A document without a doubtful escape is not copied."""
    source = orjson.dumps({"a": 'one\ntwo\t3 \\frac \\\\ "x"'}).decode()
    assert as_meant(orjson.dumps({"a": "one\ntwo"}).decode()) is not None
    assert orjson.loads(as_meant(source)) == orjson.loads(source)
