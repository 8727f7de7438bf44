"""Folders of the published Explore-Instruct code: tree_meta_info.json and a JSON file for each task.

A task has a raw name, as the model wrote it, and a name that a number keeps apart from others. The raw name is that of
our node, which is shown, prompted with and judged, as in their code; the other names its file and stands in their list
of pruned tasks. Where two tasks have the same name all the same, they share a file, which the later task has
overwritten; the examples then belong to the first of them. Folders that we write have a name and a file for each task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from explore_async.curation.collections.collection import (
    DEEPEST,
    OWN_COLUMNS,
    ExampleRow,
    ForeignCollection,
    Node,
    below,
    new_node,
)
from explore_async.curation.files.json_values import fault_of
from explore_async.errors import DataError

TREE = "tree_meta_info.json"
PRUNED = "pruned_subtasks_name.json"
TEXT_COLUMNS = ("instruction", "input", "output")
THEIRS = "imported"
"""The column for their fields with the names of our columns."""
_NOTES = 10


def is_original(path: Path) -> bool:
    return (path / TREE).is_file()


@dataclass(frozen=True)
class OriginalFolder(ForeignCollection):
    """Reads such a folder. Every node keeps the fields of their tree under `original`."""

    path: Path

    @property
    def name(self) -> str:
        return their_name(self._bare)

    @cached_property
    def _tree(self) -> dict[str, Any]:
        counts = {node["id"]: len(examples) for node, examples in self._tasks(self._bare)}
        return _counted(self._bare, counts)  # _tasks has added the fields of the files to the nodes

    @cached_property
    def _bare(self) -> dict[str, Any]:
        document = _loaded(self.path / TREE)
        if isinstance(document, list):  # a forest of one
            if len(document) != 1:
                raise DataError(f"{self.path / TREE}: a list of {len(document)} trees; one is expected")
            (document,) = document
        return self._node(document, "0")

    def _node(self, theirs: Any, task_id: str) -> dict[str, Any]:
        where = f"{self.path / TREE}, task {task_id}"
        if not isinstance(theirs, Mapping):
            raise DataError(f"{where}: not an object")
        name, children = theirs.get("task_name"), theirs.get("children") or []
        if not isinstance(name, str) or not name:
            raise DataError(f"{where}: field task_name is missing or not a text")
        raw = theirs.get("raw_task_name")
        if task_id.count(".") > DEEPEST:
            raise DataError(f"{where}: more than {DEEPEST} levels deep")
        if not isinstance(children, list):
            raise DataError(f"{where}: field children is not a list")
        reason = theirs.get("reason") or ""
        if not isinstance(reason, str):
            raise DataError(f"{where}: field reason is not a text")
        origin = "seed" if task_id == "0" else "lookahead"
        own = {key: value for key, value in theirs.items() if key != "children"}
        shown = raw if isinstance(raw, str) and raw.strip() else name
        node = new_node(task_id, shown, reason=reason, origin=origin, original=own)
        node["children"] = [self._node(child, f"{task_id}.{index}") for index, child in enumerate(children)]
        return node

    @cached_property
    def pruned(self) -> frozenset[str]:
        """Their list has names of tasks; a name means the last task with this name, since the first one is kept."""
        path = self.path / PRUNED
        if not path.is_file():
            return frozenset()
        names = _loaded(path)
        if not isinstance(names, list):
            raise DataError(f"{path}: not a list of names")
        last = {their_name(node): node["id"] for node in below(self._bare)}
        return frozenset(last[name] for name in names if isinstance(name, str) and name in last)

    def trees(self) -> Sequence[Node]:
        return [self._tree]

    @property
    def notes(self) -> Sequence[str]:
        """Tasks without a file of their own, which therefore have no examples."""
        shown = [
            f"{self.path}: task {node['id']} has no file {self._named(node)}, and so no examples"
            for node in below(self._bare)
            if self._file(node) is None
        ]
        return [*shown[:_NOTES], *([f"… and {len(shown) - _NOTES:,} more such tasks"] if len(shown) > _NOTES else [])]

    def examples(self) -> Iterator[ExampleRow]:
        paths = {"0": [self._bare["name"]]}
        for node in below(self._bare):
            for child in node["children"]:
                paths[child["id"]] = [*paths[node["id"]], child["name"]]
        for node, examples in self._tasks(self._bare):
            task_id = node["id"]
            for number, example in enumerate(examples):
                yield _example(example, f"{task_id}-{number}", task_id, paths[task_id])

    def _tasks(self, root: dict[str, Any]) -> Iterator[tuple[Node, list[dict[str, Any]]]]:
        """Each task with the examples of its file, checked."""
        read: set[Path] = set()
        for node in _nodes(root):
            path = self._file(node)
            if path is None or path in read:
                continue
            read.add(path)
            document = _loaded(path)
            examples = document.get("examples", ()) if isinstance(document, Mapping) else document
            if not isinstance(examples, list):
                raise DataError(f"{path}: neither a list of examples nor an object with one, `examples`")
            if isinstance(document, Mapping):
                node["original_file"] = {key: value for key, value in document.items() if key != "examples"}
            for number, example in enumerate(examples, start=1):
                _check(example, f"{path}, example {number}")
            yield node, examples

    def _file(self, node: Node) -> Path | None:
        """The task's file: the name in the tree, in this folder, whatever folder the tree names."""
        path = self.path / self._named(node)
        with suppress(OSError):  # longer than a name of a file can be
            return path if path.is_file() else None
        return None

    @staticmethod
    def _named(node: Node) -> str:
        named = node["original"].get("config_filename")
        if not isinstance(named, str) or not named:
            named = f"{their_name(node)}.json"
        return Path(named.replace("\\", "/")).name


def their_name(node: Node) -> str:
    """The name that keeps the task apart from others; a node of ours has none of its own."""
    named = node.get("original", {}).get("task_name")
    return named if isinstance(named, str) and named else str(node["name"])


def _example(theirs: Mapping[str, Any], example_id: str, task_id: str, path: list[str]) -> ExampleRow:
    clashing = {key: theirs[key] for key in ("id", "task_id", "task_path", "request", THEIRS) if key in theirs}
    if theirs.get("input", "") is None:
        clashing["input"] = None
    more = {key: value for key, value in theirs.items() if key not in OWN_COLUMNS and key != THEIRS}
    return {
        "id": example_id,
        "task_id": task_id,
        "task_path": path,
        "instruction": theirs["instruction"],
        "input": theirs.get("input") or "",
        "output": theirs["output"],
        **more,
        **({THEIRS: clashing} if clashing else {}),
    }


def _check(example: Any, where: str) -> None:
    if not isinstance(example, Mapping):
        raise DataError(f"{where}: not an object")
    for name in TEXT_COLUMNS:
        value = example.get(name)
        if not isinstance(value, str) and not (name == "input" and value is None):
            raise DataError(f"{where}: field {name} is missing or not a text")


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node["children"]:
        yield from _nodes(child)


def _counted(node: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    children = [_counted(child, counts) for child in node["children"]]
    return {**node, "kept": counts.get(node["id"], 0), "children": children}


def _loaded(path: Path) -> Any:
    try:
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        return orjson.loads(raw)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: {fault_of(raw, error)}") from error
