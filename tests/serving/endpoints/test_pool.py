"""The pool against real servers that misbehave on script: requests get outcomes, endpoints get patience."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import re
import socket
import time
from contextlib import asynccontextmanager

import pytest
from support import misbehaving as bad
from support.endpoints import endpoint
from support.waiting import until

from explore_async.errors import ConfigError, EndpointError, EndpointUnavailable
from explore_async.exploration.values import ChatRequest, Completion, Failure, Form
from explore_async.serving.endpoints import admission as admission_module
from explore_async.serving.endpoints import endpoint as endpoint_module
from explore_async.serving.endpoints.pool import EndpointPool
from explore_async.serving.endpoints.values import EndpointStatistics, backoff_s
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.server import SimulatedServer
from explore_async.settings.operation import EndpointSettings, Retries

KEY = "sk-secret-0123456789"
QUICK = Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)


@pytest.fixture(autouse=True)
def impatient_connect(monkeypatch):
    """Endpoints that are down at the start are given up sooner than in earnest."""
    monkeypatch.setattr(admission_module, "CONNECT_PATIENCE_S", 0.3)


def request(text: object = "Hello", **sampling) -> ChatRequest:
    return ChatRequest("m", ({"role": "user", "content": str(text)},), sampling, 7)


def said(body) -> str:
    return body["messages"][0]["content"]


@asynccontextmanager
async def connected(
    *endpoints: EndpointSettings | bad.MisbehavingServer,
    model: str | None = "m",
    retries: Retries = QUICK,
    stall_s=30.0,
):
    given = [endpoint(one.url) if isinstance(one, bad.MisbehavingServer) else one for one in endpoints]
    async with EndpointPool(given, models=() if model is None else (model,), retries=retries, stall_s=stall_s) as pool:
        await pool.connect()
        await pool.settle()
        yield pool


async def ask_many(pool: EndpointPool, count: int):
    return await asyncio.gather(*(pool.ask(request(number), priority=number) for number in range(count)))


def dead_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@pytest.mark.parametrize(
    "behaviour",
    [
        bad.RATE_LIMITED,
        bad.INTERNAL,
        bad.UNAVAILABLE,
        bad.CLOSED_AT_ONCE,
        bad.CLOSED_AFTER_HEADERS,
        bad.HALF_BODY,
        bad.INVALID_JSON,
        bad.EMPTY_CHOICES,
        bad.NULL_CONTENT,
    ],
)
async def test_passing_trouble_is_retried_until_the_answer(behaviour):
    """Whatever an endpoint does twice, the third attempt's answer is the outcome, and the attempts are counted."""
    async with bad.MisbehavingServer([behaviour] * 2) as server, connected(server) as pool:
        outcome = await pool.ask(request(), priority=0)
        assert isinstance(outcome, Completion)
        assert len(server.bodies) == 3
        statistics = pool.statistics()
    assert (statistics.answered, statistics.failed_attempts, statistics.retries) == (1, 2, 2)
    assert statistics.endpoints[0].last_error
    assert (statistics.asking, statistics.in_flight) == (0, 0)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [(bad.BAD_REQUEST, "rejected"), (bad.error(422), "rejected"), (bad.OVERFLOW, "context_overflow")],
)
async def test_what_the_request_causes_is_a_failure_at_once(behaviour, kind):
    """A refusal is asked once and becomes an outcome that names the server's reason; what else is answered shows so."""
    async with bad.MisbehavingServer([behaviour]) as server, connected(server) as pool:
        outcome = await pool.ask(request(), priority=0)
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.attempts) == (kind, 1)
        assert [said(body) for body in server.bodies] == ["Hello"] + ["Say yes."] * (kind == "rejected")
        assert pool.statistics().failed_requests == 1


@pytest.mark.parametrize("behaviour", [bad.BAD_REQUEST, bad.error(422)])
async def test_a_server_that_refuses_everything_is_no_fault_of_the_requests(behaviour):
    """Where even a harmless request is refused, and nothing was answered before, no failure is stored: it raises."""
    async with bad.MisbehavingServer(itertools.repeat(behaviour)) as server, connected(server) as pool:
        with pytest.raises(EndpointError, match="rejects every request of this form"):
            await pool.ask(request(), priority=0)


@pytest.mark.parametrize(
    "behaviour", [bad.KEY_REFUSED, bad.error(403), bad.error(402), bad.UNKNOWN_MODEL, bad.error(302)]
)
async def test_what_no_request_survives_ends_the_run(behaviour):
    """A refused key, an empty account, an unknown model or a redirect raise, and are never stored as a request's failure."""
    async with bad.MisbehavingServer(itertools.repeat(behaviour)) as server, connected(server) as pool:
        with pytest.raises(EndpointError, match="No request can succeed") as caught:
            await pool.ask(request(), priority=0)
        assert caught.value.exit_code == 6
        assert type(caught.value) is EndpointError


