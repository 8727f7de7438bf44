"""Which endpoint may serve what: models go where they are, and what the recipe settled is not adapted to anybody."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from support import misbehaving as bad
from support.endpoints import endpoint
from support.misbehaving import Script
from support.scripted import Driven, recipe

from explore_async.errors import ConfigError, EndpointError
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import AnswerSchema, ChatRequest, Completion, Form
from explore_async.serving.endpoints import admission as admission_module
from explore_async.serving.endpoints.pool import EndpointPool
from explore_async.settings.operation import Retries

QUICK = Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.05)
USER = ({"role": "user", "content": "Say yes."},)
SYSTEM = ({"role": "system", "content": "You write tasks. " * 40},)
FORM = Form(
    ChatRequest(
        "m",
        SYSTEM + USER,
        {"temperature": 0.8, "max_tokens": 900},
        0,
        AnswerSchema("tasks", {"type": "object"}),
        {"top_k": 5},
    ),
    "generation",
)


@pytest.fixture(autouse=True)
def impatient_connect(monkeypatch):
    monkeypatch.setattr(admission_module, "CONNECT_PATIENCE_S", 0.3)


def serving(*names: str, script=()) -> bad.MisbehavingServer:
    return bad.MisbehavingServer(script, catalogue=lambda *_: bad.models(*names))


def asked(server: bad.MisbehavingServer) -> set[str]:
    return {body["model"] for body in server.bodies}


def ready(server: bad.MisbehavingServer) -> EndpointPool:
    return EndpointPool([endpoint(server.url)], models=("m",), forms=[FORM], retries=QUICK, stall_s=30)


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
            await pool.settle()
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
    ("behaviour", "message", "requests"),
    [
        (
            bad.error(400, "response_format is not supported"),
            "rejects requests in the form of this recipe.*JSON schema.*Change the recipe",
            2,
        ),
        (bad.error(422, "unknown field"), "rejects requests in the form of this recipe", 2),
        (bad.Behaviour(body=bad.answer("Sure! yes")), "does not follow it: .*'Sure! yes'.*answer_format: text", 1),
    ],
)
async def test_an_endpoint_that_cannot_serve_the_recipe_is_refused(behaviour, message, requests):
    """A schema that is ignored, and requests that are refused whatever their form, end the start with what the recipe
    asks for and what to change.
    """
    async with bad.MisbehavingServer(lambda *_: behaviour) as server, ready(server) as pool:
        with pytest.raises(EndpointError, match=message):
            await pool.connect()
        assert len(server.bodies) == requests


@pytest.mark.parametrize(
    "first",
    [
        bad.Behaviour(body=bad.answer(' \n{"tasks')),
        bad.Behaviour(body=bad.answer(choices=[{"message": {"content": " \n \n"}, "finish_reason": "length"}])),
        bad.NULL_CONTENT,
        bad.UNAVAILABLE,
    ],
)
async def test_an_endpoint_that_can_is_taken(first):
    """The beginning of an object is enough, or the white space before it; no text yet proves nothing; a busy endpoint is
    asked again later.
    """
    script = [first, bad.Behaviour(body=bad.answer("{}"))]
    async with bad.MisbehavingServer(script) as server, ready(server) as pool:
        await pool.connect()
        assert isinstance(await pool.ask(ChatRequest("m", USER, {}, 1), priority=0), Completion)


THOUGHTS = {"role": "assistant", "content": None, "reasoning_content": '{"tasks": []}'}


def says(message: dict[str, Any], finish_reason: str = "stop") -> bad.Behaviour:
    return bad.Behaviour(body=bad.answer(choices=[{"message": message, "finish_reason": finish_reason}]))


SET_UP_WRONG = {
    "thoughts": (says(THOUGHTS), "thoughts instead of a text.*--reasoning-parser.*answer_format: text"),
    "thoughts and nothing": (says({**THOUGHTS, "content": ""}), "thoughts instead of a text.*enable_thinking"),
    "tool calls": (
        says({"content": None, "tool_calls": [{"id": "1"}]}),
        "tool calls instead of a text.*tool_choice: none",
    ),
    "event stream": (
        bad.Behaviour(body=b'data: {"choices": []}\n\n', headers={"Content-Type": "text/event-stream"}),
        "a stream of events.*gateway",
    ),
    "another page": (bad.INVALID_JSON, "URL of an OpenAI-compatible server"),
}


@pytest.mark.parametrize("name", SET_UP_WRONG)
async def test_a_server_that_is_set_up_wrong_is_told_at_the_start(name):
    """It answers all requests with something else than a text: after three attempts the error says with what, and what
    to change. Two such responses are no reason to do without an endpoint.
    """
    behaviour, message = SET_UP_WRONG[name]
    async with bad.MisbehavingServer(lambda *_: behaviour) as server, ready(server) as pool:
        with pytest.raises(EndpointError, match=message):
            await pool.connect()
        assert len(server.bodies) == 3
        assert len({body["seed"] for body in server.bodies}) == 3
    now_and_then = [behaviour, behaviour, bad.Behaviour(body=bad.answer("{}"))]
    async with bad.MisbehavingServer(now_and_then) as server, ready(server) as pool:
        assert await pool.connect() == ("m",)


async def test_a_model_that_thinks_gets_the_runs_own_limit():
    """Eight tokens are too few for a model that thinks first: it is asked again with the limit of the run. One that thinks
    until this limit as well is refused with what helps.
    """

    def thinks(tokens: int) -> Script:
        cut = says(THOUGHTS, "length")
        return lambda body, _: cut if body["max_tokens"] < tokens else bad.Behaviour(body=bad.answer("{}"))

    async with bad.MisbehavingServer(thinks(900)) as server, ready(server) as pool:
        assert await pool.connect() == ("m",)
        assert [body["max_tokens"] for body in server.bodies] == [8, 900]
    async with bad.MisbehavingServer(thinks(901)) as server, ready(server) as pool:
        with pytest.raises(
            EndpointError, match=r"sampling\.generation\.max_tokens \(900\) while it thinks.*thinking_token"
        ):
            await pool.connect()


async def test_a_fence_that_is_cut_is_asked_further():
    """llama.cpp shows the fence of a code block until the object in it begins: it is asked again with more tokens. A
    server that ignores the schema, and writes the block, is refused then.
    """

    def fences(rest: str) -> Script:
        fence, whole = (says({"content": text}, "length") for text in ("```json\n\n", rest))
        return lambda body, _: fence if body["max_tokens"] == 8 else whole

    async with bad.MisbehavingServer(fences('{"tasks')) as server, ready(server) as pool:
        assert await pool.connect() == ("m",)
        assert [body["max_tokens"] for body in server.bodies] == [8, 64]
    async with bad.MisbehavingServer(fences('```json\n\n{"tasks')) as server, ready(server) as pool:
        with pytest.raises(EndpointError, match="does not follow it"):
            await pool.connect()


PARTS = [
    (lambda body: "response_format" in body, "without the JSON schema. Set answer_format: text"),
    (lambda body: "top_k" in body, "without 'top_k' of extra_body"),
    (lambda body: len(body["messages"]) > 1, "without the system message"),
    (lambda body: "seed" in body, "without the seed. Set seed: null"),
    (lambda body: "temperature" in body, "without 'temperature' of sampling. Set it to null"),
]


@pytest.mark.parametrize(
    ("part", "message"), [*PARTS, (lambda _: True, "and a plain request as well: look at the server's log")]
)
async def test_the_part_of_the_form_that_breaks_a_server_is_named(part, message):
    """A server that answers 500 to a part of the form: found by leaving out one part after another."""
    script = lambda body, _: bad.INTERNAL if part(body) else bad.Behaviour(body=bad.answer("{}"))  # noqa: E731
    async with bad.MisbehavingServer(script) as server, ready(server) as pool:
        with pytest.raises(EndpointError, match=f"boom.*{message}"):
            await pool.connect()


@pytest.mark.parametrize(("part", "message"), PARTS)
async def test_the_part_of_the_form_that_a_server_rejects_is_named(part, message):
    """With the setting that leaves it out, whatever the words of the rejection. Each request of the check that failed is
    counted.
    """
    script = lambda body, _: bad.error(400, "Unsupported") if part(body) else bad.Behaviour(body=bad.answer("{}"))  # noqa: E731
    async with bad.MisbehavingServer(script) as server, ready(server) as pool:
        with pytest.raises(EndpointError, match=f"rejects requests in the form .*Unsupported.*serves them {message}"):
            await pool.connect()
        assert pool.statistics().failed_attempts == sum(map(part, server.bodies))


async def test_a_server_that_breaks_at_everything_waits_for_its_turn_beside_another():
    """Its own trouble is no fault of the recipe: the run begins with the other one."""
    async with (
        bad.MisbehavingServer(lambda *_: bad.INTERNAL) as broken,
        bad.MisbehavingServer(lambda *_: bad.Behaviour(body=bad.answer("{}"))) as fine,
        EndpointPool(
            [endpoint(broken.url), endpoint(fine.url)], models=("m",), forms=[FORM], retries=QUICK, stall_s=30
        ) as pool,
    ):
        assert await pool.connect() == ("m",)
        assert [one.healthy for one in pool.statistics().endpoints] == [False, True]


@pytest.mark.parametrize("fault", [bad.INTERNAL, SET_UP_WRONG["tool calls"][0]])
async def test_a_server_that_passes_the_check_and_serves_nothing_is_told_soon(fault):
    """Its check is answered and none of the run's requests of one stage is: the error names the stage, after eight faults
    in a row from the beginning, or, where it has served others before, which it says, after it came back three times.
    """

    def script(body: dict[str, Any], _: int) -> bad.Behaviour:
        return fault if "Go on" in str(body["messages"]) else bad.Behaviour(body=bad.answer("{}"))

    patient = Retries(attempts=100, first_wait_s=0.01, longest_wait_s=0.02)
    for begin in (False, True):
        async with (
            bad.MisbehavingServer(script) as server,
            EndpointPool([endpoint(server.url)], models=("m",), forms=[FORM], retries=patient, stall_s=600) as pool,
        ):
            await pool.connect()
            if begin:
                await pool.ask(ChatRequest("m", ({"role": "user", "content": "Begin."},), {}, 0), priority=0)
            go_on = replace(FORM.request, messages=({"role": "user", "content": "Go on."},))
            questions = [replace(go_on, seed=seed) for seed in range(3 + 17 * begin)]
            others = "others of the run before, and " * begin
            said = rf"last \d+ requests for its generation ended so, though it answered {others}the small ones"
            async with asyncio.timeout(60):
                with pytest.raises(EndpointError, match=said):
                    await asyncio.gather(*(pool.ask(one, priority=0) for one in questions))


def with_context(tokens: object, prompt_tokens: int, field: str = "max_model_len") -> bad.MisbehavingServer:
    entry = {"id": "m", "owned_by": "vllm", field: tokens}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 1}
    return bad.MisbehavingServer(
        lambda *_: bad.Behaviour(body=bad.answer("{}", usage=usage)),
        catalogue=lambda *_: bad.Behaviour(body=orjson.dumps({"data": [entry]})),
    )


@pytest.mark.parametrize("field", ["max_model_len", "context_length", "context_window"])
async def test_a_context_that_is_too_small_is_refused_with_both_numbers(field):
    """Before the run asks anything: what the model takes, what the requests need, and what to lower or to raise."""
    async with with_context(1000, 250, field) as server, ready(server) as pool:
        with pytest.raises(EndpointError, match=r"context of 'm' is 1000 tokens") as caught:
            await pool.connect()
        assert [body["max_tokens"] for body in server.bodies] == [8, 1]  # the check, and the prompt to count its tokens
    for word in (
        server.url,
        "need 1150",
        "250 for a first prompt",
        "900",
        "Lower sampling.generation.max_tokens to 562",
    ):
        assert word in str(caught.value)
    async with with_context(200, 250) as server, ready(server) as pool:
        with pytest.raises(EndpointError, match="Serve the model with a longer context") as caught:
            await pool.connect()
        assert "Lower" not in str(caught.value)


@pytest.mark.parametrize("context", [1150, 10**6, None, 0, "4096"])
async def test_a_context_that_suffices_or_is_not_told_is_no_reason_to_refuse(context):
    """To the token; and where it cannot be too small, its tokens are not even counted."""
    async with with_context(context, 250) as server, ready(server) as pool:
        assert await pool.connect() == ("m",)
        assert [body["max_tokens"] for body in server.bodies] == ([8, 1] if context == 1150 else [8])


@pytest.mark.parametrize(
    "catalogue",
    [
        bad.models(),
        bad.Behaviour(body=b'{"data": null}'),
        bad.Behaviour(body=b"null"),
        bad.INVALID_JSON,
        bad.INTERNAL,
        bad.UNAVAILABLE,
        bad.RATE_LIMITED,
        bad.error(403, "this key may not list models"),
        bad.error(400),
        bad.CLOSED_AT_ONCE,
        bad.models("*", owner="openai"),
        bad.models("openai/*", "m*", owner="openai"),
    ],
)
async def test_a_list_of_models_does_not_overrule_a_name(catalogue):
    """One that is empty, missing, failing or a wildcard: the name that the user gave is asked for, without a priority,
    which the engine may not know.
    """
    script = lambda *_: bad.Behaviour(body=bad.answer("{}"))  # noqa: E731
    async with bad.MisbehavingServer(script, catalogue=lambda *_: catalogue) as server, ready(server) as pool:
        assert await pool.connect() == ("m",)
        assert isinstance(await pool.ask(ChatRequest("m", USER, {}, 1), priority=5), Completion)
    assert asked(server) == {"m"}
    assert "priority" not in server.bodies[-1]


async def test_a_wildcard_names_no_model():
    """Where the user gave no name, a pattern is no name either; and one that does not cover a name does not serve it."""
    async with serving("*") as server, EndpointPool([endpoint(server.url)], retries=QUICK, stall_s=30) as pool:
        with pytest.raises(
            EndpointError, match=r"Name a model with --model \(the command judge: --judge\); the endpoints serve \*"
        ):
            await pool.connect()
    async with serving("openai/*") as server, ready(server) as pool:
        with pytest.raises(EndpointError, match=r"does not serve 'm'; it serves openai/\*"):
            await pool.connect()


async def test_a_key_that_is_rejected_is_told_by_the_check():
    """Where /models is closed to a key, the check shows whether the key itself is wrong."""
    async with (
        bad.MisbehavingServer(lambda *_: bad.KEY_REFUSED, catalogue=lambda *_: bad.KEY_REFUSED) as server,
        ready(server) as pool,
    ):
        with pytest.raises(EndpointError, match=r"no key was sent.*api_key_env"):
            await pool.connect()


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


def test_the_forms_are_those_of_the_runs_first_requests():
    """For each model and each schema one form, as the run sends it: with its prompt, sampling and extra fields. Of several
    domains the longest prompt; where nothing is explored, none about sub-tasks.
    """
    changed = recipe(models={"generate": "small"}, extra_body={"top_k": 5})
    forms = PromptBook(changed).forms()
    assert [(form.request.model, form.sampling) for form in forms] == [
        ("scripted", "exploration"),
        ("small", "generation"),
    ]
    driven = Driven(recipe(models={"generate": "small"}, extra_body={"top_k": 5}, targets={"examples": 9}))
    driven.run()
    rendered = [driven.book.render(request) for request in driven.issued]
    for form in forms:
        assert any(
            (one.model, one.sampling, one.answer_schema, one.extra_body)
            == (form.request.model, form.request.sampling, form.request.answer_schema, {"top_k": 5})
            for one in rendered
        )
    domains = [{"name": "Short"}, {"name": "Long", "description": "much " * 50}, {"name": "Short too"}]
    assert all("much" in str(form.request.messages) for form in PromptBook(recipe(domains=domains)).forms())
    assert [form.sampling for form in PromptBook(recipe(exploration={"depth": 0})).forms()] == ["generation"]
