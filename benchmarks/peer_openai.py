"""The same script as peer_aiohttp.py, with OpenAI's client and its own retries."""

import argparse
import asyncio
import json
from pathlib import Path

import openai

SYSTEM = "You write exercises for a language assistant, as JSON with a list of instruction, input and output."
TASK = "Write {count} new exercises, each different, about the care of a garden through the year: soil, seeds, pests."
FIELDS = ("instruction", "input", "output")


def response_format(count: int) -> dict[str, object]:
    item = {"type": "object", "properties": {name: {"type": "string"} for name in FIELDS}, "required": FIELDS}
    examples = {"type": "array", "items": item, "minItems": 1, "maxItems": count}
    schema = {"type": "object", "properties": {"examples": examples}, "required": ["examples"]}
    return {"type": "json_schema", "json_schema": {"name": "examples", "schema": schema}}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--examples", type=int, required=True)
    parser.add_argument("--per-request", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    seeds = iter(range(-(-wanted.examples // wanted.per_request)))
    async with openai.AsyncOpenAI(base_url=f"{wanted.url}/v1", api_key="none", timeout=600) as client:
        with wanted.out.open("w", encoding="utf-8") as file:

            async def work() -> None:
                for seed in seeds:
                    try:
                        completion = await client.chat.completions.create(
                            model="m",
                            messages=[
                                {"role": "system", "content": SYSTEM},
                                {"role": "user", "content": TASK.format(count=wanted.per_request)},
                            ],
                            temperature=1.0,
                            max_tokens=2048,
                            seed=seed,
                            response_format=response_format(wanted.per_request),
                        )
                    except openai.APIError:
                        continue  # after its two retries
                    text = completion.choices[0].message.content or "{}"
                    file.writelines(json.dumps(row) + "\n" for row in json.loads(text).get("examples", ()))
                    file.flush()

            await asyncio.gather(*(work() for _ in range(wanted.in_flight)))


asyncio.run(main())