async def test_retry_after_is_obeyed_by_everybody():
    """After a Retry-After nobody asks that endpoint again before the time is over; the cap bounds absurd values."""
    moments = []

    def script(body, ordinal):
        moments.append(time.monotonic())
        return bad.error(429, headers={"Retry-After": "0.3"}) if ordinal == 0 else bad.OK

    async with (
        bad.MisbehavingServer(script) as server,
        connected(server, retries=Retries(first_wait_s=0.001, longest_wait_s=5)) as pool,
    ):
        first = asyncio.create_task(pool.ask(request("first"), priority=0))
        await until(lambda: pool.statistics().failed_attempts)
        await asyncio.gather(first, ask_many(pool, 5))
    assert moments[1] - moments[0] >= 0.3
    async with (
        bad.MisbehavingServer([bad.error(503, headers={"Retry-After": "86400"})]) as server,
        connected(server, retries=QUICK, stall_s=30) as pool,
    ):
        assert isinstance(await pool.ask(request(), priority=0), Completion)


@pytest.mark.parametrize("page", ["models", "chat"])
async def test_retry_after_is_obeyed_by_checks(page):
    """An endpoint that asks for a pause while it is checked is asked again when that is over, and joins then. Each of
    the requests that failed is counted.
    """
    moments = []

    def script(good):
        def behave(_body, _ordinal):
            moments.append(time.monotonic())
            return bad.error(429, headers={"Retry-After": "0.8"}) if len(moments) <= 2 else good

        return behave

    pages = {"catalogue": script(bad.models("m"))} if page == "models" else {"script": script(bad.OK)}
    forms = [Form(request(seed), "generation") for seed in range(2)] if page == "chat" else []
    retries = Retries(attempts=3, first_wait_s=0.001, longest_wait_s=5)
    async with (
        bad.MisbehavingServer(**pages) as server,
        bad.MisbehavingServer() as other,
        EndpointPool(
            [endpoint(server.url, model="m" if page == "chat" else None), endpoint(other.url)],
            models=() if page == "models" else ("m",),
            forms=forms,
            retries=retries,
        ) as pool,
    ):
        await pool.connect()
        await until(lambda: pool.statistics().endpoints[0].healthy)
        assert pool.statistics().endpoints[0].failed_attempts == 2
    first, second, third = moments[:3]
    assert third - second >= 0.8
    assert page == "chat" or second - first >= 0.8


async def test_retry_now_is_no_reason_to_ask_as_fast_as_it_refuses():
    """However often an endpoint says "at once", the waits between attempts grow as without it."""
    retries = Retries(attempts=3, first_wait_s=0.05, longest_wait_s=0.4)
    script = itertools.repeat(bad.error(429, headers={"Retry-After": "0"}))
    async with bad.MisbehavingServer(script) as server, connected(server, retries=retries) as pool:
        asking = asyncio.create_task(pool.ask(request(), priority=0))
        await asyncio.sleep(1.5)
        assert len(server.bodies) < 60
        await until(lambda: len(server.bodies) >= 3)
        asking.cancel()
        await asyncio.wait([asking])


async def test_a_rate_limit_lowers_the_concurrency():
    """An endpoint that answers 429 is asked less at once, and answers earn the slots back."""
    async with (
        bad.MisbehavingServer(lambda _, n: bad.RATE_LIMITED if n < 16 else bad.slow(0.01)) as server,
        connected(endpoint(server.url, concurrency=16)) as pool,
    ):
        await ask_many(pool, 100)
        lowered = pool._endpoints[0].limit.value
        assert 8 <= lowered <= 16
        await ask_many(pool, 300)
        assert pool._endpoints[0].limit.value > lowered or lowered == 16


async def test_a_poison_request_fails_while_others_succeed():
    """What breaks the server each time becomes a Failure once others got through there; they are untouched."""

    def script(body, _):
        return bad.INTERNAL if said(body) == "poison" else bad.slow(0.005)

    async with bad.MisbehavingServer(script) as server, connected(endpoint(server.url, concurrency=4)) as pool:
        poison, others = await asyncio.gather(pool.ask(request("poison"), priority=0), ask_many(pool, 200))
    assert isinstance(poison, Failure)
    assert poison.kind == "repeated"
    assert QUICK.attempts <= poison.attempts <= 3 * QUICK.attempts
    assert "boom" in poison.detail
    assert all(isinstance(outcome, Completion) for outcome in others)


async def test_a_poison_request_that_is_the_last_one_fails_too():
    """With no other request left to compare with, a harmless question tells the request's fault from the server's."""

    def script(body, _):
        return bad.INTERNAL if said(body) == "poison" else bad.OK

    async with bad.MisbehavingServer(script) as server, connected(server) as pool:
        outcome = await pool.ask(request("poison", temperature=1.0, max_tokens=50), priority=0)
        assert isinstance(outcome, Failure)
        assert outcome.kind == "repeated"
        canaries = [body for body in server.bodies if said(body) != "poison"]
    assert canaries[0]["max_tokens"] == 1
    assert canaries[0]["temperature"] == 1.0


async def test_a_broken_endpoint_convicts_nobody():
    """One endpoint fails everything, the other works: every request is answered by the other, none is a Failure."""
    async with (
        bad.MisbehavingServer(lambda *_: bad.INTERNAL) as broken,
        bad.MisbehavingServer() as fine,
        connected(broken, fine) as pool,
    ):
        outcomes = await ask_many(pool, 100)
        assert all(isinstance(outcome, Completion) and outcome.endpoint == fine.url for outcome in outcomes)
        by_url = {endpoint.url: endpoint for endpoint in pool.statistics().endpoints}
    assert by_url[broken.url].answered == 0
    assert len(broken.bodies) < 300


