"""`export --push` against a hub on this machine, by the real huggingface_hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.cli import in_process
from support.hub import TOKEN, Hub, serving_hub

pytest.importorskip("huggingface_hub")
# huggingface_hub 2.4 gives its HTTP library the content of large files by an argument that is deprecated there
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # its servers are not on this machine
        yield hub


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [{"instruction": f"Name river {n} of region {n * n}", "output": f"It is {n}."} for n in range(40)]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_exported_is_there(hub: Hub, rows: Path, tmp_path: Path) -> None:
    """The repository is private and has the files of the folder, byte for byte, in one commit; the card names it. A
    second push with other parts leaves nothing of the first.
    """
    out = tmp_path / "rivers"
    push = ("--format", "messages", "--push", "me/rivers", "--json")
    result = in_process("export", rows, "--out", out, "--validation", "0.2", *push)
    assert result.code == 0, result.stderr
    assert result.json["url"] == f"{hub.url}/datasets/me/rivers"
    repository = hub.repositories["me/rivers"]
    assert repository.private
    assert repository.files == files_of(out)
    configs = {"axolotl.yaml", "dataset_info.json", "llamafactory.yaml"}
    assert set(repository.files) == {"README.md", "train.py", *configs, "data/train.parquet", "data/validation.parquet"}
    assert repository.commits == ["Export of explore_async"]
    assert b"load_dataset('me/rivers'" in repository.files["README.md"]
    assert in_process("export", rows, "--out", out, *push).code == 0
    assert hub.repositories["me/rivers"].files == files_of(out)
    assert "data/validation.parquet" not in hub.repositories["me/rivers"].files


def test_a_public_sample(hub: Hub, rows: Path, tmp_path: Path) -> None:
    """--public makes a repository that all can see; a sample is pushed likewise."""
    arguments = ("--out", tmp_path / "some", "-n", "9", "--push", "me/some", "--public")
    assert in_process("sample", rows, *arguments).code == 0
    assert not hub.repositories["me/some"].private


@pytest.mark.parametrize(
    "refused",
    [
        (["--out", "x.jsonl", "--push", "me/x"], 2, "needs a folder"),
        (["--out", "x", "--push", "me/x/y"], 2, "--push me/x/y"),
        (["--out", "x", "--push", "me/x", "--format", "explore-instruct"], 2, "no data card"),
        (["--out", "x", "--push", "me/x", "--license", "odd"], 2, "must be one of"),
    ],
)
def test_what_cannot_be_pushed(hub: Hub, rows: Path, tmp_path: Path, monkeypatch, refused) -> None:
    """Each is an error with the reason, before anything is written where it can be known; nothing is on the hub."""
    arguments, code, words = refused
    monkeypatch.chdir(tmp_path)
    result = in_process("export", rows, *arguments)
    assert (result.code, words in " ".join(result.stderr.split())) == (code, True), result.stderr
    assert not any(repository.files for repository in hub.repositories.values())
    assert (tmp_path / "x").exists() == ("--license" in arguments)


@pytest.mark.parametrize("trouble", ["token", "refused", "away"])
def test_a_hub_that_does_not_take_it(hub: Hub, rows: Path, tmp_path: Path, monkeypatch, trouble: str) -> None:
    """A wrong token, a refusal, and a hub that is away end with code 6 and a cure; the export is there."""
    if trouble == "token":
        monkeypatch.setenv("HF_TOKEN", "hf_another")
    elif trouble == "refused":
        hub.status = 403
    else:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    out = tmp_path / "x"
    result = in_process("export", rows, "--out", out, "--push", "me/x")
    assert result.code == 6
    told = " ".join(result.stderr.split())
    assert ("HF_TOKEN" if trouble != "away" else "tries again") in told
    assert "hf_another" not in told
    assert (out / "README.md").exists()
