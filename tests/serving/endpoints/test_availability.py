"""A run begins with the first endpoint that can serve it; the others join, wait or are left out, whoever is first."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from support import misbehaving as bad
from support.endpoints import endpoint
from support.misbehaving import MisbehavingServer
from support.waiting import until

from explore_async.errors import EndpointError
from explore_async.exploration.values import ChatRequest, Completion, Form
from explore_async.serving.endpoints import admission as admission_module
from explore_async.serving.endpoints.pool import EndpointPool
from explore_async.settings.operation import Retries

QUICK = Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)
FORMS = [
    Form(ChatRequest("m", ({"role": "user", "content": text},), {"max_tokens": 9}, seed), "generation")
    for seed, text in enumerate(("One", "Two"))
]
NEVER = 1e6


@pytest.fixture(autouse=True)
def impatient_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "CONNECT_PATIENCE_S", 0.2)


@asynccontextmanager
async def pool_of(*servers: MisbehavingServer, concurrency: int = 128, models: tuple[str, ...] = ("m",)):
    given = [endpoint(server.url, concurrency) for server in servers]
    forms = FORMS if models else []
    async with EndpointPool(given, models=models, forms=forms, retries=QUICK) as pool:
        yield pool


async def ask(pool: EndpointPool) -> str:
    outcome = await pool.ask(ChatRequest("m", ({"role": "user", "content": "Go"},), {}, 0), priority=0)
    assert isinstance(outcome, Completion)
    return outcome.endpoint


def steps_of(pool: EndpointPool) -> list[tuple[bool, bool]]:
    return [(one.checked, one.healthy) for one in pool.statistics().endpoints]


async def test_a_server_that_never_answers_holds_up_nothing():
    """Requests are sent to the first endpoint that has answered its check, wherever it stands in the list. The silent one
    is named as being checked; all its forms were asked at once.
    """
    async with (
        MisbehavingServer(lambda *_: bad.slow(NEVER)) as silent,
        MisbehavingServer() as quick,
        pool_of(silent, quick) as pool,
    ):
        assert await pool.connect() == ("m",)
        assert await ask(pool) == quick.url
        assert steps_of(pool) == [(False, False), (True, True)]
        assert pool.statistics().endpoints[0].trouble.startswith(f"{silent.url} is still being checked")
        await until(lambda: silent.peak == len(FORMS))
        await until(lambda: pool.statistics().endpoints[0].checking_s > 0)
        assert pool.statistics().endpoints[1].checking_s == 0


async def test_a_slow_server_joins_when_it_has_answered():
    """Its check takes longer than that of the other; then it gets requests like any other. With one slot its forms are
    asked one after the other.
    """
    async with (
        MisbehavingServer([bad.slow(0.2)] * len(FORMS)) as slow,
        MisbehavingServer(lambda _, n: bad.slow(0.05 * (n >= len(FORMS)))) as quick,
        pool_of(quick, slow, concurrency=1) as pool,
    ):
        await pool.connect()
        assert await ask(pool) == quick.url
        await until(lambda: steps_of(pool)[1] == (True, True))
        assert set(await asyncio.gather(*(ask(pool) for _ in range(20)))) == {quick.url, slow.url}
        assert slow.peak == 1


@pytest.mark.parametrize("unfit_first", [False, True])
@pytest.mark.parametrize(
    ("unfit", "message"),
    [
        ({"catalogue": lambda *_: bad.models("other")}, "does not serve 'm'; it serves other"),
        ({"script": lambda *_: bad.BAD_REQUEST}, "rejects requests in the form of this recipe"),
    ],
)
async def test_one_that_cannot_serve_the_run_is_left_out_whenever_that_is_found(unfit, message, unfit_first):
    """Before the other endpoint is checked or after it: the run goes on without it and its statistics say why. Where no
    other serves, its error ends the start at once.
    """
    fine = [bad.slow(0.2)] * len(FORMS) if unfit_first else []
    async with MisbehavingServer(**unfit) as unfit_one, MisbehavingServer(fine) as other:
        async with pool_of(unfit_one, other) as pool:
            await pool.connect()
            await pool.settle()
            assert {await ask(pool) for _ in range(5)} == {other.url}
            assert message in pool.statistics().endpoints[0].trouble
            assert not pool.statistics().endpoints[0].healthy
        async with pool_of(unfit_one) as pool:
            with pytest.raises(EndpointError, match=message):
                await pool.connect()


async def test_where_none_can_serve_the_first_in_the_list_is_named():
    """Whatever the order in which two endpoints are found unfit, the error is that of the first in the list."""
    async with (
        MisbehavingServer(lambda *_: bad.error(400, "late")) as one,
        MisbehavingServer(catalogue=lambda *_: bad.models("other")) as two,
        pool_of(one, two) as pool,
    ):
        with pytest.raises(EndpointError, match=f"{one.url}.*late"):
            await pool.connect()


@pytest.mark.parametrize(("down_for", "model"), [(1, "a"), (10**6, "b")])
async def test_the_model_is_that_of_the_first_in_the_list(monkeypatch, down_for, model):
    """Where the run names none, the order of the list decides, not who answers first; one that lists nothing for too long
    is passed over.
    """
    if model == "a":
        monkeypatch.setattr(admission_module, "CONNECT_PATIENCE_S", 30.0)
    async with (
        MisbehavingServer(catalogue=lambda _, n: bad.UNAVAILABLE if n < down_for else bad.models("a")) as one,
        MisbehavingServer(catalogue=lambda *_: bad.models("b")) as two,
        pool_of(one, two, models=()) as pool,
    ):
        assert await pool.connect() == (model,)


async def test_a_model_that_only_a_slow_endpoint_serves_is_waited_for():
    """The run starts with what is served; requests for the other model go out when its endpoint has joined. One that turns
    out unfit, with nobody else to serve its model, ends the run with its error.
    """
    for script in ([bad.slow(0.2)], lambda *_: bad.Behaviour(400, b"{}", delay_s=0.2)):
        async with (
            MisbehavingServer(catalogue=lambda *_: bad.models("m")) as one,
            MisbehavingServer(script, catalogue=lambda *_: bad.models("n")) as two,
        ):
            forms = [Form(ChatRequest(model, FORMS[0].request.messages, {}, 0), "generation") for model in ("m", "n")]
            given = [endpoint(one.url), endpoint(two.url)]
            async with EndpointPool(given, models=("m", "n"), forms=forms, retries=QUICK) as pool:
                await pool.connect()
                request = ChatRequest("n", ({"role": "user", "content": "Go"},), {}, 0)
                if isinstance(script, list):
                    assert isinstance(await pool.ask(request, priority=0), Completion)
                else:
                    with pytest.raises(EndpointError, match="rejects requests in the form"):
                        await pool.ask(request, priority=0)
