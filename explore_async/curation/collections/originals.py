"""Folders of the published Explore-Instruct code: tree_meta_info.json and a JSON file for each task.

A task has a raw name, as the model wrote it, and a name that a number keeps apart from others. The raw name is that of
our node, which is shown, prompted with and judged, as in their code; the other names its file and stands in their list
of pruned tasks. Where two tasks have the same name all the same, they share a file, which the later task has
overwritten; the examples then belong to the first of them. Folders that we write have a name and a file for each task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from explore_async.curation.collections.collection import (
    DEEPEST,
    OWN_COLUMNS,
    Collection,
    ExampleRow,
    ForeignCollection,
    Node,
    below,
    by_level,
    new_node,
)
from explore_async.curation.files.writers import as_document
from explore_async.errors import ConfigError, DataError
from explore_async.storage.whole_files import replacing, storage_errors

TREE = "tree_meta_info.json"
PRUNED = "pruned_subtasks_name.json"
_TEXTS = ("instruction", "input", "output")
_NAMES = ("task_name", "raw_task_name", "config_filename", "reason")
_THEIRS = "imported"
"""The column for their fields with the names of our columns."""
_LONGEST_FILE_NAME = 200
"""Bytes: file systems allow 255, and the suffix needs some."""
_NOTES = 10


def is_original(path: Path) -> bool:
    return (path / TREE).is_file()


@dataclass(frozen=True)
class OriginalFolder(ForeignCollection):
    """Reads such a folder. Every node keeps the fields of their tree under `original`."""

    path: Path

    @property
    def name(self) -> str:
        return _their_name(self._bare)

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
        last = {_their_name(node): node["id"] for node in below(self._bare)}
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
            named = f"{_their_name(node)}.json"
        return Path(named.replace("\\", "/")).name


class WrittenFolder(NamedTuple):
    """Numbers of examples: written, left out with their pruned task, and left out because they were named."""

    examples: int
    in_pruned_tasks: int
    left_out: int


def write_original(collection: Collection, folder: Path, *, without: frozenset[str] = frozenset()) -> WrittenFolder:
    """Writes all tasks as such a folder, with the examples of those that are not pruned. Raises ConfigError where
    something else is in its place. `without`: ids of examples that are left out.
    """
    trees = collection.trees()
    if len(trees) != 1:
        raise ConfigError(f"{collection.path}: {len(trees)} domains; such a folder holds one tree")
    if folder.exists() and not is_original(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"--out {folder}: it exists, and is not a folder of this kind; choose another")
    (root,) = trees
    pruned, in_pruned_tasks, left_out = collection.pruned, 0, 0
    task_names = _task_names(root)
    names = _file_names(root, task_names)
    by_task: dict[str, list[dict[str, Any]]] = {}
    for example in collection.examples():
        if example["task_id"] in pruned:
            in_pruned_tasks += 1
        elif example["id"] in without:
            left_out += 1
        else:
            by_task.setdefault(example["task_id"], []).append(_theirs(example))
    if strangers := sorted(by_task.keys() - names.keys()):
        raise DataError(f"{collection.path}: examples of task {strangers[0]}, which is not in the tree")
    documents: dict[str, Any] = {TREE: _tree_document(root, task_names, names)}
    for node in below(root):
        fields = {**node.get("original_file", {}), **_fields(node, task_names, names)}
        documents[names[node["id"]]] = {**fields, "examples": by_task.get(node["id"], [])}
    documents[PRUNED] = [task_names[node["id"]] for node in by_level(root) if node["id"] in pruned]
    contents = [as_document(document, collection.path).removesuffix(b"\n") for document in documents.values()]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing([(folder / name).resolve() for name in documents]) as files:
        for file, content in zip(files, contents, strict=True):
            file.write(content)
    return WrittenFolder(sum(map(len, by_task.values())), in_pruned_tasks, left_out)


def _their_name(node: Node) -> str:
    """The name that keeps the task apart from others; a node of ours has none of its own."""
    named = node.get("original", {}).get("task_name")
    return named if isinstance(named, str) and named else str(node["name"])


def _task_names(root: Node) -> dict[str, str]:
    """A name for each task, different from all others: the name that it was imported with, where it had one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for node in sorted(below(root), key=lambda node: "task_name" not in node.get("original", {})):
        name = distinct = _their_name(node)
        number = 0
        while distinct in taken:
            distinct, number = f"{name}_{number}", number + 1
        taken.add(distinct)
        names[node["id"]] = distinct
    return names


def _file_names(root: Node, task_names: Mapping[str, str]) -> dict[str, str]:
    """A file name for each task, different from all others: the name that it was imported with, where it had one."""
    names: dict[str, str] = {}
    taken = {TREE.casefold(), PRUNED.casefold()}
    for node in below(root):
        named = node.get("original", {}).get("config_filename")
        stem = _stem(named) if isinstance(named, str) and named else re.sub(r"[^\w -]+", "_", task_names[node["id"]])
        stem = stem.encode("utf-8", "replace")[:_LONGEST_FILE_NAME].decode(errors="ignore")
        name = f"{stem}.json"
        if name.casefold() in taken:
            name = f"{stem} {node['id']}.json"
        taken.add(name.casefold())
        names[node["id"]] = name
    return names


def _stem(named: str) -> str:
    """The name of a file in this folder from any path, without characters that could steer a terminal."""
    stem = Path(named.replace("\\", "/")).stem
    return "".join(c if c.isprintable() else "_" for c in stem)


def _fields(node: Node, task_names: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Any]:
    original = node.get("original", {})
    ours = {
        "raw_task_name": original.get("raw_task_name", node["name"]),
        "task_name": task_names[node["id"]],
        "config_filename": names[node["id"]],
        "reason": node["reason"],
    }
    return {**original, **ours}


def _tree_document(node: Node, task_names: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Any]:
    children = [_tree_document(child, task_names, names) for child in node["children"]]
    return {**_fields(node, task_names, names), "children": children}


def _theirs(example: ExampleRow) -> dict[str, Any]:
    """The example as it was before its import, or as the published code would write it."""
    more = {key: value for key, value in example.items() if key not in OWN_COLUMNS and key != _THEIRS}
    return {**{name: example[name] for name in _TEXTS}, **more, **example.get(_THEIRS, {})}


def _example(theirs: Mapping[str, Any], example_id: str, task_id: str, path: list[str]) -> ExampleRow:
    clashing = {key: theirs[key] for key in ("id", "task_id", "task_path", "request", _THEIRS) if key in theirs}
    if theirs.get("input", "") is None:
        clashing["input"] = None
    more = {key: value for key, value in theirs.items() if key not in OWN_COLUMNS and key != _THEIRS}
    return {
        "id": example_id,
        "task_id": task_id,
        "task_path": path,
        "instruction": theirs["instruction"],
        "input": theirs.get("input") or "",
        "output": theirs["output"],
        **more,
        **({_THEIRS: clashing} if clashing else {}),
    }


def _check(example: Any, where: str) -> None:
    if not isinstance(example, Mapping):
        raise DataError(f"{where}: not an object")
    for name in _TEXTS:
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
        return orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: invalid JSON: {error}") from error
