"""Reads the files of domains, whose passages the requests for examples show: `files:` of a domain in a config."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from explore_async.curation.collections.run_data import whole_rows
from explore_async.curation.files.fields import FieldError, text_of
from explore_async.curation.files.formats import Compression, Format, Kind
from explore_async.curation.files.source import Source
from explore_async.errors import ConfigError, DataError
from explore_async.exploration.passages import cut
from explore_async.settings.recipe import DEFAULT_FIELD, Domain, DomainFile, Passage, RecipeFields

_MARKDOWN: Final = (".md", ".markdown")
_TEXTS: Final = (*_MARKDOWN, ".txt")
_ENDINGS: Final = (*_TEXTS, ".jsonl", ".ndjson")
_COMPRESSIONS: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd"}

R = TypeVar("R", bound=RecipeFields)


def with_passages(recipe: R) -> R:
    """The recipe, or settings, with the passages of its files and their digests. Raises ConfigError where a file
    cannot be read, has no passage, or does not match its digest.
    """
    if not any(domain.files for domain in recipe.domains):
        return recipe
    read = (_with_passages(domain, f"domains.{number}") for number, domain in enumerate(recipe.domains))
    return recipe.model_copy(update={"domains": tuple(read)})


def unused_fields(recipe: RecipeFields) -> list[str]:
    """The fields that are named of files of text, which have none, by their dotted names."""
    return [
        f"domains.{number}.files.{place}.field"
        for number, domain in enumerate(recipe.domains)
        for place, file in enumerate(domain.files)
        if file.field != DEFAULT_FIELD and _ending(Path(file.path)) in _TEXTS
    ]


def _with_passages(domain: Domain, where: str) -> Domain:
    files: list[DomainFile] = []
    names: set[str] = set()
    for number, file in enumerate(domain.files):
        place = f"{where}.files.{number}"
        try:
            passages = tuple(_passages(file, place, names))
        except DataError as error:
            raise ConfigError(f"{place}: {error}") from error
        if not passages:
            raise ConfigError(f"{place}: {file.path} has no text, so there is no passage to show")
        digest = _digest(passages)
        if file.digest not in {None, digest}:
            raise ConfigError(
                f"{place}: {file.path} has other passages than when the run began; put the files back "
                "as they were, or begin a new run with these"
            )
        files.append(file.holding(passages, digest))
    return domain.model_copy(update={"files": tuple(files)})


def _digest(passages: Sequence[Passage]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for passage in passages:
        for text in passage:
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _passages(file: DomainFile, where: str, names: set[str]) -> Iterator[Passage]:
    """`names`: of the files that the domain has so far."""
    for path, name in _files(Path(file.path), where):
        if name in names:
            raise ConfigError(
                f"{where}: two files of the domain are called {name}, and rows could not say which one they came from; "
                "rename one, or name a folder that holds both"
            )
        names.add(name)
        texts = (
            cut(text, markdown=_ending(path) in _MARKDOWN)
            for text in (_rows(path, file.field) if _ending(path) not in _TEXTS else [_whole(path)])
        )
        for number, text in enumerate((piece for pieces in texts for piece in pieces), start=1):
            yield Passage(f"{name}#{number}", text)


def _files(path: Path, where: str) -> Iterator[tuple[Path, str]]:
    """The files below a path, each with the name that rows tell."""
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if _ending(path) not in _ENDINGS:
            raise ConfigError(
                f"{where}: {path}: the name tells the format: {', '.join(_ENDINGS)}, each also as .gz or .zst"
            )
        yield path, path.name
        return
    found = sorted(
        below.relative_to(path)
        for below in path.rglob("*")
        if below.is_file() and _ending(below) in _ENDINGS and not _is_hidden(below.relative_to(path))
    )
    if not found:
        raise DataError(f"{path} has no file called {', '.join('*' + end for end in _ENDINGS)}")
    for below in found:
        yield path / below, below.as_posix()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _ending(path: Path) -> str:
    """The end of the name that tells the format, without that of a compression."""
    name = path.name.lower()
    return Path(name.removesuffix(_compression(name))).suffix


def _compression(name: str) -> str:
    return next((end for end in _COMPRESSIONS if name.endswith(end)), "")


def _whole(path: Path) -> str:
    source = Source(path, form=Format(Kind.TEXT, _COMPRESSIONS.get(_compression(path.name.lower()))))
    lines: list[str] = []
    for row in whole_rows(source):
        line = str(row.value["text"])
        if "\0" in line:
            raise DataError(f"{source.place(row.number)}: a zero byte: this is no file of text")
        lines.append(line)
    return "\n".join(lines)


def _rows(path: Path, field: str) -> Iterator[str]:
    source = Source(path)
    for row in whole_rows(source):
        try:
            yield text_of(row.value, [field])
        except FieldError as error:
            raise DataError(
                f"{source.place(row.number)}: {error}; name the field in the config: files: [{{path: …, field: …}}]"
            ) from error
