"""Pushes an exported folder to a hub of datasets, by huggingface_hub, which knows the user's token and hub."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import cast

from explore_async.curation.export_files import CARD, FOR_TRAINERS, TRAIN, VALIDATION, is_folder_name
from explore_async.errors import ConfigError, DataError, EndpointError
from explore_async.storage.places import local_place
from explore_async.terminal.text import printable

_REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


def check_push(folder: Path, repository: str) -> None:
    """Raises ConfigError for what `push_data` cannot push, so that it is told before an export."""
    if not is_folder_name(folder):
        raise ConfigError(
            f"--push needs a folder with a card: --out {folder.with_suffix('')} instead of --out {folder}"
        )
    if importlib.util.find_spec("huggingface_hub") is None:
        raise ConfigError("--push needs huggingface_hub: pip install 'explore-async[hub]'")
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"--push {repository}: write it as OWNER/NAME, of letters, digits, '-', '_' and '.'")


def push_data(folder: str | os.PathLike[str], repository: str, *, public: bool = False) -> str:
    """Uploads an exported folder to a repository (owner/name) as one commit, and returns its address.

    Parts of an earlier push that are not in the folder any more are removed. A new repository is private unless
    `public`. Raises ConfigError for a name or a card that the hub does not take and without huggingface_hub, DataError
    where the folder is no export, EndpointError where the hub refuses or cannot be reached.
    """
    folder = local_place(folder)
    check_push(folder, repository)
    if not (folder / CARD).is_file() or not (folder / TRAIN).is_file():
        raise DataError(f"{folder}: not the folder of an export: it has no {CARD} or no {TRAIN}")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    any_fault_of_http = cast(
        type[Exception], HfHubHTTPError.__bases__[0]
    )  # of the HTTP library, which differs by the version of the hub's
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None)
    kept = f"The export is in {folder}"
    try:
        url = hub.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        hub.upload_folder(
            folder_path=folder,
            repo_id=url.repo_id,
            repo_type="dataset",
            allow_patterns=[CARD, *FOR_TRAINERS, TRAIN, VALIDATION],
            delete_patterns=["data/*"],
            commit_message="Export of explore_async",
        )
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise EndpointError(
            f"--push {repository}: the hub refused it ({status}): {printable(error.server_message or str(error))}; log "
            f"in with `hf auth login` or set HF_TOKEN to a token that may write there. {kept}",
            endpoint=hub.endpoint,
            status=status,
        ) from error
    except ValueError as error:
        raise ConfigError(f"--push {repository}: {printable(str(error))}. {kept}") from error
    except (any_fault_of_http, OSError, RuntimeError) as error:
        raise EndpointError(
            f"--push {repository}: the hub cannot be reached: {printable(str(error.__cause__ or error))}; the same "
            f"command tries again. {kept}",
            endpoint=hub.endpoint,
        ) from error
    return str(url)
