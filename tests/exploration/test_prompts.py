"""Prompts: their content, its order, and the limits of templates."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted import recipe

from explore_async.errors import ConfigError
from explore_async.exploration.kinds import KINDS, kinds_of
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import AnswerSchema, ChatRequest, Demonstration, Prompt, Request
from explore_async.settings.recipe import Recipe

VALUES: dict[str, dict[str, Any]] = {
    "lookahead": {"existing": ("Prune roses",), "criteria": ("the plant",)},
    "backtrack": {"explored": ((0, "Sow seeds"), (1, "Sow beans")), "criteria": ("the plant",)},
    "facets": {"values": 6},
    "generate": {
        "facets": (),
        "demonstrations": (Demonstration("Name a herb", "for shade", "Mint."),),
        "topic": "birds",
        "style": "playful",
        "passage": "",
        "passage_name": "",
    },
    "answer": {"instruction": "Name a herb", "input": "for shade", "system": ""},
    "follow_up": {"messages": ({"role": "user", "content": "Name a herb"}, {"role": "assistant", "content": "Mint."})},
    "judge": {"instruction": "Name a herb", "input": "for shade", "output": "Mint.", "aspects": {"right": "no fault"}},
}
ABOUT_TASKS = ("lookahead", "backtrack", "facets", "generate")


def with_all(**changes: Any) -> Recipe:
    """A recipe whose run has requests of all kinds."""
    return recipe(**{"responses": "separate", "judge": {}, "turns": 2, "exploration": {"facets": 4}, **changes})


def request(kind: str, **values: Any) -> Request:
    common = {"domain": "Gardens", "description": "plants", "task": "Look after soil", "reason": "it feeds", "count": 3}
    return Request(0, 1, kind, "0.1", 0, Prompt(kind, {**common, **VALUES[kind], **values}), 42)


def text(settings: Recipe, kind: str, **values: Any) -> str:
    rendered = PromptBook(settings).render(request(kind, **values))
    return "\n".join(message["content"] for message in rendered.messages)


@pytest.mark.parametrize("kind", ABOUT_TASKS)
@pytest.mark.parametrize("answer_format", ["json", "text"])
@pytest.mark.parametrize("language", ["English", "Chinese"])
def test_a_prompt_says_all_it_is_made_of(kind: str, answer_format: str, language: str) -> None:
    """Task, reason, count, what there is already, the language and the form of the answer are in the prompt; a schema
    goes with JSON alone.
    """
    settings = with_all(answer_format=answer_format, language=language, responses="joint")
    rendered = PromptBook(settings).render(request(kind))
    assert [message["role"] for message in rendered.messages] == ["system", "user"]
    facets = (("the reader", "a child"), ("the length", "a sentence"))
    shown = text(settings, kind, **({"facets": facets} if kind == "generate" else {}))
    for part in ("Gardens", "plants", "Look after soil", "it feeds", " 3 "):
        assert part in shown
    for part in {"lookahead": ["Prune roses"], "backtrack": ["- Sow seeds", "  - Sow beans"],
                 "facets": ["6 values"],
                 "generate": ["the reader: a child; the length: a sentence.", "Name a herb", "for shade", "Mint.", "birds", "playful"]}[kind]:  # fmt: skip
        assert part in shown
    assert ("Write in Chinese" in shown) is (language == "Chinese")
    assert ("### End" in shown) is (answer_format == "text")
    assert ("JSON" in shown) is (rendered.answer_schema is not None) is (answer_format == "json")


@pytest.mark.parametrize("kind", ["lookahead", "backtrack"])
@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_a_criterion_is_asked_for_where_it_is_set(kind: str, answer_format: str) -> None:
    """The setting adds its own words, and its own part to the form, in both formats; without it nothing speaks of it."""
    for by_criterion in (False, True):
        lookahead = "criterion" if by_criterion else "names"
        settings = recipe(answer_format=answer_format, exploration={"lookahead": lookahead})
        shown = text(settings, kind).casefold()
        assert ("criterion" in shown) is ("the plant" in shown) is by_criterion
        if answer_format == "text":
            assert ("### criterion:" in shown) is by_criterion
            continue
        schema = PromptBook(settings).render(request(kind)).answer_schema
        assert schema is not None
        names = list(schema.schema["properties"])
        assert names == (["criterion", "tasks"] if by_criterion else ["tasks"])


@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_instructions_alone_are_asked_for_where_answers_are_separate(answer_format: str) -> None:
    """Neither the demonstrations nor the form show an output; a schema of instructions goes with JSON."""
    settings = with_all(answer_format=answer_format)
    shown = text(settings, "generate")
    for part in ("Gardens", "Look after soil", " 3 ", "Name a herb", "for shade", "birds", "playful"):
        assert part in shown
    assert "Mint." not in shown
    assert "output" not in shown.casefold()
    schema = PromptBook(settings).render(request("generate")).answer_schema
    assert (schema is None) is (answer_format == "text")
    assert schema is None or "output" not in str(schema.schema)


@pytest.mark.parametrize("system", ["", "You are a gardener."])
def test_an_answer_is_asked_for_as_a_user_would(system: str) -> None:
    """The instruction and its input, and nothing else but the system prompt of the domain, if it has one."""
    book = PromptBook(with_all())
    rendered = book.render(request("answer", system=system))
    user = {"role": "user", "content": "Name a herb\n\nfor shade"}
    assert list(rendered.messages) == ([{"role": "system", "content": system}, user] if system else [user])
    assert rendered.answer_schema is None
    alone = book.render(request("answer", input="", system=system))
    assert alone.messages[-1]["content"] == "Name a herb"


def test_a_later_answer_is_asked_for_with_what_was_said_before() -> None:
    """In the order in which it was said, so that the prefix cache holds all but the last question."""
    history = ({"role": "assistant", "content": "Mint."}, {"role": "user", "content": "And for sun?"})
    first = PromptBook(with_all()).render(request("answer")).messages
    assert PromptBook(with_all()).render(request("answer", history=history)).messages == (*first, *history)


def test_a_follow_up_is_asked_for_with_the_conversation() -> None:
    """Each turn with its speaker, the task, and the language that it is to be in."""
    shown = text(with_all(language="Chinese"), "follow_up")
    for part in (
        "Gardens",
        "Look after soil",
        "<user>\nName a herb\n</user>",
        "<assistant>\nMint.",
        "Write in Chinese",
    ):
        assert part in shown


@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_a_judge_sees_the_example_its_task_and_the_aspects(answer_format: str) -> None:
    """And its completion follows a schema where the server guides completions."""
    book = PromptBook(recipe(judge={"aspects": {"right": "no fault"}}, answer_format=answer_format))
    rendered = book.render(request("judge"))
    shown = "\n".join(message["content"] for message in rendered.messages)
    for part in ("Gardens", "Look after soil", "Name a herb", "for shade", "Mint.", '"right"', "no fault", "1 to 5"):
        assert part in shown
    assert (rendered.answer_schema is None) is (answer_format == "text")
    assert rendered.answer_schema is None or "right" in str(rendered.answer_schema.schema)


def common_start(one: str, other: str) -> str:
    return one[: sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))]


@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_what_never_changes_comes_first(answer_format: str) -> None:
    """Two generate prompts of a task are equal up to the topic, and those of two tasks up to their demonstrations and
    task: a server's prefix cache serves the rest.
    """
    settings = recipe(answer_format=answer_format)
    one, other = text(settings, "generate", topic="roses"), text(settings, "generate", topic="soil", style="plain")
    shared = common_start(one, other)
    assert shared == one[: one.index("roses")]
    assert len(shared) > 0.9 * len(one)
    sibling = text(settings, "generate", task="Water trees", reason="drought")
    assert "Mint." in common_start(one, sibling)
    system = {PromptBook(settings).render(request("generate", task=task)).messages[0]["content"] for task in "abc"}
    assert len(system) == 1


@given(st.text())
def test_values_are_text_and_nothing_else(value: str) -> None:
    """The name that a model gave a task is in the prompt as it is, with its braces and tags, and is never executed."""
    name = f"{{{{ 7 * 7 }}}} {{% if %}} <b>&amp;</b> {value} end"
    assert name in text(recipe(), "lookahead", task=name)


def test_inputs_may_be_left_out() -> None:
    """Without inputs neither the prompt, nor its demonstrations, nor the schema speak of them."""
    settings = recipe(generation={"inputs": False})
    rendered = PromptBook(settings).render(request("generate"))
    assert "for shade" not in text(settings, "generate")
    assert "input" not in text(settings, "generate").casefold()
    assert rendered.answer_schema is not None
    assert "input" not in str(rendered.answer_schema.schema)


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_of_ones_own_replaces_that_one_alone(kind: str) -> None:
    """The recipe's template is used for its kind, several parts in their order; the other kinds stay as they were."""
    shows = "{% if facets %}{{ facets }}{% endif %}" if kind == "generate" else ""
    own = "[system]\nBe brief.\n[user]\nAbout {{ task }} in {{ language }}, {{ count }}." + shows + "\n"
    settings = with_all(prompts={kind: own})
    messages = PromptBook(settings).render(request(kind)).messages
    assert [message["content"] for message in messages] == ["Be brief.", "About Look after soil in English, 3."]
    for other in set(KINDS) - {kind}:
        assert text(settings, other) == text(with_all(), other)
    packaged = kinds_of(with_all())[kind].template.read_text()
    assert text(with_all(prompts={kind: packaged}), kind) == text(with_all(), kind)


