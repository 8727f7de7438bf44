"""The commands init and schema: write what a user begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explore_async.cli.options import local_path
from explore_async.cli.output import say
from explore_async.errors import ConfigError


def init(
    domain: Annotated[
        str,
        typer.Argument(metavar="DOMAIN", help='the subject of the data, for example "Answer questions about plants"'),
    ],
    language: Annotated[str, typer.Option(help="the language of the data, for example German")] = "English",
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=local_path,
            help="also write the templates of the prompts into this folder, to be changed",
        ),
    ] = None,
) -> None:
    """Print a config with comments for a domain of yours."""
    from explore_async.config.template import template
    from explore_async.curation.language_codes import doubt_about_language

    if not domain.strip() or not language.strip():
        raise ConfigError("init: the domain and the language are words, not blanks")
    if prompts is not None:
        _write_prompts(prompts)
    if doubt := doubt_about_language(language):
        say(doubt)
    typer.echo(template(domain, language=language, prompts=None if prompts is None else str(prompts)), nl=False)


def _write_prompts(folder: Path) -> None:
    """Writes the packaged templates. Raises ConfigError where one of them is there: it may be the user's own."""
    from explore_async.config.template import prompt_files
    from explore_async.storage.whole_files import storage_errors, write_whole

    files = {folder / name: text for name, text in prompt_files().items()}
    if there := [str(path) for path in files if path.exists()]:
        raise ConfigError(f"--prompts {folder}: {', '.join(there)} is there already; name another folder")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        write_whole(path, text.encode())
    say(f"{', '.join(map(str, files))}: change them; a file that you remove is the program's own again")


def schema() -> None:
    """Print the JSON schema of a config, for editors."""
    from explore_async.config.schema import config_schema
    from explore_async.terminal.text import json_text

    typer.echo(json_text(config_schema()))
