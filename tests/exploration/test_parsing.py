"""Properties of the parser: no whole item is lost, no broken one is taken, and no text makes it slow."""

from __future__ import annotations

import time
import tracemalloc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.exploration.parsing import (
    ExampleDraft,
    Format,
    ProposedTask,
    Unreadable,
    examples_schema,
    parse_examples,
    parse_tasks,
    tasks_schema,
)
from explore_async.exploration.values import Completion

HARD = [
    ExampleDraft('Say "hi" {to} me', "", "Hi } there\nfriend \\"),
    ExampleDraft("Use [a], {b}, <c>", 'with {"json": [1]}', 'and \\ "output" \\"'),
    ExampleDraft("第三个 🌍", "输入", "答案。"),
]


def answer(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, finish_reason, 1, 1)


def document(drafts: list[ExampleDraft]) -> str:
    return orjson.dumps({"examples": drafts}).decode()


def drafts_of(text: str, answer_format: str = "json", finish_reason: str = "stop") -> list[ExampleDraft | Unreadable]:
    return parse_examples(answer(text, finish_reason), answer_format)  # type: ignore[arg-type]


def reasons(items: list[ExampleDraft | Unreadable]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Unreadable)]


@pytest.mark.parametrize("fenced", [False, True])
def test_cut_at_every_character(fenced: bool) -> None:
    """Cut by length at any character: every item closed before it is there, and one that was begun is told as
    truncated, once; between items nothing is told.
    """
    text = document(HARD)
    ends, starts, position = [], [], text.index("[")
    for draft in HARD:
        body = orjson.dumps(draft).decode()
        starts.append(text.index(body, position))
        position = starts[-1] + len(body)
        ends.append(position)
    before = 'Here is your 5" list:\n```json\n' if fenced else ""
    for cut in range(len(text)):
        items = drafts_of(before + text[:cut], finish_reason="length")
        whole = sum(end <= cut for end in ends)
        begun = sum(start < cut for start in starts) - whole
        assert [item for item in items if isinstance(item, ExampleDraft)] == HARD[:whole], cut
        expected = ["truncated"] if begun or not whole else []
        assert reasons(items) == expected, (cut, text[:cut])


def test_cut_text_loses_only_the_last() -> None:
    """With markers, too: what `### End` or the next item closed is there at every cut, the open item is truncated."""
    text = "".join(f"### Instruction: {one} thing\n### Output: done {one}\n### End\n" for one in "abc")
    for cut in range(1, len(text) + 1):
        items = drafts_of(text[:cut], "text", "length")
        closed = text[:cut].count("### End")
        assert [item for item in items if isinstance(item, ExampleDraft)] == [
            ExampleDraft(f"{one} thing", "", f"done {one}") for one in "abc"[:closed]
        ]
        assert len(reasons(items)) <= 1
        assert {*reasons(items)} <= {"truncated"}
        if text[:cut].count("### Instruction:") > closed:
            assert reasons(items) == ["truncated"]


fields = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).map(str.strip).filter(bool)
drafts = st.builds(
    ExampleDraft, fields, st.just("") | fields.filter(lambda text: text[0].isalpha() and len(text) > 8), fields
)


@given(st.lists(drafts, min_size=1, max_size=5), st.sampled_from(["{}", "```json\n{}\n```", "Sure:\n{}\nThat's all."]))
def test_json_comes_back_equal(written: list[ExampleDraft], around: str) -> None:
    """Whatever text an item holds, written as JSON it is read back equal, bare, fenced or amid words."""
    assert drafts_of(around.replace("{}", document(written))) == written


@given(st.lists(drafts, min_size=1, max_size=5))
def test_text_comes_back_equal(written: list[ExampleDraft]) -> None:
    """The same with markers, for texts without a marker of their own."""
    clean = [
        ExampleDraft(*(value.replace("#", "+") for value in (one.instruction, one.input, one.output)))
        for one in written
    ]
    text = "\n".join(
        f"### Instruction: {one.instruction}\n### Input: {one.input}\n### Output:\n{one.output}\n### End"
        for one in clean
    )
    assert drafts_of(text, "text") == clean


@given(st.lists(st.builds(ProposedTask, fields, fields), min_size=1, max_size=4))
def test_tasks_are_never_without_a_name(proposed: list[ProposedTask]) -> None:
    """A name of dots and quotation marks alone is dropped; every other name stays, on one line."""
    items = parse_tasks(answer(orjson.dumps({"tasks": proposed}).decode()), "json")
    assert len(items) == len(proposed)
    for item, one in zip(items, proposed, strict=True):
        if isinstance(item, Unreadable):
            assert item.reason == "missing_field"
            assert not one.name.strip('.。"“” ')
        else:
            assert item.name
            assert "\n" not in item.name


