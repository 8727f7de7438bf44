"""Streamed completions, from any bytes and at any pace."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.streaming_server import DONE, FINISH, event, paced, raw, streaming, text, usage

from explore_async.errors import AttemptTimedOut, ConnectionFailed, EndpointUnavailable, RequestRejected
from explore_async.measuring.streaming import EventReader, StreamedCompletion, ask, read_chunk
from explore_async.serving.endpoints.client import EndpointClient, open_session

BODY = orjson.dumps({"model": "m", "stream": True, "stream_options": {"include_usage": True}})


def read(pieces: list[bytes]) -> list[str]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.close()


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(whole) + 1) for place in places}), len(whole)]
    return [whole[start:end] for start, end in pairwise(bounds)]


PAYLOADS = st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=6)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
PLACES = st.lists(st.integers(0, 10_000), max_size=12)


@given(PAYLOADS, ENDS, PLACES, st.booleans())
def test_any_chunking_gives_the_events_that_were_written(
    payloads: list[str], end: bytes, places: list[int], mark: bool
):
    """Cut anywhere, in the middle of a character or of CR LF too, with comments and other fields between."""
    whole = b"\xef\xbb\xbf" if mark else b""
    for payload in payloads:
        whole += b": ping" + end + b"event: x" + end + b"data: " + payload.encode() + end + end
    assert read(cut(whole, places)) == payloads
    assert read([bytes([byte]) for byte in whole]) == payloads


@given(st.binary(max_size=200), PLACES)
def test_any_bytes_at_all_give_the_same_events_however_cut(whole: bytes, places: list[int]):
    """Also of what is no event stream: nothing raises, and where it is cut makes no difference."""
    assert read(cut(whole, places)) == read([whole])


def test_lines_of_one_event_belong_together():
    """As the standard has it; and a last event without its blank line counts."""
    assert read([b"data: a\ndata:b\ndata\n\nid: 1\n\ndata: last"]) == ["a\nb\n", "last"]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda below: st.lists(below) | st.dictionaries(st.sampled_from(["choices", "delta", "content", "usage", "completion_tokens", "error", "object"]), below)))  # fmt: skip
def test_no_document_confuses_the_reader_of_chunks(document: object):
    """Any JSON is a chunk or an error, never an exception."""
    try:
        encoded = orjson.dumps(document)
    except TypeError:  # an integer beyond 64 bits
        return
    chunk = read_chunk(encoded.decode())
    assert chunk.error is None or chunk.error


async def answer(url: str, *, timeout_s: float = 300.0) -> StreamedCompletion:
    async with open_session() as session:
        return await ask(EndpointClient(url, session=session), BODY, timeout_s=timeout_s)


async def test_what_is_measured_is_the_servers_pace():
    """First text after 0.15 s, nine more each 0.03 s: neither the role nor the usage counts as text or as time."""
    async with streaming(paced(0.15, 0.03, 10, 19)) as url:
        found = await answer(url)
    assert found.ttft_s >= 0.15
    assert len(found.gaps_s) == 9
    assert sum(found.gaps_s) / 9 > 0.028
    assert found.e2e_s == pytest.approx(found.ttft_s + sum(found.gaps_s))
    assert found.tpot_s == pytest.approx((found.e2e_s - found.ttft_s) / 18)
    assert (found.prompt_tokens, found.output_tokens, found.usage) == (10, 19, True)


async def test_without_usage_pieces_of_text_are_counted():
    """The tokens of the prompt are unknown then."""
    async with streaming(raw(event(text("a")), event(text("b")), event(text("c")), event(FINISH), DONE)) as url:
        found = await answer(url)
    assert (found.prompt_tokens, found.output_tokens, found.usage) == (0, 3, False)


async def test_bytes_may_be_cut_anywhere():
    """In the middle of a character, with CR LF, with comments, without [DONE], without the last blank line."""
    whole = b": hello\r\n\r\n" + event(text("größer 猫"), end=b"\r\n\r\n") + event(FINISH, end=b"\r\n\r\n")
    whole += event(usage(3, 7), end=b"")
    middle = whole.index("猫".encode()) + 1
    async with streaming(raw(whole[:middle], whole[middle : middle + 40], whole[middle + 40 :])) as url:
        found = await answer(url)
    assert (found.prompt_tokens, found.output_tokens) == (3, 7)


async def test_thinking_is_text():
    """The first token is the first that the model writes, in its reasoning or its text."""
    thought = {"choices": [{"delta": {"reasoning_content": "hm"}}]}
    async with streaming(raw(event(thought), event(text("a")), event(FINISH), DONE)) as url:
        assert len((await answer(url)).gaps_s) == 1


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (
            [event(text("a")), event({"error": {"message": "engine died", "code": 500}})],
            "middle of a stream: engine died",
        ),
        ([event(text("a")), event({"object": "error", "message": "no room"})], "middle of a stream: no room"),
        ([event(text("a")), b"data: {broken\n\n"], "not JSON"),
        ([event(text("a"))], "before the completion was finished"),
        ([event(FINISH), DONE], "streamed no text"),
        ([b'{"choices": [{"message": {"content": "not streamed"}}]}'], "without a stream"),
        ([b"\xff\xfe\x00"], "without a stream"),
    ],
)
async def test_streams_that_go_wrong_are_errors_of_ours(parts: list[bytes], told: str):
    """Each names the endpoint and what was wrong, and has status 200."""
    async with streaming(raw(*parts, pause_s=0)) as url:
        with pytest.raises(EndpointUnavailable, match=told) as caught:
            await answer(url)
    assert (caught.value.endpoint, caught.value.status) == (url, 200)


async def test_trouble_before_and_within_a_stream_is_told_apart():
    """No server, a refusal, and a stream that does not end in time."""
    async with streaming(paced(5, 5, 2, 2)) as url:
        with pytest.raises(AttemptTimedOut):
            await answer(url, timeout_s=0.2)
        with pytest.raises(RequestRejected):
            await answer(url.replace("/v1", "/v7"))
    with pytest.raises(ConnectionFailed):
        await answer(url)
