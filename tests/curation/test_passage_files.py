"""A run whose examples are about passages of the user's files."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.cli import in_process
from support.stored_run import serving

from explore_async.config.load import load
from explore_async.curation.passage_files import with_passages
from explore_async.errors import ExploreError

CONFIG = """
name: test
domains:
  - name: Look after a garden
    topics: [roses, soil]
    files: [notes]
exploration: {depth: 1, breadth: [2]}
generation: {per_request: 4}
targets: {examples: 16}
window: 8
operation: {report: false}
"""


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def in_a_folder(tmp_path: Path) -> Path:
    """A config beside a folder of files in several formats, of which one is hidden and one is no text."""
    notes = tmp_path / "notes"
    (notes / "more").mkdir(parents=True)
    (notes / "a.md").write_text("# Roses\nPrune in March.\n\n# Soil\nSandy.", encoding="utf-16")
    (notes / "more" / "b.jsonl.gz").write_bytes(
        gzip.compress(b'{"text": "Mint likes shade."}\n{"text": "Sow beans."}\n')
    )
    (notes / "c.txt").write_text("Slugs hide by day.")
    (notes / ".hidden.txt").write_text("no")
    (notes / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a run, which is then derived again from files that moved, and once more from files that changed."""
    folder = in_a_folder(tmp_path_factory.mktemp("grounded"))
    config, out = folder / "config.yaml", folder / "run"
    with serving() as url:
        made = in_process("run", config, "--endpoint", url, "--out", out)
    assert made.code == 0, made.stderr
    shutil.copytree(folder / "notes", folder / "elsewhere")
    before = (out / "dataset.jsonl").read_bytes()
    config.write_text(CONFIG.replace("[notes]", "[elsewhere]"))
    moved = in_process("run", config, "--offline", "--out", out)
    assert moved.code == 0, moved.stderr
    assert (out / "dataset.jsonl").read_bytes() == before
    (folder / "elsewhere" / "c.txt").write_text("Slugs hide by night.")
    changed = in_process("run", config, "--endpoint", "http://127.0.0.1:9/v1", "--out", out)
    assert changed.code == 2
    assert "domains.0.files.0.digest" in changed.stderr
    config.write_text(CONFIG)
    return folder


def test_from_files_to_rows(folder: Path) -> None:
    """Every format is read; each row names its passage, which its prompt showed, with its topic. Stats count them; the
    run replays, filter keeps the names, the files may move but not change.
    """
    config, out = folder / "config.yaml", folder / "run"
    dry = in_process("run", config, "--dry-run")
    assert "5 passages from its files; each is shown in" in dry.stdout, dry.stderr
    rows = lines(out / "dataset.jsonl")
    names = {"a.md#1", "a.md#2", "c.txt#1", "more/b.jsonl.gz#1", "more/b.jsonl.gz#2"}
    assert {row["passage"] for row in rows} <= names
    assert {row["topic"] for row in rows} <= {"roses", "soil"}
    assert not any("style" in row for row in rows)
    stats = orjson.loads((out / "stats.json").read_bytes())
    assert sum(stats["passages"].values()) == len(names)
    assert stats["passages"]["used"] >= len({row["passage"] for row in rows})
    assert f"passage  {rows[0]['passage']}" in in_process("show", out, rows[0]["id"]).stdout
    assert in_process("doctor", out).code == 0
    filtered = in_process("filter", out, "--out", folder / "filtered", "--set", "threshold=0.9")
    assert filtered.code == 0, filtered.stderr
    after = {row["id"]: row for row in lines(folder / "filtered" / "dataset.jsonl")}
    assert all(after[row["id"]]["passage"] == row["passage"] for row in rows if row["id"] in after)
    assert after.keys() & {row["id"] for row in rows}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "has no text"),
        ("a.md", b" \n\n", "has no text"),
        ("a.txt", b"\x89PNG\x00\xff", "UTF-8"),
        ("a.txt", b"one\0two", "no file of text"),
        ("a.jsonl", b'{"body": "x"}\n', "name the field"),
        ("a.jsonl", b"{\n", "JSON"),
        ("a.pdf", b"%PDF", "the name tells the format.*gz or .zst"),
        ("a.txt", None, "no such file"),
        ("a.txt.gz", b"not packed", "a.txt.gz"),
        ("folder", None, "has no file called"),
    ],
)
def test_files_without_passages(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    """Each is an error of the config that names the file, and no traceback."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name == "folder":
        (tmp_path / name).mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("[notes]", f"[{name}]"))
    with pytest.raises(ExploreError, match=said):
        with_passages(load(str(config)))
    found = in_process("run", config, "--dry-run")
    assert found.code == 2
    assert name in found.stderr


def test_a_template_that_does_not_show_them(tmp_path: Path) -> None:
    """A generate.j2 of the user's without the passage is refused where a domain has files."""
    folder = in_a_folder(tmp_path)
    (folder / "prompts").mkdir()
    (folder / "prompts" / "generate.j2").write_text("[user]\nWrite {{ count }} exercises for {{ task }}.\n")
    (folder / "config.yaml").write_text(CONFIG + "prompts: prompts\n")
    found = in_process("run", folder / "config.yaml", "--dry-run")
    assert found.code == 2
    assert "{{ passage }}" in found.stderr


@pytest.mark.usefixtures("in_this_process")
def test_a_field_of_a_file_of_text_is_refused(folder: Path, tmp_path: Path) -> None:
    """Only JSON lines have fields: a new run is refused for each file that has none, and the dry run says so."""
    config = tmp_path / "config.yaml"
    shutil.copytree(folder / "notes", tmp_path / "notes")
    (tmp_path / "rows.jsonl").write_text('{"body": "Mint likes shade."}\n')
    named = "notes/a.md", "notes/c.txt", "rows.jsonl"
    files = ", ".join(f"{{path: {name}, field: body}}" for name in named)
    config.write_text(CONFIG.replace("[notes]", f"[{files}]"))
    refused = in_process("run", config, "--endpoint", "http://127.0.0.1:9/v1", "--out", tmp_path / "run")
    assert (refused.code, (tmp_path / "run").exists()) == (2, False)
    assert "domains.0.files.0.field, domains.0.files.1.field: a file of text" in refused.stderr
    warning = in_process("run", config, "--dry-run", "--json").json["warnings"][0]
    assert warning.startswith("domains.0.files.0.field, domains.0.files.1.field: ")