@pytest.mark.parametrize("name", ['\\"\\"', ".", "“”", "。", " . ", "the name", "The name."])
def test_a_name_that_is_none(name: str) -> None:
    """The tree never gets a task without a name, or with the placeholder of the form as its name."""
    (item,) = parse_tasks(answer(f'{{"tasks": [{{"name": "{name}", "reason": "why"}}]}}'), "json")
    assert isinstance(item, Unreadable)
    assert item.reason == "missing_field"


NEVER_INPUTS = ["N/A", "n/a.", "<noinput>", "(none)", "", "  "]
PERHAPS_INPUTS = ["Na", "None", "null", "NIL", "-", "无"]


def in_text(draft: ExampleDraft) -> str:
    return f"### Instruction: {draft.instruction}\n### Input: {draft.input}\n### Output: {draft.output}\n### End"


@pytest.mark.parametrize("nothing", NEVER_INPUTS)
def test_inputs_that_mean_nothing(nothing: str) -> None:
    """The ways in which models say "no input" are an empty input; an output that says the same stays."""
    written = ExampleDraft("Answer", nothing, "None")
    assert drafts_of(document([written])) == drafts_of(in_text(written), "text") == [ExampleDraft("Answer", "", "None")]


@pytest.mark.parametrize("text", PERHAPS_INPUTS)
def test_a_string_is_what_it_says(text: str) -> None:
    """Sodium, a keyword, a sign or a character is an input in a JSON string, where an empty one is written ""; in plain
    text, where nothing else says it, the same word means that there is no input, and so does null in JSON.
    """
    written = ExampleDraft("Explain this", text, "x")
    assert drafts_of(document([written])) == [written]
    assert drafts_of(in_text(written), "text") == [ExampleDraft("Explain this", "", "x")]
    assert drafts_of('{"instruction": "Explain this", "input": null, "output": "x"}') == [
        ExampleDraft("Explain this", "", "x")
    ]


@pytest.mark.parametrize("text", ["Nonesuch", "NA is the symbol of sodium", "0", "null and void"])
@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_inputs_that_mean_something(text: str, answer_format: str) -> None:
    """Words that only begin like "no input" stay, in both formats."""
    written = ExampleDraft("Answer", text, "x")
    assert drafts_of(document([written]) if answer_format == "json" else in_text(written), answer_format) == [written]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"Instruction": "List", "Output": ["a", 2, null]}', [ExampleDraft("List", "", "a\n2")]),
        ('{"notes": ["x"], "examples": [{"instruction": "a", "output": "b"}]}', [ExampleDraft("a", "", "b")]),
        ('{"examples": {"instruction": "a", "output": "b"}}', [ExampleDraft("a", "", "b")]),
        ('{"data": [{"instruction": "a", "output": 1.5}]}', [ExampleDraft("a", "", "1.5")]),
        ('{"result": {"examples": [{"instruction": "a", "output": "b"}]}}', [ExampleDraft("a", "", "b")]),
        ('{"notes": ["x"], "data": [{"instruction": "a", "output": "b"}]}', [ExampleDraft("a", "", "b")]),
        ('Sure: {"plan": {"n": 1}, "examples": [{"instruction": "a", "output": {"x": [1, {"y": 2}]}}]} Done.', [ExampleDraft("a", "", '{"x":[1,{"y":2}]}')]),
        ('{"instruction": "a", "input": {"n": 1}, "output": [{"m": [2]}, {}]}', [ExampleDraft("a", '{"n":1}', '{"m":[2]}')]),
        ('{"instruction": "a", "output": true}\n{"instruction": "b", "output": 0}', [ExampleDraft("a", "", "true"), ExampleDraft("b", "", "0")]),
    ],
)  # fmt: skip
def test_shapes_that_models_make_of_it(text: str, expected: list[ExampleDraft]) -> None:
    """Other capitals, other names for the list, no list, one object a line, values that are not strings."""
    assert drafts_of(text) == expected


def test_line_breaks_within_strings_are_understood() -> None:
    """Raw line breaks and tabs, which JSON forbids within strings, lose nothing; those between items are no text."""
    text = 'Here:\n{"examples": [\n{"instruction": "Write\na\tlist",\n"input": "", "output": "one\r\ntwo \\"2\\""}\n]}'
    assert drafts_of(text) == [ExampleDraft("Write\na\tlist", "", 'one\ntwo "2"')]


