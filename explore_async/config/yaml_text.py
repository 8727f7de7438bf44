"""YAML as values: nothing in it is run, and nothing in it grows beyond its size."""

from __future__ import annotations

from typing import Any

import yaml

NO_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""What `load` raises. PyYAML lets the last two through: a date with a 13th month, brackets a thousand deep."""
MOST_REPEATED = 100_000
"""Values that aliases may add to those that are written out; a few lines of them can stand for billions."""


def load(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 (a safe loader's child)


class _Loader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice, of which YAML would silently take the last, and too many aliases."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            sizes: dict[int, int] = {}
            if _unfolded(node, sizes) - len(sizes) > MOST_REPEATED:
                problem = f"its aliases stand for more than {MOST_REPEATED:,} values"
                raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value!r} stands here twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _unfolded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values the node stands for. `sizes`: those of the nodes that were looked at, by their identity."""
    known = sizes.get(id(node))
    if known is not None:
        return known
    sizes[id(node)] = 1  # one that holds itself is refused by whoever takes the values
    below: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        below = node.value
    elif isinstance(node, yaml.MappingNode):
        below = [part for pair in node.value for part in pair]
    sizes[id(node)] = 1 + sum(_unfolded(one, sizes) for one in below)
    return sizes[id(node)]
