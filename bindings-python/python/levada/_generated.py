"""Made from sdk-rust/api.toml and protocol-spec/errors.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from os import PathLike
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict, Unpack

from levada._values import Position, milliseconds, packed


def pack_options(options: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None:
            if name in DURATIONS:
                named[name + "_ms"] = milliseconds(value)
            else:
                named[name.removesuffix("_")] = packed(value)
    return named

Compression: TypeAlias = Literal["topic", "none", "lz4", "zstd"]
OnCorrupt: TypeAlias = Literal["stop", "skip"]
OnTruncated: TypeAlias = Literal["stop", "rewind"]
OnOutOfRange: TypeAlias = Literal["stop", "earliest", "latest"]
Durability: TypeAlias = Literal["memory", "disk", "quorum"]
TopicCompression: TypeAlias = Literal["producer", "none", "lz4", "zstd"]
PositionKind: TypeAlias = Literal["offset", "timestamp", "earliest", "latest", "last", "stored"]
AuthMethod: TypeAlias = Literal["password", "token", "ticket"]
Role: TypeAlias = Literal["admin", "member"]
PartitionState: TypeAlias = Literal["writable", "read_only", "unavailable"]
GoodbyeReason: TypeAlias = Literal["shutdown", "idle", "protocol", "slow_consumer", "revoked", "auth_timeout"]

class ClientOptions(TypedDict, total=False):
    """How a client connects. What is left open is discovered: LEVADA_SERVER and LEVADA_TOKEN_FILE, then the selected saved context, then the file a server on this machine leaves for its own user."""

    server: str | None
    user: str | None
    password: str | None
    token: str | None
    token_file: str | PathLike[str] | None
    anonymous: bool
    context: str | None
    tls_ca_file: str | PathLike[str] | None
    tls_server_name: str | None
    tls_dangerously_accept_any_certificate: bool
    connect_timeout: float | timedelta
    request_timeout: float | timedelta
    backoff_floor: float | timedelta
    backoff_ceiling: float | timedelta
    client_name: str | None

class ProducerOptions(TypedDict, total=False):
    """How a producer batches, numbers and waits."""

    batch_bytes: int
    batch_messages: int
    linger: float | timedelta
    max_in_flight: int
    compression: Compression
    compression_level: int | None
    idempotent: bool
    durability: Durability
    delivery_timeout: float | timedelta
    max_buffered_bytes: int

class ConsumerOptions(TypedDict, total=False):
    """What a consumer reads and how."""

    partitions: list[int] | None
    from_: Position | str
    partition_from: Mapping[int, Position | str]
    until_end: bool
    prefetch_bytes: int
    on_corrupt: OnCorrupt
    on_truncated: OnTruncated
    on_out_of_range: OnOutOfRange

class TopicOptions(TypedDict, total=False):
    """What a topic is created with."""

    partition_count: int
    durability: Durability
    compression: TopicCompression
    retention_bytes: int | None
    retention_age: float | timedelta | None
    segment_bytes: int | None

class TopicChanges(TypedDict, total=False):
    """What changes about a topic; what is absent stays."""

    partition_count: int | None
    durability: Durability | None
    compression: TopicCompression | None
    retention_bytes: int | None
    retention_age: float | timedelta | None
    segment_bytes: int | None

DURATIONS = frozenset(["backoff_ceiling", "backoff_floor", "connect_timeout", "delivery_timeout", "linger", "request_timeout", "retention_age"])

@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a message went, and what its acknowledgement means."""

    partition: int
    offset: int | None
    append_time_us: int
    durability: Durability
    duplicate: bool
    server_encoded: bool

    @classmethod
    def _from(cls, record: dict[str, Any]) -> Receipt:
        return cls(
            record["partition"],
            record["offset"],
            record["append_time_us"],
            record["durability"],
            record["duplicate"],
            record["server_encoded"],
        )

@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """Where messages of one batch went: `message_count` offsets from `base_offset` on."""

    partition: int
    base_offset: int | None
    message_count: int
    append_time_us: int
    durability: Durability
    duplicate: bool
    server_encoded: bool

    @classmethod
    def _from(cls, record: dict[str, Any]) -> BatchReceipt:
        return cls(
            record["partition"],
            record["base_offset"],
            record["message_count"],
            record["append_time_us"],
            record["durability"],
            record["duplicate"],
            record["server_encoded"],
        )

