"""What concerns the process: fork, signals, the end of the interpreter, threads, the log, and what is left behind."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import levada
import pytest
from conftest import settle
from levada import _native
from levada.testing import Server

CHILD_OK = 42


def in_child(work: Callable[[], None]) -> int:
    """Exit status of a forked child that did the work."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = CHILD_OK
        except BaseException as error:  # noqa: BLE001
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_inherited_handles_say_forked_and_new_clients_work(server: Server, client: levada.Client, topic: str) -> None:
    producer, consumer = client.producer(topic), client.consumer(topic, from_="earliest")
    delivery = producer.enqueue(b"parent")
    producer.flush()

    def child() -> None:
        calls: list[Callable[[], Any]] = [
            client.ping,
            client.server_info,
            client.admin.list_streams,
            lambda: client.producer(topic),
            lambda: producer.send(b""),
            lambda: producer.enqueue(b""),
            lambda: producer.send_batch([b""]),
            producer.flush,
            delivery.wait,
            lambda: consumer.receive(timeout=5),
            lambda: consumer.receive_batch(timeout=5),
            lambda: consumer.seek(0, "earliest"),
        ]
        for number, call in enumerate(calls):
            try:
                call()
            except levada.LevadaForkedError as error:
                assert error.name == "FORKED"
            else:
                raise AssertionError(f"call {number} did not say FORKED")
        consumer.close()
        producer.close()
        client.close()
        with server.connect() as own:
            with own.producer(topic) as sending:
                sending.send(b"child")
            with own.consumer(topic, from_="earliest", until_end=True) as receiving:
                assert [message.payload for message in receiving] == [b"parent", b"child"]

    assert in_child(child) == CHILD_OK
    assert producer.send(b"after").offset == 2
    assert [consumer.receive(timeout=5).payload for _ in range(3)] == [b"parent", b"child", b"after"]  # type: ignore[union-attr]


def test_two_hundred_forks_while_other_threads_send(server: Server, client: levada.Client, topic: str) -> None:
    stop = threading.Event()
    sent = [0, 0]
    failures: list[BaseException] = []

    def send(which: int) -> None:
        try:
            with client.producer(topic) as producer:
                while not stop.is_set():
                    producer.send_batch([b"x" * 100] * 20)
                    sent[which] += 20
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=send, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(200):

            def child() -> None:
                try:
                    client.ping()
                except levada.LevadaForkedError:
                    pass
                if number % 20 == 0:
                    with server.connect() as own:
                        own.ping()

            assert in_child(child) == CHILD_OK
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert failures == []
    with client.consumer(topic, from_="earliest", until_end=True) as consumer:
        count = 0
        while not consumer.finished:
            count += len(consumer.receive_batch(max_messages=100_000))
    assert count == sum(sent)


def test_multiprocessing_with_fork(script: Any, topic: str) -> None:
    status, out, err = script.run(
        """
        import multiprocessing, sys
        import levada

        def work(number):
            try:
                client.ping()
            except levada.LevadaForkedError:
                with levada.connect() as own, own.producer(sys.argv[1]) as producer:
                    return producer.send(b"x").offset

        client = levada.connect()
        with multiprocessing.get_context("fork").Pool(4) as pool:
            print(sorted(pool.map(work, range(20))))
        client.close()
        """,
        topic,
    )
    assert (status, out.strip(), err) == (0, str(list(range(20))), "")


def test_asyncio_works_in_a_child(server: Server, topic: str) -> None:
    import asyncio

    async def main() -> None:
        async with server.aconnect() as client, client.producer(topic) as producer:
            await producer.send(b"x")

    asyncio.run(main())
    assert in_child(lambda: asyncio.run(main())) == CHILD_OK
    asyncio.run(main())


BLOCKING = {
    "receive": "client.consumer(topic).receive()",
    "receive_batch": "client.consumer(topic).receive_batch(timeout=None)",
    "iteration": "next(client.consumer(topic))",
    "delivery": "(producer := client.producer(topic, linger=3600)).enqueue(b'x').wait()",
    "asyncio": "asyncio.run(follow())",
}


@pytest.mark.parametrize("call", BLOCKING)
def test_ctrl_c_ends_a_call_that_waits(script: Any, topic: str, call: str) -> None:
    program = f"""
        import asyncio, signal, sys, levada, levada.aio
        # A shell starts what it puts into the background deaf to Ctrl-C, and a test may be run there.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        topic = sys.argv[1]

        async def follow():
            async with levada.aio.connect() as client, client.consumer(topic) as consumer:
                async for message in consumer:
                    pass

        client = levada.connect()
        print("waiting", flush=True)
        try:
            {BLOCKING[call]}
        except KeyboardInterrupt:
            print("interrupted")
            client.ping()
            client.close(timeout=0.5) if {call != "delivery"!r} else None
        """
    with script.start(program, topic) as process:
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "interrupted\n"), err
        assert time.monotonic() - started < 10