async def test_an_endpoint_that_comes_to_refuse_everything_leaves_the_others_alone():
    """Its key expires in the middle: every request is answered by the other, none is a Failure, and it is told."""
    async with (
        bad.MisbehavingServer(
            lambda _, ordinal: bad.KEY_REFUSED if ordinal > 20 else bad.OK,
            catalogue=lambda _, ordinal: bad.KEY_REFUSED if ordinal else bad.models("m"),
        ) as refusing,
        bad.MisbehavingServer() as fine,
        connected(refusing, fine) as pool,
    ):
        outcomes = await ask_many(pool, 200)
        assert all(isinstance(outcome, Completion) for outcome in outcomes)
        (trouble,) = (one.trouble for one in pool.statistics().endpoints if one.trouble)
    assert refusing.url in trouble
    assert "401" in trouble


async def test_when_all_come_to_refuse_everything_it_ends():
    """Both keys expire: no waiting helps, so whoever asks is told."""
    async with (
        bad.MisbehavingServer(
            lambda _, ordinal: bad.KEY_REFUSED if ordinal > 20 else bad.OK,
            catalogue=lambda _, ordinal: bad.KEY_REFUSED if ordinal else bad.models("m"),
        ) as one,
        bad.MisbehavingServer(
            lambda _, ordinal: bad.KEY_REFUSED if ordinal > 20 else bad.OK,
            catalogue=lambda _, ordinal: bad.KEY_REFUSED if ordinal else bad.models("m"),
        ) as other,
        connected(one, other) as pool,
    ):
        with pytest.raises(EndpointError, match="401"):
            await ask_many(pool, 200)


@pytest.mark.parametrize(
    ("behaviour", "last_error"),
    [
        (bad.INTERNAL, "boom"),
        (bad.RATE_LIMITED, "slow down"),
        (bad.slow(60), "the endpoints do not answer"),
        (bad.CLOSED_AT_ONCE, "ended the connection"),
    ],
)
async def test_the_watchdog_ends_a_run_that_goes_nowhere(behaviour, last_error):
    """Whatever keeps all requests from an outcome, the run ends after stall_s, exit code 6, naming the last error."""
    retries = Retries(attempts=2, first_wait_s=0.01, longest_wait_s=0.02)
    async with (
        bad.MisbehavingServer(lambda *_: behaviour) as server,
        connected(server, retries=retries, stall_s=0.5) as pool,
    ):
        started = time.monotonic()
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what is tested
            async with asyncio.TaskGroup() as group:
                group.create_task(pool.watch())
                for number in range(5):
                    group.create_task(pool.ask(request(number), priority=0))
        assert time.monotonic() - started > 0.4
        (error,) = caught.value.exceptions
        assert isinstance(error, EndpointError)
        assert error.exit_code == 6
        assert "5 requests wait" in str(error)
        assert last_error in str(error)
        assert (pool.statistics().asking, pool.statistics().in_flight) == (0, 0)


async def test_the_watchdog_is_quiet_while_there_is_nothing_to_do_or_answers_come():
    """Idle time is no stall, and a run longer than stall_s with an answer now and then is none either."""
    async with bad.MisbehavingServer(lambda *_: bad.slow(0.45)) as server, connected(server, stall_s=2) as pool:
        watching = asyncio.create_task(pool.watch())
        await asyncio.sleep(2.3)
        for number in range(5):
            await pool.ask(request(number), priority=0)
        assert not watching.done()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


async def test_a_dead_endpoint_is_left_and_taken_back():
    """When a server dies, its requests move to the other one; when it is back, it gets work again. It is the dead one
    at which attempts are counted as repeated; its slots do not count while it is out.
    """
    async with (
        bad.MisbehavingServer(lambda *_: bad.slow(0.01)) as stable,
        bad.MisbehavingServer(lambda *_: bad.slow(0.01)) as mortal,
    ):
        port = mortal.port
        async with connected(stable, mortal) as pool:
            await ask_many(pool, 50)
            assert mortal.bodies
            assert pool.limit == sum(one.limit for one in pool.statistics().endpoints)
            await mortal.__aexit__()
            outcomes = await ask_many(pool, 100)
            assert {outcome.endpoint for outcome in outcomes} == {stable.url}
            here, there = pool.statistics().endpoints
            assert (here.healthy, there.healthy) == (True, False)
            assert 0 < there.retries <= there.failed_attempts
            assert here.retries <= here.failed_attempts  # a busy machine can lose one here too
            assert pool.limit == here.limit
            async with bad.MisbehavingServer(port=port) as reborn:
                await until(lambda: pool.statistics().endpoints[1].healthy)
                await ask_many(pool, 50)
                assert reborn.bodies


async def test_with_the_only_endpoint_gone_requests_wait_for_it():
    """A restart of the only server costs time, never a request."""
    async with bad.MisbehavingServer() as server, connected(server) as pool:
        await server.__aexit__()
        asking = asyncio.create_task(ask_many(pool, 20))
        await asyncio.sleep(0.3)
        assert not asking.done()
        async with bad.MisbehavingServer(port=server.port):
            assert all(isinstance(outcome, Completion) for outcome in await asking)


