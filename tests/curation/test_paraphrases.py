"""Comparison by meaning: the decisions are those of a loop over all pairs, and the vectors those of the model."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cli import in_process

from explore_async.curation import paraphrases
from explore_async.curation.embeddings import MiniLM
from explore_async.curation.filtering import filter_data
from explore_async.curation.paraphrases import Paraphrases, neighbours, vendi_score
from explore_async.errors import ConfigError

TEXTS = {
    "How do I cook rice?": (1, 0),
    "What is the way to prepare rice?": (0.96, 0.28),
    "Name the capital of France.": (0, 1),
    "How do I cook rice now?": (1, 0),
}


class MadeUp:
    """Vectors that are written down, or drawn from a text that is a number."""

    name = "made-up"

    def embed(self, texts):
        rows = [TEXTS[text] if text in TEXTS else drawn(int(text)) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), 2)


def drawn(number: int) -> tuple[float, float]:
    return math.cos(number / 7), math.sin(number / 7)


def naive(texts, scope_of, threshold):
    """Each against all that were kept before it."""
    kept, verdicts = [], []
    for text, text_id in texts:
        vector = np.array(drawn(int(text)), dtype=np.float32)
        near = [(round(float(vector @ other), 4), -at, name) for at, (scope, other, name) in enumerate(kept) if scope == scope_of]  # fmt: skip
        score, _, nearest = max(near, default=(-2, 0, None))
        if score > threshold:
            verdicts.append((False, score, nearest))
        else:
            verdicts.append((True, None, None))
            kept.append((scope_of, vector, text_id))
    return verdicts


@settings(deadline=None, max_examples=60)
@given(
    numbers=st.lists(st.integers(0, 43), max_size=40),
    cuts=st.integers(1, 9),
    threshold=st.sampled_from([0.5, 0.95, 0.9898]),
)
def test_decisions_are_those_of_a_loop(numbers, cuts, threshold):
    """First come, first kept, however the texts are cut into batches and blocks; the nearest is the first of equals."""
    texts = [(str(number), f"id-{at}") for at, number in enumerate(numbers)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paraphrases, "_ROWS", 3)
        second = Paraphrases(MadeUp(), threshold)
        verdicts = [one for at in range(0, len(texts), cuts) for one in second.admit_all(texts[at : at + cuts])]
        assert all(verdict.kept for verdict in second.admit_all(texts[:1], "another scope"))
    assert [(one.kept, one.score, one.nearest) for one in verdicts] == naive(texts, "", threshold)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 43), max_size=30))
def test_neighbours_are_those_of_a_loop(numbers):
    vectors = MadeUp().embed([str(number) for number in numbers])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paraphrases, "_ROWS", 4)
        patch.setattr(paraphrases, "_COLUMNS", 7)
        positions, scores = neighbours(vectors)
    cosines = np.round(vectors @ vectors.T, 4)
    np.fill_diagonal(cosines, -2)
    if len(numbers) < 2:
        assert positions.tolist() == [-1] * len(numbers)
    else:
        assert positions.tolist() == cosines.argmax(axis=1).tolist()
        assert scores.tolist() == cosines.max(axis=1).tolist()


def test_the_vendi_score_is_that_of_the_matrix_of_pairs():
    """By the n x n matrix of the paper's definition; n different texts count as n, n equal ones as one."""
    vectors = np.random.default_rng(3).normal(size=(40, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(vectors.astype(float) @ vectors.T.astype(float) / 40)
    shares = shares[shares > 1e-12]
    assert vendi_score(vectors) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    assert vendi_score(np.eye(5, dtype=np.float32)) == pytest.approx(5)
    assert vendi_score(np.ones((5, 1), dtype=np.float32)) == pytest.approx(1)
    assert vendi_score(np.zeros((0, 5), dtype=np.float32)) == 0


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"instruction": text, "output": "yes"}) + b"\n" for text in TEXTS))
    return path


def test_filter_drops_paraphrases_and_shows_them(source, tmp_path, monkeypatch):
    """ROUGE-L decides first; of what it keeps the paraphrase goes, with its nearest and the cosine in the evidence, and
    `show` says which measure it is. Without --semantic nothing changes.
    """
    monkeypatch.setattr("explore_async.cli.stages.load_embedder", lambda **_: MadeUp())
    plain = in_process("filter", source, "--out", tmp_path / "plain", "--json").json
    assert plain["dropped"] == {"duplicate": 1}
    made = in_process("filter", source, "--out", tmp_path / "out", "--semantic", "--json").json
    assert made["dropped"] == {"duplicate": 1, "paraphrase": 1}
    (line,) = in_process("show", tmp_path / "out", "--dropped", "paraphrase", "--json").json["dropped"]
    assert (line["instruction"], line["score"]) == ("What is the way to prepare rice?", 0.96)
    assert line["nearest_text"] == "How do I cook rice?"
    printed = in_process("show", tmp_path / "out", "--dropped", "paraphrase").stdout
    assert f"paraphrase, cosine 0.960 with {line['nearest']}" in printed
    assert "near: How do I cook rice?" in printed
    shown = in_process("show", tmp_path / "out", line["id"]).stdout
    assert "paraphrase (it says the same as one before it in other words)" in shown
    assert "cosine 0.960 with the nearest" in shown
    origin = orjson.loads((tmp_path / "out" / "data.json").read_bytes())
    assert origin["settings"]["semantic"] == {"model": "made-up", "threshold": 0.8}
    result = filter_data(source, tmp_path / "strict", semantic=MadeUp(), semantic_threshold=0.97)
    assert dict(result.dropped) == {"duplicate": 1}


def test_without_the_extra_the_way_out_is_named(source, tmp_path):
    """An error with an exit code before anything is read or written."""
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"pip install 'explore-async\[embed\]'"):
            filter_data(source, tmp_path / "out", semantic=True)
        assert not (tmp_path / "out").exists()
        failed = in_process("analyze", source, "--semantic")
        assert failed.code == ConfigError.exit_code
        assert "explore-async[embed]" in failed.stderr


@pytest.mark.slow
def test_the_real_model_knows_a_paraphrase():
    """Its cosines are those that the model's page publishes; texts have length 1; the same give the same bytes."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = MiniLM()
    texts = [text for text in TEXTS if "now" not in text]
    vectors = model.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > 0.8
    published = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
    first, *others = model.embed(published)
    np.testing.assert_allclose(others @ first, [0.6945774, 0.9429151, 0.2568761], atol=1e-5)
    assert model.embed(texts).tobytes() == vectors.tobytes()
    assert model.embed([]).shape == (0, 384)
    assert model.embed(["word " * 2000]).shape == (1, 384)
