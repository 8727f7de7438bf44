"""Reads the items of a completion. It is lenient: whole items are taken, the rest is dropped with a reason.

Two formats are read: JSON (by schema, but also fenced, bare, or cut) and plain text with `### Name:` markers. The
thoughts of thinking models are told from the answer, and no item is read from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any, Final, Literal

import orjson

from explore_async.exploration import earlier_parsing, json_items, marked_items, thoughts
from explore_async.exploration.items import (
    EXAMPLES,
    FACETS,
    INSTRUCTIONS,
    TASKS,
    AnswerDraft,
    Checked,
    ExampleDraft,
    ItemForm,
    Preference,
    ProposedFacet,
    ProposedTask,
    Reading,
    Scores,
    Unreadable,
    beginning,
    excerpt,
)
from explore_async.exploration.thoughts import marks
from explore_async.exploration.values import AnswerSchema, Completion
from explore_async.settings.recipe import MEANING, REASON

__all__ = (
    "PREFERENCE",
    "AnswerDraft",
    "Checked",
    "ExampleDraft",
    "Format",
    "Preference",
    "ProposedFacet",
    "ProposedTask",
    "Scores",
    "Unreadable",
    "examples_schema",
    "facets_schema",
    "instructions_schema",
    "parse_answer",
    "parse_examples",
    "parse_facets",
    "parse_instructions",
    "parse_preference",
    "parse_question",
    "parse_scores",
    "parse_tasks",
    "scores_schema",
    "tasks_schema",
    "thoughts_of",
    "without_reasoning",
)

Format = Literal["json", "text"]

_MOST_ITEMS = 10_000
"""Items read of a completion: many times the number asked for, and a bound where megabytes of brackets come."""
_DEEPEST = 100
"""Lists within lists that are read as text; deeper ones are left out. JSON parsers allow a thousand."""
_FORM_NAME = "the name"
"""The place for a name in the form that models are shown; small models copy it as it is."""
_ENDED: Final = frozenset({"stop", "stop_sequence", "eos", "eos_token", "end_turn"})
"""Finish reasons that say: the model itself ended its answer."""
_NOT_CUT: Final = _ENDED | {"", "tool_calls", "function_call"}
_NOTHING: Final = frozenset({"n/a", "(none)", "<noinput>", "no input", "noinput"})
_NOTHING_IN_TEXT: Final = _NOTHING | {"na", "none", "null", "nil", "nothing", "-", "无"}
"""Words for an empty input. In JSON a model writes "" for it, so that those that may be an input are one."""
_CRITERION: Final = re.compile(r'"criterion"\s*:\s*("(?:[^"\\]|\\.)*+")', re.IGNORECASE)
_MARKED_CRITERION: Final = re.compile(r"^[ \t]*#{2,4}[ \t]*criterion[ \t]*:[ \t]*(.+)$", re.IGNORECASE | re.MULTILINE)
_LONGEST_CRITERION: Final = 200
"""Characters."""
_FORM_CRITERION: Final = "the criterion"
VALUES_OF_FACET: Final = 6
"""Values of a criterion that are asked for."""
_BETWEEN_VALUES: Final = re.compile(r"[;\n|；]")
_BULLET: Final = re.compile(r"\A(?:[-*•]|\d{1,2}[.)])\s+")
_LONGEST_VALUE: Final = 80
"""Characters of a criterion or a value: it has a few words."""
LOWEST: Final = 1
HIGHEST: Final = 5
"""The range of a judge's scores."""
_SPEAKER: Final = re.compile(r"\A[*_]{0,2}(?:user|human|follow-?up(?: question)?)[*_]{0,2}:[*_]{0,2}\s*", re.IGNORECASE)
_MARKED_VERDICT: Final = re.compile(r"^[ \t]*#{2,4}[ \t]*verdict[ \t]*:[ \t]*(.+)$", re.IGNORECASE | re.MULTILINE)
_BETTER: Final[Mapping[str, Literal["first", "second", "tie"]]] = {
    **dict.fromkeys(("first", "first answer", "the first answer", "1"), "first"),
    **dict.fromkeys(("second", "second answer", "the second answer", "2"), "second"),
    **dict.fromkeys(("tie", "a tie", "neither"), "tie"),
}
"""Verdicts as models write them."""
_SCORE: Final = re.compile(r"([1-5])(?:\.0|\s*/\s*5)?")


