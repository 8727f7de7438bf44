"""Values from YAML. Nothing in the text is run, and aliases cannot make it grow without bounds."""

from __future__ import annotations

import re
from typing import Any

import yaml

NO_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""Exceptions that `load` raises. Two are not of PyYAML: for a date with a 13th month, and brackets a thousand deep."""
MOST_REPEATED = 100_000
"""Most values that aliases may add: a few lines of aliases can stand for billions of values."""


def load(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 (a safe loader's child)


class _Loader(yaml.SafeLoader):
    """Raises an error for too many aliases, and for a key that is in a mapping twice: YAML takes the last silently."""

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
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is here twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_INT = "tag:yaml.org,2002:int"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _INT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(  # as in YAML 1.2; in 1.1, 0123 is 83 and 12:30 is 750
    _INT, re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)$"), list("-+0123456789")
)


def _unfolded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """The number of values that the node stands for. `sizes`: those of the nodes seen so far, by their id()."""
    known = sizes.get(id(node))
    if known is not None:
        return known
    sizes[id(node)] = 1  # a node that contains itself; the settings do not accept its value
    below: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        below = node.value
    elif isinstance(node, yaml.MappingNode):
        below = [part for pair in node.value for part in pair]
    sizes[id(node)] = 1 + sum(_unfolded(child, sizes) for child in below)
    return sizes[id(node)]