@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What is known about the server and the caller."""

    server_version: str
    cluster_id: bytes
    node_id: int
    shard_count: int
    max_payload_bytes: int
    max_batch_bytes: int
    user: str | None
    role: Role | None

    @classmethod
    def _from(cls, record: dict[str, Any]) -> ServerInfo:
        return cls(
            record["server_version"],
            record["cluster_id"],
            record["node_id"],
            record["shard_count"],
            record["max_payload_bytes"],
            record["max_batch_bytes"],
            record["user"],
            record["role"],
        )

@dataclass(frozen=True, slots=True)
class StreamDescription:
    """A stream and its topics."""

    stream: StreamInfo
    topics: list[TopicInfo]

    @classmethod
    def _from(cls, record: dict[str, Any]) -> StreamDescription:
        return cls(
            StreamInfo._from(record["stream"]),
            [TopicInfo._from(item) for item in record["topics"]],
        )

@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic and its partitions."""

    topic: TopicInfo
    partitions: list[PartitionInfo]

    @classmethod
    def _from(cls, record: dict[str, Any]) -> TopicDescription:
        return cls(
            TopicInfo._from(record["topic"]),
            [PartitionInfo._from(item) for item in record["partitions"]],
        )

@dataclass(frozen=True, slots=True)
class UserDescription:
    """A user and its tokens."""

    user: UserInfo
    tokens: list[TokenInfo]

    @classmethod
    def _from(cls, record: dict[str, Any]) -> UserDescription:
        return cls(
            UserInfo._from(record["user"]),
            [TokenInfo._from(item) for item in record["tokens"]],
        )

@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just created, with the secret that is shown this once."""

    token: TokenInfo
    secret: str

    @classmethod
    def _from(cls, record: dict[str, Any]) -> NewToken:
        return cls(
            TokenInfo._from(record["token"]),
            record["secret"],
        )

@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream."""

    stream_id: int
    stream: str
    topic_count: int
    created_at_us: int

    @classmethod
    def _from(cls, record: dict[str, Any]) -> StreamInfo:
        return cls(
            record["stream_id"],
            record["stream"],
            record["topic_count"],
            record["created_at_us"],
        )

@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic."""

    topic_id: int
    stream: str
    topic: str
    options: TopicSettings
    created_at_us: int

    @classmethod
    def _from(cls, record: dict[str, Any]) -> TopicInfo:
        return cls(
            record["topic_id"],
            record["stream"],
            record["topic"],
            TopicSettings._from(record["options"]),
            record["created_at_us"],
        )

@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """A partition as its owner sees it."""

    partition: int
    shard: int
    state: PartitionState
    state_reason: str
    log_start_offset: int
    visible_end_offset: int
    durable_end_offset: int
    leader_epoch: int
    size_bytes: int
    segment_count: int

    @classmethod
    def _from(cls, record: dict[str, Any]) -> PartitionInfo:
        return cls(
            record["partition"],
            record["shard"],
            record["state"],
            record["state_reason"],
            record["log_start_offset"],
            record["visible_end_offset"],
            record["durable_end_offset"],
            record["leader_epoch"],
            record["size_bytes"],
            record["segment_count"],
        )

@dataclass(frozen=True, slots=True)
class UserInfo:
    """A user."""

    user_id: int
    user: str
    role: Role
    created_at_us: int
    token_count: int

    @classmethod
    def _from(cls, record: dict[str, Any]) -> UserInfo:
        return cls(
            record["user_id"],
            record["user"],
            record["role"],
            record["created_at_us"],
            record["token_count"],
        )

@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A personal access token, without its secret."""

    token_id: int
    name: str
    user: str
    created_at_us: int
    expires_at_us: int | None

    @classmethod
    def _from(cls, record: dict[str, Any]) -> TokenInfo:
        return cls(
            record["token_id"],
            record["name"],
            record["user"],
            record["created_at_us"],
            record["expires_at_us"],
        )

@dataclass(frozen=True, slots=True)
class ReadOnlyPartition:
    """A partition that refuses appends."""

    stream: str
    topic: str
    partition: int
    reason: str

    @classmethod
    def _from(cls, record: dict[str, Any]) -> ReadOnlyPartition:
        return cls(
            record["stream"],
            record["topic"],
            record["partition"],
            record["reason"],
        )