@pytest.mark.parametrize(
    ("kind", "template", "says"),
    [
        ("generate", "Write {{ count }}", "has to begin with a line"),
        ("generate", "words\n[user]\n{{ task }}", "has to begin with a line"),
        ("generate", "[user]\n{{ tsk }}", "'tsk' is undefined"),
        ("generate", "[user]\n{{ explored }}", "'explored' is undefined"),
        ("lookahead", "[user]\n{{ topic }}", "'topic' is undefined"),
        ("backtrack", "[user]\n{{ existing }}", "'existing' is undefined"),
        ("generate", "[user]\n{{ demonstrations[0].instruction }}", "no element 0"),
        ("generate", "[user]\n{{ topic[0].upper() }}", "no element 0"),
        ("generate", "[user]\n{% if %}", "Expected an expression"),
        ("generate", "[user]\n{{ 1 / 0 }}", "division by zero"),
        ("generate", "[user]\n{{ task + 1 }}", "concatenate"),
        ("generate", "[user]\n{{ 'x'.encode('nothing') }}", "nothing"),
        ("generate", "[user]\n{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("generate", "[user]\n{% for x in range(10000000) %}{% endfor %}", "too big"),
        ("generate", "[user]\n{% include 'other' %}", "no loader"),
        ("generate", "[user]\n{{ ''.__class__.__mro__ }}", "unsafe"),
        ("generate", "[user]\n{{ task.__init__.__globals__ }}", "unsafe"),
        ("generate", "[user]\n{{ demonstrations.__class__ }}", "unsafe"),
    ],
)
def test_a_faulty_template_is_refused_before_the_run(kind: str, template: str, says: str) -> None:
    """A fault that any prompt of that kind could meet (the bare ones at the start, too) is a ConfigError now and no
    crash later: with the file, what is wrong, and the names to use. Templates reach nothing of Python's.
    """
    with pytest.raises(ConfigError) as caught:
        PromptBook(recipe(prompts={kind: template}))
    assert says in str(caught.value)
    assert f"{kind}.j2" in str(caught.value)
    if "begin with" not in says:
        for name in ("task", "count", "language", *VALUES[kind]):
            assert name in str(caught.value).partition("names to use")[2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_bare_prompts_have_no_gaps(kind: str, answer_format: str) -> None:
    """With nothing to show (no description, reason, demonstrations, topic or style) no empty brackets, headings or
    blank space are left.
    """
    empty = {name: type(value)() for name, value in VALUES[kind].items()}
    filled = {name: "b" for name in ("instruction", "output") if name in empty}
    filled |= {name: value for name, value in VALUES[kind].items() if name == "messages"}  # never without any
    settings = with_all(answer_format=answer_format)
    shown = text(settings, kind, description="", reason="", count=1, **{**empty, **filled})
    for trace in ("()", " .", ": .", "\n\n\n", "Style", "Named already", "Exercises of the kind wanted"):
        assert trace not in shown
    assert shown == shown.strip()


SEEN = ChatRequest(
    "m",
    ({"role": "system", "content": "a"}, {"role": "user", "content": "b"}),
    {"temperature": 1.0, "max_tokens": 5},
    7,
    AnswerSchema("tasks", {"type": "object"}),
    {"top_k": 3},
)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"messages": SEEN.messages[:1]},
        {"messages": SEEN.messages[::-1]},
        {"messages": ({"role": "user", "content": "a"}, SEEN.messages[1])},
        {"messages": ({"role": "system", "content": "a "}, SEEN.messages[1])},
        {"sampling": {"temperature": 1.0, "max_tokens": 6}},
        {"sampling": {"temperature": 1.0}},
        {"seed": 8},
        {"answer_schema": None},
        {"answer_schema": AnswerSchema("tasks", {"type": "array"})},
        {"extra_body": {}},
        {"extra_body": {"top_k": 4}},
    ],
    ids=str,
)
def test_the_key_changes_with_all_the_model_sees(change: dict[str, Any]) -> None:
    """Each field that reaches the model changes the key."""
    assert dataclasses.replace(SEEN, **change).key != SEEN.key


