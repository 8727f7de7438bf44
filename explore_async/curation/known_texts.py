"""The texts that a run's examples have to differ from: `against:` in a config, read from wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from explore_async.curation.collections.open import open_collection
from explore_async.curation.collections.run_data import whole_rows
from explore_async.curation.files.fields import FieldError, text_of
from explore_async.curation.files.source import Source
from explore_async.errors import ConfigError, DataError
from explore_async.settings.recipe import KnownTexts, ResolvedKnownTexts


def read_known(known: Sequence[KnownTexts]) -> tuple[tuple[ResolvedKnownTexts, ...], list[tuple[str, str]]]:
    """The same with the digests of what they hold, and all texts with their ids, "against:FILE.ROW" from 0 and 1.

    DataError where one cannot be read, ConfigError where it is not what its digest says.
    """
    resolved: list[ResolvedKnownTexts] = []
    texts: list[tuple[str, str]] = []
    for number, one in enumerate(known):
        digest = hashlib.blake2b(digest_size=16)
        for row, text in enumerate(_texts(one), start=1):
            texts.append((text, f"against:{number}.{row}"))
            digest.update(len(text).to_bytes(8, "little") + text.encode())
        if not texts or not texts[-1][1].startswith(f"against:{number}."):
            raise DataError(f"against.{number}: {one.path} holds nothing")
        found = digest.hexdigest()
        if isinstance(one, ResolvedKnownTexts) and one.digest not in {None, found}:
            raise ConfigError(f"against.{number}: {one.path} does not hold the texts that its digest stands for")
        resolved.append(ResolvedKnownTexts(path=one.path, field=one.field, digest=found))
    return tuple(resolved), texts


def _texts(one: KnownTexts) -> Iterator[str]:
    path = Path(one.path)
    if path.is_dir():
        for example in open_collection(path).examples():
            yield example["instruction"]
        return
    source = Source(path, text_column=one.field)
    for row in whole_rows(source):
        try:
            yield text_of(row.value, [one.field])
        except FieldError as error:
            raise DataError(
                f"{source.place(row.number)}: {error}; `against:` takes {{path: …, field: …}} as well"
            ) from error