@pytest.mark.parametrize("around", ["{}", "Sure:\n{}\nDone."])
def test_commas_too_many_are_understood(around: str) -> None:
    """A comma behind the last field, the last item or the list costs nothing; one within a string stays."""
    text = '{"examples": [{"instruction": "a", "output": "b,}",}, {"instruction": "c", "output": ["d,]",\n],},],}'
    assert drafts_of(around.replace("{}", text)) == [ExampleDraft("a", "", "b,}"), ExampleDraft("c", "", "d,]")]


def test_an_item_beside_good_ones_has_its_own_reason() -> None:
    """One bad item costs one item: not an object, without an output, with half a character."""
    good = '{"instruction": "a", "output": "b"}'
    assert [getattr(item, "reason", "good") for item in drafts_of(f'[{good}, 5, {{"instruction": "x"}}, {good}]')] == [
        "good", "unparsable", "missing_field", "good",
    ]  # fmt: skip
    assert [getattr(item, "reason", "good") for item in drafts_of(f'[{good}, {{"instruction": "\\ud800"}}, {good}]')] == [
        "good", "unparsable", "good",
    ]  # fmt: skip


@pytest.mark.parametrize("reason", ["length", "content_filter", "abort", "error", "", "tool_calls"])
def test_a_last_item_is_whole_only_where_the_model_ended_it(reason: str) -> None:
    """In plain text the item without its end mark is taken where the model stopped by itself, else it is truncated,
    whatever the reason; one with its end mark, or with another behind it, is taken always.
    """
    first, last = (
        "### Instruction: Name a tree.\n### Output: Oak.",
        "### Instruction: Describe the sea.\n### Output: Wi",
    )
    oak, sea = ExampleDraft("Name a tree.", "", "Oak."), ExampleDraft("Describe the sea.", "", "Wi")
    for end in ("\n### End\n", "\n"):
        assert drafts_of(first + end + last, "text", "stop") == [oak, sea]
        read = drafts_of(first + end + last, "text", reason)
        assert read[0] == oak
        assert reasons(read) == ["truncated"]
    assert drafts_of(f"{first}\n### End\n{last}\n### End", "text", reason) == [oak, sea]


CONTEST = "# Sum\nAdd two numbers.\n## Input\nTwo integers.\n### Input\n3 4\n### Output: seven\n## Output:\nTheir sum."


@pytest.mark.parametrize("end", ["\n### End", ""])
def test_headings_of_an_output_stay(end: str) -> None:
    """Headings with another number of #, and fields that were there already, are text; the next item is one of its own,
    with as many # as it likes.
    """
    text = f"### Instruction: Write a problem.\n### Input:\n### Output: {CONTEST}{end}\n### Instruction: B\n### Output: b\n### End\n## Instruction: C\n## Output: c"
    assert drafts_of(text, "text") == [
        ExampleDraft("Write a problem.", "", CONTEST), ExampleDraft("B", "", "b"), ExampleDraft("C", "", "c"),
    ]  # fmt: skip


headings = st.sampled_from(["# A", "## Input", "## End", "#### Output: x", "### Input", "### Output", "plain", ""])


@given(st.lists(headings, max_size=6))
def test_any_headings_of_an_output_stay(lines: list[str]) -> None:
    """Whatever headings an output has, but for the marker of its own end: no line of it is lost, no item is made of it."""
    written = ExampleDraft("Write a page.", "", "\n".join(["Page", *lines, "last"]))
    assert drafts_of(in_text(written), "text") == [written]


@given(st.text(st.characters()), st.sampled_from(["json", "text"]), st.sampled_from(["stop", "length"]))
def test_all_that_is_told_can_be_written(text: str, answer_format: str, finish_reason: str) -> None:
    """Half characters, as a broken decoder leaves them, end neither in an item nor in the excerpt of a reason."""
    for parse in (parse_examples, parse_tasks):
        for around in ("{}", '{"examples": [{"instruction": "{}", "output": "x"}]}', "### Instruction: {}"):
            assert orjson.dumps(parse(answer(around.replace("{}", text), finish_reason), answer_format))  # type: ignore[arg-type]


@pytest.mark.parametrize("piece", ["{", "}", "{}", '{"', '"\\', "[{", "<think>", "</think>", "<think>x</thinking>", "#", "### Name: ", " \n", '{"instruction": '])  # fmt: skip
@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_what_a_looping_model_repeats_is_read_in_linear_time(answer_format: str, piece: str) -> None:
    """200,000 characters of one piece take at most a small multiple of what a tenth of them takes: ten times as much
    would be linear, a hundred times quadratic.
    """

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        began = time.process_time()
        drafts_of(text, answer_format, "length")
        return time.process_time() - began

    assert seconds(200_000) < 40 * max(seconds(20_000), 0.01)