async def test_a_server_that_comes_back_with_another_model_ends_the_run():
    """It would answer as somebody else: those who wait, those who come, and the watchdog all hear of it."""
    async with bad.MisbehavingServer() as server, connected(server) as pool:
        await server.__aexit__()
        asking = asyncio.create_task(pool.ask(request(), priority=0))
        await asyncio.sleep(0.05)
        async with bad.MisbehavingServer(catalogue=lambda *_: bad.models("other"), port=server.port):
            with pytest.raises(EndpointError, match="does not serve 'm'; it serves other"):
                await asking
            with pytest.raises(EndpointError):
                await pool.ask(request(), priority=0)
            with pytest.raises(EndpointError):
                await pool.watch()


async def test_the_declared_concurrency_is_never_exceeded():
    """Through retries, rate limits and time-outs the server never sees more at once than was declared."""

    def script(_, ordinal):
        return (bad.slow(0.01), bad.INTERNAL, bad.slow(0.02), bad.RATE_LIMITED, bad.CLOSED_AT_ONCE)[ordinal % 5]

    async with bad.MisbehavingServer(script) as one, bad.MisbehavingServer(script) as other:
        endpoints = endpoint(one.url, concurrency=7), endpoint(other.url, concurrency=3)
        async with connected(*endpoints, retries=QUICK.model_copy(update={"attempts": 100})) as pool:
            assert pool.capacity == 10
            outcomes = await ask_many(pool, 200)
            peaks = [endpoint.peak_in_flight for endpoint in pool.statistics().endpoints]
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert one.peak <= 7
    assert other.peak <= 3
    assert peaks[0] <= 7
    assert peaks[1] <= 3


async def test_who_waits_is_served_by_priority():
    """With one slot, the order of answers is that of the priorities, not that of arrival."""
    async with (
        bad.MisbehavingServer(lambda *_: bad.slow(0.01)) as server,
        connected(endpoint(server.url, concurrency=1)) as pool,
    ):
        blocking = asyncio.create_task(pool.ask(request("first"), priority=9))
        await asyncio.sleep(0)
        order = [5, 2, 8, 1, 3]
        await asyncio.gather(blocking, *(pool.ask(request(priority), priority=priority) for priority in order))
    assert [said(body) for body in server.bodies] == ["first", "1", "2", "3", "5", "8"]
    assert [body["priority"] for body in server.bodies] == [9, 1, 2, 3, 5, 8]


async def test_priority_is_sent_only_to_engines_that_know_it():
    """A strict endpoint would refuse every request for the unknown field."""
    async with (
        bad.MisbehavingServer(catalogue=lambda *_: bad.models("m", owner="openai")) as server,
        connected(server) as pool,
    ):
        await pool.ask(request(), priority=3)
    assert "priority" not in server.bodies[0]


async def test_avoid_means_elsewhere_if_there_is_an_elsewhere():
    """A second ask goes to another endpoint; with only one, it goes there all the same."""
    async with bad.MisbehavingServer() as one, bad.MisbehavingServer() as other:
        async with connected(one, other) as pool:
            for _ in range(5):
                assert (await pool.ask(request(), priority=0, avoid=one.url)).endpoint == other.url
        async with connected(one) as pool:
            assert (await pool.ask(request(), priority=0, avoid=one.url)).endpoint == one.url


async def test_each_placement_is_told_before_the_request_is_sent():
    """Every attempt names its endpoint while it is still open, so that a second ask can avoid just that one."""
    async with (
        bad.MisbehavingServer([bad.INTERNAL, bad.OK]) as one,
        bad.MisbehavingServer([bad.INTERNAL, bad.slow(30)]) as other,
        connected(one, other) as pool,
    ):
        first: list[str] = []
        outcome = await pool.ask(request(), priority=0, avoid=other.url, on_sent=first.append)
        assert isinstance(outcome, Completion)
        assert first == [one.url, other.url, one.url]
        assert outcome.endpoint == one.url
        straggler: list[str] = []
        asking = asyncio.create_task(pool.ask(request(), priority=0, avoid=one.url, on_sent=straggler.append))
        await until(lambda: other.in_flight)
        assert straggler == [other.url]
        second = await pool.ask(request(), priority=0, avoid=straggler[-1])
        assert second.endpoint == one.url
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_listener_that_fails_keeps_no_slot():
    """What `on_sent` raises comes out of `ask`, and the slot is free again."""

    def fail(_):
        raise RuntimeError("no room")

    async with bad.MisbehavingServer() as server, connected(endpoint(server.url, concurrency=1)) as pool:
        with pytest.raises(RuntimeError, match="no room"):
            await pool.ask(request(), priority=0, on_sent=fail)
        assert (pool.statistics().asking, pool.statistics().in_flight) == (0, 0)
        assert not server.bodies


async def test_cancellation_frees_slots_and_leaves_nothing_behind():
    """Cancelled in flight, in the queue or between attempts: CancelledError comes out and all slots are free."""
    async with (
        bad.MisbehavingServer(lambda _, n: bad.slow(30) if n < 2 else bad.OK) as server,
        connected(endpoint(server.url, concurrency=2)) as pool,
    ):
        asking = [asyncio.create_task(pool.ask(request(n), priority=n)) for n in range(6)]
        await until(lambda: server.in_flight == 2)
        for one in asking:
            one.cancel()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert (pool.statistics().asking, pool.statistics().in_flight) == (0, 0)
        assert len(await ask_many(pool, 10)) == 10