def test_the_interpreter_ends_with_open_clients(script: Any, topic: str) -> None:
    status, out, err = script.run(
        """
        import sys, levada
        client = levada.connect()
        producer, consumer = client.producer(sys.argv[1], linger=30), client.consumer(sys.argv[1])
        delivery = producer.enqueue(b"sent at exit")
        print("end")
        """,
        topic,
    )
    assert (status, out, err) == (0, "end\n", "")
    with levada_client(script) as client, client.consumer(topic, from_="earliest", until_end=True) as consumer:
        assert [message.payload for message in consumer] == [b"sent at exit"]


def levada_client(script: Any) -> levada.Client:
    environment = script._environment
    return levada.connect(environment["LEVADA_SERVER"], token_file=environment["LEVADA_TOKEN_FILE"])


def test_the_interpreter_ends_with_calls_under_way_in_daemon_threads(script: Any, topic: str) -> None:
    status, out, err = script.run(
        """
        import asyncio, sys, threading, levada, levada.aio
        topic = sys.argv[1]
        client = levada.connect()

        def receive():
            client.consumer(topic).receive()

        def send():
            producer = client.producer(topic)
            while True:
                producer.send_batch([b"x" * 1000] * 100)

        async def follow():
            async with levada.aio.connect() as client, client.consumer(topic) as consumer:
                async for message in consumer:
                    pass

        sys.unraisablehook = threading.excepthook = lambda *_: None
        for target in (receive, send, send, lambda: asyncio.run(follow())):
            threading.Thread(target=target, daemon=True).start()
        threading.Event().wait(0.5)
        print("end")
        """,
        topic,
    )
    assert (status, out) == (0, "end\n"), err
    assert "panicked" not in err


def test_what_is_left_unsent_at_exit_is_told(script: Any, topic: str) -> None:
    with Server() as other:
        with other.connect() as client:
            client.admin.create_topic("s/t")
        script._environment |= {"LEVADA_SERVER": other.address, "LEVADA_TOKEN_FILE": str(other.token_file)}
        program = """
            import sys, levada
            levada._process.EXIT_TIMEOUT_S = 0.5
            client = levada.connect()
            producer = client.producer("s/t", linger=30)
            for _ in range(10):
                producer.enqueue(b"x")
            print("ready", flush=True)
            sys.stdin.readline()
            """
        with script.start(program) as process:
            assert process.stdout.readline() == "ready\n"
            other.kill()
            _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "left unsent" in err


def test_threads_share_a_client(server: Server, client: levada.Client, topic: str) -> None:
    producer = client.producer(topic)
    offsets: list[int | None] = []

    def work() -> None:
        for _ in range(100):
            offsets.append(producer.send(b"x").offset)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(offset for offset in offsets if offset is not None) == list(range(800))


def test_a_waiting_call_does_not_hold_the_interpreter(client: levada.Client, topic: str) -> None:
    with client.consumer(topic) as consumer:
        waiting = threading.Thread(target=lambda: consumer.receive_batch(timeout=1))
        waiting.start()
        turns = 0
        while waiting.is_alive():
            turns += 1
        waiting.join()
    assert turns > 1000


def test_clients_leave_no_handle_thread_or_descriptor(server: Server, topic: str, nothing_left: None) -> None:
    def once() -> None:
        with server.connect() as client, client.producer(topic) as producer:
            producer.send(b"x")
            with client.consumer(topic, from_="earliest") as consumer:
                consumer.receive()

    def left() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    once()
    settle(lambda: False, 0.3)
    before = left()
    for _ in range(30):
        once()
    assert settle(lambda: left() <= before), (before, left())


def test_the_log_of_the_core_reaches_logging(script: Any, topic: str) -> None:
    status, out, err = script.run(
        """
        import logging, sys, time
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
        import levada
        with levada.connect() as client:
            producer = client.producer(sys.argv[1], linger=30)
            delivery = producer.enqueue(b"x")
            del producer
            delivery.wait()
        """,
        topic,
    )
    assert (status, err) == (0, "")
    assert f'levada.producer WARNING a producer was dropped before it was closed topic="{topic}" batches=1' in out


def test_a_quiet_logger_stays_quiet(script: Any, topic: str) -> None:
    status, out, err = script.run("import levada, sys; levada.connect().close()")
    assert (status, out, err) == (0, "", "")


def test_the_version_is_that_of_the_package() -> None:
    from importlib import metadata

    assert levada.__version__ == metadata.version("levada")


def test_the_package_needs_no_other() -> None:
    from importlib import metadata

    assert metadata.requires("levada") in (None, [])
    assert logging.getLogger("levada").handlers == []
    assert set(_native.stats()) == {"clients", "producers", "consumers", "operations", "queues"}
    assert sys.modules["levada"].__all__
