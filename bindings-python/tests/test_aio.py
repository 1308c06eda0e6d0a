"""The asyncio client: cancellation at every point, several loops, loops that end early."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import levada
import levada.aio
import pytest
from conftest import settle
from levada.testing import Server

Run = Callable[..., Any]


def test_the_whole_of_it(server: Server, topic: str, run: Run) -> None:
    async def main() -> None:
        async with server.aconnect() as client:
            async with client.producer(topic) as producer:
                assert (await producer.send(b"one", key=b"k")).offset == 0
                delivery = await producer.enqueue(b"two")
                assert (await delivery).offset == 1
                assert (await producer.send_batch([b"three"] * 10))[0].base_offset == 2
                await producer.flush()
            async with client.consumer(topic, from_="earliest", until_end=True) as consumer:
                payloads = [message.payload async for message in consumer]
                assert payloads == [b"one", b"two"] + [b"three"] * 10
                assert consumer.finished
                assert await consumer.receive() is None
                assert await consumer.receive_batch() == []
            assert (await client.admin.describe_topic(topic)).topic.topic == "t"
            assert (await client.ping()).total_seconds() > 0
            assert client.server_info() is not None

    run(main())


def test_opening_may_be_awaited_or_entered(server: Server, topic: str, run: Run) -> None:
    async def main() -> None:
        client = await server.aconnect()
        producer = await client.producer(topic)
        consumer = await client.consumer(topic, from_="earliest")
        await producer.send(b"x")
        message = await consumer.receive()
        assert message is not None
        assert message.payload == b"x"
        await client.aclose()
        with pytest.raises(levada.LevadaClosedError):
            await producer.send(b"y")
        with pytest.raises(levada.LevadaClosedError):
            await consumer.receive()

    run(main())


def test_thousands_of_calls_at_once(server: Server, topic: str, run: Run) -> None:
    async def main() -> None:
        async with server.aconnect() as client, client.producer(topic) as producer:
            receipts = await asyncio.gather(*[producer.send(b"%d" % number) for number in range(5000)])
            assert sorted(receipt.offset for receipt in receipts) == list(range(5000))

    run(main())


def test_times_that_pass(server: Server, topic: str, run: Run) -> None:
    async def main() -> None:
        async with server.aconnect() as client, client.consumer(topic) as consumer:
            with pytest.raises(levada.LevadaTimeoutError) as raised:
                await consumer.receive(timeout=0.05)
            assert (raised.value.name, isinstance(raised.value, TimeoutError)) == ("CLIENT_TIMEOUT", True)
            assert await consumer.receive_batch(timeout=0.05) == []
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await consumer.receive()
            with pytest.raises(levada.LevadaUsageError):
                await consumer.receive(timeout=-1)

    run(main())


def test_a_second_receive_at_the_same_time_is_refused_and_the_first_goes_on(
    server: Server, topic: str, run: Run
) -> None:
    async def main() -> None:
        async with server.aconnect() as client, client.producer(topic) as producer:
            async with client.consumer(topic, from_="earliest") as consumer:
                first = asyncio.create_task(consumer.receive())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                for second in (consumer.receive(), consumer.receive_batch()):
                    with pytest.raises(levada.LevadaError) as refused:
                        await second
                    assert refused.value.name == "CONCURRENT_CALL"
                await producer.send(b"x")
                message = await first
                assert message is not None
                assert message.payload == b"x"

    run(main())


@pytest.mark.parametrize("batches", [False, True])
def test_cancelling_a_receive_at_any_point_loses_nothing(
    server: Server, topic: str, run: Run, batches: bool
) -> None:
    """A task receives while another cancels it after ever more turns of the loop; every message arrives once, in order."""
    count = 400

    async def main() -> None:
        seen: list[int] = []

        async def receive(consumer: levada.aio.Consumer) -> None:
            if batches:
                messages = await consumer.receive_batch(max_messages=3, timeout=5)
            else:
                message = await consumer.receive(timeout=5)
                messages = [] if message is None else [message]
            seen.extend(message.offset for message in messages)

        async def produce(producer: levada.aio.Producer) -> None:
            for number in range(count):
                await producer.enqueue(b"%d" % number)
                if number % 3 == 0:
                    await asyncio.sleep(0.0005)
            await producer.flush()

        async with server.aconnect() as client, client.producer(topic) as producer:
            async with client.consumer(topic, from_="earliest") as consumer:
                producing = asyncio.create_task(produce(producer))
                turns = cancelled = 0
                while len(seen) < count:
                    task = asyncio.create_task(receive(consumer))
                    for _ in range(turns % 7):
                        await asyncio.sleep(0 if turns % 2 else 0.0003)
                    task.cancel()
                    try:
                        await task
                    except asyncio.CancelledError:
                        cancelled += 1
                    turns += 1
                await producing
                assert cancelled > 0
        assert seen == list(range(count))

    run(main())


def test_a_cancelled_send_is_sent_or_not_and_the_client_stays_usable(server: Server, topic: str, run: Run) -> None:
    async def main() -> None:
        async with server.aconnect() as client, client.producer(topic) as producer:
            done = 0
            for turns in range(100):
                task = asyncio.create_task(producer.send(b"%d" % turns))
                for _ in range(turns % 5):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    await task
                    done += 1
                except asyncio.CancelledError:
                    pass
            await producer.flush()
            last = await producer.send(b"end")
            assert last.offset is not None
            assert done <= last.offset <= 100

    run(main())


def test_cancelling_connect_and_open_leaves_no_handle(server: Server, topic: str, run: Run, nothing_left: None) -> None:
    async def main() -> None:
        async def whole() -> None:
            async with server.aconnect() as client, client.producer(topic), client.consumer(topic):
                pass

        for turn in range(60):
            task = asyncio.create_task(whole())
            await asyncio.sleep(turn * 0.0001)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
        await whole()

    run(main())


def test_a_busy_consumer_lets_other_tasks_run(server: Server, topic: str, run: Run) -> None:
    async def main() -> None:
        async with server.aconnect() as client, client.producer(topic) as producer:
            await producer.send_batch([b"x"] * 20_000)
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(other())
            async with client.consumer(topic, from_="earliest", until_end=True) as consumer:
                seen = 0
                async for _ in consumer:
                    seen += 1
            counting.cancel()
            assert seen == 20_000
            assert turns >= 20_000 // 256

    run(main())


def test_one_client_serves_several_loops_in_several_threads(server: Server, topic: str) -> None:
    with server.connect() as blocking:
        native = blocking._native  # pyright: ignore[reportPrivateUsage]
        client = levada.aio.Client(native)
        offsets: list[int | None] = []

        def work() -> None:
            async def main() -> None:
                producer = await client.producer(topic)
                for _ in range(50):
                    offsets.append((await producer.send(b"x")).offset)
                await producer.aclose()

            asyncio.run(main())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(offset for offset in offsets if offset is not None) == list(range(200))


def test_loops_come_and_go_without_leaving_descriptors_or_queues(server: Server, topic: str, nothing_left: None) -> None:
    async def once() -> None:
        async with server.aconnect() as client, client.producer(topic) as producer:
            await producer.send(b"x")

    asyncio.run(once())
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        asyncio.run(once())
    gc.collect()
    assert settle(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_loop_that_is_closed_with_calls_under_way_does_no_harm(
    server: Server, topic: str, run: Run, nothing_left: None, capfd: pytest.CaptureFixture[str]
) -> None:
    held: list[Any] = []

    async def begin() -> None:
        client = await server.aconnect()
        consumer = await client.consumer(topic)
        held.append((client, consumer))
        held.append(asyncio.ensure_future(consumer.receive()))
        await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()

    async def wake(client: levada.aio.Client) -> None:
        async with client.producer(topic) as producer:
            await producer.send(b"x")
            await producer.send(b"y")
        await client.aclose()

    run(wake(held[0][0]))
    held[1]._log_destroy_pending = False
    held.clear()
    del loop
    assert capfd.readouterr().err == ""


def test_a_change_that_is_given_up_at_any_point_is_told_later(server: Server, topic: str, run: Run) -> None:
    async def main() -> None:
        async with server.aconnect() as client, client.group_consumer(topic.replace("/", "-"), [topic]) as consumer:
            for steps in range(40):
                asking = asyncio.ensure_future(consumer.next_change())
                for _ in range(steps):
                    await asyncio.sleep(0)
                if steps % 3 == 0:
                    await asyncio.sleep(0.001)
                if not asking.done():
                    asking.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await asking
                    continue
                change = await asking
                assert change is not None
                assert change.kind == "assigned"
                break
            else:
                change = await consumer.next_change(10)
                assert change is not None
                assert change.kind == "assigned"
            assert await consumer.next_change(0) is None

    for _ in range(10):
        run(main())