async def test_a_slot_granted_to_a_cancelled_request_is_handed_on():
    """The grant and the cancellation may meet in one turn of the loop; the slot must not be lost."""
    async with bad.MisbehavingServer() as server, connected(endpoint(server.url, concurrency=1)) as pool:
        pool._endpoints[0].in_flight = 1
        waiting = asyncio.create_task(pool.ask(request(), priority=0))
        await asyncio.sleep(0)
        pool._endpoints[0].in_flight = 0
        pool._slots.dispatch()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert pool.statistics().in_flight == 0


async def test_a_timed_out_attempt_gets_longer_next_time(monkeypatch):
    """The deadline follows the measured speed and doubles for a request that ran out of it."""
    monkeypatch.setattr(endpoint_module, "SHORTEST_DEADLINE_S", 1.0)
    monkeypatch.setattr(endpoint_module, "ASSUMED_TOKENS_PER_S", 1e6)
    delays = [bad.slow(30), bad.slow(30), bad.slow(2.2)]  # the last is longer than the second deadline
    async with bad.MisbehavingServer(delays) as server, connected(server) as pool:
        assert isinstance(await pool.ask(request(), priority=0), Completion)
        assert len(server.bodies) == 3
        slow = pool._endpoints[0]
        slow.tokens_per_s = 10.0
        assert slow.deadline_s(request(max_tokens=100), 0) == 40.0
        assert slow.deadline_s(request(max_tokens=100), 2) == 160.0


async def test_requests_per_minute_are_kept():
    """1,200 a minute is 20 a second, smoothly: 30 requests take about a second, and all are answered."""
    async with bad.MisbehavingServer() as server, connected(endpoint(server.url, requests_per_minute=1200)) as pool:
        started = time.monotonic()
        assert len(await ask_many(pool, 30)) == 30
        assert time.monotonic() - started > 0.9


async def test_the_only_model_is_found_and_connecting_again_is_free():
    """No model named, one served: that is it; the second connect asks nobody."""
    async with (
        bad.MisbehavingServer(catalogue=lambda *_: bad.models("only")) as server,
        connected(server, model=None) as pool,
    ):
        assert await pool.connect() == ("only",)
        await pool.ask(dataclasses.replace(request(), model="only"), priority=0)
    assert server.catalogue_requests == 1
    assert server.bodies[0]["model"] == "only"


async def test_an_endpoint_may_serve_the_model_under_its_own_name():
    """The logical name stays, the body carries the endpoint's."""
    async with (
        bad.MisbehavingServer(catalogue=lambda *_: bad.models("a", "org/m-FP8")) as server,
        connected(endpoint(server.url, model="org/m-FP8")) as pool,
    ):
        assert await pool.connect() == ("m",)
        await pool.ask(request(), priority=0)
    assert server.bodies[0]["model"] == "org/m-FP8"


@pytest.mark.parametrize(
    ("catalogue", "model", "message"),
    [
        (bad.models("a", "b"), None, "the endpoints serve a, b"),
        (bad.models("a", "b"), "c", "does not serve 'c'; it serves a, b"),
        (bad.models(*(f"m{n:03}" for n in range(400))), "c", "m018, m019 and 380 more. Name"),
        (bad.error(404), None, "OpenAI-compatible"),
        (bad.KEY_REFUSED, "m", "no key was sent"),
        (bad.error(403), "m", "no key was sent"),
        (bad.INTERNAL, "m", "No endpoint answers"),
    ],
)
async def test_connecting_says_what_is_wrong(catalogue, model, message):
    """Every way not to get started names its cause and ends in exit code 6, also when tried again."""
    async with (
        bad.MisbehavingServer(catalogue=lambda *_: catalogue) as server,
        EndpointPool(
            [endpoint(server.url)], models=() if model is None else (model,), retries=QUICK, stall_s=30
        ) as pool,
    ):
        for _ in range(2):
            with pytest.raises(EndpointError, match=message) as caught:
                await pool.connect()
            assert caught.value.exit_code == 6


async def test_an_endpoint_without_a_model_list_is_trusted():
    """Some gateways have no /models; a named model is then simply asked for."""
    async with bad.MisbehavingServer(catalogue=lambda *_: bad.error(404)) as server, connected(server) as pool:
        assert isinstance(await pool.ask(request(), priority=0), Completion)


async def test_nobody_there_says_where_why_and_what_to_do():
    """The message names URL, cause and the remedy."""
    url = dead_url()
    async with EndpointPool([endpoint(url)], models=("m",), retries=QUICK, stall_s=30) as pool:
        with pytest.raises(EndpointError, match="explore-async serve") as caught:
            await pool.connect()
    assert url in str(caught.value)
    assert "cannot be reached" in str(caught.value)