@given(st.integers(1, 100), st.booleans())
def test_schemas_ask_for_what_is_read(most: int, inputs: bool) -> None:
    """A schema is closed, has all its fields required, at most `most` items, and its document parses."""
    for schema, shown in ((examples_schema(most, inputs=inputs), ExampleDraft("a b", "", "c")), (tasks_schema(most), ProposedTask("a", "b"))):  # fmt: skip
        (listed,) = schema.schema["properties"].values()
        item = listed["items"]
        assert (listed["minItems"], listed["maxItems"]) == (1, most)
        assert item["additionalProperties"] is schema.schema["additionalProperties"] is False
        assert list(item["properties"]) == item["required"]
        text = orjson.dumps({schema.name: [{name: getattr(shown, name) for name in item["required"]}]}).decode()
        parse = parse_examples if isinstance(shown, ExampleDraft) else parse_tasks
        assert parse(answer(text), "json") == [shown]
    assert ("input" in examples_schema(most, inputs=inputs).schema["properties"]["examples"]["items"]["required"]) is inputs  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        '{"examples":[{"instruction":' + "[" * 900 + "]" * 900 + ',"output":"x"}]}',
        '{"examples":[{"instruction":"a","output":' + "[" * 900 + "]" * 900 + "}]}",
        '{"examples":[' + "[" * 900 + "]" * 900 + "]}",
        '{"examples":[' + '{"instruction":' * 500 + "1" + "}" * 500 + "]}",
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "[" * 100_000,
    ],
)
def test_nested_deep_is_unreadable(text: str) -> None:
    """A completion that nests deeply is unreadable, with a short excerpt, and nothing overflows."""
    items = drafts_of(text)
    assert items
    assert all(isinstance(item, Unreadable) and len(item.excerpt) <= 200 for item in items)


@pytest.mark.parametrize("item", ["{}", "1", '{"instruction":"a","output":"b"}'])
def test_no_more_items_are_read_than_anybody_asks_for(item: str) -> None:
    """A megabyte of brackets does not make a million lines of evidence."""
    assert len(drafts_of(f"[{','.join([item] * 50_000)}]")) == 10_000


def test_a_long_string_costs_no_more_memory_than_it_is_long() -> None:
    """A million characters behind a quotation mark that is never closed, or is: searching keeps no place for each."""
    for text in ('{"' + "a" * 1_000_000, '{"' + "a\\n" * 300_000 + '" '):
        tracemalloc.start()
        drafts_of(text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20 * len(text)  # of which orjson takes 12 to say that it is no JSON


@pytest.mark.parametrize(
    ("answer_format", "text"),
    [
        ("json", ('{"criterion": "the kind of text.", "tasks": [{"name": "A", "reason": "r"}, '
                 '{"name": "B", "reason": "", "likelihood": 5}, {"name": "C", "reason": "r"}]}')),
        ("json", ('Sure: ```json\n{"Criterion": "the kind of text", "tasks": [{"name": "A", "reason": "r"},'
                 '{"name": "B"}, {"name": "C", "reason": "r"}, {"name": "D", "rea')),
        ("text", ("### Criterion: the kind of text\n### Name: A\n### Reason: r\n### End\n"
                 "### Name: B\n### Reason: r\n### End\n### Name: C\n### Reason: r\n### End")),
    ],
)  # fmt: skip
def test_a_criterion_is_read_beside_names(answer_format: Format, text: str) -> None:
    """Whole or cut, in JSON or after markers."""
    read = parse_tasks(answer(text), answer_format, criterion=True)
    tasks = [item for item in read if isinstance(item, ProposedTask)]
    assert [task.name for task in tasks] == ["A", "B", "C"]
    assert {task.criterion for task in tasks} == {"the kind of text"}
    plain = [item for item in parse_tasks(answer(text), answer_format) if isinstance(item, ProposedTask)]
    assert [(task.name, task.criterion) for task in plain] == [(name, "") for name in "ABC"]


@given(st.text(), st.sampled_from(["json", "text"]))
def test_a_criterion_is_read_from_any_text(text: str, answer_format: Format) -> None:
    """No text makes the reader fail, and a criterion fits on a line of a prompt."""
    for wrapped in (text, f'{{"criterion": "{text}", "tasks": [{{"name": "A b"}}]}}',
                    f"### Criterion: {text}\n### Name: A b"):  # fmt: skip
        for item in parse_tasks(answer(wrapped), answer_format, criterion=True):
            assert isinstance(item, ProposedTask | Unreadable)
            if isinstance(item, ProposedTask):
                assert len(item.criterion) <= 200
                assert "\n" not in item.criterion
