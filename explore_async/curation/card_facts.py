"""The facts that a data card states: how the data was made, what came of it, its limitations, and a citation. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from explore_async.curation.card_text import escape, fenced
from explore_async.curation.collections.collection import Collection
from explore_async.curation.collections.data_directory import made_by_whom
from explore_async.exploration.parsing import HIGHEST, LOWEST
from explore_async.exploration.scores import mean_score
from explore_async.serving.servers.registry import REGISTRY
from explore_async.settings.recipe import Samplings

_PAPER = """\
@inproceedings{wan2023exploreinstruct,
  title     = {Explore-Instruct: Enhancing Domain-Specific Instruction Coverage through Active Exploration},
  author    = {Wan, Fanqi and Huang, Xinting and Yang, Tao and Quan, Xiaojun and Bi, Wei and Shi, Shuming},
  booktitle = {Proceedings of the 2023 Conference on Empirical Methods in Natural Language Processing},
  year      = {2023},
  eprint    = {2310.09168}
}"""
_VOTED: Final = "the first with the final answer of most of them"
"""The output by `answer --vote`."""


def making(source: Collection, model_revision: str) -> Iterator[tuple[str, Any]]:
    recipe, config = source.recipe, source.config
    yield "model", models(recipe)
    yield "revision of the model", model_revision or _pinned_file(source)
    yield "engine", ", ".join(made_by_whom(source).get("engines", ()))
    yield "language that the prompts name", recipe.get("language")
    yield "date", dates(source)
    yield "passages shown in the prompts", ", ".join(_files(recipe))
    yield from _finishing(recipe)
    for kind, sampling in _samplings(recipe).items():
        given = {name: value for name, value in sampling.items() if value not in ([], None)}
        yield f"sampling, {kind}", ", ".join(f"{name} {value}" for name, value in given.items())
    yield "seed", recipe.get("seed")
    yield "prompts", "the recipe's own" if recipe.get("prompts") else "explore_async's"
    exploration, filters = recipe.get("exploration") or {}, recipe.get("filters") or {}
    yield "tree", f"depth {exploration.get('depth')}, breadth {exploration.get('breadth')}"
    yield (
        "near-duplicates",
        f"ROUGE-L F above {filters.get('threshold')} with an earlier instruction of the same {filters.get('scope')}",
    )
    yield "digest of the recipe", config.get("digest")


def _finishing(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The requests about each instruction, with their models."""
    if _is_separate(recipe):
        number = recipe.get("answers_per_instruction", 1)
        by_scores, first = "the best of them by its scores", "the first that passed the filters"
        best = _VOTED if recipe.get("vote") else by_scores if recipe.get("judge") else first
        several = f"; {number} to each instruction, and the output is {best}" if number > 1 else ""
        yield (
            "answers",
            f"each in a request of its own, as a user would ask it, by {_model_of(recipe, 'answer')}{several}",
        )
        systems = list(dict.fromkeys(filter(None, (domain.get("system") for domain in recipe.get("domains", ())))))
        yield "system prompt of the answers", systems[0] if len(systems) == 1 else "; ".join(systems)
    if (turns := recipe.get("turns", 1)) > 1:
        user = _model_of(recipe, "follow_up")
        yield "conversations", f"up to {turns} questions of a user, the later ones written by {user}"
    yield "checks", ", ".join(check["name"] for check in recipe.get("checks") or ())
    yield from _judging(recipe)