@dataclass(frozen=True, slots=True)
class ServerStatus:
    """"""

    server_version: str
    node_id: int
    uptime_ms: int
    shard_count: int
    disk_backend: str
    stream_count: int
    topic_count: int
    partition_count: int
    connection_count: int
    subscription_count: int
    disk_total_bytes: int
    disk_free_bytes: int
    cache_bytes: int
    appended_bytes: int
    flush_count: int
    flush_p50_us: int
    flush_p99_us: int
    read_only_partitions: list[ReadOnlyPartition]

    @classmethod
    def _from(cls, record: dict[str, Any]) -> ServerStatus:
        return cls(
            record["server_version"],
            record["node_id"],
            record["uptime_ms"],
            record["shard_count"],
            record["disk_backend"],
            record["stream_count"],
            record["topic_count"],
            record["partition_count"],
            record["connection_count"],
            record["subscription_count"],
            record["disk_total_bytes"],
            record["disk_free_bytes"],
            record["cache_bytes"],
            record["appended_bytes"],
            record["flush_count"],
            record["flush_p50_us"],
            record["flush_p99_us"],
            [ReadOnlyPartition._from(item) for item in record["read_only_partitions"]],
        )

@dataclass(frozen=True, slots=True)
class PositionResolved:
    """"""

    offset: int
    log_start_offset: int
    visible_end_offset: int
    leader_epoch: int

    @classmethod
    def _from(cls, record: dict[str, Any]) -> PositionResolved:
        return cls(
            record["offset"],
            record["log_start_offset"],
            record["visible_end_offset"],
            record["leader_epoch"],
        )

@dataclass(frozen=True, slots=True)
class TopicSettings:
    """Options of a topic."""

    partition_count: int
    durability: Durability
    compression: TopicCompression
    retention_bytes: int | None
    retention_age_us: int | None
    segment_bytes: int | None

    @classmethod
    def _from(cls, record: dict[str, Any]) -> TopicSettings:
        return cls(
            record["partition_count"],
            record["durability"],
            record["compression"],
            record["retention_bytes"],
            record["retention_age_us"],
            record["segment_bytes"],
        )

class LevadaError(Exception):
    """Base of every error of the client."""

    def __init__(self, code: int, name: str, class_name: str, retriable: bool, maybe_applied: bool, retry_after_ms: int, message: str, details: dict[str, str]) -> None:
        super().__init__(f"{name} ({code}): {message}")
        self.code = code
        self.name = name
        self.class_name = class_name
        self.retriable = retriable
        self.maybe_applied = maybe_applied
        self.retry_after_ms = retry_after_ms
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.code, self.name, self.class_name, self.retriable, self.maybe_applied, self.retry_after_ms, self.message, self.details))


class LevadaUsageError(LevadaError, ValueError):
    """Class usage."""

class LevadaAuthError(LevadaError, PermissionError):
    """Class auth."""

class LevadaNotFoundError(LevadaError, LookupError):
    """Class not_found."""

class LevadaConflictError(LevadaError):
    """Class conflict."""

class LevadaQuotaError(LevadaError):
    """Class quota."""

class LevadaTimeoutError(LevadaError, TimeoutError):
    """Class timeout."""

class LevadaConnectionError(LevadaError, ConnectionError):
    """Class connection."""

class LevadaProtocolError(LevadaError):
    """Class protocol."""

class LevadaUnsupportedError(LevadaError):
    """Class unsupported."""

class LevadaUnavailableError(LevadaError):
    """Class unavailable."""

class LevadaFencedError(LevadaError):
    """Class fenced."""

class LevadaCorruptError(LevadaError):
    """Class corrupt."""

class LevadaCancelledError(LevadaError):
    """Class cancelled."""

class LevadaClosedError(LevadaError):
    """Class closed."""

class LevadaForkedError(LevadaError):
    """Class forked."""

class LevadaInternalError(LevadaError):
    """Class internal."""

ERROR_CLASSES: dict[str, type[LevadaError]] = {"usage": LevadaUsageError, "auth": LevadaAuthError, "not_found": LevadaNotFoundError, "conflict": LevadaConflictError, "quota": LevadaQuotaError, "timeout": LevadaTimeoutError, "connection": LevadaConnectionError, "protocol": LevadaProtocolError, "unsupported": LevadaUnsupportedError, "unavailable": LevadaUnavailableError, "fenced": LevadaFencedError, "corrupt": LevadaCorruptError, "cancelled": LevadaCancelledError, "closed": LevadaClosedError, "forked": LevadaForkedError, "internal": LevadaInternalError}