@cache
def tasks_schema(most: int, *, criterion: bool = False) -> AnswerSchema:
    """The form of a completion with sub-tasks, after the criterion of their division where it is asked for."""
    form = _schema(TASKS, most)
    if not criterion:
        return form
    properties = {"criterion": {"type": "string"}, **form.schema["properties"]}
    return AnswerSchema(form.name, {**form.schema, "properties": properties, "required": list(properties)})


@cache
def facets_schema(most: int) -> AnswerSchema:
    """The form of a completion with criteria, each with its values."""
    values = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": VALUES_OF_FACET}
    form = _schema(FACETS, most)
    items = form.schema["properties"]["criteria"]["items"]
    item = {**items, "properties": {**items["properties"], "values": values}}
    criteria = {**form.schema["properties"]["criteria"], "items": item}
    return AnswerSchema("criteria", {**form.schema, "properties": {"criteria": criteria}})


@cache
def examples_schema(most: int, *, inputs: bool) -> AnswerSchema:
    return _schema(EXAMPLES, most, leave_out=frozenset() if inputs else EXAMPLES.optional)


@cache
def instructions_schema(most: int, *, inputs: bool) -> AnswerSchema:
    return _schema(INSTRUCTIONS, most, leave_out=frozenset({"output"}) if inputs else INSTRUCTIONS.optional)


@cache
def scores_schema(aspects: tuple[str, ...]) -> AnswerSchema:
    """The form of a judge's completion: a short reason, then a score for each aspect."""
    score = {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}
    return AnswerSchema(
        "scores",
        {
            "type": "object",
            "properties": {REASON: {"type": "string"}, **dict.fromkeys(aspects, score)},
            "required": [REASON, *aspects],
            "additionalProperties": False,
        },
    )


PREFERENCE: Final = AnswerSchema(
    "verdict",
    {
        "type": "object",
        "properties": {
            "reason": {"type": "string"},
            "verdict": {"type": "string", "enum": ["first", "second", "tie"]},
        },
        "required": ["reason", "verdict"],
        "additionalProperties": False,
    },
)
"""The form of a judge's completion on two answers: its reason, then its verdict."""


def _schema(form: ItemForm, most: int, *, leave_out: frozenset[str] = frozenset()) -> AnswerSchema:
    fields = [field for field in form.fields if field not in leave_out]
    item = {
        "type": "object",
        "properties": {field: {"type": "string"} for field in fields},
        "required": fields,
        "additionalProperties": False,
    }
    return AnswerSchema(
        form.plural,
        {
            "type": "object",
            "properties": {form.plural: {"type": "array", "items": item, "minItems": 1, "maxItems": most}},
            "required": [form.plural],
            "additionalProperties": False,
        },
    )


def parse_tasks(
    completion: Completion,
    answer_format: Format,
    meaning: int = MEANING,
    *,
    criterion: bool = False,
) -> list[ProposedTask | Unreadable]:
    """The proposed sub-tasks, with the criterion of their division where it was asked for. `meaning`: the version of
    the rules to read by.
    """
    named = _criterion(without_reasoning(completion.text), answer_format) if criterion else ""
    return [
        item if isinstance(item, Unreadable) else _proposal(item, named)
        for item in _items(completion, answer_format, TASKS, meaning)
    ]


def _proposal(item: Mapping[str, str], criterion: str) -> ProposedTask | Unreadable:
    name = _title(item["name"])
    if not name or name.casefold() == _FORM_NAME:
        return Unreadable("missing_field", excerpt(item))
    return ProposedTask(name, _title(item["reason"].split("\n")[0]), criterion)


def _criterion(text: str, answer_format: Format) -> str:
    """The first criterion in the text, on one line; empty where there is none that a prompt could show."""
    if answer_format == "text":
        found = _MARKED_CRITERION.search(text)
        criterion = found[1] if found else ""
    else:
        found = _CRITERION.search(text)
        try:
            criterion = str(orjson.loads(found[1])) if found else ""
        except orjson.JSONDecodeError:
            criterion = ""
    criterion = _title(criterion)
    return criterion if len(criterion) <= _LONGEST_CRITERION and criterion.casefold() != _FORM_CRITERION else ""


