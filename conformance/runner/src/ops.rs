//! The operations of the adapter protocol: what each is called on, what it takes and which feature it belongs to. A test holds
//! this table against `sdk-rust/api.toml`, the source of every client's operations.

/// An operation that a case may ask of an adapter.
#[derive(Debug)]
pub struct Op {
    /// Its name in the line protocol.
    pub name: &'static str,
    /// What an adapter declares to be asked for it.
    pub feature: &'static str,
    /// Whether it needs a handle.
    pub on: bool,
    /// Whether it makes a handle.
    pub makes: bool,
    /// Names of its arguments.
    pub args: &'static [&'static str],
}

const fn op(name: &'static str, feature: &'static str, on: bool, makes: bool, args: &'static [&'static str]) -> Op {
    Op { name, feature, on, makes, args }
}

/// All of them.
pub const OPS: &[Op] = &[
    op("connect", "core", false, true, &["options"]),
    op("close", "core", true, false, &["timeout_ms"]),
    op("ping", "core", true, false, &[]),
    op("server_info", "core", true, false, &[]),
    op("stream.create", "admin", true, false, &["stream"]),
    op("stream.delete", "admin", true, false, &["stream", "topics"]),
    op("stream.list", "admin", true, false, &[]),
    op("stream.describe", "admin", true, false, &["stream"]),
    op("topic.create", "admin", true, false, &["topic", "options"]),
    op("topic.alter", "admin", true, false, &["topic", "changes"]),
    op("topic.delete", "admin", true, false, &["topic"]),
    op("topic.purge", "admin", true, false, &["topic"]),
    op("topic.list", "admin", true, false, &["stream"]),
    op("topic.describe", "admin", true, false, &["topic"]),
    op("position.resolve", "admin", true, false, &["partition", "position"]),
    op("user.create", "users", true, false, &["user", "password", "role"]),
    op("user.alter", "users", true, false, &["user", "password", "role"]),
    op("user.delete", "users", true, false, &["user"]),
    op("user.list", "users", true, false, &[]),
    op("user.describe", "users", true, false, &["user"]),
    op("token.create", "users", true, false, &["name", "user", "expires_at_us"]),
    op("token.delete", "users", true, false, &["name", "user"]),
    op("token.list", "users", true, false, &["user"]),
    op("status", "admin", true, false, &[]),
    op("producer.open", "produce", true, true, &["topic", "options"]),
    op("producer.send", "produce", true, false, &["message"]),
    op("producer.enqueue", "enqueue", true, true, &["message"]),
    op("delivery.wait", "enqueue", true, false, &[]),
    op("producer.send_batch", "send_batch", true, false, &["messages"]),
    op("producer.flush", "produce", true, false, &[]),
    op("producer.close", "produce", true, false, &["timeout_ms"]),
    op("consumer.open", "consume", true, true, &["topic", "options"]),
    op("consumer.receive", "consume", true, false, &["timeout_ms"]),
    op("consumer.receive_batch", "consume", true, false, &["max_messages", "max_bytes", "timeout_ms"]),
    op("consumer.seek", "seek", true, false, &["partition", "position"]),
    op("consumer.position", "seek", true, false, &["partition"]),
    op("consumer.pause", "pause", true, false, &["partition"]),
    op("consumer.resume", "pause", true, false, &["partition"]),
    op("consumer.close", "consume", true, false, &["timeout_ms"]),
    op("stats", "core", false, false, &[]),
];

/// The operation of that name.
pub fn find(name: &str) -> Option<&'static Op> {
    OPS.iter().find(|op| op.name == name)
}

/// What a client can do beyond its operations; the other features are those of [`OPS`].
pub const BEHAVIOURS: &[&str] =
    &["cancel", "lz4", "zstd", "idempotent", "reconnect", "password", "tls", "discovery", "retry"];

/// Whether a case may need that.
pub fn is_feature(name: &str) -> bool {
    BEHAVIOURS.contains(&name) || OPS.iter().any(|op| op.feature == name)
}

/// Arguments that are 64 bits wide and hence travel as decimal text, whatever a case writes.
const WIDE: &[&str] = &[
    "index",
    "seed",
    "batch_bytes",
    "batch_messages",
    "max_in_flight",
    "max_buffered_bytes",
    "prefetch_bytes",
    "retention_bytes",
    "segment_bytes",
    "timestamp_us",
    "expires_at_us",
    "max_messages",
    "max_bytes",
];

/// Whether the argument or option of that name travels as decimal text.
pub fn is_wide(name: &str) -> bool {
    WIDE.contains(&name)
}
