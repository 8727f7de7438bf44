"""Writes folders of the published Explore-Instruct code, with a name and a file for each task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from explore_async.curation.collections.collection import OWN_COLUMNS, Collection, ExampleRow, Node, below, by_level
from explore_async.curation.collections.conversations import check_one_answer, conversation_of
from explore_async.curation.collections.originals import PRUNED, TEXT_COLUMNS, THEIRS, TREE, is_original, their_name
from explore_async.curation.collections.output_places import check_not_read
from explore_async.curation.files.fields import FieldError
from explore_async.curation.files.writers import as_document
from explore_async.errors import ConfigError, DataError
from explore_async.storage.whole_files import replacing, storage_errors

ORIGINAL = "explore-instruct"
"""The name of this format for users."""
_LONGEST_FILE_NAME = 200
"""Bytes: file systems allow 255, and the suffix needs some."""


class WrittenFolder(NamedTuple):
    """Numbers of examples: written, left out with their pruned task, and left out because they were named; and of the
    written ones those with an empty output.
    """

    examples: int
    in_pruned_tasks: int
    left_out: int
    unanswered: int


def write_original(collection: Collection, folder: Path, *, without: frozenset[str] = frozenset()) -> WrittenFolder:
    """Writes all tasks as such a folder, with the examples of those that are not pruned. Raises ConfigError where
    something else is in its place, DataError for an example with a preference, of which the format says nothing.
    `without`: ids of examples that are left out.
    """
    trees = collection.trees()
    if len(trees) != 1:
        raise ConfigError(f"{collection.path}: {len(trees)} domains; such a folder holds one tree")
    if folder.exists() and not is_original(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"--out {folder}: it exists, and is not a folder of this kind; choose another")
    check_not_read("--out", folder, [collection.path])
    (root,) = trees
    pruned, in_pruned_tasks, left_out, unanswered = collection.pruned, 0, 0, 0
    task_names = _task_names(root)
    names = _file_names(root, task_names)
    by_task: dict[str, list[dict[str, Any]]] = {}
    for example in collection.examples():
        if example["task_id"] in pruned:
            in_pruned_tasks += 1
        elif example["id"] in without:
            left_out += 1
        else:
            _check(example, collection.path)
            unanswered += not example["output"].strip()
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
        for file, name, content in zip(files, documents, contents, strict=True):
            with storage_errors(folder / name):
                file.write(content)
    return WrittenFolder(sum(map(len, by_task.values())), in_pruned_tasks, left_out, unanswered)


def _check(example: ExampleRow, path: Path) -> None:
    try:
        check_one_answer(conversation_of(example), ORIGINAL)
    except FieldError as error:
        raise DataError(f"{path}, example {example['id']}: {error}") from error


def _task_names(root: Node) -> dict[str, str]:
    """A name for each task, different from all others: the name that it was imported with, where it had one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for node in sorted(below(root), key=lambda node: "task_name" not in node.get("original", {})):
        name = distinct = their_name(node)
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
    more = {key: value for key, value in example.items() if key not in OWN_COLUMNS and key != THEIRS}
    return {**{name: example[name] for name in TEXT_COLUMNS}, **more, **example.get(THEIRS, {})}
