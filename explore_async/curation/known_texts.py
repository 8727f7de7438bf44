"""Reads the known texts that the examples of a run must differ from: `against:` in a config."""

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
    """The sources with the digests of their texts, and all texts with their ids: "against:FILE.ROW", from 0 and 1.

    Raises DataError where a source cannot be read, ConfigError where it does not match its digest.
    """
    resolved: list[ResolvedKnownTexts] = []
    texts: list[tuple[str, str]] = []
    for number, source in enumerate(known):
        digest = hashlib.blake2b(digest_size=16)
        for row, text in enumerate(_texts(source), start=1):
            texts.append((text, f"against:{number}.{row}"))
            digest.update(len(text).to_bytes(8, "little") + text.encode())
        if not texts or not texts[-1][1].startswith(f"against:{number}."):
            raise DataError(f"against.{number}: {source.path} has no texts")
        of_texts = digest.hexdigest()
        if isinstance(source, ResolvedKnownTexts) and source.digest not in {None, of_texts}:
            raise ConfigError(f"against.{number}: {source.path} has other texts than when its digest was made")
        resolved.append(ResolvedKnownTexts(path=source.path, field=source.field, digest=of_texts))
    return tuple(resolved), texts


def _texts(known: KnownTexts) -> Iterator[str]:
    path = Path(known.path)
    if path.is_dir():
        for example in open_collection(path).examples():
            yield example["instruction"]
        return
    source = Source(path, text_column=known.field)
    for row in whole_rows(source):
        try:
            yield text_of(row.value, [known.field])
        except FieldError as error:
            raise DataError(
                f"{source.place(row.number)}: {error}; name the field in the config: against: [{{path: …, field: …}}]"
            ) from error
