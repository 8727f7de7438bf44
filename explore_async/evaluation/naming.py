"""Names of datasets that a comparison shows beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from explore_async.curation.collections.collection import Collection, printable_path


def names_apart(sources: Sequence[Collection]) -> list[str]:
    """The name of each; those with the same name get as much of the paths above them as tells them apart."""
    above = [_above(source) for source in sources]

    def named(place: int) -> str:
        name = sources[place].name
        alike = [folders for source, folders in zip(sources, above, strict=True) if source.name == name]
        different = len(set(map(tuple, alike)))
        if different == 1:  # it has the name alone, or nothing tells them apart
            return name
        depth = next(n for n in count(1) if len({tuple(folders[-n:]) for folders in alike}) == different)
        return "/".join([*above[place][-depth:], name])

    return [named(place) for place in range(len(sources))]


def _above(source: Collection) -> list[str]:
    """The folders above a file or directory, and its own name where this is another than that of the data."""
    *folders, last = printable_path(source.path.resolve()).split("/")
    return folders if last.partition(".")[0] == source.name or last == source.name else [*folders, last]