class SyncAdmin:
    """Control calls."""

    __slots__ = ()

    def _call(self, operation: str, arguments: dict[str, Any]) -> Any:
        raise NotImplementedError

    def create_stream(self, stream: str) -> StreamInfo:
        """Creates a stream."""
        result = self._call("create_stream", {"stream": stream})
        return StreamInfo._from(result)

    def delete_stream(self, stream: str, *, topics: bool = False) -> int:
        """Deletes a stream, with its topics if `topics` says so; gives how many those were."""
        result = self._call("delete_stream", {"stream": stream, "topics": topics})
        return result

    def list_streams(self) -> list[StreamInfo]:
        """All streams, by name."""
        result = self._call("list_streams", {})
        return [StreamInfo._from(item) for item in result]

    def describe_stream(self, stream: str) -> StreamDescription:
        """A stream and its topics."""
        result = self._call("describe_stream", {"stream": stream})
        return StreamDescription._from(result)

    def create_topic(self, topic: str, **options: Unpack[TopicOptions]) -> TopicInfo:
        """Creates `stream/topic`, and the stream if it is absent."""
        result = self._call("create_topic", {"topic": topic, "options": pack_options(options)})
        return TopicInfo._from(result)

    def alter_topic(self, topic: str, **changes: Unpack[TopicChanges]) -> TopicInfo:
        """Changes a topic."""
        result = self._call("alter_topic", {"topic": topic, "changes": pack_options(changes)})
        return TopicInfo._from(result)

    def delete_topic(self, topic: str) -> None:
        """Deletes a topic and its data."""
        self._call("delete_topic", {"topic": topic})

    def purge_topic(self, topic: str) -> None:
        """Removes every message visible now from `stream/topic`, or from one partition with `stream/topic:partition`."""
        self._call("purge_topic", {"topic": topic})

    def list_topics(self, *, stream: str | None = None) -> list[TopicInfo]:
        """Topics of a stream, or of all, by name."""
        result = self._call("list_topics", {"stream": stream})
        return [TopicInfo._from(item) for item in result]

    def describe_topic(self, topic: str) -> TopicDescription:
        """A topic and its partitions."""
        result = self._call("describe_topic", {"topic": topic})
        return TopicDescription._from(result)

    def resolve_position(self, partition: str, position: Position | str) -> PositionResolved:
        """What offset a position in `stream/topic:partition` comes to now."""
        result = self._call("resolve_position", {"partition": partition, "position": position})
        return PositionResolved._from(result)

    def create_user(self, user: str, password: str, role: Role) -> UserInfo:
        """Creates a user."""
        result = self._call("create_user", {"user": user, "password": password, "role": role})
        return UserInfo._from(result)

    def alter_user(self, user: str, *, password: str | None = None, role: Role | None = None) -> UserInfo:
        """Changes a user's password or role; sessions that a new password replaces end right after."""
        result = self._call("alter_user", {"user": user, "password": password, "role": role})
        return UserInfo._from(result)

    def delete_user(self, user: str) -> None:
        """Deletes a user with its tokens."""
        self._call("delete_user", {"user": user})

    def list_users(self) -> list[UserInfo]:
        """All users, by name."""
        result = self._call("list_users", {})
        return [UserInfo._from(item) for item in result]

    def describe_user(self, user: str) -> UserDescription:
        """A user and its tokens."""
        result = self._call("describe_user", {"user": user})
        return UserDescription._from(result)

    def create_token(self, name: str, *, user: str | None = None, expires_at_us: int | None = None) -> NewToken:
        """Creates a personal access token, for the caller unless a user is named."""
        result = self._call("create_token", {"name": name, "user": user, "expires_at_us": expires_at_us})
        return NewToken._from(result)

    def delete_token(self, name: str, *, user: str | None = None) -> None:
        """Revokes a token."""
        self._call("delete_token", {"name": name, "user": user})

    def list_tokens(self, *, user: str | None = None) -> list[TokenInfo]:
        """Tokens of the caller, or of a user."""
        result = self._call("list_tokens", {"user": user})
        return [TokenInfo._from(item) for item in result]

    def status(self) -> ServerStatus:
        """How the server is."""
        result = self._call("status", {})
        return ServerStatus._from(result)