def test_the_key_changes_with_nothing_else() -> None:
    """Neither the order of settings, nor a schema's name, nor a request's place in the run change its key; and a key
    is the same on every machine, for stored answers are found by it.
    """
    same = dataclasses.replace(
        SEEN, sampling={"max_tokens": 5, "temperature": 1.0}, answer_schema=AnswerSchema("other", {"type": "object"})
    )
    assert same.key == SEEN.key
    book = PromptBook(recipe())
    first = request("generate")
    moved = dataclasses.replace(first, ordinal=99, due=500, task_id="0.7", turn=4)
    assert book.render(moved).key == book.render(first).key
    assert book.render(dataclasses.replace(first, seed=43)).key != book.render(first).key
    assert SEEN.key == KEY


KEY = "a1b6af576fd1375c9b7b60f610370b5b"


def test_each_kind_has_its_sampling() -> None:
    """Exploration and generation are sampled as the recipe says, the rest of the body goes along."""
    settings = recipe(
        sampling={
            "exploration": {"temperature": 0.3, "stop": ["x"]},
            "generation": {"max_tokens": 9},
            "answers": {"max_tokens": 8},
            "judging": {"temperature": 0.1, "max_tokens": 7},
        },
        extra_body={"top_k": 4},
        responses="separate",
        judge={},
        turns=2,
        exploration={"facets": 4},
    )
    expected = {
        "generate": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 9},
        "answer": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 8},
        "follow_up": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 8},
        "judge": {"temperature": 0.1, "top_p": 1.0, "max_tokens": 7},
    }
    book = PromptBook(settings)
    for kind in KINDS:
        rendered = book.render(request(kind))
        exploring = {"temperature": 0.3, "top_p": 1.0, "max_tokens": 1024, "stop": ["x"]}
        assert (rendered.sampling, rendered.extra_body) == (expected.get(kind, exploring), {"top_k": 4})
        assert (rendered.model, rendered.seed) == ("scripted", 42)