def _title(text: str) -> str:
    """The text on one line, without a full stop or quotation marks around it."""
    return " ".join(text.split()).rstrip(".。").strip('"“”')


def parse_facets(completion: Completion, answer_format: Format, most: int) -> list[ProposedFacet | Unreadable]:
    """Criteria with at least two values each, at most `most` of them, in their order; the rest is unreadable."""
    facets: list[ProposedFacet | Unreadable] = []
    seen: set[str] = set()
    for item in _items(completion, answer_format, FACETS, MEANING):
        facet = item if isinstance(item, Unreadable) else _facet(item)
        if isinstance(facet, ProposedFacet):
            if len(seen) == most or facet.criterion.casefold() in seen:
                facet = Unreadable("surplus", excerpt(item))
            else:
                seen.add(facet.criterion.casefold())
        facets.append(facet)
    return facets


def _facet(item: Mapping[str, str]) -> ProposedFacet | Unreadable:
    criterion = _title(item["criterion"])
    written = (_title(_BULLET.sub("", value.strip())) for value in _BETWEEN_VALUES.split(item["values"]))
    by_word = {value.casefold(): value for value in written if 0 < len(value) <= _LONGEST_VALUE}
    values = tuple(by_word.values())[:VALUES_OF_FACET]
    if not criterion or len(criterion) > _LONGEST_VALUE or len(values) <= 1 or criterion.casefold() == _FORM_CRITERION:
        return Unreadable("missing_field", excerpt(item))
    return ProposedFacet(criterion, values)


def parse_examples(
    completion: Completion, answer_format: Format, meaning: int = MEANING
) -> list[ExampleDraft | Unreadable]:
    """The examples. `meaning`: the version of the rules to read by."""
    return [
        item
        if isinstance(item, Unreadable)
        else ExampleDraft(item["instruction"], _or_nothing(item["input"], answer_format, meaning), item["output"])
        for item in _items(completion, answer_format, EXAMPLES, meaning)
    ]


def parse_instructions(
    completion: Completion, answer_format: Format, meaning: int = MEANING
) -> list[ExampleDraft | Unreadable]:
    """Instructions with their inputs, and with outputs where the completion has them: it may be that of a request for
    whole examples. `meaning`: the version of the rules to read by.
    """
    return [
        item
        if isinstance(item, Unreadable)
        else ExampleDraft(item["instruction"], _or_nothing(item["input"], answer_format, meaning), item["output"])
        for item in _items(completion, answer_format, INSTRUCTIONS, meaning)
    ]


def parse_answer(completion: Completion) -> AnswerDraft | Unreadable:
    """The answer in a completion of plain text, without thoughts. Unreadable: "truncated", or "empty"."""
    text = thoughts.split(_writable(completion.text), _no_shields).answer.replace("\x00", "").strip()
    if completion.finish_reason not in _NOT_CUT:
        return Unreadable("truncated", beginning(text))
    return AnswerDraft(text) if text else Unreadable("empty", beginning(_writable(completion.text).strip()))


def parse_question(completion: Completion) -> AnswerDraft | Unreadable:
    """The next message of a user, without the name and the quotation marks that models put around it."""
    item = parse_answer(completion)
    if isinstance(item, Unreadable):
        return item
    text = _SPEAKER.sub("", item.text, count=1).strip()
    inner = text[1:-1]
    if text[:1] + text[-1:] in {'""', "“”", "„“", "«»"} and not set(inner) & {'"', "“", "”"}:
        text = inner.strip()
    return AnswerDraft(text) if text else Unreadable("empty", beginning(item.text))


def parse_scores(completion: Completion, aspects: Sequence[str]) -> Scores | Unreadable:
    """The scores of all aspects, from a JSON object with whole numbers from 1 to 5. Anything else is unreadable."""
    text = without_reasoning(completion.text)
    document = json_items.document_in(text)
    found = {str(name).casefold().strip(): value for name, value in document.items()} if document else {}
    scores = {aspect: _score(found.get(aspect)) for aspect in aspects}
    known = {aspect: score for aspect, score in scores.items() if score is not None}
    return Scores(known) if len(known) == len(scores) else Unreadable("unparsable", beginning(text.strip()))