async def test_one_reachable_endpoint_suffices_and_the_other_may_join():
    """The run starts with who is there; who comes later is asked what it serves and gets work."""
    url = dead_url()
    async with bad.MisbehavingServer() as server, connected(server, endpoint(url)) as pool:
        assert isinstance(await pool.ask(request(), priority=0), Completion)
        async with bad.MisbehavingServer(port=int(url.split(":")[2].split("/")[0])) as late:
            await until(lambda: pool.statistics().endpoints[1].healthy)
            await ask_many(pool, 50)
            assert late.bodies


async def test_the_key_appears_nowhere(monkeypatch):
    """Not in errors, their causes, reprs, failures or statistics, even when the server repeats it."""
    monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
    leak = bad.error(400, f"your key {KEY} is fine, your request is not")
    async with (
        bad.MisbehavingServer([leak, bad.NOT_HTTP, bad.OK, bad.error(401, KEY)]) as server,
        connected(endpoint(server.url, api_key_env="SOME_KEY")) as pool,
    ):
        seen = [await pool.ask(request(), priority=0), await pool.ask(request(), priority=0)]
        with pytest.raises(EndpointError) as caught:
            await pool.ask(request(), priority=0)
        seen += [repr(pool), repr(pool._endpoints), pool.statistics(), caught.value, caught.value.__cause__]
        assert f"Bearer {KEY}" in server.heads[-1]
    assert KEY not in "".join(f"{one!r} {one!s}" for one in seen)


@pytest.mark.parametrize("value", [None, "", "clé", "two\nlines"])
async def test_a_key_that_is_missing_or_cannot_be_one(monkeypatch, value):
    """The variable is named, its value is not shown."""
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(ConfigError, match="SOME_KEY") as caught:
        async with EndpointPool([endpoint("http://h", api_key_env="SOME_KEY")], models=("m",)):
            pass
    assert not value or value not in str(caught.value)


def test_endpoints_must_be_given_once():
    """None, or one twice, is a mistake in the configuration."""
    with pytest.raises(ConfigError, match="No endpoint"):
        EndpointPool([], models=("m",))
    with pytest.raises(ConfigError, match="twice"):
        EndpointPool([endpoint("http://h"), endpoint("http://h/v1/")], models=("m",))


def test_waits_grow_and_are_bounded():
    """Full jitter: never above the bound of the attempt, however many attempts there were."""
    retries = Retries(first_wait_s=1.0, longest_wait_s=8.0)
    for attempt, bound in ((1, 1), (2, 2), (3, 4), (4, 8), (5000, 8)):
        waits = [backoff_s(retries, attempt) for _ in range(200)]
        assert min(waits) >= 0
        assert bound / 2 < max(waits) <= bound


async def test_stopping_finishes_what_is_under_way_and_sends_nothing_more():
    """After stop, answers under way arrive; what waited for a place, or for another attempt, is given back unasked."""
    trouble = iter([bad.INTERNAL])

    def script(body, ordinal):
        return next(trouble, bad.INTERNAL) if said(body) == "unlucky" else bad.slow(0.3)

    async with (
        bad.MisbehavingServer(script) as server,
        connected(
            endpoint(server.url, concurrency=2), retries=Retries(attempts=9, first_wait_s=20, longest_wait_s=20)
        ) as pool,
    ):
        unlucky = asyncio.create_task(pool.ask(request("unlucky"), priority=0))
        await until(lambda: pool.statistics().failed_attempts)
        asking = [asyncio.create_task(pool.ask(request(number), priority=number)) for number in range(5)]
        await until(lambda: server.in_flight == 2)
        pool.stop()
        outcomes = await asyncio.gather(unlucky, *asking, return_exceptions=True)
        assert [type(one) for one in outcomes[1:3]] == [Completion, Completion]
        assert all(isinstance(one, EndpointUnavailable) for one in (outcomes[0], *outcomes[3:]))
        assert len(server.bodies) == 3


SMALL = Profile(slots=40, step_s=0.004, request_s=0.0, prefill_s=0.0, kv_tokens=1_000_000)


