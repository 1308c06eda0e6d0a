"""What the binding costs: 1 KiB messages in batch calls with every payload read, and one message at a time.

    python bench.py --server ADDRESS --token-file FILE --topic stream/topic [--api sync|async] [--messages N]

Prints one JSON object. The same phases in Rust are sdk-rust/examples/baseline.rs; `cargo xtask overhead` runs all languages in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import levada
import levada.aio

PAYLOAD = bytes(range(256)) * 4
BATCH = 1000


def rate(messages: int, seconds: float) -> dict[str, float]:
    return {
        "messages_per_s": round(messages / seconds),
        "mib_per_s": round(messages * len(PAYLOAD) / seconds / (1 << 20), 1),
        "seconds": round(seconds, 3),
    }


def percentiles(samples: list[float]) -> dict[str, float]:
    samples.sort()
    return {f"p{share}_us": round(samples[len(samples) * share // 100] * 1e6, 1) for share in (50, 90, 99)}


def count_read(messages: list[levada.Message]) -> int:
    """Reads every payload: the sum of their lengths cannot be known without."""
    return sum([len(message.payload or b"") for message in messages])


def blocking(options: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {"client": "python", "api": "sync"}
    with levada.connect(options.server, token_file=options.token_file) as client:
        with client.producer(options.topic) as producer:
            batch = [PAYLOAD] * BATCH
            producer.send_batch(batch)
            started = time.perf_counter()
            for _ in range(options.messages // BATCH):
                producer.send_batch(batch)
            result["send_batch"] = rate(options.messages, time.perf_counter() - started)
            started = time.perf_counter()
            for _ in range(options.messages):
                producer.enqueue(PAYLOAD)
            producer.flush()
            result["enqueue"] = rate(options.messages, time.perf_counter() - started)
            samples: list[float] = []
            for _ in range(options.singles):
                started = time.perf_counter()
                producer.send(PAYLOAD)
                samples.append(time.perf_counter() - started)
            result["send_one"] = percentiles(samples)
        for repeat in range(options.repeats):
            with client.consumer(options.topic, from_="earliest", until_end=True) as consumer:
                size = messages = 0
                started = time.perf_counter()
                while not consumer.finished:
                    received = consumer.receive_batch(max_messages=BATCH)
                    messages += len(received)
                    size += count_read(received)
                result["receive_batch"] = best(result, "receive_batch", rate(messages, time.perf_counter() - started))
                assert size == messages * len(PAYLOAD), repeat
            with client.consumer(options.topic, from_="earliest", until_end=True) as consumer:
                started = time.perf_counter()
                messages = sum(1 for message in consumer if message.payload)
                result["iterate"] = best(result, "iterate", rate(messages, time.perf_counter() - started))
    return result


async def with_asyncio(options: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {"client": "python", "api": "async"}
    async with levada.aio.connect(options.server, token_file=options.token_file) as client:
        async with client.producer(options.topic) as producer:
            batch = [PAYLOAD] * BATCH
            await producer.send_batch(batch)
            started = time.perf_counter()
            for _ in range(options.messages // BATCH):
                await producer.send_batch(batch)
            result["send_batch"] = rate(options.messages, time.perf_counter() - started)
            started = time.perf_counter()
            for _ in range(options.messages):
                await producer.enqueue(PAYLOAD)
            await producer.flush()
            result["enqueue"] = rate(options.messages, time.perf_counter() - started)
            samples: list[float] = []
            for _ in range(options.singles):
                started = time.perf_counter()
                await producer.send(PAYLOAD)
                samples.append(time.perf_counter() - started)
            result["send_one"] = percentiles(samples)
        for repeat in range(options.repeats):
            async with client.consumer(options.topic, from_="earliest", until_end=True) as consumer:
                size = messages = 0
                started = time.perf_counter()
                while not consumer.finished:
                    received = await consumer.receive_batch(max_messages=BATCH)
                    messages += len(received)
                    size += count_read(received)
                result["receive_batch"] = best(result, "receive_batch", rate(messages, time.perf_counter() - started))
                assert size == messages * len(PAYLOAD), repeat
            async with client.consumer(options.topic, from_="earliest", until_end=True) as consumer:
                messages = 0
                started = time.perf_counter()
                async for message in consumer:
                    messages += bool(message.payload)
                result["iterate"] = best(result, "iterate", rate(messages, time.perf_counter() - started))
    return result


def best(result: dict[str, Any], phase: str, measured: dict[str, float]) -> dict[str, float]:
    known = result.get(phase)
    return measured if known is None or known["seconds"] > measured["seconds"] else known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server")
    parser.add_argument("--token-file")
    parser.add_argument("--topic", required=True, help="an empty topic")
    parser.add_argument("--api", choices=["sync", "async"], default="sync")
    parser.add_argument("--messages", type=int, default=500_000)
    parser.add_argument("--singles", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    run: Callable[[], dict[str, Any]] = {
        "sync": lambda: blocking(options),
        "async": lambda: asyncio.run(with_asyncio(options)),
    }[options.api]
    print(json.dumps(run()))


if __name__ == "__main__":
    main()