class AsyncAdmin:
    """Control calls."""

    __slots__ = ()

    async def _call(self, operation: str, arguments: dict[str, Any]) -> Any:
        raise NotImplementedError

    async def create_stream(self, stream: str) -> StreamInfo:
        """Creates a stream."""
        result = await self._call("create_stream", {"stream": stream})
        return StreamInfo._from(result)

    async def delete_stream(self, stream: str, *, topics: bool = False) -> int:
        """Deletes a stream, with its topics if `topics` says so; gives how many those were."""
        result = await self._call("delete_stream", {"stream": stream, "topics": topics})
        return result

    async def list_streams(self) -> list[StreamInfo]:
        """All streams, by name."""
        result = await self._call("list_streams", {})
        return [StreamInfo._from(item) for item in result]

    async def describe_stream(self, stream: str) -> StreamDescription:
        """A stream and its topics."""
        result = await self._call("describe_stream", {"stream": stream})
        return StreamDescription._from(result)

    async def create_topic(self, topic: str, **options: Unpack[TopicOptions]) -> TopicInfo:
        """Creates `stream/topic`, and the stream if it is absent."""
        result = await self._call("create_topic", {"topic": topic, "options": pack_options(options)})
        return TopicInfo._from(result)

    async def alter_topic(self, topic: str, **changes: Unpack[TopicChanges]) -> TopicInfo:
        """Changes a topic."""
        result = await self._call("alter_topic", {"topic": topic, "changes": pack_options(changes)})
        return TopicInfo._from(result)

    async def delete_topic(self, topic: str) -> None:
        """Deletes a topic and its data."""
        await self._call("delete_topic", {"topic": topic})

    async def purge_topic(self, topic: str) -> None:
        """Removes every message visible now from `stream/topic`, or from one partition with `stream/topic:partition`."""
        await self._call("purge_topic", {"topic": topic})

    async def list_topics(self, *, stream: str | None = None) -> list[TopicInfo]:
        """Topics of a stream, or of all, by name."""
        result = await self._call("list_topics", {"stream": stream})
        return [TopicInfo._from(item) for item in result]

    async def describe_topic(self, topic: str) -> TopicDescription:
        """A topic and its partitions."""
        result = await self._call("describe_topic", {"topic": topic})
        return TopicDescription._from(result)

    async def resolve_position(self, partition: str, position: Position | str) -> PositionResolved:
        """What offset a position in `stream/topic:partition` comes to now."""
        result = await self._call("resolve_position", {"partition": partition, "position": position})
        return PositionResolved._from(result)

    async def create_user(self, user: str, password: str, role: Role) -> UserInfo:
        """Creates a user."""
        result = await self._call("create_user", {"user": user, "password": password, "role": role})
        return UserInfo._from(result)

    async def alter_user(self, user: str, *, password: str | None = None, role: Role | None = None) -> UserInfo:
        """Changes a user's password or role; sessions that a new password replaces end right after."""
        result = await self._call("alter_user", {"user": user, "password": password, "role": role})
        return UserInfo._from(result)

    async def delete_user(self, user: str) -> None:
        """Deletes a user with its tokens."""
        await self._call("delete_user", {"user": user})

    async def list_users(self) -> list[UserInfo]:
        """All users, by name."""
        result = await self._call("list_users", {})
        return [UserInfo._from(item) for item in result]

    async def describe_user(self, user: str) -> UserDescription:
        """A user and its tokens."""
        result = await self._call("describe_user", {"user": user})
        return UserDescription._from(result)

    async def create_token(self, name: str, *, user: str | None = None, expires_at_us: int | None = None) -> NewToken:
        """Creates a personal access token, for the caller unless a user is named."""
        result = await self._call("create_token", {"name": name, "user": user, "expires_at_us": expires_at_us})
        return NewToken._from(result)

    async def delete_token(self, name: str, *, user: str | None = None) -> None:
        """Revokes a token."""
        await self._call("delete_token", {"name": name, "user": user})

    async def list_tokens(self, *, user: str | None = None) -> list[TokenInfo]:
        """Tokens of the caller, or of a user."""
        result = await self._call("list_tokens", {"user": user})
        return [TokenInfo._from(item) for item in result]

    async def status(self) -> ServerStatus:
        """How the server is."""
        result = await self._call("status", {})
        return ServerStatus._from(result)

__all__ = ["AuthMethod", "BatchReceipt", "ClientOptions", "Compression", "ConsumerOptions", "Durability", "GoodbyeReason", "LevadaAuthError", "LevadaCancelledError", "LevadaClosedError", "LevadaConflictError", "LevadaConnectionError", "LevadaCorruptError", "LevadaError", "LevadaFencedError", "LevadaForkedError", "LevadaInternalError", "LevadaNotFoundError", "LevadaProtocolError", "LevadaQuotaError", "LevadaTimeoutError", "LevadaUnavailableError", "LevadaUnsupportedError", "LevadaUsageError", "NewToken", "OnCorrupt", "OnOutOfRange", "OnTruncated", "PartitionInfo", "PartitionState", "PositionKind", "PositionResolved", "ProducerOptions", "ReadOnlyPartition", "Receipt", "Role", "ServerInfo", "ServerStatus", "StreamDescription", "StreamInfo", "TokenInfo", "TopicChanges", "TopicCompression", "TopicDescription", "TopicInfo", "TopicOptions", "TopicSettings", "UserDescription", "UserInfo"]
