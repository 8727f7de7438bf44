"""Which endpoint may serve what: models go where they are, and what the recipe settled is not adapted to anybody."""

from __future__ import annotations

import asyncio

import pytest
from support import misbehaving as bad
from support.endpoints import endpoint
from support.scripted import recipe

from explore_async.errors import ConfigError, EndpointError
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import AnswerSchema, ChatRequest, Completion
from explore_async.serving.endpoints import availability as availability_module
from explore_async.serving.endpoints.pool import EndpointPool
from explore_async.settings.operation import Retries

QUICK = Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)
USER = ({"role": "user", "content": "Say yes."},)
PROBE = ChatRequest("m", USER, {"max_tokens": 8}, 0, AnswerSchema("tasks", {"type": "object"}))


@pytest.fixture(autouse=True)
def impatient_connect(monkeypatch):
    monkeypatch.setattr(availability_module, "CONNECT_PATIENCE_S", 0.3)


def serving(*names: str, script=()) -> bad.MisbehavingServer:
    return bad.MisbehavingServer(script, catalogue=lambda *_: bad.models(*names))


def asked(server: bad.MisbehavingServer) -> set[str]:
    return {body["model"] for body in server.bodies}


def ready(server: bad.MisbehavingServer) -> EndpointPool:
    return EndpointPool([endpoint(server.url)], models=("m",), probes=[PROBE], retries=QUICK, stall_s=30)


async def ask_both(pool: EndpointPool, count: int = 20) -> None:
    questions = [ChatRequest(model, USER, {}, seed) for seed in range(count) for model in ("large", "small")]
    outcomes = await asyncio.gather(*(pool.ask(one, priority=0, affinity="same task") for one in questions))
    assert all(isinstance(outcome, Completion) for outcome in outcomes)


async def test_thinking_before_the_answer_is_no_fault():
    """A model that thinks aloud within its answer follows the schema all the same."""
    for text in ("<think>Yes?</think>\n{}", "<think>I wonder"):
        async with serving("m", script=[bad.Behaviour(body=bad.answer(text))]) as server, ready(server) as pool:
            assert await pool.connect() == ("m",)


async def test_requests_go_only_where_their_model_is():
    """Of two models one endpoint serves each and a third both; one affinity for all makes nobody ask the wrong one."""
    async with serving("large") as one, serving("s") as other, serving("large", "small") as both:
        endpoints = [endpoint(one.url, 2), endpoint(other.url, 2, model={"small": "s"}), endpoint(both.url, 2)]
        async with EndpointPool(endpoints, models=("large", "small"), retries=QUICK, stall_s=30) as pool:
            assert await pool.connect() == ("large", "small")
            await ask_both(pool)
    assert asked(one) == {"large"}
    assert asked(other) == {"s"}
    assert asked(both) == {"large", "small"}


async def test_a_full_endpoint_of_one_model_does_not_hold_up_the_other():
    """While requests wait for the only slot of one model, those of the other are served, though they came later."""
    async with serving("large", script=[bad.slow(0.5)] * 2) as slow, serving("small") as quick:
        endpoints = [endpoint(slow.url, 1), endpoint(quick.url, 1)]
        async with EndpointPool(endpoints, models=("large", "small"), retries=QUICK, stall_s=30) as pool:
            await pool.connect()
            waiting = [asyncio.create_task(pool.ask(ChatRequest("large", USER, {}, n), priority=0)) for n in range(2)]
            await asyncio.sleep(0)
            await pool.ask(ChatRequest("small", USER, {}, 0), priority=9)
            assert not any(one.done() for one in waiting)
            await asyncio.gather(*waiting)


@pytest.mark.parametrize(
    ("served", "named", "message"),
    [
        (("large",), None, "No endpoint serves 'small'"),
        (("large", "small"), "large", "give this endpoint's `model` as a mapping"),
        (("large", "small"), {"small": "tiny"}, "does not serve 'tiny'; it serves large, small"),
        (("other",), None, "does not serve 'large', 'small'; it serves other"),
    ],
)
async def test_a_model_that_nobody_serves_is_told_at_the_start(served, named, message):
    """Before anything is asked, the error says which model is missing or how to name it."""
    async with serving(*served) as server:
        async with EndpointPool(
            [endpoint(server.url, model=named)], models=("large", "small"), retries=QUICK, stall_s=30
        ) as pool:
            with pytest.raises((EndpointError, ConfigError), match=message):
                await pool.connect()
        assert server.bodies == []


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (
            bad.error(400, "response_format is not supported"),
            "rejects requests in the form of this recipe.*JSON schema",
        ),
        (bad.error(422, "unknown field"), "rejects requests in the form of this recipe"),
        (bad.Behaviour(body=bad.answer("Sure! yes")), "does not follow it: .*'Sure! yes'.*answer_format: text"),
    ],
)
async def test_an_endpoint_that_cannot_serve_the_recipe_is_refused(behaviour, message):
    """A refused schema, or one that is ignored, ends the start with what the recipe asks for and what to change."""
    async with bad.MisbehavingServer(lambda *_: behaviour) as server, ready(server) as pool:
        with pytest.raises(EndpointError, match=message):
            await pool.connect()
        assert len(server.bodies) == 1


@pytest.mark.parametrize("first", [bad.Behaviour(body=bad.answer(' \n{"tasks')), bad.NULL_CONTENT, bad.UNAVAILABLE])
async def test_an_endpoint_that_can_is_taken(first):
    """The beginning of an object is enough; no text yet proves nothing; a busy endpoint is asked again later."""
    script = [first, bad.Behaviour(body=bad.answer("{}"))]
    async with bad.MisbehavingServer(script) as server, ready(server) as pool:
        await pool.connect()
        assert isinstance(await pool.ask(ChatRequest("m", USER, {}, 1), priority=0), Completion)


async def test_one_that_joins_a_run_and_cannot_serve_it_gets_nothing():
    """It is left out and its error kept, and the run goes on with the others."""
    async with (
        bad.MisbehavingServer(lambda *_: bad.Behaviour(body=bad.answer("{"))) as good,
        bad.MisbehavingServer(lambda *_: bad.Behaviour(body=bad.answer("yes"))) as prosaic,
        ready(good) as pool,
    ):
        await pool.connect()
        await pool.replace([endpoint(good.url), endpoint(prosaic.url)])
        for number in range(20):
            await pool.ask(ChatRequest("m", USER, {}, number), priority=0)
            await asyncio.sleep(0.01)
        left_out = pool.statistics().endpoints[1]
    assert not left_out.healthy
    assert "does not follow it" in left_out.last_error
    assert len(prosaic.bodies) == 1


def test_the_form_has_what_the_runs_requests_have():
    """For each model one form, with the roles, schema and extra fields of its templates; it costs a few tokens."""
    changed = recipe(models={"generate": "small"}, extra_body={"top_k": 5})
    forms = PromptBook(changed).forms()
    assert [form.model for form in forms] == ["scripted", "small"]
    for form in forms:
        assert [message["role"] for message in form.messages] == ["system", "user"]
        assert form.answer_schema is not None
        assert form.extra_body == {"top_k": 5}
        assert form.sampling["max_tokens"] <= 8
