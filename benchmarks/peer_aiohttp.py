"""The script that a user would write in an hour: many requests at once, a few retries, each row as it arrives.

It keeps whatever comes: no filter for duplicates, no tree, no record of what was asked.
"""

import argparse
import asyncio
import json
from pathlib import Path

import aiohttp

SYSTEM = "You write exercises for a language assistant, as JSON with a list of instruction, input and output."
TASK = "Write {count} new exercises, each different, about the care of a garden through the year: soil, seeds, pests."
FIELDS = ("instruction", "input", "output")
ATTEMPTS = 3


def body(count: int, seed: int) -> dict[str, object]:
    item = {"type": "object", "properties": {name: {"type": "string"} for name in FIELDS}, "required": FIELDS}
    examples = {"type": "array", "items": item, "minItems": 1, "maxItems": count}
    schema = {"type": "object", "properties": {"examples": examples}, "required": ["examples"]}
    return {
        "model": "m",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": TASK.format(count=count)},
        ],
        "temperature": 1.0,
        "max_tokens": 2048,
        "seed": seed,
        "response_format": {"type": "json_schema", "json_schema": {"name": "examples", "schema": schema}},
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--examples", type=int, required=True)
    parser.add_argument("--per-request", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    seeds = iter(range(-(-wanted.examples // wanted.per_request)))
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        with wanted.out.open("w", encoding="utf-8") as file:

            async def work() -> None:
                for seed in seeds:
                    for attempt in range(ATTEMPTS):
                        try:
                            request = body(wanted.per_request, seed)
                            async with session.post(f"{wanted.url}/v1/chat/completions", json=request) as response:
                                response.raise_for_status()
                                text = (await response.json())["choices"][0]["message"]["content"]
                        except aiohttp.ClientError:
                            await asyncio.sleep(0.5 * 2**attempt)
                        else:
                            file.writelines(json.dumps(row) + "\n" for row in json.loads(text)["examples"])
                            file.flush()
                            break

            await asyncio.gather(*(work() for _ in range(wanted.in_flight)))


asyncio.run(main())
