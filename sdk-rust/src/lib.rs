//! The Levada client: produce and consume durable message streams.
//!
//! A [`Client`] is made once and cloned where it is needed. From it come [`Producer`]s, [`Consumer`]s and the [`Admin`].
//!
//! ```no_run
//! # async fn example() -> levada::Result<()> {
//! use levada::{Client, ConsumerOptions, Position, ProducerOptions};
//!
//! let client = Client::connect("levada://localhost:7420").await?;
//! client.admin().create_topic("shop/orders", levada::topic_options(8)).await?;
//!
//! let producer = client.producer("shop/orders", ProducerOptions::new()).await?;
//! let receipt = producer.send("a pound of apples").await?;
//! println!("partition {} offset {:?}", receipt.partition, receipt.offset);
//!
//! let consumer = client.consumer(ConsumerOptions::new("shop/orders").from(Position::EARLIEST)).await?;
//! while let Some(message) = consumer.receive().await? {
//!     println!("{:?}", message.payload);
//! }
//! # Ok(()) }
//! ```

mod access;
mod address;
mod admin;
mod backoff;
mod client;
mod consumer;
mod contexts;
mod credentials;
mod discovery;
mod environment;
mod error;
mod generated;
mod link;
mod message;
mod options;
mod producer;
mod range;
mod transport;
mod value;

pub use access::{AccessDescription, QuotaDescription, RoleDescription};
pub use address::{DEFAULT_PORT, ServerAddress};
pub use admin::{
    Admin, DeleteTopics, GroupDescription, NewToken, ResetMode, StreamDescription, TokenInfo, TopicDescription,
    UserDescription, topic_options,
};
pub use backoff::BackoffOptions;
pub use client::{Client, ServerInfo};
pub use consumer::{
    AssignmentChange, Batch, Batches, Consumer, ConsumerOptions, GroupConsumerOptions, Messages, OnCorrupt,
    OnOutOfRange, OnTruncated, PartitionOffset, PartitionRef, ReceivedMessage, ReceivedRef, Taken, TopicPartition,
    decode_headers,
};
pub use contexts::{Context, Contexts};
pub use credentials::Credentials;
pub use environment::{ByteStream, Clock, ConnectFuture, Connector, Environment, Random, SystemClock, SystemRandom};
pub use error::{Error, Result};
pub use generated::enums::AssignmentKind;
pub use levada_protocol::batch::{Header, HeaderValue, MessageSpan};
pub use levada_protocol::headers::HeaderValueRef;
pub use levada_protocol::messages::{
    Durability, GroupInfo, GroupPartitionInfo, GroupState, MemberInfo, MessagesDeleted, OffsetChange, PartitionInfo,
    PartitionState, Position, PositionKind, PositionResolved, Quota, ReadOnlyPartition, Role, SequencesRead,
    ServerStatus, StoredOffset, Strategy, StreamInfo, TopicChanges, TopicCompression, TopicInfo, TopicOptions,
    UserInfo,
};
pub use levada_protocol::{ErrorClass, ErrorCode};
pub use message::{AsMessage, Message, MessageRef};
pub use options::ClientOptions;
pub use producer::{
    BatchDelivery, BatchEvent, BatchReceipt, CompletionSink, Compression, Delivery, NO_TOKEN, Producer,
    ProducerOptions, Receipt,
};
pub use transport::{SystemConnector, TlsOptions};

#[doc(hidden)]
pub use consumer::UntoldChange;
#[doc(hidden)]
pub use value::{Arguments, FromValue, Named, Value};
