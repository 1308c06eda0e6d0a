//! Ways to be wrong on purpose. `conformance/selftest/defects.yaml` names the cases that must catch each.

/// A way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Every seventh message received is not told.
    DropSeventh,
    /// The first two messages of a batch change places.
    SwapTwo,
    /// TOPIC_NOT_FOUND is told as STREAM_NOT_FOUND.
    WrongCode,
    /// Errors are told as retriable that are not.
    WrongRetriable,
    /// A receive that is cancelled goes on and swallows the next message.
    LoseOnCancel,
    /// A closed client keeps its connections.
    LeakConnection,
    /// Close never returns.
    HangOnClose,
    /// The process does not end after shutdown.
    HangOnExit,
    /// Payloads lose their last byte.
    TruncatePayload,
    /// Receipts tell the next message's offset.
    OffsetPlusOne,
    /// Every message is sent twice, as a retry that is not idempotent does.
    SendTwice,
    /// The end asked for is not kept.
    IgnoreUntilEnd,
    /// Timestamps are told in milliseconds.
    WrongTimestamp,
    /// A null payload is told as an empty one.
    NullAsEmpty,
    /// Headers are not sent.
    DropHeaders,
    /// One command at a time.
    OneAtATime,
    /// Errors of sends are told as success.
    SwallowError,
    /// Positions are taken for `earliest`.
    IgnorePosition,
    /// A seek does nothing.
    IgnoreSeek,
}

const NAMES: &[(&str, Defect)] = &[
    ("drop-seventh", Defect::DropSeventh),
    ("swap-two", Defect::SwapTwo),
    ("wrong-code", Defect::WrongCode),
    ("wrong-retriable", Defect::WrongRetriable),
    ("lose-on-cancel", Defect::LoseOnCancel),
    ("leak-connection", Defect::LeakConnection),
    ("hang-on-close", Defect::HangOnClose),
    ("hang-on-exit", Defect::HangOnExit),
    ("truncate-payload", Defect::TruncatePayload),
    ("offset-plus-one", Defect::OffsetPlusOne),
    ("send-twice", Defect::SendTwice),
    ("ignore-until-end", Defect::IgnoreUntilEnd),
    ("wrong-timestamp", Defect::WrongTimestamp),
    ("null-as-empty", Defect::NullAsEmpty),
    ("drop-headers", Defect::DropHeaders),
    ("one-at-a-time", Defect::OneAtATime),
    ("swallow-error", Defect::SwallowError),
    ("ignore-position", Defect::IgnorePosition),
    ("ignore-seek", Defect::IgnoreSeek),
];

impl Defect {
    /// By its name on the command line.
    pub(crate) fn from_name(name: &str) -> Option<Defect> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, defect)| *defect)
    }
}
