"""Reading: what comes out of a file is what is in it, whatever the format and wherever its chunks end."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explore_async.curation.files import json_list
from explore_async.curation.files.fields import FieldError, group_of, text_of
from explore_async.curation.files.formats import Format, Kind, format_of
from explore_async.curation.files.json_list import NoListError, list_elements
from explore_async.curation.files.json_values import DEEPEST, TooDeepError, json_value
from explore_async.curation.files.row import BadRow, Row
from explore_async.curation.files.source import Source
from explore_async.curation.files.writers import content_of, writing
from explore_async.errors import ConfigError, DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.sampled_from('a"\\[]{},: \n\té'), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('b"\\]'), max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@settings(deadline=None)
@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 0, 4]), st.booleans(), st.integers(1, 40))
def test_elements_of_a_list_are_its_elements(values, indent, ascii_only, size):
    """Any JSON, laid out in any way and cut at any byte, falls into the elements that a parser of the whole finds."""
    data = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    assert [orjson.loads(raw) for raw in list_elements(chunked(b" " + data + b"\n", size))] == values


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(1, 20), st.data())
def test_a_list_that_is_cut_short_is_no_list(values, size, data):
    """No proper prefix of a list passes for one."""
    whole = json.dumps(values).encode()
    prefix = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(NoListError):
        list(list_elements(chunked(prefix, size)))


@pytest.mark.parametrize(
    "data", [b"", b" ", b"x", b"{}", b'"a"', b"[] x", b"[][]", b"[1],", b"x[]", b'{"a": [1]}', b"1,[2]", b"]"]
)
@pytest.mark.parametrize("size", [1, 100])
def test_what_is_no_list_is_said_to_be_none(data, size):
    """Something before the list, behind it, or instead of it."""
    with pytest.raises(NoListError):
        list(list_elements(chunked(data, size)))


@pytest.mark.parametrize(
    ("data", "elements"), [(b"[1,]", [b"1", b""]), (b"[,]", [b"", b""]), (b"[ ]", []), (b"[1 2]", [b"1 2"])]
)
def test_what_is_between_the_commas_is_an_element(data, elements):
    """A comma too many leaves an empty element for the parser to refuse: nothing is passed over in silence."""
    assert list(list_elements([data])) == elements


def test_a_list_never_fills_the_memory(monkeypatch):
    """Where a quote is missing and one element swallows the rest, reading ends at a bound."""
    monkeypatch.setattr(json_list, "LONGEST", 1000)
    read = 0

    def chunks():
        nonlocal read
        yield b'["'
        while read < 100_000:
            read += 100
            yield b"a" * 100

    with pytest.raises(NoListError, match="does not end within"):
        list(list_elements(chunks()))
    assert read < 2000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", Format(Kind.JSON_LINES)),
        ("a.b.NDJSON.gz", Format(Kind.JSON_LINES, "gzip")),
        ("a.json", Format(Kind.JSON_LIST)),
        ("a.txt.gz", Format(Kind.TEXT, "gzip")),
        ("a.parquet", Format(Kind.PARQUET)),
        ("a.csv.zst", Format(Kind.CSV, "zstd")),
        ("a.TSV", Format(Kind.TSV)),
    ],
)
def test_the_name_tells_the_format(name, expected):
    """In either case of letters, and compressed."""
    assert format_of(Path(name)) == expected


@pytest.mark.parametrize(
    "name", ["a", "a.gz", "jsonl", "a.xlsx", "a.jsonl.zip", "a.parquet.gz", ".", "a.jsonl.gz.gz", "a.parquet.zst"]
)
def test_a_name_that_tells_no_format_is_refused(name):
    """No guessing."""
    with pytest.raises(ConfigError, match="the name tells the format"):
        format_of(Path(name))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (["a"], "one"),
        (["a", "b"], "one\ntwo"),
        (["c.d"], "dotted"),
        (["m.0.content"], "first"),
        (["m.1.content", "a"], "second\none"),
    ],
)
def test_fields_are_columns_paths_or_several(fields, text):
    """A column's own name goes before a path; several are joined by line breaks in the order asked for."""
    row = {
        "a": "one",
        "b": "two",
        "c.d": "dotted",
        "c": {"d": "deep"},
        "m": [{"content": "first"}, {"content": "second"}],
    }
    assert text_of(row, fields) == text