@asynccontextmanager
async def asking(pool: EndpointPool, *, at_once: int):
    """A number of coroutines that ask again and again, and the pool's look at the metrics, until the block ends."""

    async def again(number: int) -> None:
        for turn in itertools.count():
            await pool.ask(request(f"{number} {turn}", max_tokens=300), priority=turn)

    tasks = [
        asyncio.create_task(pool.adjust_limits()),
        *(asyncio.create_task(again(number)) for number in range(at_once)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)


async def test_an_unknown_capacity_is_found_over_http():
    """The server has 40 slots, which only its metrics tell: the limit rises until all are busy. (That few wait then is
    proved on the virtual clock, in test_concurrency: over HTTP it depends on the speed of this machine.)
    """
    async with (
        SimulatedServer(profile=SMALL) as server,
        connected(endpoint(server.url, concurrency="auto", model="simulated")) as pool,
    ):

        def told() -> EndpointStatistics:
            return pool.statistics().endpoints[0]

        async with asking(pool, at_once=200):
            await until(lambda: told().tokens_per_s and told().prefix_hits is not None)
            await until(lambda: server.statistics().peak_in_flight == 40 and told().limit >= 36)
    assert server.statistics().peak_in_flight == 40


async def test_what_is_found_stays_below_the_most():
    """However much the endpoints would take, no more than `most_in_flight` is in flight at them, and it is told."""
    async with SimulatedServer(profile=SMALL) as one, SimulatedServer(profile=SMALL) as other:
        endpoints = [endpoint(server.url, concurrency="auto", model="simulated") for server in (one, other)]
        async with EndpointPool(endpoints, models=("m",), most_in_flight=12) as pool:
            await pool.connect()
            await pool.settle()
            async with asking(pool, at_once=60):
                await until(lambda: pool.statistics().held_back and pool.statistics().in_flight == 12 == pool.capacity)
    assert one.statistics().peak_in_flight + other.statistics().peak_in_flight <= 24


async def test_a_task_keeps_to_its_endpoint():
    """While all are about equally free, requests of one affinity go to one endpoint, and affinities spread."""
    async with bad.MisbehavingServer() as one, bad.MisbehavingServer() as other, connected(one, other) as pool:
        where = {}
        for task in range(20):
            sent = []
            for _ in range(5):
                await pool.ask(request(), priority=0, affinity=f"0.{task}", on_sent=sent.append)
            assert len(set(sent)) == 1
            where[task] = sent[0]
    assert set(where.values()) == {one.url, other.url}


async def test_what_is_due_first_waits_for_a_fast_endpoint():
    """With few requests waiting, all go to the fast endpoint, though the slow one has free slots; the last of many goes to
    the slow one, as it would wait for longer than that takes. Meanwhile the slow one is called spare, and only it.
    """
    async with (
        bad.MisbehavingServer(lambda *_: bad.slow(0.05)) as fast,
        bad.MisbehavingServer(lambda *_: bad.slow(1.5)) as slow,
        connected(endpoint(fast.url, 3), endpoint(slow.url, 3)) as pool,
    ):
        await ask_many(pool, 6)
        await asyncio.gather(*(pool.ask(request(), priority=0, avoid=fast.url) for _ in range(3)))
        asking_few = asyncio.create_task(ask_many(pool, 12))
        while not pool.statistics().in_flight:
            await asyncio.sleep(0)
        assert [one.spare for one in pool.statistics().endpoints] == [False, True]
        few = await asking_few
        assert not any(one.spare for one in pool.statistics().endpoints)
        many = await ask_many(pool, 120)
    assert {outcome.endpoint for outcome in few} == {fast.url}
    assert {outcome.endpoint for outcome in many[:24]} == {fast.url}
    assert slow.url in {outcome.endpoint for outcome in many}


async def test_what_waits_in_the_queue_of_a_slow_endpoint_is_taken_back():
    """A new endpoint of two slots gets as many requests as any. Where its metrics show that most of them wait, and another
    endpoint is faster, those are sent there: none fails, none counts as an attempt that failed, and it has had each
    request that it has answered.
    """
    slots_of_slow = Profile(slots=2, step_s=0.02, request_s=0.0, prefill_s=0.0, kv_tokens=1_000_000)
    sent: list[list[str]] = [[] for _ in range(40)]
    async with (
        bad.MisbehavingServer(lambda *_: bad.slow(0.05), catalogue=lambda *_: bad.models("simulated")) as fast,
        SimulatedServer(profile=slots_of_slow) as slow,
        connected(endpoint(slow.url, "auto"), endpoint(fast.url, 2), model="simulated") as pool,
    ):
        watching = asyncio.create_task(pool.adjust_limits())
        asked = [dataclasses.replace(request(number, max_tokens=100), model="simulated") for number in range(40)]
        outcomes = await asyncio.gather(
            *(pool.ask(one, priority=number, on_sent=sent[number].append) for number, one in enumerate(asked))
        )
        watching.cancel()
        told = {one.url: one for one in pool.statistics().endpoints}
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    taken_back = [urls for urls in sent if "" in urls]
    assert len(taken_back) >= 20
    assert all(urls[:2] == [slow.url, ""] for urls in taken_back)
    assert told[slow.url].failed_attempts == told[slow.url].retries == 0
    assert told[slow.url].peak_in_flight == 32
    assert [outcome.endpoint for outcome in outcomes] == [urls[-1] for urls in sent]
    assert sum(outcome.endpoint == fast.url for outcome in outcomes) > 20


async def test_after_a_stop_nothing_is_taken_back():
    """It could not be sent again: what is in flight at a stop is answered, also what waits in an engine's queue."""
    slots_of_slow = Profile(slots=2, step_s=0.005, request_s=0.0, prefill_s=0.0, kv_tokens=1_000_000)
    sent: list[str] = []
    async with (
        bad.MisbehavingServer(lambda *_: bad.slow(0.01), catalogue=lambda *_: bad.models("simulated")) as fast,
        SimulatedServer(profile=slots_of_slow) as slow,
        connected(endpoint(slow.url, "auto"), endpoint(fast.url, 1), model="simulated") as pool,
    ):
        asked = [dataclasses.replace(request(number, max_tokens=60), model="simulated") for number in range(32)]
        asking = [asyncio.create_task(pool.ask(one, priority=0, on_sent=sent.append)) for one in asked]
        await until(lambda: pool.statistics().in_flight == 32)
        pool.stop()
        watching = asyncio.create_task(pool.adjust_limits())
        outcomes = await asyncio.gather(*asking)
        watching.cancel()
    assert len(sent) == 32
    assert all(isinstance(outcome, Completion) for outcome in outcomes)


async def test_what_waits_in_the_queue_of_the_only_endpoint_stays_there():
    """Nothing is quicker, and it would lose its place."""
    profile = Profile(slots=2, step_s=0.01, request_s=0.0, prefill_s=0.0, kv_tokens=1_000_000)
    sent: list[str] = []
    async with (
        SimulatedServer(profile=profile) as server,
        connected(endpoint(server.url, "auto"), model="simulated") as pool,
    ):
        watching = asyncio.create_task(pool.adjust_limits())
        asked = [dataclasses.replace(request(number, max_tokens=20), model="simulated") for number in range(32)]
        await asyncio.gather(*(pool.ask(one, priority=0, on_sent=sent.append) for one in asked))
        watching.cancel()
        assert pool.statistics().endpoints[0].limit < 32
    assert sent == [server.url] * 32


async def test_weights_share_out():
    """Three times the weight, three times the requests, while there is room everywhere."""
    async with (
        bad.MisbehavingServer(lambda *_: bad.slow(0.3)) as one,
        bad.MisbehavingServer(lambda *_: bad.slow(0.3)) as other,
    ):
        endpoints = endpoint(one.url, weight=3.0), endpoint(other.url)
        async with connected(*endpoints) as pool:
            await asyncio.gather(
                *(pool.ask(request(number), priority=0, affinity=str(number)) for number in range(160))
            )
    assert one.peak > other.peak


async def test_tokens_a_minute():
    """An endpoint with a rate of tokens gets a second's worth at once and the rest as it is paid off."""
    async with (
        bad.MisbehavingServer(lambda *_: bad.Behaviour(body=bad.answer(tokens=95))) as server,
        connected(endpoint(server.url, concurrency=1, tokens_per_minute=60 * 400)) as pool,
    ):
        began = time.monotonic()
        for number in range(13):  # of 100 tokens each, 400 a second
            await pool.ask(request(number), priority=0)
        seconds = time.monotonic() - began
    assert seconds > 1.6


async def test_endpoints_come_and_go():
    """One that is added gets requests, one that is taken away finishes what it has and gets no more."""
    async with (
        bad.MisbehavingServer(lambda *_: bad.slow(0.2)) as one,
        bad.MisbehavingServer() as other,
        connected(one) as pool,
    ):
        asking = asyncio.create_task(pool.ask(request("first"), priority=0))
        await until(lambda: one.in_flight)
        await pool.replace([endpoint(other.url)])
        sent: list[str] = []
        assert isinstance(await pool.ask(request("second"), priority=0, on_sent=sent.append), Completion)
        assert sent == [other.url]
        assert isinstance(await asking, Completion)
        await pool.replace([endpoint(one.url), endpoint(other.url)])
        await until(lambda: sum(endpoint.healthy for endpoint in pool.statistics().endpoints) == 2)
        await asyncio.gather(
            *(pool.ask(request(n), priority=0, affinity=str(n), on_sent=sent.append) for n in range(20))
        )
        assert set(sent[1:]) == {one.url, other.url}
        with pytest.raises(ConfigError):
            await pool.replace([])


async def test_one_that_joins_with_another_model_is_left_out():
    """An endpoint added later that serves something else gets nothing, says why, and ends no run."""
    async with (
        bad.MisbehavingServer() as one,
        bad.MisbehavingServer(catalogue=lambda *_: bad.models("other")) as other,
        connected(one) as pool,
    ):
        await pool.replace([endpoint(one.url), endpoint(other.url)])
        await until(lambda: pool.statistics().endpoints[-1].last_error)
        assert "does not serve 'm'" in pool.statistics().endpoints[-1].last_error
        await ask_many(pool, 10)
        assert not pool.statistics().endpoints[-1].answered


async def test_deadlines_are_put_off_while_the_engine_works(monkeypatch):
    """An answer may take longer than its deadline as long as the metrics show progress; a server that stands still,
    metrics and all, is given up at the deadline."""
    monkeypatch.setattr(endpoint_module, "SHORTEST_DEADLINE_S", 2.5)
    monkeypatch.setattr(endpoint_module, "ASSUMED_TOKENS_PER_S", 1e9)
    slow = Profile(slots=4, step_s=0.2, request_s=0.0, prefill_s=0.0, kv_tokens=100_000)
    async with (
        SimulatedServer(profile=slow) as server,
        connected(endpoint(server.url, concurrency="auto", model="simulated")) as pool,
    ):
        looking = asyncio.create_task(pool.adjust_limits())
        completion = await pool.ask(request(max_tokens=60), priority=0)
        looking.cancel()
    assert isinstance(completion, Completion)
    assert completion.latency_s > 2.5
    assert pool.statistics().failed_attempts == 0


async def test_the_engines_are_told_in_a_few_words():
    """While they work, what all engines say of themselves together; nothing where none has metrics."""
    async with (
        SimulatedServer(profile=SMALL) as server,
        connected(endpoint(server.url, concurrency="auto", model="simulated")) as pool,
    ):
        assert pool.statistics().engines == ""
        pattern = re.compile(r"servers: 20 running, 0 waiting, KV cache \d+% full, prefix hits \d+%")
        async with asking(pool, at_once=20):
            await until(lambda: pattern.fullmatch(pool.statistics().engines))
