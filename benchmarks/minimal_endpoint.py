"""An endpoint that costs next to nothing: a number of slots, a queue before them, and answers made of random words.

It reads just enough of HTTP/1.1 and of chat completions to answer any client, and so that clients are measured and not
the endpoint. An answer takes a slot for a lognormal time. It holds as many tasks or examples as the schema of the
request allows; some examples repeat an earlier one with a word changed. Where max_tokens allows fewer, the answer
is cut and takes as much less time. `GET /figures` tells what was asked.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import random
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection

import orjson

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("lam", "len", "lin", "lon", "run")]
TOKENS = 60
"""Of a task or an example."""
_LONGEST_S = 8.0
"""The longest answer, in means."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Slots, the mean time of an answer and the deviation of its logarithm, the share of requests that fail, and the
    share of examples that repeat an earlier one.
    """

    slots: int
    mean_s: float = 0.5
    sigma: float = 0.5
    faults: float = 0.0
    repeated: float = 0.1


@dataclass(slots=True)
class Figures:
    """The work of the endpoint since it began. Times are of CLOCK_MONOTONIC, which all processes share."""

    requests: int = 0
    faults: int = 0
    examples: int = 0
    tasks: int = 0
    busy_s: float = 0.0
    """Seconds during which slots were taken, summed over the slots."""
    first_request: float | None = None
    last_answer: float | None = None
    most_waiting: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Order:
    """A number of tasks or examples, of which max_tokens allows a share."""

    kind: str
    items: int
    share: float

    @classmethod
    def of(cls, body: bytes) -> Order:
        request = orjson.loads(body)
        ((kind, shape),) = request["response_format"]["json_schema"]["schema"]["properties"].items()
        items = shape["maxItems"]
        return cls(kind, items, min(1.0, request["max_tokens"] / (TOKENS * items)))

    @property
    def tokens(self) -> int:
        return round(self.share * TOKENS * self.items)


class Engine:
    """Slots and the queue before them."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.figures = Figures()
        self.began = time.process_time()
        self._behaviour = behaviour
        self._free = behaviour.slots
        self._waiting: deque[tuple[Answering, Order]] = deque()
        self._times, self._texts, self._faults = random.Random(1), random.Random(2), random.Random(3)
        self._earlier: list[list[str]] = []

    def take(self, connection: Answering, body: bytes) -> None:
        if self.figures.first_request is None:
            self.figures.first_request = time.monotonic()
        self.figures.requests += 1
        self._waiting.append((connection, Order.of(body)))
        self._fill()
        self.figures.most_waiting = max(self.figures.most_waiting, len(self._waiting))

    def _fill(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            connection, order = self._waiting.popleft()
            seconds = order.share * self._seconds()
            asyncio.get_running_loop().call_later(seconds, self._finish, seconds, connection, order)

    def _seconds(self) -> float:
        sigma, mean = self._behaviour.sigma, self._behaviour.mean_s
        return min(self._times.lognormvariate(math.log(mean) - sigma**2 / 2, sigma), _LONGEST_S * mean)

    def _finish(self, seconds: float, connection: Answering, order: Order) -> None:
        self._free += 1
        self.figures.busy_s += seconds
        self._fill()
        if self._faults.random() < self._behaviour.faults:
            self.figures.faults += 1
            connection.fail(drop=self._faults.random() < 0.5)
        else:
            connection.send(b"200 OK", self._answer(order))
        self.figures.last_answer = time.monotonic()

    def _answer(self, order: Order) -> bytes:
        items = [self._task() if order.kind == "tasks" else self._example() for _ in range(order.items)]
        text = orjson.dumps({order.kind: items}).decode()
        is_cut = order.share < 1
        message = {"role": "assistant", "content": text[: int(order.share * len(text))] if is_cut else text}
        usage = {"prompt_tokens": 300, "completion_tokens": order.tokens, "total_tokens": 300 + order.tokens}
        choices = [{"index": 0, "message": message, "finish_reason": "length" if is_cut else "stop"}]
        return orjson.dumps(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
        )

    def _words(self, count: int) -> list[str]:
        return self._texts.choices(WORDS, k=count)

    def _task(self) -> dict[str, str]:
        self.figures.tasks += 1
        return {"name": " ".join(self._words(6)), "reason": " ".join(self._words(6))}

    def _example(self) -> dict[str, str]:
        self.figures.examples += 1
        if self._earlier and self._texts.random() < self._behaviour.repeated:
            words = list(self._texts.choice(self._earlier))
            words[self._texts.randrange(len(words))] = self._texts.choice(WORDS)
        else:
            words = self._words(12)
            self._earlier.append(words)
        return {"instruction": " ".join(words), "input": "", "output": " ".join(self._words(25))}


class Answering(asyncio.Protocol):
    """A connection: one request after another, each with a Content-Length."""

    transport: asyncio.Transport

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._received(head.split(b" ", 2)[1], body)

    def _received(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"/chat/completions"):
            self._engine.take(self, body)
        elif path.endswith(b"/models"):
            self.send(b"200 OK", b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"bench"}]}')
        elif path == b"/figures":
            self._engine.figures.cpu_s = time.process_time() - self._engine.began
            self.send(b"200 OK", orjson.dumps(asdict(self._engine.figures)))
        else:
            self.send(b"404 Not Found", b'{"error":{"message":"no such page"}}')

    def send(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)

    def fail(self, *, drop: bool) -> None:
        if drop:
            self.transport.close()
        else:
            self.send(b"500 Internal Server Error", b'{"error":{"message":"a fault of the benchmark"}}')


def _serve(pipe: Connection, behaviour: Behaviour) -> None:
    async def main() -> None:
        engine = Engine(behaviour)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Answering(engine), "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """The address of an endpoint in a process of its own, until the block ends."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, behaviour), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()