@pytest.mark.parametrize("field", ["x", "a.b", "m.1", "m.-1", "m.x", "m.0", "n", "f", "t", ""])
def test_a_field_that_is_no_text_is_named(field):
    """Missing, beyond the list, or of another type."""
    with pytest.raises(FieldError, match=f"field {field}"):
        text_of({"a": "one", "m": [{"content": "first"}], "n": None, "f": 1.5, "t": True}, [field])


def test_groups_are_told_apart_by_type_too():
    """1, true, "1" and null are four groups; a list makes none."""
    values = [1, True, "1", None, "None", "True"]
    assert len({group_of({"g": value}, "g") for value in values}) == len(values)
    with pytest.raises(FieldError, match="column g is a list"):
        group_of({"g": []}, "g")


ROWS = [{"instruction": 'Say "a, b"\nnow', "output": "é\tx"}, {"instruction": "c", "output": ""}]


def laid_out(rows: list[dict], layout: str) -> bytes:
    """The rows as lines, an indented list, one indented object, or a table."""
    match layout:
        case "lines":
            return b"\n" + b"\n".join(map(orjson.dumps, rows))
        case "list":
            return orjson.dumps(rows, option=orjson.OPT_INDENT_2)
        case "object":
            return b" \n" + orjson.dumps(rows[0], option=orjson.OPT_INDENT_2) + b"\n"
    text = io.StringIO()
    table = csv.DictWriter(text, ["instruction", "output"], delimiter="\t" if layout == "tsv" else ",")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


@pytest.mark.parametrize("compressed", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("name", "layout"),
    [("a.json", "list"), ("a.json", "lines"), ("a.json", "object"), ("a.jsonl", "lines"), ("a.csv", "csv"), ("a.tsv", "tsv")],
)  # fmt: skip
def test_every_layout_holds_the_same_rows(tmp_path, name, layout, compressed):
    """What a .json file holds is seen from its beginning; tables have quotes, line breaks and tabs; all compressed too."""
    content = laid_out(ROWS, layout)
    if compressed == ".zst":  # two frames, as tools that append to a file leave them
        half = len(content) // 2
        content = b"".join(pa.compress(part, "zstd", asbytes=True) for part in (content[:half], content[half:]))
    path = tmp_path / (name + compressed)
    path.write_bytes(gzip.compress(content) if compressed == ".gz" else content)
    rows = list(Source(path))
    assert [row.value for row in rows] == ROWS[: 1 if layout == "object" else None]
    assert [orjson.loads(row.json_line()) for row in rows] == [row.value for row in rows]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", b"a,b\r\n1,2\r\n3\r\n\r\n\xff,4\r\n5,6\r\n", [{"a": "1", "b": "2"}, "1 values for 2 columns", "invalid UTF-8", {"a": "5", "b": "6"}]),
        ("a.json", b'{"a": 1}\n{"a": \n{"a": 3}\n', [{"a": 1}, "invalid JSON", {"a": 3}]),
        ("a.json", b'{"a":\n1,\n', ["invalid JSON"]),
        ("a.jsonl", b'[{"role": "user"}]\n[{"a": 1}]\n[]\n', [{"messages": [{"role": "user"}]}, "not a JSON object", "not a JSON object"]),
        ("a.json", b'[[{"from": "human"}], [1]]', [{"messages": [{"from": "human"}]}, "not a JSON object"]),
    ],
)  # fmt: skip
def test_a_bad_row_is_one_row(tmp_path, name, content, found):
    """The rows around it are read."""
    (tmp_path / name).write_bytes(content)
    rows = list(Source(tmp_path / name))
    assert len(rows) == len(found)
    for row, expected in zip(rows, found, strict=True):
        assert row.value == expected if isinstance(row, Row) else expected in row.fault


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a,a\n1,2\n", "two columns are called 'a'"), (b"", "does not name the columns"), (b'a,b\n1,"2\n', "not CSV"), (b"\xff,b\n", "in UTF-8")],
)  # fmt: skip
def test_a_table_without_sense_is_refused(tmp_path, content, message):
    """Names that are missing, doubled or no text; a quote that does not end."""
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(Source(tmp_path / "a.csv"))


