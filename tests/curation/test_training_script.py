"""train.py says what it would cut. Its functions run here as they are; TRL itself is too large for this environment."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.curation.training_script import training_script

COUNTS = st.lists(st.integers(1, 3000).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))), min_size=1)  # fmt: skip


def functions() -> dict:
    """The functions of the script, without the imports of libraries that are not here."""
    tree = ast.parse(training_script(validated=False))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    found: dict = {}
    exec(compile(tree, "train.py", "exec"), found)  # noqa: S102 - our own script
    return found


FUNCTIONS = functions()


class Tokenizer:
    """A chat template with a mark around each turn, and a token for each word."""

    def apply_chat_template(self, messages, *, tools, tokenize, add_generation_prompt):
        assert not tokenize
        begun = [f"begin-{turn['role']} {turn['content']} end" for turn in messages]
        return " ".join(
            [*(["tools"] if tools else []), *begun, *(["begin-assistant"] if add_generation_prompt else [])]
        )

    def __call__(self, text, *, add_special_tokens):
        assert not add_special_tokens  # the template has them
        return {"input_ids": text.split()}


@pytest.mark.parametrize("validated", [False, True])
def test_it_is_a_program(validated: bool) -> None:
    """It compiles, and evaluates after each epoch only where there is something to evaluate on."""
    script = training_script(validated=validated)
    ast.parse(script)
    assert ('eval_strategy: str = "epoch"' in script) == validated


def test_tokens_are_counted_as_the_template_writes_them() -> None:
    """Those of the prompt, with the beginning of the answer's turn; and of all of it. Tools count."""
    count = FUNCTIONS["count_tokens"]
    asked = [
        {"role": "user", "content": "a b"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    answer = [{"role": "assistant", "content": "e f g"}]
    assert count({"prompt": asked, "completion": answer}, Tokenizer()) == (11, 15)
    assert count({"prompt": asked, "completion": answer, "tools": [{}]}, Tokenizer()) == (12, 16)


def test_each_answer_of_a_conversation_is_a_completion() -> None:
    """With all that was said before it as its prompt, and the tools: TRL would learn the turns of users, too."""
    turns = [{"role": role, "content": text} for role, text in (("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))]  # fmt: skip
    assert FUNCTIONS["answers_of"]({"messages": turns, "tools": [1]}) == [
        {"prompt": turns[:2], "completion": turns[2:3], "tools": [1]},
        {"prompt": turns[:4], "completion": turns[4:], "tools": [1]},
    ]


@given(counts=COUNTS, most=st.integers(16, 1024))
def test_what_is_cut_is_told(counts: list[tuple[int, int]], most: int) -> None:
    """The number of rows that are too long, of those without an answer, and what larger lengths cut, down to none."""
    told = FUNCTIONS["report_cuts"](counts, most)
    cut = [whole for _, whole in counts if whole > most]
    if not cut:
        assert told == f"All {len(counts):,} rows fit into max_length {most:,}."
        return
    assert told.startswith(f"{len(cut):,} of {len(counts):,} rows are longer than max_length {most:,}.")
    lost = sum(prompt >= most for prompt, _ in counts)
    assert (f"{lost:,} of them have no token of their answer left" in told) == bool(lost)
    assert f"--max_length {2 * most} cuts {sum(whole > 2 * most for whole in cut):,}" in told
    assert told.endswith(" cuts 0.")
