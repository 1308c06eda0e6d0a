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
    op("topic.trim", "lifecycle", true, false, &["partition", "before"]),
    op("topic.set_segment_age", "lifecycle", true, false, &["topic", "segment_age_us"]),
    op("topic.set_dedup_messages", "lifecycle", true, false, &["topic", "dedup_messages"]),
    op("topic.producer_progress", "names", true, false, &["name", "partition"]),
    op("topic.list", "admin", true, false, &["stream"]),
    op("topic.describe", "admin", true, false, &["topic"]),
    op("position.resolve", "admin", true, false, &["partition", "position"]),
    op("user.create", "users", true, false, &["user", "password", "role", "grants"]),
    op("user.alter", "users", true, false, &["user", "password", "role"]),
    op("user.delete", "users", true, false, &["user"]),
    op("user.list", "users", true, false, &[]),
    op("user.describe", "users", true, false, &["user"]),
    op("token.create", "users", true, false, &["name", "user", "expires_at_us", "scope"]),
    op("token.delete", "users", true, false, &["name", "user"]),
    op("token.list", "users", true, false, &["user"]),
    op("access.set", "access", true, false, &["user", "roles", "grants"]),
    op("access.describe", "access", true, false, &["user"]),
    op("role.set", "access", true, false, &["role", "grants"]),
    op("role.delete", "access", true, false, &["role"]),
    op("role.list", "access", true, false, &[]),
    op("quota.set", "access", true, false, &["user", "quota"]),
    op("quota.describe", "access", true, false, &["user"]),
    op("status", "admin", true, false, &[]),
    op("group.list", "groups", true, false, &[]),
    op("group.describe", "groups", true, false, &["group"]),
    op("group.delete", "groups", true, false, &["group"]),
    op("group.offsets", "groups", true, false, &["group", "topics"]),
    op("group.reset_offsets", "groups", true, false, &["group", "topics", "position", "partition", "dry_run"]),
    op("producer.open", "produce", true, true, &["topic", "options"]),
    op("producer.send", "produce", true, false, &["message"]),
    op("producer.enqueue", "enqueue", true, true, &["message"]),
    op("delivery.wait", "enqueue", true, false, &[]),
    op("producer.send_batch", "send_batch", true, false, &["messages"]),
    op("producer.flush", "produce", true, false, &[]),
    op("producer.close", "produce", true, false, &["timeout_ms"]),
    op("consumer.open", "consume", true, true, &["topic", "options"]),
    op("group.open", "groups", true, true, &["group", "topics", "options"]),
    op("consumer.receive", "consume", true, false, &["timeout_ms"]),
    op("consumer.receive_batch", "consume", true, false, &["max_messages", "max_bytes", "timeout_ms"]),
    op("consumer.seek", "seek", true, false, &["partition", "position", "topic"]),
    op("consumer.position", "seek", true, false, &["partition", "topic"]),
    op("consumer.pause", "pause", true, false, &["partition", "topic"]),
    op("consumer.resume", "pause", true, false, &["partition", "topic"]),
    op("consumer.commit", "groups", true, false, &[]),
    op("consumer.commit_offsets", "groups", true, false, &["offsets"]),
    op("consumer.committed", "groups", true, false, &["topic", "partition"]),
    op("consumer.assignments", "groups", true, false, &[]),
    op("consumer.next_change", "groups", true, false, &["timeout_ms"]),
    op("consumer.close", "consume", true, false, &["timeout_ms"]),
    op("stats", "core", false, false, &[]),
];

/// The operation of that name.
pub fn find(name: &str) -> Option<&'static Op> {
    OPS.iter().find(|op| op.name == name)
}

/// What a client can do beyond its operations; the other features are those of [`OPS`].
pub const BEHAVIOURS: &[&str] =
    &["cancel", "lz4", "zstd", "idempotent", "reconnect", "password", "tls", "discovery", "retry", "sequences"];

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
    "commit_messages",
    "retention_bytes",
    "segment_bytes",
    "timestamp_us",
    "sequence",
    "expires_at_us",
    "max_messages",
    "max_bytes",
    "bytes_in",
    "bytes_out",
    "segment_age_us",
];

/// Whether the argument or option of that name travels as decimal text.
pub fn is_wide(name: &str) -> bool {
    WIDE.contains(&name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{OPS, Op, WIDE};

    /// What `cargo xtask codegen` writes from `sdk-rust/api.toml`.
    const SCHEMA: &str = include_str!("../../schema/operations.json");
    /// Not operations of a client: only adapters have them.
    const ADAPTERS_OWN: &[&str] = &["stats"];
    /// Not arguments of an operation: they lie within messages, and within what adapters make payloads from.
    const MESSAGES_OWN: &[&str] = &["index", "seed", "timestamp_us", "sequence"];

    fn schema() -> Value {
        serde_json::from_str(SCHEMA).unwrap()
    }

    fn keys(object: &Value) -> BTreeSet<&str> {
        object.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_operations_are_those_of_every_client() {
        let schema = schema();
        let clients: Vec<&Op> = OPS.iter().filter(|op| !ADAPTERS_OWN.contains(&op.name)).collect();
        assert_eq!(keys(&schema["operations"]), clients.iter().map(|op| op.name).collect::<BTreeSet<_>>());
        for op in clients {
            let expected = &schema["operations"][op.name];
            assert_eq!(expected["feature"], op.feature, "feature of {}", op.name);
            assert_eq!(expected["on"] != "module", op.on, "handle of {}", op.name);
            let args = op.args.iter().copied().collect::<BTreeSet<_>>();
            assert_eq!(keys(&expected["args"]["properties"]), args, "arguments of {}", op.name);
        }
    }

    #[test]
    fn arguments_that_travel_as_text_are_those_of_64_bits() {
        let mut wide = MESSAGES_OWN.iter().map(|name| (*name).to_owned()).collect();
        collect_wide(&schema(), "", &mut wide);
        assert_eq!(wide, WIDE.iter().map(|name| (*name).to_owned()).collect());
    }

    /// Names of properties, at any depth, whose schema is decimal text.
    fn collect_wide(schema: &Value, name: &str, wide: &mut BTreeSet<String>) {
        match schema {
            Value::Object(members) => {
                if members.contains_key("pattern") {
                    wide.insert(name.to_owned());
                }
                for (key, value) in members {
                    let is_part_of_the_same = matches!(key.as_str(), "anyOf" | "items");
                    collect_wide(value, if is_part_of_the_same { name } else { key }, wide);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect_wide(item, name, wide)),
            _ => {}
        }
    }
}