def parse_preference(completion: Completion, answer_format: Format) -> Preference | Unreadable:
    """The verdict on two answers: that of a JSON object, or of the last marked line. Anything else is unreadable."""
    text = without_reasoning(completion.text).strip()
    if answer_format == "json":
        document = json_items.document_in(text) or {}
        said = next((value for name, value in document.items() if str(name).casefold().strip() == "verdict"), None)
    else:
        text = thoughts.split(_writable(completion.text), _no_shields).answer.strip()
        said = next(reversed(_MARKED_VERDICT.findall(text)), None)
    better = _BETTER.get(" ".join(said.casefold().strip(" .*\"'`\t").split())) if isinstance(said, str) else None
    if better is None:
        cut = completion.finish_reason not in _NOT_CUT
        return Unreadable("truncated" if cut else "unparsable", beginning(text))
    return Preference(better, text)


def _score(value: object) -> int | None:
    """A score as models write it: 4, 4.0, "4", "4/5"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if LOWEST <= value <= HIGHEST else None
    written = _SCORE.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(written[1]) if written else None


def _no_shields(text: str, position: int, until: int) -> Iterator[thoughts.Span]:
    del text, position, until
    yield from ()


def _or_nothing(text: str, answer_format: Format, meaning: int) -> str:
    """The text; empty for "N/A" and the like, which models write for an empty input."""
    if meaning == earlier_parsing.MEANING:
        return earlier_parsing.or_nothing(text)
    words = _NOTHING if answer_format == "json" else _NOTHING_IN_TEXT
    return "" if text.casefold().rstrip(".") in words else text


def thoughts_of(completion: Completion, answer_format: Format | None) -> str:
    """The thoughts of the model before its answer: those that the server told apart, and those in its text. None: the
    completion is plain text, as `parse_answer` reads it.
    """
    text = _writable(completion.text)
    in_text = ""
    if answer_format is None:
        in_text = thoughts.split(text, _no_shields).thoughts
    elif any(marks(text, 0, len(text))):
        in_text = _read(completion, answer_format, EXAMPLES).thoughts
    return "\n".join(filter(None, (completion.reasoning.strip(), in_text)))


def without_reasoning(text: str) -> str:
    """A text that should be JSON, without the thoughts around it."""
    return json_items.without_thoughts(_writable(text))


def _items(
    completion: Completion, answer_format: Format, form: ItemForm, meaning: int
) -> Iterator[dict[str, str] | Unreadable]:
    if meaning == earlier_parsing.MEANING:
        text = _writable(completion.text)
        yield from earlier_parsing.read_items(text, completion.finish_reason, answer_format, form)
        return
    cut = completion.finish_reason not in _NOT_CUT
    is_empty = True
    for item in islice(_read(completion, answer_format, form).items, _MOST_ITEMS):
        is_empty = False
        yield _checked(item, form) if isinstance(item, Mapping) else item if not cut else _as_truncated(item)
    if is_empty:
        yield Unreadable("truncated" if cut else "unparsable", beginning(_writable(completion.text).strip()))


def _read(completion: Completion, answer_format: Format, form: ItemForm) -> Reading:
    text = _writable(completion.text)
    if answer_format == "json":
        return json_items.read_items(text, form)
    return marked_items.read_items(text, form, ended=completion.finish_reason in _ENDED)


def _writable(text: str) -> str:
    """The text without lone surrogates, which can be neither written as UTF-8 nor counted as text."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _as_truncated(item: Unreadable) -> Unreadable:
    return Unreadable("truncated", item.excerpt) if item.reason == "unparsable" else item


def _checked(item: Mapping[str, Any], form: ItemForm) -> dict[str, str] | Unreadable:
    by_name = {str(name).casefold().strip(): value for name, value in item.items()}
    fields: dict[str, str] = {}
    for field in form.fields:
        text = _text_of(by_name.get(field))
        if text == "" and field not in form.optional:
            return Unreadable("missing_field", excerpt(item))
        fields[field] = text
    return fields


def _text_of(value: object, depth: int = 0) -> str:
    """The value as text. Models write numbers, lists and objects where a text is asked for."""
    if isinstance(value, str):
        text = value
    elif value in (None, {}) or depth > _DEEPEST:
        text = ""
    elif isinstance(value, Sequence):
        text = "\n".join(_text_of(part, depth + 1) for part in value)
    else:
        try:
            text = orjson.dumps(value).decode()
        except TypeError:  # nested too deeply
            text = ""
    return text.replace("\x00", "").strip()
