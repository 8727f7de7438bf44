"""dedup by pairs in partitions: the verdicts are those of one index, whatever the partitions."""

from __future__ import annotations

import importlib.util
import re
import socket
from pathlib import Path

import fsspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cli import in_process

from explore_async.curation.pair_graph import PlacedTexts, by_rarity, first_come, pairs_in, spread
from explore_async.errors import ServerError
from explore_async.ray_cluster import check_address
from rouge_kernels import IDENTICAL, DedupIndex, Vocabulary

HAS_RAY = importlib.util.find_spec("ray") is not None
WORDS = [f"w{number}" for number in range(14)]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), max_size=60)


@settings(max_examples=120, deadline=None)
@given(
    texts=TEXTS,
    repeated=st.lists(st.integers(0, 59), max_size=20),
    known=st.integers(0, 8),
    threshold=st.sampled_from([0.3, 0.5, 0.7, 0.9, IDENTICAL, 1.0]),
    partitions=st.sampled_from([1, 2, 4, 16]),
)
def test_pairs_in_partitions_lead_to_the_verdicts_of_one_index(texts, repeated, known, threshold, partitions) -> None:
    """Texts of few words, many of them equal or near one another, some of them known: kept, nearest, LCS and score are
    those of a DedupIndex that gets one after the other.
    """
    texts = [*texts, *(texts[at] for at in repeated if at < len(texts))]
    known = min(known, len(texts))
    index = DedupIndex(threshold)
    index.add(texts[:known])
    expected = index.admit(texts[known:])
    vocabulary = Vocabulary()
    encoded = vocabulary.encode(texts)
    number = by_rarity(np.bincount(encoded.ids, minlength=len(vocabulary)).astype(np.int64))
    placed = PlacedTexts(np.arange(len(texts)), np.zeros(len(texts), dtype=np.int64), encoded)
    cut = len(texts) // 3
    blocks = [placed.of(np.arange(cut, len(texts))), placed.of(np.arange(cut))]
    spread_out = [list(spread(block, number, threshold, partitions)) for block in blocks]
    pairs = [pairs_in(parts, threshold) for parts in zip(*spread_out, strict=True)]
    found = first_come(np.diff(encoded.starts), known, np.concatenate(pairs))
    assert found.kept[:known].all()
    places = np.cumsum(found.kept) - 1
    nearest = np.where(found.nearest < 0, -1, places[found.nearest])[known:]
    assert found.kept[known:].tolist() == expected.kept.tolist()
    assert nearest.tolist() == expected.nearest.tolist()
    assert found.lcs[known:].tolist() == expected.lcs.tolist()
    np.testing.assert_array_equal(found.score[known:], expected.score)


def rows(folder: Path, texts: list[str]) -> Path:
    path = folder / "rows.jsonl"
    lines = [{"instruction": text, "n": number, "kind": number % 3} for number, text in enumerate(texts)]
    path.write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
    return path


@pytest.mark.skipif(HAS_RAY, reason="Ray is here")
def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """--engine ray without Ray names the extra, with exit code 2, and writes nothing."""
    path = rows(tmp_path, ["Plant a tree"])
    for command, name in (("dedup", "out.jsonl"), ("analyze", "out.json")):
        done = in_process(command, path, "--out", tmp_path / name, "--engine", "ray")
        assert done.code == 2
        assert "pip install 'explore-async[ray]'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("in_this_process")
def test_ray_writes_the_same_files(tmp_path: Path) -> None:
    """Rows and evidence of --engine ray are byte for byte those of this machine alone: plain, by groups, against known
    rows, with exact texts, and from Parquet to Parquet on a file system of fsspec.
    """
    ray = pytest.importorskip("ray")

    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS * 4 + [f"v{n}" for n in range(90)], rng.integers(0, 12))) for _ in range(3000)]
    path = rows(tmp_path, texts)
    (tmp_path / "known.jsonl").write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[::40]))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        for more in ([], ["--group-by", "kind"], ["--against", tmp_path / "known.jsonl"], ["--exact"]):
            written = []
            for engine in ("local", "ray"):
                out, evidence = tmp_path / f"{engine}.jsonl", tmp_path / f"{engine}-evidence.jsonl"
                done = in_process(
                    *("dedup", path, "--out", out, "--evidence", evidence, "--engine", engine, "--quiet", *more)
                )
                assert done.code == 0, done.stderr
                written.append((out.read_bytes(), evidence.read_bytes()))
            assert written[0] == written[1]
            assert written[0][1]
        memory = fsspec.filesystem("memory")
        done = in_process("dedup", path, "--threshold", "1", "--out", "memory://in.parquet")
        assert done.code == 0, done.stderr
        for engine in ("local", "ray"):
            done = in_process("dedup", "memory://in.parquet", "--out", f"memory://{engine}.parquet", "--engine", engine)
            assert done.code == 0, done.stderr
        assert memory.cat_file("/local.parquet") == memory.cat_file("/ray.parquet")
    finally:
        ray.shutdown()


def test_an_address_where_nothing_listens_is_told() -> None:
    """A closed port, a host without a name and a number that is no port: an error that names the address, with exit code
    3. A port where something listens, and what is no address of a host, are left to Ray.
    """
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{closed.getsockname()[1]}", "ray://no-such-host.invalid:10001", "127.0.0.1:99999"]
        for address in addresses:
            with pytest.raises(ServerError, match=f"RAY_ADDRESS={re.escape(address)}: no Ray cluster"):
                check_address(address)
        closed.listen()
        for address in (addresses[0], "", "auto", "local", "nonsense", "here:there"):
            check_address(address)


@pytest.mark.ray
def test_a_cluster_that_is_not_there_ends_each_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """run, dedup and analyze with an address where nothing listens: exit code 3 at once, and no file."""
    source = rows(tmp_path, ["Name a river", "Add 2 and 2"])
    (tmp_path / "small.yaml").write_text("domains: [{name: a}]\ntargets: {examples: 5}\n", encoding="utf-8")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    for arguments in (
        ("dedup", source, "--out", tmp_path / "kept.jsonl"),
        ("analyze", source, "--out", tmp_path / "figures.json"),
        ("run", tmp_path / "small.yaml", "--out", tmp_path / "run", "--endpoint", "http://127.0.0.1:1"),
    ):
        result = in_process(*arguments, "--engine", "ray")
        assert result.code == 3, result.stderr
        assert "RAY_ADDRESS=127.0.0.1:1: no Ray cluster can be reached there" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "small.yaml"}