@pytest.mark.parametrize(
    ("kind", "template", "depth", "left_out"),
    [
        ("generate", "[user]\nWrite something.\n", 2, "{{ task }} and {{ count }}"),
        ("generate", "[user]\nWrite {{ count }} about {{ domain }}.\n", 2, "{{ task }}"),
        ("generate", "[user]\nWrite {{ count }} about {{ domain }}.\n", 0, None),
        ("generate", "[system]\nWrite {{ count }}.\n[user]\n{{ task }}\n", 2, None),
        ("lookahead", "[user]\nDivide {{ task }}.\n", 2, "{{ count }}"),
        ("lookahead", "[user]\nDivide {{ task }}.\n", 0, None),
        ("answer", "[user]\nAnswer.\n", 2, "{{ instruction }}"),
        ("judge", "[user]\nJudge the answer to {{ instruction }}.\n", 2, "{{ output }}"),
    ],
)
def test_a_template_that_leaves_out_what_it_is_about(
    kind: str, template: str, depth: int, left_out: str | None
) -> None:
    """It is told with the names that are missing, in all its parts together; the run may go on."""
    book = PromptBook(with_all(prompts={kind: template}, exploration={"depth": depth}))
    found = [doubt for doubt in book.doubts if f"{kind}" in doubt]
    assert len(found) == (left_out is not None)
    assert all(f" does not show {left_out}, which" in doubt for doubt in found)


@pytest.mark.parametrize("responses", ["joint", "separate"])
def test_no_packaged_template_leaves_out_what_it_is_about(responses: str) -> None:
    """Given as a user's own, each of them passes."""
    more = {} if responses == "separate" else {"judge": None, "turns": 1}
    own = {name: kind.template.read_text(encoding="utf-8") for name, kind in kinds_of(with_all()).items()}
    joint = {name: own[name] for name in ("lookahead", "backtrack", "generate")}
    assert PromptBook(with_all(responses=responses, prompts=own if not more else joint, **more)).doubts == []
