"""The endpoints of a command, its keys, and what it takes from the variables of OpenAI's clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import config, explore, in_process
from support.misbehaving import MisbehavingServer, error

from explore_async.cli.endpoints import with_endpoints
from explore_async.errors import ConfigError
from explore_async.serving.endpoints.credentials import key_advice
from explore_async.settings.operation import EndpointSettings, Operation

NOTHING = Operation()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def keys(operation: Operation) -> dict[str, str | None]:
    return {endpoint.url: endpoint.api_key_env for endpoint in operation.endpoints}


def asking(*urls: str, **settings: object) -> Operation:
    return Operation(endpoints=tuple(EndpointSettings(url=url, **settings) for url in urls))


def test_the_environment_names_an_endpoint_and_its_key(monkeypatch, capsys):
    """Where nothing else is named, with a word about both; an endpoint of the config goes before it."""
    assert with_endpoints(NOTHING, None) == NOTHING
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gpu1:8000/v1")
    assert keys(with_endpoints(NOTHING, None)) == {"http://gpu1:8000/v1": None}
    assert "http://gpu1:8000/v1, from OPENAI_BASE_URL" in capsys.readouterr().err
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    assert keys(with_endpoints(NOTHING, None)) == {"http://gpu1:8000/v1": "OPENAI_API_KEY"}
    said = capsys.readouterr().err
    assert "OPENAI_API_KEY is the key of http://gpu1:8000/v1" in said
    assert "secret" not in said
    assert keys(with_endpoints(asking("http://other/v1"), None)) == {"http://other/v1": None}
    assert with_endpoints(Operation(endpoints_file="list.yaml"), None).endpoints == ()


def test_the_key_goes_where_it_belongs(monkeypatch):
    """To OpenAI, or to the server that OPENAI_BASE_URL names, under any path; to no other server, port or scheme, and
    never in place of a key that an endpoint names.
    """
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    named = (
        "https://api.openai.com/v1",
        "https://API.openai.com",
        "http://api.openai.com/v1",
        "https://api.openai.com.evil/v1",
    )
    assert [bool(key) for key in keys(with_endpoints(asking(*named), None)).values()] == [True, True, False, False]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gpu1:8000/v1")
    named = ("https://api.openai.com/v1", "http://gpu1:8000", "http://gpu1:8001/v1", "https://gpu1:8000/v1")
    assert [bool(key) for key in keys(with_endpoints(asking(*named), None)).values()] == [False, True, False, False]
    own = asking("http://gpu1:8000/v1", api_key_file="key.txt")
    assert with_endpoints(own, None) == own


def test_the_option_goes_before_all(monkeypatch):
    """--api-key-env holds for every endpoint, also in place of a file, and for the one of the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    both = with_endpoints(asking("http://a/v1", "http://b/v1", api_key_file="key.txt"), "MY_KEY")
    assert keys(both) == {"http://a/v1": "MY_KEY", "http://b/v1": "MY_KEY"}
    assert all(endpoint.api_key_file is None for endpoint in both.endpoints)
    with pytest.raises(ConfigError, match="--api-key-env needs"):
        with_endpoints(NOTHING, "MY_KEY")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gpu1:8000/v1")
    assert keys(with_endpoints(NOTHING, "MY_KEY")) == {"http://gpu1:8000/v1": "MY_KEY"}


@pytest.mark.parametrize("url", ["gpu1:8000", "http://me:secret-word@gpu1/v1", "http://gpu1/v1?token=secret-word"])
def test_a_variable_that_is_no_url(monkeypatch, url: str):
    """The error names the variable, and shows nothing that may be a password."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL: ") as caught:
        with_endpoints(NOTHING, None)
    assert "secret-word" not in str(caught.value)


def test_a_key_in_place_of_its_name(tmp_path: Path):
    """`run --api-key-env` and `bench --api-key-env` take a name; a key there is refused and not shown."""
    key = "gsk_A1b2C3d4E5f6G7h8I9j0"
    path = config(tmp_path)
    for command in (("run", path, "--endpoint", "http://127.0.0.1:9"), ("bench", "http://127.0.0.1:9")):
        result = in_process(*command, "--api-key-env", key, "--json")
        assert result.code == 2
        assert "--api-key-env" in result.stderr
        assert key not in result.stderr + result.stdout


async def test_a_run_asks_the_server_of_the_environment(tmp_path: Path):
    """With nothing but the two variables a run asks that server with that key; what refuses the key is told, without it."""
    async with MisbehavingServer(lambda *_: error(401, "who are you?")) as server:
        environment = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-very-secret-0123456789"}
        result = await explore("run", config(tmp_path), "--model", "m", "--out", tmp_path / "run", **environment)
    assert result.code == 6
    assert any("Bearer sk-very-secret-0123456789" in head for head in server.heads)
    assert "from OPENAI_BASE_URL" in result.stderr
    assert "Check the key in OPENAI_API_KEY" in result.stderr
    assert "secret" not in result.stderr


def test_a_key_that_is_not_sent_is_told(monkeypatch):
    """A server that refuses a request without a key, while one lies there: the advice is the option that sends it."""
    plain = EndpointSettings(url="http://a/v1")
    assert "api_key_env" in key_advice(plain)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    assert "--api-key-env OPENAI_API_KEY" in key_advice(plain)
