"""Configs of Axolotl and LLaMA-Factory beside the data: they name files and columns that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from explore_async.curation.exporting import export_data

TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
PLAIN = [{"instruction": f"say{n} tell{n} name{n}", "output": "b"} for n in range(20)]
WITH_SYSTEM = [{**row, "system": "Be kind."} for row in PLAIN]
WITH_TOOLS = [
    {"messages": [{"role": "user", "content": f"say{n} tell{n}"}, TALK[1]], "tools": TOOLS} for n in range(20)
]


def exported(tmp_path: Path, rows: list[dict[str, Any]], shape: str, validation: float) -> Path:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = export_data(source, tmp_path / "out", shape=shape, validation=validation)
    is_told = any(note.startswith("no axolotl.yaml: ") for note in result.notes)
    assert is_told == (shape == "alpaca" and rows is WITH_SYSTEM)
    return tmp_path / "out"


def test_pairs_of_answers_are_ranked(tmp_path: Path) -> None:
    """Their entry names both answers as a ranking, and the config trains by DPO; each row has one turn of either."""
    pairs = [{"prompt": f"say{n}", "chosen": "b", "rejected": "c"} for n in range(20)]
    out = exported(tmp_path, pairs, "preference-sharegpt", 0.0)
    assert json.loads((out / "dataset_info.json").read_text()) == {
        "train": {
            "file_name": "data/train.parquet", "formatting": "sharegpt", "ranking": True,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        }
    }  # fmt: skip
    factory = yaml.safe_load((out / "llamafactory.yaml").read_text())
    assert (factory["stage"], factory["dataset"]) == ("dpo", "train")
    rows = pq.read_table(out / "data/train.parquet").to_pylist()
    assert {(row["chosen"]["value"], row["rejected"]["value"]) for row in rows} == {("b", "c")}
    assert all([turn["from"] for turn in row["conversations"]] == ["human"] for row in rows)


@pytest.mark.parametrize("validation", [0.0, 0.2])
@pytest.mark.parametrize("rows", [PLAIN, WITH_SYSTEM, WITH_TOOLS], ids=["plain", "system", "tools"])
@pytest.mark.parametrize("shape", ["alpaca", "sharegpt", "messages"])
def test_configs_name_what_is_there(tmp_path: Path, shape: str, rows: list[dict[str, Any]], validation: float) -> None:
    """Each file and each column; the system prompt and the tools wherever the rows have them in columns, as these
    trainers read no column that is not named. A config that would drop a system prompt is not written, and that is told.
    """
    if shape == "alpaca" and rows is WITH_TOOLS:
        return  # the format has no place for tools, and an export says so
    out = exported(tmp_path, rows, shape, validation)
    parts = {
        "train": out / "data/train.parquet",
        **({"validation": out / "data/validation.parquet"} if validation else {}),
    }
    columns = set(pq.read_schema(parts["train"]).names)
    info = json.loads((out / "dataset_info.json").read_text())
    assert {name: out / entry["file_name"] for name, entry in info.items()} == parts
    for entry in info.values():
        assert set(entry["columns"].values()) <= columns
        assert columns & {"system", "tools"} <= set(entry["columns"].values())
    factory = yaml.safe_load((out / "llamafactory.yaml").read_text())
    assert [factory["dataset"], *([factory["eval_dataset"]] if validation else [])] == list(parts)
    drops = shape == "alpaca" and rows is WITH_SYSTEM
    assert (out / "axolotl.yaml").exists() != drops
    if not drops:
        axolotl = yaml.safe_load((out / "axolotl.yaml").read_text())
        given = [*axolotl["datasets"], *axolotl.get("test_datasets", [])]
        assert [out / part["path"] for part in given] == list(parts.values())
        assert all(part.get("field_messages", "instruction") in columns for part in given)


def test_an_export_in_another_format_takes_their_place(tmp_path: Path) -> None:
    """No config, no script and no validation of an earlier export stays beside data that it does not fit."""
    out = exported(tmp_path, PLAIN, "messages", 0.2)
    assert {"README.md", "axolotl.yaml", "data", "dataset_info.json", "llamafactory.yaml", "train.py"} == {path.name for path in out.iterdir()}  # fmt: skip
    exported(tmp_path, PLAIN, "rows", 0)
    assert {path.name for path in out.iterdir()} == {"README.md", "data"}
    assert {path.name for path in (out / "data").iterdir()} == {"train.parquet"}
