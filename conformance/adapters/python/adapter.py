"""Conformance adapter of the Python client: `adapter.py --api sync|async`. See conformance/adapter-protocol.md.

Every command becomes one call of the public API. Here are the dispatcher and the encoding of values; the blocking API gets a
thread for each command, the other a task.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import dataclasses
import hashlib
import json
import os
import platform
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

import levada
import levada.aio

FEATURES = [
    *("core", "admin", "lifecycle", "names", "users", "access", "produce", "enqueue", "send_batch", "consume", "seek", "pause", "lz4", "zstd"),
    *("sequences", "idempotent", "reconnect", "password", "tls", "discovery", "retry", "groups"),
]
M64 = 2**64 - 1


class Unsupported(Exception):
    """The client has no such thing."""


class AdapterError(Exception):
    """A command that cannot be read."""


# ---------------------------------------------------------------- values in


def generated(recipe: dict[str, Any], raised: int) -> bytes:
    size, seed = int(recipe["size"]), int(recipe.get("seed", 0))
    index = (int(recipe.get("index", 0)) + raised) & M64
    count = (size + 7) // 8
    if recipe["gen"] == "zeros":
        return bytes(size)
    if recipe["gen"] == "seq":
        words = [(index + k) & M64 for k in range(count)]
    elif recipe["gen"] == "random":
        state, words = (seed + index * 0xD1B54A32D192ED03) & M64, []
        for _ in range(count):
            state = (state + 0x9E3779B97F4A7C15) & M64
            z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & M64
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
            words.append(z ^ (z >> 31))
    else:
        raise ValueError(f"no generator {recipe['gen']}")
    return struct.pack(f"<{count}Q", *words)[:size]


def bytes_in(value: Any, raised: int = 0) -> bytes | None:
    if value is None:
        return None
    return generated(value, raised) if isinstance(value, dict) else base64.b64decode(value, validate=True)


HEADERS_IN: dict[str, Callable[[Any, int], Any]] = {
    "string": lambda value, _: value,
    "bytes": bytes_in,
    "bool": lambda value, _: value,
    "i64": lambda value, _: int(value),
    "u64": lambda value, _: levada.U64(value),
    "f64": lambda value, _: struct.unpack(">d", bytes.fromhex(value))[0],
}


def parts_in(message: dict[str, Any], raised: int = 0) -> dict[str, Any]:
    headers = [(h["name"], HEADERS_IN[h["type"]](h.get("value"), raised)) for h in message.get("headers") or []]
    timestamp_us, sequence = message.get("timestamp_us"), message.get("sequence")
    return {
        "payload": bytes_in(message.get("payload"), raised),
        "key": bytes_in(message.get("key"), raised),
        "headers": headers or None,
        "timestamp_us": None if timestamp_us is None else int(timestamp_us),
        "id": bytes_in(message.get("id"), raised),
        "partition": message.get("partition"),
        "sequence": None if sequence is None else int(sequence),
    }


def batch_in(messages: list[dict[str, Any]]) -> list[Any]:
    batch: list[Any] = []
    for message in messages:
        for raised in range(int(message.get("count", 1))):
            parts = parts_in(message, raised)
            plain = all(parts[name] is None for name in parts if name != "payload") and parts["payload"] is not None
            batch.append(parts["payload"] if plain else levada.OutgoingMessage(**parts))
    return batch


NUMBERS = {
    *("batch_bytes", "batch_messages", "max_in_flight", "max_buffered_bytes", "prefetch_bytes", "commit_messages"),
    *("bytes_in", "bytes_out"),
    *("retention_bytes", "segment_bytes", "compression_level", "partition_count"),
}


def options_in(options: dict[str, Any] | None) -> dict[str, Any]:
    """Options by the names Python has for them."""
    named: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if value is None:
            continue
        if name.endswith("_ms"):
            named[name.removesuffix("_ms")] = float(value) / 1000 if is_number(value) else value
        elif name == "from":
            named["from_"] = value
        elif name == "partition_from":
            named[name] = {int(partition): position for partition, position in value.items()}
        elif name in NUMBERS and is_number(value):
            named[name] = int(value)
        else:
            named[name] = value
    return named


def offsets_in(offsets: list[dict[str, Any]]) -> list[levada.PartitionOffset]:
    return [levada.PartitionOffset(item["topic"], item["partition"], int(item["offset"])) for item in offsets]


def is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def timeout_in(args: dict[str, Any]) -> dict[str, Any]:
    timeout_ms = args.get("timeout_ms")
    return {} if timeout_ms is None else {"timeout": float(timeout_ms) / 1000}


# ---------------------------------------------------------------- values out


def bytes_out(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def header_out(name: str, value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"name": name, "type": "bool", "value": value}
        case levada.U64():
            return {"name": name, "type": "u64", "value": str(int(value))}
        case int():
            return {"name": name, "type": "i64", "value": str(value)}
        case float():
            return {"name": name, "type": "f64", "value": struct.pack(">d", value).hex()}
        case str():
            return {"name": name, "type": "string", "value": value}
        case _:
            return {"name": name, "type": "bytes", "value": bytes_out(value)}


def message_out(message: levada.Message) -> dict[str, Any]:
    payload = message.payload
    told = payload is not None and {
        "length": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
        "first": bytes_out(payload[:64]),
    }
    return {
        "topic": message.topic,
        "partition": message.partition,
        "offset": str(message.offset),
        "timestamp_us": str(message.timestamp_us),
        "append_time_us": str(message.append_time_us),
        "payload": told or None,
        "key": bytes_out(message.key),
        "headers": [header_out(name, value) for name, value in message.headers.items()],
        "id": bytes_out(message.id),
    }


def out(value: Any) -> Any:
    """A record, list or value as JSON has it."""
    if dataclasses.is_dataclass(value):
        # Field by field: secrets are told here, where a repr would not.
        return {field.name: out(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list):
        return [out(item) for item in value]
    if isinstance(value, bytes):
        return bytes_out(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def reply_out(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, list):
        return {"items": out(value)}
    return out(value) if dataclasses.is_dataclass(value) else {"value": out(value)}


def error_out(error: BaseException) -> dict[str, Any]:
    native = [f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.") for kind in type(error).__mro__[:-1]]
    native = [name.replace("levada._generated.", "levada.") for name in native]
    if not isinstance(error, levada.LevadaError):
        return {"code": 0, "name": "", "message": str(error), "native": native}
    return {
        "code": error.code,
        "name": error.name,
        "class": error.class_name,
        "retriable": error.retriable,
        "maybe_applied": error.maybe_applied,
        "message": error.message,
        "details": error.details,
        "native": native,
    }


# ---------------------------------------------------------------- operations

ADMIN = {
    **{f"stream.{verb}": f"{verb}_stream" for verb in ("create", "delete", "describe")},
    **{f"topic.{verb}": f"{verb}_topic" for verb in ("create", "alter", "delete", "purge", "describe")},
    **{f"user.{verb}": f"{verb}_user" for verb in ("create", "alter", "delete", "describe")},
    **{f"token.{verb}": f"{verb}_token" for verb in ("create", "delete")},
    **{f"{kind}.list": f"list_{kind}s" for kind in ("stream", "topic", "user", "token")},
    **{f"group.{verb}": f"{verb}_group" for verb in ("describe", "delete")},
    "group.list": "list_groups",
    "group.offsets": "group_offsets",
    "group.reset_offsets": "reset_offsets",
    "topic.trim": "delete_messages",
    "topic.set_segment_age": "set_segment_age",
    "topic.set_dedup_messages": "set_dedup_messages",
    "topic.producer_progress": "producer_progress",
    "position.resolve": "resolve_position",
    **{f"{kind}.{verb}": f"{verb}_{kind}" for kind in ("access", "quota") for verb in ("set", "describe")},
    **{"role.set": "set_role", "role.delete": "delete_role", "role.list": "list_roles"},
    "status": "status",
}


FURTHER = {"position.resolve": ("position",), "group.reset_offsets": ("topics", "position"), "topic.trim": ("before",)}
"""Arguments that are no keywords in Python, after the first."""
OPTIONS = ("options", "changes", "quota")
SUBJECTS = ("group", "topic", "partition", "name", "stream", "user", "role")


def admin_call(client: Any, op: str, args: dict[str, Any]) -> Any:
    method = getattr(client.admin, ADMIN[op])
    if op == "topic.producer_progress":
        return method(args["name"], args["partition"])
    keywords = {name: value for name, value in args.items() if value is not None and name not in OPTIONS}
    if "expires_at_us" in keywords:
        keywords["expires_at_us"] = int(keywords["expires_at_us"])
    subject = next((name for name in SUBJECTS if name in keywords), None)
    is_optional = op.endswith(".list") or op in ("access.describe", "quota.describe")
    positional = [] if subject is None or is_optional else [keywords.pop(subject)]
    positional += [keywords.pop(name) for name in FURTHER.get(op, ())]
    if "segment_age_us" in keywords:
        keywords["segment_age_us"] = int(keywords["segment_age_us"])
    for name in OPTIONS:
        keywords.update(options_in(args.get(name)))
    return method(*positional, **keywords)


def consumer_batch(consumer: Any, messages: list[levada.Message]) -> dict[str, Any]:
    return {"messages": [message_out(message) for message in messages], "finished": consumer.finished}


def received(message: levada.Message | None) -> dict[str, Any]:
    return {"message": None, "finished": True} if message is None else {"message": message_out(message)}


def nothing(_: Any) -> dict[str, Any]:
    return {}


Call = tuple[Callable[[], Any], Callable[[Any], dict[str, Any]]]


def call_of(op: str, on: Any, args: dict[str, Any], api: Any) -> Call:
    """The one call a command stands for, and how its result is told."""
    options = options_in(args.get("options"))
    message = args.get("message")
    parts = parts_in(message) if message is not None else {}
    payload = parts.pop("payload", None)
    close = getattr(on, "aclose", None) or getattr(on, "close", None)
    if op in ADMIN:
        return lambda: admin_call(on, op, args), reply_out
    calls: dict[str, Call] = {
        "connect": (lambda: api.connect(**options), nothing),
        "close": (lambda: close(**timeout_in(args)), nothing),
        "ping": (lambda: on.ping(), lambda took: {"value": str(round(took.total_seconds() * 1e6))}),
        "server_info": (lambda: on.server_info(), reply_out),
        "producer.open": (lambda: on.producer(args["topic"], **options), nothing),
        "producer.send": (lambda: on.send(payload, **parts), reply_out),
        "producer.enqueue": (lambda: on.enqueue(payload, **parts), nothing),
        "delivery.wait": (lambda: on.wait(), reply_out),
        "producer.send_batch": (lambda: on.send_batch(batch), lambda receipts: {"receipts": out(receipts)}),
        "producer.flush": (lambda: on.flush(), nothing),
        "producer.close": (lambda: close(**timeout_in(args)), nothing),
        "consumer.open": (lambda: on.consumer(args["topic"], **options), nothing),
        "group.open": (lambda: on.group_consumer(args["group"], args["topics"], **options), nothing),
        "consumer.receive": (lambda: on.receive(**timeout_in(args)), received),
        "consumer.receive_batch": (
            lambda: on.receive_batch(**batch_limits, **timeout_in(args)),
            lambda messages: consumer_batch(on, messages),
        ),
        "consumer.seek": (lambda: on.seek(args["partition"], args["position"], **of_topic), nothing),
        "consumer.position": (lambda: on.position(args["partition"], **of_topic), lambda offset: {"value": out(offset)}),
        "consumer.pause": (lambda: on.pause(args["partition"], **of_topic), nothing),
        "consumer.resume": (lambda: on.resume(args["partition"], **of_topic), nothing),
        "consumer.commit": (lambda: on.commit(), nothing),
        "consumer.commit_offsets": (lambda: on.commit_offsets(offsets_in(args["offsets"])), nothing),
        "consumer.committed": (lambda: on.committed(args["topic"], args["partition"]), lambda offset: {"value": out(offset)}),
        "consumer.assignments": (lambda: on.assignments(), reply_out),
        "consumer.next_change": (lambda: on.next_change(**timeout_in(args)), lambda change: {"change": out(change)}),
        "consumer.close": (lambda: close(**timeout_in(args)), nothing),
    }
    if op not in calls:
        raise Unsupported(op)
    batch = batch_in(args.get("messages") or [])
    of_topic = {"topic": args["topic"]} if args.get("topic") is not None else {}
    limits = ((name, args.get(name)) for name in ("max_messages", "max_bytes"))
    batch_limits = {name: int(value) for name, value in limits if value is not None}
    return calls[op]


MAKES = {"connect": "clients", "producer.open": "producers", "consumer.open": "consumers", "group.open": "consumers", "producer.enqueue": "deliveries"}


class Adapter:
    """Handles by name, commands under way, and the replies."""

    def __init__(self, api: str) -> None:
        self.api = api
        self.module = levada if api == "sync" else levada.aio
        self.features = FEATURES if api == "sync" else [*FEATURES, "cancel"]
        self.handles: dict[str, tuple[str, Any]] = {}
        self.under_way: dict[str, Any] = {}
        self.lock = threading.Lock()

    def reply(self, id: str, **parts: Any) -> None:
        line = json.dumps({"id": id, **parts})
        with self.lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def prepare(self, command: dict[str, Any]) -> Call:
        try:
            on = command.get("on")
            handle = None if on is None else self.handles[on][1]
            return call_of(command["op"], handle, command.get("args") or {}, self.module)
        except (LookupError, TypeError, ValueError) as error:
            raise AdapterError(repr(error)) from error

    def finish(self, command: dict[str, Any], result: Any, tell: Callable[[Any], dict[str, Any]]) -> None:
        told = tell(result)
        if command.get("as") is not None:
            self.handles[command["as"]] = (MAKES.get(command["op"], "others"), result)
        self.end(command, ok=told)

    def end(self, command: dict[str, Any], **parts: Any) -> None:
        self.under_way.pop(command["id"], None)
        self.reply(command["id"], **parts)

    def fail(self, command: dict[str, Any], error: BaseException) -> None:
        match error:
            case AdapterError():
                self.end(command, adapter_error=str(error))
            case Unsupported():
                self.end(command, unsupported=str(error))
            case asyncio.CancelledError():
                self.end(command, cancelled=True)
            case _:
                self.end(command, err=error_out(error))

    def hello(self) -> dict[str, Any]:
        return {
            "adapter_protocol": [1],
            "client": "levada-python",
            "client_version": levada.__version__,
            "language": "python",
            "runtime": f"{platform.python_implementation()} {platform.python_version()}",
            "api": self.api,
            "features": self.features,
            "wire_versions": [1],
            "pid": os.getpid(),
        }

    def stats(self) -> dict[str, Any]:
        kinds = [kind for kind, _ in list(self.handles.values())]
        handles = {kind: kinds.count(kind) for kind in ("clients", "producers", "consumers", "deliveries")}
        return {"handles": handles, "in_flight": len(self.under_way)}

    def clients(self) -> list[Any]:
        return [handle for kind, handle in self.handles.values() if kind == "clients"]


def blocking(adapter: Adapter) -> None:
    """A thread for each command. A blocking call cannot be cancelled: closing its client is what ends it."""

    def work(command: dict[str, Any]) -> None:
        try:
            call, tell = adapter.prepare(command)
            adapter.reply(command["id"], started=True)
            adapter.finish(command, call(), tell)
        except BaseException as error:  # noqa: BLE001
            adapter.fail(command, error)

    def reset() -> None:
        threads = list(adapter.under_way.values())
        for client in adapter.clients():
            try:
                client.close(timeout=2.0)
            except levada.LevadaError:
                pass
        for thread in threads:
            thread.join()
        adapter.handles.clear()

    for line in sys.stdin:
        command = json.loads(line)
        id, op = command["id"], command["op"]
        if op == "hello":
            adapter.reply(id, ok=adapter.hello())
        elif op == "stats":
            adapter.reply(id, ok=adapter.stats())
        elif op == "cancel":
            adapter.reply(id, unsupported="cancel")
        elif op in ("reset", "shutdown"):
            reset()
            adapter.reply(id, ok={})
            if op == "shutdown":
                return
        else:
            thread = threading.Thread(target=work, args=(command,))
            adapter.under_way[id] = thread
            thread.start()
    reset()


async def tasks(adapter: Adapter) -> None:
    """A task for each command; lines are read in a thread."""

    async def work(command: dict[str, Any]) -> None:
        try:
            call, tell = adapter.prepare(command)
            result = call()
            if hasattr(result, "__await__"):
                pending = asyncio.ensure_future(awaited(result))
                try:
                    await asyncio.sleep(0)
                    adapter.reply(command["id"], started=True)
                    result = await pending
                except asyncio.CancelledError:
                    pending.cancel()
                    await asyncio.wait([pending])
                    if pending.cancelled():
                        raise
                    result = pending.result()
            adapter.finish(command, result, tell)
        except BaseException as error:  # noqa: BLE001
            adapter.fail(command, error)

    async def awaited(result: Any) -> Any:
        return await result

    async def reset() -> None:
        under_way = list(adapter.under_way.values())
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        for client in adapter.clients():
            try:
                await client.aclose(timeout=2.0)
            except levada.LevadaError:
                pass
        adapter.handles.clear()

    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    while line := await lines.get():
        command = json.loads(line)
        id, op = command["id"], command["op"]
        if op == "hello":
            adapter.reply(id, ok=adapter.hello())
        elif op == "stats":
            adapter.reply(id, ok=adapter.stats())
        elif op == "cancel":
            task = adapter.under_way.get(command.get("args", {}).get("target"))
            if task is not None:
                task.cancel()
            adapter.reply(id, ok={})
        elif op in ("reset", "shutdown"):
            await reset()
            adapter.reply(id, ok={})
            if op == "shutdown":
                return
        else:
            adapter.under_way[id] = asyncio.ensure_future(work(command))
    await reset()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--api", choices=["sync", "async"], required=True)
    adapter = Adapter(parser.parse_args().api)
    if adapter.api == "sync":
        blocking(adapter)
    else:
        asyncio.run(tasks(adapter))


if __name__ == "__main__":
    main()
