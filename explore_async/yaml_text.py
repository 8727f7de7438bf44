"""YAML as people write it: no key twice, and no aliases that unfold to more than anybody would write."""

from __future__ import annotations

from typing import Any

import yaml

MOST_VALUES = 1_000_000
"""With all aliases written out. Nine lists of nine aliases each would be 400 million."""

_FAULTS = (yaml.YAMLError, ValueError, RecursionError)
"""PyYAML lets the last two through: a date with a 13th month, brackets a thousand deep."""


def parsed(text: str) -> Any:
    """The document. Raises ValueError that says why it is none."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a safe loader's child)
    except _FAULTS as error:
        raise ValueError(f"this is no YAML: {error}") from error


class _Loader(yaml.SafeLoader):
    """Knows how many values each node stands for."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._values: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        node = super().compose_node(parent, index)
        if node is not None and node not in self._values:
            pairs = node.value if isinstance(node, yaml.MappingNode) else [(one,) for one in _below(node)]
            self._values[node] = 1 + sum(self._values.get(one, 1) for pair in pairs for one in pair)
            if self._values[node] > MOST_VALUES:
                raise yaml.composer.ComposerError(
                    None, None, f"more than {MOST_VALUES:,} values, its aliases written out", node.start_mark
                )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a key that a mapping has twice, of which YAML would silently take the last."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value!r} stands here twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _below(node: yaml.Node) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else []