def _judging(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if judge := settings.get("judge"):
        if aspects := judge.get("aspects"):  # a filter goes by the scores that there are
            yield "judge", _model_of(settings, "judge")
            yield "it scores, from 1 to 5", "; ".join(f"{name}: {meaning}" for name, meaning in aspects.items())
        threshold = judge.get("threshold")
        yield (
            "dropped below",
            "nothing, whatever the score" if threshold is None else f"a score of {threshold:g} on any of these",
        )


def _files(recipe: Mapping[str, Any]) -> list[str]:
    """The names of the files whose passages prompts showed."""
    paths = (file["path"] for domain in recipe.get("domains", ()) for file in domain.get("files") or ())
    return list(dict.fromkeys(str(path).rstrip("/").rpartition("/")[2] for path in paths))


def _is_separate(recipe: Mapping[str, Any]) -> bool:
    return recipe.get("responses") == "separate"


def _model_of(recipe: Mapping[str, Any], kind: str) -> str:
    return str((recipe.get("models") or {}).get(kind) or recipe.get("model") or "the same model")


def _samplings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Of all stages that the run had; a recipe leaves out those of later stages where they are the default."""
    given, usual = recipe.get("sampling") or {}, Samplings()
    later = {"answers": _is_separate(recipe) or recipe.get("turns", 1) > 1, "judging": bool(recipe.get("judge"))}
    added = {name: getattr(usual, name).model_dump(mode="json") for name, used in later.items() if used}
    return {**(added if given else {}), **given}


def models(recipe: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, dict.fromkeys([recipe.get("model") or "", *(recipe.get("models") or {}).values()])))


def writer(source: Collection) -> str:
    """The author of the texts, in words."""
    recipe, answered = source.recipe, {}
    if source.config.get("made_by") == "answer":
        answered = {"answer": _model_of(source.config["settings"], "answer")}
    others = {kind: name for kind, name in (recipe.get("models") or {}).items() if kind != "judge"} | answered
    return "a simulated server" if source.is_simulated else models({**recipe, "models": others}) or "a language model"


def _pinned_file(source: Collection) -> str:
    """The file of a model that the run itself served from its registry; empty for others."""
    operation = source.config.get("operation") or {}
    model = REGISTRY.get(str(source.recipe.get("model")))
    own_server = bool(operation) and not operation.get("endpoints") and not operation.get("endpoints_file")
    return f"{model.file}, SHA-256 {model.sha256}" if model is not None and own_server else ""


def dates(source: Collection) -> str:
    """The first and the last day of the run; empty where it was made before runs noted them."""
    made = made_by_whom(source)
    days = [str(made[name])[: len("2026-01-01")] for name in ("begin", "end") if made.get(name)]
    return " to ".join(dict.fromkeys(days))


def figures(stats: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    examples, tasks, tokens = (stats.get(name) or {} for name in ("examples", "tasks", "tokens"))
    if not examples:
        return
    yield "examples read", f"{examples['read']:,}"
    if instructions := stats.get("instructions"):
        yield "new instructions", f"{instructions:,}"
    if answers := stats.get("answers"):
        yield "answers", f"{answers['total']:,}, {answers.get('accepted', 0):,} of them passed the filters"
    yield "kept", f"{examples['kept']:,}"
    for reason, count in examples["dropped"].items():
        if reason != "total":
            yield f"dropped: {reason}", f"{count:,}"
    if surplus := examples.get("surplus"):
        yield "not judged, as their tasks were full", f"{surplus:,}"
    yield "tasks", f"{tasks['total']:,}, {tasks['with_examples']:,} of them with examples"
    yield "requests", f"{stats['requests']['total']:,}"
    yield "tokens", f"{tokens.get('prompt', 0):,} read, {tokens.get('completion', 0):,} written"
    if starts := stats.get("all_starts"):
        times = "one start" if starts["starts"] == 1 else f"{starts['starts']:,} starts"
        yield "time", f"{starts['seconds']:,.0f} s in {times}"
    else:
        yield "time", f"{stats.get('seconds_this_time', 0):,.0f} s since its last start"


def covering(coverage: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Figures of all kept examples, before any sample."""
    chao1, unseen = coverage["chao1"], coverage["unseen_mass"]
    yield "examples", f"{coverage['examples']:,}"
    yield "language", coverage.get("other_language")
    if not coverage.get("pairs_left_out"):
        yield "unique pairs of verb and noun", f"{coverage['unique']:,}"
        yield "occurrences of a pair", f"{coverage['mean_occurrences']:.2f} ± {coverage['std_occurrences']:.2f}"
        if hill := coverage.get("hill"):
            yield "pairs in effect (Hill numbers of order 1; 2)", f"{hill[1]:,.1f}; {hill[2]:,.1f}"
    if chao1 is not None:
        interval = f"{chao1['low']:,.0f} – {chao1['high']:,.0f}"
        yield "pairs in all, at least (Chao1)", f"{chao1['value']:,.0f} (95 %: {interval})"
        yield "chance that the next pair is new (Good–Turing)", f"{unseen['value']:.1%}"
    if covered := coverage.get("coverage"):
        interval = f"{covered['low']:.1%} – {covered['high']:.1%}"
        yield "share of all pairs, by frequency (Chao and Jost)", f"{covered['value']:.1%} (95 %: {interval})"
    yield "ROUGE-L with the nearest other, mean", f"{coverage['overlap_nearest']:.3f}"
    yield "with a near-duplicate (ROUGE-L above 0.7)", f"{coverage['near_duplicates']:.1%}"
    yield from _compressed(coverage.get("compression") or {})
    if shape := coverage.get("shape"):
        yield "depth of the tree", shape["depth"]
        yield "balance of the tree (J1: 0 to 1)", f"{shape['balance']:.2f}"
        for key, name in (("siblings", "siblings"), ("parent_child", "parent and child")):
            if (alike := shape[key])["mean"] is not None:
                yield f"names of {name}, ROUGE-L: mean, most", f"{alike['mean']:.3f}, {alike['greatest']:.3f}"
    if meaning := coverage.get("semantic"):
        number, compared, model = (meaning[name] for name in ("paraphrases", "compared", "model"))
        above = f"cosine above {meaning['threshold']}, by {model}"
        yield "with a paraphrase", f"{number:,} of {compared:,} ({above})"
        yield "different instructions in effect (Vendi score)", f"{meaning['vendi']:,.1f} of {compared:,}"
    if cost := coverage.get("cost"):
        for tokens, name in (("generated", "generated"), ("equivalent", "decode-equivalent")):
            if kept := cost[f"per_1000_{tokens}"].get("kept"):
                yield f"examples for 1,000 {name} tokens", f"{kept:.2f}"


def _compressed(compression: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in ("instruction", "output"):
        if ratio := compression.get(name):
            yield f"compression of {ratio['bytes']:,} bytes of {name}s by zlib", f"{ratio['mean']:.2f}"


def done(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "by", data.get("made_by")
    yield "of", ", ".join(str(source.get("name")) for source in data.get("sources", []))
    settings = data.get("settings") or {}
    if data.get("made_by") == "answer":
        voted = f"; the output is {_VOTED}" if settings.get("vote") else ""
        yield (
            "new answers",
            f"{settings['answers_per_instruction']} to each instruction, by {_model_of(settings, 'answer')}{voted}",
        )
        yield "system prompt", settings["system"]
    judge = settings.get("judge")
    if judge and data.get("recipe"):  # that has the rest
        judge = {"threshold": judge.get("threshold")}
    yield from _judging({**settings, "judge": judge})
    if filters := settings.get("filters"):
        yield "near-duplicates", f"ROUGE-L F above {filters['threshold']}, within the same {filters['scope']}"
    counts = data.get("examples") or {}
    yield "kept", f"{counts.get('kept', 0):,}"
    for reason, count in (counts.get("dropped") or {}).items():
        if reason != "total":
            yield f"dropped: {reason}", f"{count:,}"


def score_rows(scores: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, ...]]:
    """The mean of each aspect, and the share of examples with each score; the first row has the names."""
    values = [str(score) for score in range(LOWEST, HIGHEST + 1)]
    yield ("aspect", "mean", *values)
    for aspect, counts in scores.items():
        number = sum(counts.values())
        yield (aspect, f"{mean_score(counts):.2f}", *(f"{counts.get(value, 0) / number:.0%}" for value in values))


def limitations(source: Collection, exported: int, marked: Counter[str], *, scored: bool) -> Iterator[str]:
    """The limits of the data, for its users. `marked`: number of the exported examples with each mark of a reader;
    `scored`: examples have the scores of a judge.
    """
    recipe = source.recipe
    if source.is_simulated:
        yield "- A simulated server made these texts up, without any model. They mean nothing."
    elif recipe or source.config.get("made_by") == "answer":
        yield "- A language model wrote these texts. They can be wrong, biased or outdated, or miss the question."
    if marked:
        counts = ", ".join(f"{count:,} as {name}" for name, count in marked.items())
        yield (
            f"- Readers have marked {marked.total():,} of the {exported:,} examples ({counts}). Nobody has checked "
            "the others."
        )
    else:
        yield "- Nobody has checked these examples."
    if scored and not source.is_simulated:
        yield from _on_the_judge(source)
    if recipe and not source.is_simulated:
        yield (
            "- The tasks are those that the model thought of, and the recipe sets their shares. They say nothing about "
            "what people ask."
        )
    if recipe:
        yield (
            "- Near-duplicates were found by the words that instructions share in the same order (ROUGE-L). "
            "Paraphrases in other words are still there."
        )
        yield from _on_the_language(source)
        if files := escape(", ".join(_files(recipe))):
            yield f"- Texts draw on passages of {files}: the rights and mistakes of those are in them."
    if source.config.get("made_by") == "decontaminate":
        names = ", ".join(escape(name) for name in (source.config.get("settings") or {}).get("benchmarks", ()))
        yield f"- The examples were compared with these benchmarks and no others: {names}."
    elif source.is_run:
        yield "- The examples were not compared with any benchmark."
    if recipe and not source.is_simulated:
        yield f"- The terms of {escape(models(recipe) or 'the model')} apply to its texts, beside the license above."
    yield ""


def _on_the_judge(source: Collection) -> Iterator[str]:
    """The judge is that of the last command that scored, where that is known."""
    made_by, recipe = source.config.get("made_by"), source.recipe
    settings = source.config["settings"] if made_by in {"answer", "rate"} else recipe
    name, own = "", ""
    if settings.get("judge"):
        judge = _model_of(settings, "judge")
        name = f" ({escape(judge)})"
        answered = settings if made_by == "answer" else recipe
        kind = "answer" if made_by == "answer" or _is_separate(recipe) else "generate"
        if answered and judge == _model_of(answered, kind):
            own = " It is the model that wrote the answers, and a model may like its own."
    yield (
        f"- The scores are the opinion of a model{name} and no measurement: it overlooks mistakes and finds some that "
        f"are none.{own} Nobody has compared them with what people say."
    )


def _on_the_language(source: Collection) -> Iterator[str]:
    language = escape(source.recipe.get("language") or "")
    if not language or source.is_simulated:
        return
    of_a_stage = (source.config.get("settings") or {}).get("filters")  # a filter's own are those that it judged by
    checked = (of_a_stage or source.recipe.get("filters") or {}).get("language")
    why = "as the prompts are" if language == "English" else "the prompts say so"
    how = "Examples that are clearly in another language were dropped." if checked else "It was not checked."
    yield f"- The texts are to be in {language}: {why}. {how}"


def citation(source: Collection, owner: str) -> Iterator[str]:
    """Entries for BibTeX: the data, and the method. `owner`: of its repository; may be empty."""
    recipe = source.recipe
    if not recipe:
        return
    made_with = f"explore_async {source.config.get('explore_async', '')}".rstrip()
    fields = {
        "author": owner,
        "title": source.name,
        "year": dates(source)[-len("2026-01-01") :][: len("2026")],
        "note": f"Written by {writer(source)}, with {made_with}",
    }
    lines = [f"  {name:<6} = {{{_bibtex(value)}}}" for name, value in fields.items() if value]
    key = re.sub(r"[^a-z0-9]+", "", source.name.casefold()) or "dataset"
    yield fenced(",\n".join([f"@misc{{{key}", *lines]) + f"\n}}\n\n{_PAPER}", "bibtex")


def _bibtex(text: str) -> str:
    """One line without characters that end a field or begin a command."""
    line = "".join(c if c.isprintable() and c not in "{}\\" else " " for c in text)
    return re.sub(r"([%&#_$])", r"\\\1", line)
