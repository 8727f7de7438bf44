"""The model that compares by meaning, with the progress of its download."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explore_async.curation.embeddings import Embedder
    from explore_async.serving.servers.download import Progress


def load_embedder(*, quiet: bool) -> Embedder:
    """Raises ConfigError where the extra is not installed."""
    from explore_async.cli.output import all_or_nothing
    from explore_async.curation.embeddings import embedder_of
    from explore_async.serving.servers.download import MIB
    from explore_async.terminal.reporter import Reporter

    with all_or_nothing(), Reporter(quiet=quiet) as reporter:

        def fetching(progress: Progress) -> None:
            reporter.update(f"{progress.what}: {progress.done // MIB} of {progress.total // MIB} MiB")

        return embedder_of(semantic=True, report=fetching)