def test_a_damaged_zstd_file_is_named(tmp_path):
    """Cut short, or something else."""
    whole = pa.compress(b'{"a": 1}\n' * 99, "zstd", asbytes=True)
    for content in (whole[:-5], b"nonsense"):
        (tmp_path / "a.jsonl.zst").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.jsonl\.zst: "):
            list(Source(tmp_path / "a.jsonl.zst"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt", "a.jsonl.gz", "a.txt.gz"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path, name):
    """Files of some editors begin with one; rows and their bytes are as without it."""
    lines = {"jsonl": b'{"text": "a"}\n{"text": "b"}\n', "json": b'[{"text": "a"}, {"text": "b"}]', "txt": b"a\nb\n"}
    content = codecs.BOM_UTF8 + lines[name.split(".")[1]]
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    rows = list(Source(path))
    assert [row.value for row in rows] == [{"text": "a"}, {"text": "b"}]
    assert not any(codecs.BOM_UTF8 in row.raw for row in rows)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("named", [False, True])
def test_a_table_of_any_spreadsheet(tmp_path, delimiter, encoding, named):
    """Its delimiter is told by its rows or in a line of its own, its encoding by its mark; and it is said."""
    rows = [
        {"instruction": "1,5 oder 2;5?", "output": "a\nb|\t\u201ec\u201c", "": ""},
        *([{"instruction": "x", "output": "y", "": ""}] * 120),
    ]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, ["instruction", "output", ""], delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    path = tmp_path / "a.csv"
    path.write_bytes((mark + (f"sep={delimiter}\r\n" if named else "") + text.getvalue()).encode(encoding))
    source = Source(path)
    assert [row.value for row in source] == rows
    names = {";": "semicolons", "\t": "tabs", "|": "bars"}
    assert source.note == (None if delimiter == "," else f"{path}: read with {names[delimiter]} between its values")


@given(
    st.lists(
        st.lists(st.text(st.sampled_from('a;,|\t" \n'), max_size=4), min_size=2, max_size=2), min_size=1, max_size=5
    ),
    st.sampled_from([",", "\t"]),
)
@settings(max_examples=60, deadline=None)
def test_a_table_as_its_name_promises_is_never_read_otherwise(tmp_path_factory, rows, delimiter):
    """Whatever other delimiters stand in its values: as the reader of the standard library reads it."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([["a;b", "c|d"], *rows])
    path = tmp_path_factory.mktemp("table") / ("a.csv" if delimiter == "," else "a.tsv")
    path.write_bytes(text.getvalue().encode())
    source = Source(path)
    assert [list(row.value.values()) for row in source] == rows
    assert source.note is None


@pytest.mark.parametrize(
    ("document", "rows", "said"),
    [
        ({"data": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}], "data"),
        ({"version": 1, "Instances": [{"a": 1}]}, [{"a": 1}], "Instances"),
        ({"features": [{"name": "a"}], "rows": [{"row_idx": 0, "row": {"a": 1}, "truncated_cells": []}]}, [{"a": 1}], "rows"),
        ({"train": [{"a": 1}], "test": [{"a": 2}]}, [{"split": "train", "a": 1}, {"split": "test", "a": 2}], "train (1), test (1)"),
        ({"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], "columns"),
        ({"0": {"a": 1}, "1": {"b": 2}}, [{"a": 1}, {"b": 2}], "numbers"),
        ({"x/1": {"problem": "a"}, "x/2": {"problem": "b"}}, [{"id": "x/1", "problem": "a"}, {"id": "x/2", "problem": "b"}], "keys"),
        ({"instruction": "x", "examples": [{"a": 1}]}, None, None),
        ({"id": "1", "data": ["q", "a"]}, None, None),
        ({"conversations": [{"from": "human", "value": "x"}]}, None, None),
        ({"a": {"b": 1}}, None, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 1])
def test_rows_within_one_object(tmp_path, document, rows, said, indent):
    """Lists of rows under their usual names, splits, columns of pandas; an object that is a row itself stays one."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document, indent=indent))
    source = Source(path)
    assert [row.value for row in source] == ([document] if rows is None else rows)
    assert source.note is None if said is None else said in source.note


@given(
    st.lists(
        st.integers(-(2**70), 2**70) | st.integers(2**63 - 2, 2**63 + 1) | st.integers(2**64 - 2, 2**64 + 1),
        min_size=1,
        max_size=3,
    )
)
def test_whole_numbers_are_never_rounded(numbers):
    """A number that 64 bits hold is read as it is, and one beyond them as its text, at any depth; other values beside
    it are what they are. A row can be written again.
    """
    held = [number if -(2**63) <= number < 2**64 else str(number) for number in numbers]
    row = {"a": numbers[0], "b": [{"c": numbers}], "d": 1e300, "e": "text", "f": None}
    value = json_value(json.dumps(row).encode())
    assert value == row | {"a": held[0], "b": [{"c": held}]}
    assert orjson.loads(orjson.dumps(value)) == value


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv.gz"])
def test_content_is_what_the_name_promises(tmp_path, name):
    """Rows of ours in any format are read again as they were, and none make a file with nothing but the columns."""
    rows = [{"a": 'x,\t"y"\n', "b": "é"}, {"a": "", "b": "=1"}]
    for some in (rows, []):
        (tmp_path / name).write_bytes(content_of(some, tmp_path / name, ["a", "b"]))
        assert [row.value for row in Source(tmp_path / name)] == some


@pytest.mark.parametrize("levels", [DEEPEST + 1, 254, 600, 1000, 1022])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_row_nested_too_deeply_is_a_bad_row(tmp_path: Path, levels: int, opening: str) -> None:
    """Whatever JSON can be read, a row is either shallow enough for all that is done with it or a fault with a number,
    also with a large number in it, for which it would be read a second time.
    """
    depth = levels - 1
    deep = opening * depth + "1" + {"[": "]", '{"a":': "}"}[opening] * depth
    row = '{"n":123456789012345678901,"deep":' + deep + "}"
    plain = '{"n":1,"deep":"' + "[" * 2000 + '"}'
    for name, content in (("a.jsonl", f"{plain}\n{row}\n{plain}\n"), ("a.json", f"[{plain},{row},{plain}]")):
        (tmp_path / name).write_text(content)
        rows = list(Source(tmp_path / name))
        assert rows[1] == BadRow(2, f"nested deeper than {DEEPEST} levels")
        assert [type(one) for one in rows] == [Row, BadRow, Row]


def test_the_deepest_row_is_read_and_written() -> None:
    """The limit is exact, and leaves room for what is around a row."""
    raw = b"[" * DEEPEST + b"]" * DEEPEST
    value = json_value(raw)
    assert orjson.loads(orjson.dumps({"a": {"b": [value]}})) == {"a": {"b": [value]}}
    with pytest.raises(TooDeepError):
        json_value(b"[" + raw + b"]")


CELLS = st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a;,|\t" \r\n\u2028\x00é'), max_size=5)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=5), st.sampled_from(["a.csv", "a.tsv", "a.csv.gz", "a.tsv.zst"]))
@settings(max_examples=60, deadline=None)
def test_a_table_that_is_written_is_read_again(tmp_path_factory, cells, name):
    """Every text to the letter, numbers as texts, null as an empty text; and the same rows make the same bytes."""
    path = tmp_path_factory.mktemp("table") / name
    rows = [Row(n, Kind.JSON_LINES, {"a": one, "b b": other}) for n, (one, other) in enumerate(cells, start=1)]
    contents = []
    for _ in range(2):
        with path.open("wb") as file, writing(file, path, ["a", "b b"]) as writer:
            writer.write(rows)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    texts = [{name: as_text(value) for name, value in row.value.items()} for row in rows]
    assert [row.value for row in Source(path)] == texts


def as_text(value: object) -> str:
    return "" if value is None else json.dumps(value) if isinstance(value, int) else str(value)


def test_a_damaged_name_of_a_parquet_column_is_a_fault_of_the_file(tmp_path):
    """The name of the column is no UTF-8."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"user": ["Name a fern"]}), path)
    path.write_bytes(path.read_bytes().replace(b"user", b"\x80ser"))
    with pytest.raises(DataError, match=r"rows\.parquet: "):
        list(Source(path))
