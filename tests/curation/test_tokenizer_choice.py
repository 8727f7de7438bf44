"""The tokenizer and the fields that data commands compare by: chosen by what the data is, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from support.cli import in_process

from explore_async.curation.tokenizers import UnseenLetters, tokenizer_of_texts

CHINESE = [
    ("用Python写一个快速排序算法", "代码"), ("解释Python的生成器有什么用", "说明"), ("写一首关于冬天的诗", "雪落。"),
    ("写一首关于冬天的诗", "冰封。"), ("列出5种水果的名字", "苹果等。"), ("说明5G网络的优点", "快。"), ("SQL的连接有几种?", "四种。"),
    ("如何学习SQL查询", "多练。"),
]  # fmt: skip
UNLIKE = [0, 1, 2, 4, 5, 6, 7]
"""All but the fourth, which repeats the third: what an exact filter keeps."""


def file_of(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def chinese(tmp_path: Path) -> Path:
    rows = [{"instruction": instruction, "output": output} for instruction, output in CHINESE]
    return file_of(tmp_path / "chinese.jsonl", rows)


@pytest.mark.parametrize("how", [(), ("--exact",), ("--threshold", "1"), ("--threshold", "0.9")])
def test_dedup_goes_by_the_letters(chinese: Path, tmp_path: Path, how: tuple[str, ...]) -> None:
    """Chinese rows that have one Latin word or digit in common are unlike, and true copies are copies, also exactly."""
    result = in_process("dedup", chinese, "--out", tmp_path / "kept.jsonl", "--json", *how)
    assert result.json["tokenizer"] == "unicode"
    kept = [row["output"] for row in rows_of(tmp_path / "kept.jsonl")]
    expected = range(len(CHINESE)) if how == ("--threshold", "1") else UNLIKE
    assert kept == [CHINESE[place][1] for place in expected]


def test_filter_and_merge_go_by_the_letters(chinese: Path, tmp_path: Path) -> None:
    """The same rows stay in a filter and in a merge with another file."""
    filtered = in_process("filter", chinese, "--out", tmp_path / "filtered", "--json")
    other = file_of(tmp_path / "other.jsonl", [{"instruction": "写一首关于冬天的诗", "output": "又一首。"}])
    merged = in_process("merge", chinese, other, "--out", tmp_path / "merged", "--json")
    for result, name in ((filtered, "filtered"), (merged, "merged")):
        assert result.json["tokenizer"] == "unicode"
        assert [row["output"] for row in rows_of(tmp_path / name / "dataset.jsonl")] == [
            CHINESE[at][1] for at in UNLIKE
        ]


def test_data_is_not_clean_against_itself(chinese: Path, tmp_path: Path) -> None:
    """Every row is dropped when the benchmark is the data; with letters that are not seen it is an error, not a pass."""
    arguments = ("decontaminate", chinese, "--against", chinese, "--benchmark-field", "instruction")
    result = in_process(*arguments, "--out", tmp_path / "a", "--json")
    assert (result.code, result.json["kept"], result.json["dropped"]) == (7, 0, len(CHINESE))
    no_latin = file_of(tmp_path / "plain.jsonl", [{"question": "写一首关于冬天的诗"}])
    blind = in_process("decontaminate", chinese, "--against", no_latin, "--out", tmp_path / "b", "--tokenizer", "rouge")
    assert blind.code == 5
    assert "none of its 1 rows" in blind.stderr
    assert "--tokenizer" in blind.stderr


def test_a_tokenizer_that_sees_little_is_told(chinese: Path, tmp_path: Path) -> None:
    """Where it was chosen all the same, the number of texts that it saw little of is said."""
    result = in_process("dedup", chinese, "--out", tmp_path / "kept.jsonl", "--tokenizer", "rouge")
    assert "of 8 texts consist mostly of letters that --tokenizer rouge does not see" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (["Name a café in Paris.", *["Write a long poem about the sea and the stars above it."] * 9], "rouge"),
        (["Find x where α = 2."] + ["Solve the equation and show each of your steps to the end."] * 9, "rouge"),
        (["Nenne drei Städte.", "Erkläre, was ein Prüfer tut."], "unicode"),
        (["Write a poem."] * 30 + ["写一首关于冬天的诗"] * 3, "unicode"),
        (["1 + 1 = ?"], "rouge"),
        ([], "rouge"),
    ],
)
def test_the_letters_decide(texts: list[str], name: str) -> None:
    """A few words or signs of another language leave English English; a hundredth of the letters does not."""
    assert tokenizer_of_texts(texts) == name


def test_texts_that_are_not_seen_are_counted() -> None:
    """Only those of which less than half of the letters is seen, and only by `rouge`."""
    texts = ["Name a café.", "用Python写一个冒泡排序", "写诗", "?!"]
    for tokenizer, unseen in (("rouge", 2), ("unicode", 0)):
        letters = UnseenLetters(tokenizer)
        letters.count(texts)
        assert (letters.texts, letters.unseen) == (4, unseen)
        assert (letters.note() is None) == (unseen == 0)


SAME_INSTRUCTION = [
    {"instruction": "Fix the grammar.", "input": "He go home.", "output": "He goes home."},
    {"instruction": "Fix the grammar.", "input": "Them is late today.", "output": "They are late today."},
    {"instruction": "Fix the grammar.", "input": "He go home!", "output": "He goes home!"},
]


@pytest.mark.parametrize("command", ["filter", "merge"])
def test_inputs_count_in_files(tmp_path: Path, command: str) -> None:
    """Rows of files with one instruction and other inputs both stay, and it is said what was compared. With the
    instruction alone one stays, and it is said that inputs were not compared.
    """
    source = file_of(tmp_path / "a.jsonl", SAME_INSTRUCTION)
    other = file_of(tmp_path / "b.jsonl", [{"instruction": "Sing.", "input": "", "output": "La."}])
    sources = (source,) if command == "filter" else (source, other)
    both = in_process(command, *sources, "--out", tmp_path / "both", "--json")
    assert both.json["kept"] == len(sources) + 1
    assert both.json["fields"] == ["instruction", "input"]
    assert "compared by instruction and input" in " ".join(both.stderr.split())
    alone = in_process(command, *sources, "--out", tmp_path / "alone", "--field", "instruction", "--json")
    assert alone.json["kept"] == len(sources)
    assert alone.json["dropped_with_input"] == 2
    assert "2 of those dropped have an input" in " ".join(alone.stderr.split())
    assert "--field instruction --field input compares it, too" in " ".join(alone.stderr.split())
    output = in_process(command, *sources, "--out", tmp_path / "output", "--field", "output")
    assert "--field output --field input compares it, too" in " ".join(output.stderr.split())
    wrong = in_process(command, *sources, "--out", tmp_path / "wrong", "--field", "text")
    assert wrong.code == 2


QUESTIONS = [{"prompt": "Which planet is the largest?"}, {"prompt": "Who wrote this?"}]


def test_against_without_a_usable_row_is_an_error(tmp_path: Path) -> None:
    """Bad rows may be skipped, but not all of them: nothing would be compared, and everything would pass."""
    rows = file_of(tmp_path / "rows.jsonl", [{"instruction": "Which planet is the largest?", "output": "Jupiter"}])
    known = file_of(tmp_path / "known.jsonl", QUESTIONS)
    arguments = ("dedup", rows, "--out", tmp_path / "out.jsonl", "--against", known, "--on-bad-row", "skip", "--json")
    missing = in_process(*arguments, "--against-field", "question")
    assert missing.code == 5
    assert "none of its 2 rows has a text to compare in question" in missing.stderr
    assert not (tmp_path / "out.jsonl").exists()
    file_of(known, [*QUESTIONS, {"question": "Who is it?"}])
    some = in_process(*arguments, "--against-field", "prompt")
    assert (some.json["against"], some.json["against_bad"], some.json["kept"]) == (2, 1, 0)
    assert "of --against 1 row cannot be compared with" in some.stderr
    empty = file_of(tmp_path / "empty.jsonl", [])
    assert in_process("dedup", rows, "--out", tmp_path / "out.jsonl", "--against", empty).code == 5


def test_each_file_may_have_fields_of_its_own(tmp_path: Path) -> None:
    """Of inputs, of known files and of benchmarks: FILE=FIELD is for one of them, a field alone for all others."""
    a = file_of(tmp_path / "a.jsonl", [{"instruction": "Plant a tree"}, {"instruction": "Sing a song"}])
    b = file_of(tmp_path / "b.jsonl", [{"query": "Plant a tree"}, {"query": "Bake a loaf"}])
    c = file_of(tmp_path / "c.jsonl", [{"prompt": "Bake a loaf"}])
    d = file_of(tmp_path / "d.jsonl", [{"question": "Sing a song"}])
    fields = ("--field", "instruction", "--field", "b.jsonl=query")
    known = ("--against", c, "--against", d, "--against-field", "question", "--against-field", f"{c}=prompt")
    result = in_process("dedup", a, b, "--out", tmp_path / "out.jsonl", *fields, *known, "--json")
    assert result.code == 0, result.stderr
    assert rows_of(tmp_path / "out.jsonl") == [{"instruction": "Plant a tree"}]
    data = file_of(tmp_path / "data.jsonl", [{"instruction": text, "output": "Done."} for text in ("Bake a loaf", "Sing a song", "Swim")])  # fmt: skip
    benchmarks = (
        "--against",
        c,
        "--against",
        d,
        "--benchmark-field",
        "question",
        "--benchmark-field",
        "c.jsonl=prompt",
    )
    clean = in_process("decontaminate", data, "--out", tmp_path / "clean", *benchmarks, "--json")
    assert clean.json["by_benchmark"] == {"c.jsonl": 1, "d.jsonl": 1}
    lacking = in_process("dedup", a, b, "--out", tmp_path / "out.jsonl", "--field", "b.jsonl=query")
    assert lacking.code == 2
    assert "no field for" in lacking.stderr


def test_an_import_says_the_language(chinese: Path, tmp_path: Path) -> None:
    """explore.yaml has the language and the tokenizer of the texts, so that a run goes on in it."""
    german = [{"instruction": "Beschreibe, warum sich die Erde um die Sonne dreht.", "output": "So."}] * 3
    for name, source in (("Chinese", chinese), ("German", file_of(tmp_path / "german.jsonl", german))):
        assert in_process("import", source, "--out", tmp_path / name).code == 0
        config = yaml.safe_load((tmp_path / name / "explore.yaml").read_text(encoding="utf-8"))
        assert config["language"] == name
        assert config["filters"] == {"tokenizer": "unicode"}
    english = file_of(tmp_path / "english.jsonl", [{"instruction": "Plant a tree", "output": "Done."}])
    assert in_process("import", english, "--out", tmp_path / "English").code == 0
    config = yaml.safe_load((tmp_path / "English" / "explore.yaml").read_text(encoding="utf-8"))
    assert (config["language"], config["filters"]) == ("English", {"tokenizer": "rouge"})


def test_a_file_can_be_filtered_by_its_language(tmp_path: Path) -> None:
    """The language of most texts is the one that the others are dropped for; what shows no language stays, and is
    counted.
    """
    german = [
        "Beschreibe, warum sich die Erde um die Sonne dreht.",
        "Nenne die Gründe, aus denen man nicht lügen soll.",
    ]
    texts = [
        *german,
        "Schreibe einen Brief an die Mutter und den Vater.",
        "Explain why the earth turns around the sun.",
        "Berechne 2 + 2.",
    ]
    source = file_of(tmp_path / "a.jsonl", [{"instruction": text, "output": "Ja."} for text in texts])
    result = in_process("filter", source, "--out", tmp_path / "out", "--set", "language=true", "--json")
    assert (result.json["dropped"], result.json["language_not_told"]) == ({"other_language": 1}, 1)
    assert "language not told: 1 of those kept" in " ".join(result.stderr.split())
