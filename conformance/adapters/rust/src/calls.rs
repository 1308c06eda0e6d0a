//! Commands as calls of the client: the dispatcher. Each arm is one call of the public API.

use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use levada::{
    AssignmentChange, Client, ClientOptions, Consumer, ConsumerOptions, DeleteTopics, Error, FromValue,
    GroupConsumerOptions, PartitionOffset, PartitionRef, Position, Producer, ProducerOptions, Quota, Role,
    TopicChanges, TopicOptions, TopicPartition,
};
use serde_json::{Value, json};

use crate::defects::Defect;
use crate::records;
use crate::session::{Call, Handle, Reply, Session};
use crate::values::{self, number};

/// What the client takes where the command says nothing: the defaults of `api.toml`.
const CLOSE: Duration = Duration::from_secs(5);
const BATCH_MESSAGES: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
const BATCH_TIMEOUT: Duration = Duration::from_secs(1);

type Outcome = Result<Value, Error>;

/// What a command carries.
struct Command {
    op: String,
    on: Option<Handle>,
    makes: String,
    args: Value,
    session: Arc<Session>,
}

/// Makes the call, not yet submitted; or what there is to say at once.
pub(crate) fn begin(session: &Arc<Session>, command: &Value) -> Result<Call, Reply> {
    let bad = |text: String| Reply::AdapterError(text);
    let on = match command["on"].as_str() {
        None => None,
        Some(name) => Some(session.handle(name).ok_or_else(|| bad(format!("there is no handle {name:?}")))?),
    };
    let command = Command {
        op: command["op"].as_str().unwrap_or_default().to_owned(),
        on,
        makes: command["as"].as_str().unwrap_or_default().to_owned(),
        args: command["args"].clone(),
        session: Arc::clone(session),
    };
    let op = command.op.clone();
    let (kind, _) = op.split_once('.').unwrap_or((&op, ""));
    match kind {
        "connect" => Ok(connect(command)),
        "close" | "ping" | "server_info" => client_call(command),
        "stream" | "topic" | "position" | "user" | "token" | "status" => admin_call(command),
        "access" | "role" | "quota" => access_call(command),
        "producer" => producer_call(command),
        "delivery" => delivery_wait(command),
        "group" if op == "group.open" => open_group(command),
        "group" => group_call(command),
        "consumer" => consumer_call(command),
        _ => Err(Reply::AdapterError(format!("there is no operation {op:?}"))),
    }
}

/// A future whose error is the client's.
fn call(session: Arc<Session>, work: impl Future<Output = Outcome> + Send + 'static) -> Call {
    Box::pin(async move {
        match work.await {
            Ok(ok) => Reply::Ok(ok),
            Err(error) => Reply::Err(values::error(&error, &session)),
        }
    })
}

/// `from_value` of the client's own types, which checks ranges as it does for every language.
fn read<T: FromValue>(name: &str, value: &Value) -> Result<T, Error> {
    let named = values::named(&json!({ name: value }));
    T::from_value(name, named.into_iter().next().map(|(_, value)| value).unwrap_or_default())
}

fn text(args: &Value, name: &str) -> String {
    args[name].as_str().unwrap_or_default().to_owned()
}

fn optional(args: &Value, name: &str) -> Option<String> {
    args[name].as_str().map(str::to_owned)
}

fn millis(args: &Value, name: &str) -> Option<Duration> {
    number(&args[name]).map(Duration::from_millis)
}

fn count(args: &Value, name: &str, default: usize) -> usize {
    number(&args[name]).unwrap_or(default)
}

fn wrong_handle(op: &str) -> Reply {
    Reply::AdapterError(format!("{op} on a handle of another kind"))
}

// ------------------------------------------------------------ client and admin

fn connect(command: Command) -> Call {
    let session = Arc::clone(&command.session);
    call(Arc::clone(&session), async move {
        let options = ClientOptions::from_values(values::named(&command.args["options"]))?;
        let client = Client::connect(options).await?;
        session.keep(&command.makes, Handle::Client(client));
        Ok(json!({}))
    })
}

fn client_call(command: Command) -> Result<Call, Reply> {
    let Some(Handle::Client(client)) = command.on else { return Err(wrong_handle(&command.op)) };
    let (session, args) = (command.session, command.args);
    Ok(match command.op.as_str() {
        "ping" => call(session, async move {
            let took = client.ping().await?;
            Ok(json!({"value": took.as_micros().to_string()}))
        }),
        "server_info" => {
            call(session, async move { Ok(client.server_info().map_or(json!({}), |info| records::server_info(&info))) })
        }
        _ => {
            let timeout = millis(&args, "timeout_ms").unwrap_or(CLOSE);
            let (hangs, leaks) = (session.has(Defect::HangOnClose), session.has(Defect::LeakConnection));
            let keeper = Arc::clone(&session);
            call(session, async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                if leaks {
                    keeper.kept.lock().unwrap_or_else(PoisonError::into_inner).push(client);
                    return Ok(json!({}));
                }
                client.close(timeout).await?;
                Ok(json!({}))
            })
        }
    })
}

fn admin_call(command: Command) -> Result<Call, Reply> {
    let Some(Handle::Client(client)) = command.on else { return Err(wrong_handle(&command.op)) };
    let (session, args, op) = (command.session, command.args, command.op);
    Ok(call(session, async move {
        let admin = client.admin();
        let items = |items: Vec<Value>| json!({ "items": items });
        let done = |()| json!({});
        let (topic, stream, user) = (text(&args, "topic"), text(&args, "stream"), text(&args, "user"));
        Ok(match op.as_str() {
            "stream.create" => records::stream(&admin.create_stream(&stream).await?),
            "stream.delete" => {
                let topics = if args["topics"] == true { DeleteTopics::Too } else { DeleteTopics::No };
                json!({"value": admin.delete_stream(&stream, topics).await?})
            }
            "stream.list" => items(admin.list_streams().await?.iter().map(records::stream).collect()),
            "stream.describe" => records::stream_description(&admin.describe_stream(&stream).await?),
            "topic.create" => {
                let options = if args["options"].is_null() { json!({}) } else { args["options"].clone() };
                let options: TopicOptions = read("options", &options)?;
                records::topic(&admin.create_topic(&topic, options).await?)
            }
            "topic.alter" => {
                let changes: TopicChanges = read("changes", &args["changes"])?;
                records::topic(&admin.alter_topic(&topic, changes).await?)
            }
            "topic.delete" => done(admin.delete_topic(&topic).await?),
            "topic.purge" => done(admin.purge_topic(&topic).await?),
            "topic.list" => {
                let topics = admin.list_topics(optional(&args, "stream").as_deref()).await?;
                items(topics.iter().map(records::topic).collect())
            }
            "topic.describe" => records::topic_description(&admin.describe_topic(&topic).await?),
            "topic.trim" => {
                let before: Position = read("before", &args["before"])?;
                let deleted = admin.delete_messages(&text(&args, "partition"), before).await?;
                json!({"log_start_offset": deleted.log_start_offset.to_string()})
            }
            "topic.set_segment_age" => {
                let age_us = number(&args["segment_age_us"]);
                done(admin.set_segment_age(&topic, age_us).await?)
            }
            "topic.set_dedup_messages" => {
                let messages =
                    args["dedup_messages"].as_u64().map(|messages| u32::try_from(messages).unwrap_or(u32::MAX));
                done(admin.set_dedup_messages(&topic, messages).await?)
            }
            "topic.producer_progress" => {
                records::sequences(&admin.producer_progress(&text(&args, "name"), &text(&args, "partition")).await?)
            }
            "position.resolve" => {
                let position: Position = read("position", &args["position"])?;
                records::position(&admin.resolve_position(&text(&args, "partition"), position).await?)
            }
            "user.create" => {
                let role: Role = read("role", &args["role"])?;
                records::user(&admin.create_user(&user, &text(&args, "password"), role, &texts(&args["grants"])).await?)
            }
            "user.alter" => {
                let role = if args["role"].is_null() { None } else { Some(read::<Role>("role", &args["role"])?) };
                records::user(&admin.alter_user(&user, optional(&args, "password").as_deref(), role).await?)
            }
            "user.delete" => done(admin.delete_user(&user).await?),
            "user.list" => items(admin.list_users().await?.iter().map(records::user).collect()),
            "user.describe" => records::user_description(&admin.describe_user(&user).await?),
            "token.create" => {
                let expires = number(&args["expires_at_us"]);
                let (owner, scope) = (optional(&args, "user"), texts(&args["scope"]));
                let scope = (!args["scope"].is_null()).then_some(&scope[..]);
                let made = admin.create_token(&text(&args, "name"), owner.as_deref(), expires, scope).await?;
                json!({"token": records::token(&made.token), "secret": made.secret})
            }
            "token.delete" => done(admin.delete_token(&text(&args, "name"), optional(&args, "user").as_deref()).await?),
            "token.list" => {
                let tokens = admin.list_tokens(optional(&args, "user").as_deref()).await?;
                items(tokens.iter().map(records::token).collect())
            }
            _ => records::status(&admin.status().await?),
        })
    }))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn access_call(command: Command) -> Result<Call, Reply> {
    let Some(Handle::Client(client)) = command.on else { return Err(wrong_handle(&command.op)) };
    let (session, args, op) = (command.session, command.args, command.op);
    Ok(call(session, async move {
        let admin = client.admin();
        let done = |()| json!({});
        let (role, user, grants) = (text(&args, "role"), optional(&args, "user"), texts(&args["grants"]));
        Ok(match op.as_str() {
            "access.set" => done(admin.set_access(&text(&args, "user"), &texts(&args["roles"]), &grants).await?),
            "access.describe" => records::access(&admin.describe_access(user.as_deref()).await?),
            "role.set" => done(admin.set_role(&role, &grants).await?),
            "role.delete" => done(admin.delete_role(&role).await?),
            "role.list" => {
                let roles = admin.list_roles().await?;
                json!({"items": roles.iter().map(records::role).collect::<Vec<_>>()})
            }
            "quota.set" => {
                let quota: Quota = read("quota", &args["quota"])?;
                done(admin.set_quota(&text(&args, "user"), quota).await?)
            }
            _ => records::quota(&admin.describe_quota(user.as_deref()).await?),
        })
    }))
}

// ------------------------------------------------------------ producing

fn producer_call(command: Command) -> Result<Call, Reply> {
    if command.op == "producer.open" {
        let Some(Handle::Client(client)) = command.on else { return Err(wrong_handle(&command.op)) };
        let session = Arc::clone(&command.session);
        return Ok(call(Arc::clone(&session), async move {
            let options = ProducerOptions::from_values(values::named(&command.args["options"]))?;
            let producer = client.producer(&text(&command.args, "topic"), options).await?;
            session.keep(&command.makes, Handle::Producer(Arc::new(producer)));
            Ok(json!({}))
        }));
    }
    let Some(Handle::Producer(producer)) = command.on else { return Err(wrong_handle(&command.op)) };
    let (session, args) = (command.session, command.args);
    match command.op.as_str() {
        "producer.send" => send(producer, &args, session),
        "producer.enqueue" => {
            let message = values::message(&args["message"], 0, &session).map_err(Reply::AdapterError)?;
            let keeper = Arc::clone(&session);
            Ok(call(session, async move {
                let delivery = producer.enqueue(message).await?;
                keeper.keep(&command.makes, Handle::Delivery(delivery));
                Ok(json!({}))
            }))
        }
        "producer.send_batch" => {
            let messages = values::messages(&args["messages"], &session).map_err(Reply::AdapterError)?;
            let teller = Arc::clone(&session);
            Ok(call(session, async move {
                let receipts = producer.send_batch(messages).await?;
                let receipts: Vec<Value> =
                    receipts.iter().map(|receipt| values::batch_receipt(receipt, &teller)).collect();
                Ok(json!({ "receipts": receipts }))
            }))
        }
        "producer.flush" => Ok(call(session, async move { producer.flush().await.map(|()| json!({})) })),
        "producer.close" => {
            let timeout = millis(&args, "timeout_ms").unwrap_or(CLOSE);
            Ok(call(session, async move { producer.close(timeout).await.map(|()| json!({})) }))
        }
        other => Err(Reply::AdapterError(format!("there is no operation {other:?}"))),
    }
}

fn send(producer: Arc<Producer>, args: &Value, session: Arc<Session>) -> Result<Call, Reply> {
    let message = values::message(&args["message"], 0, &session).map_err(Reply::AdapterError)?;
    let teller = Arc::clone(&session);
    Ok(call(session, async move {
        if teller.has(Defect::SendTwice) {
            producer.send(&message).await?;
        }
        match producer.send(message).await {
            Ok(receipt) => Ok(values::receipt(&receipt, &teller)),
            Err(_) if teller.has(Defect::SwallowError) => Ok(json!({"partition": 0, "offset": "0"})),
            Err(error) => Err(error),
        }
    }))
}

fn delivery_wait(command: Command) -> Result<Call, Reply> {
    let Some(Handle::Delivery(delivery)) = command.on else { return Err(wrong_handle(&command.op)) };
    let session = command.session;
    Ok(call(Arc::clone(&session), async move { delivery.await.map(|receipt| values::receipt(&receipt, &session)) }))
}

// ------------------------------------------------------------ consuming

fn consumer_call(command: Command) -> Result<Call, Reply> {
    if command.op == "consumer.open" {
        return open_consumer(command);
    }
    let Some(Handle::Consumer(consumer)) = command.on else { return Err(wrong_handle(&command.op)) };
    let (session, args) = (command.session, command.args);
    match command.op.as_str() {
        "consumer.receive" => Ok(receive(consumer, millis(&args, "timeout_ms"), session)),
        "consumer.receive_batch" => Ok(receive_batch(consumer, &args, session)),
        "consumer.seek" => {
            let does_nothing = session.has(Defect::IgnoreSeek);
            Ok(call(session, async move {
                let position: Position = read("position", &args["position"])?;
                if !does_nothing {
                    consumer.seek(which(&args), position)?;
                }
                Ok(json!({}))
            }))
        }
        "consumer.position" => Ok(call(session, async move {
            Ok(json!({"value": consumer.position(which(&args)).map(|offset| offset.to_string())}))
        })),
        "consumer.pause" => Ok(call(session, async move { consumer.pause(which(&args)).map(|()| json!({})) })),
        "consumer.resume" => Ok(call(session, async move { consumer.resume(which(&args)).map(|()| json!({})) })),
        "consumer.commit" => Ok(call(session, async move { consumer.commit().await.map(|()| json!({})) })),
        "consumer.commit_offsets" => {
            Ok(call(
                session,
                async move { consumer.commit_offsets(&offsets(&args["offsets"])).await.map(|()| json!({})) },
            ))
        }
        "consumer.committed" => Ok(call(session, async move {
            let partition = number(&args["partition"]).unwrap_or(0);
            let stored = consumer.committed(&text(&args, "topic"), partition).await?;
            Ok(json!({"value": stored.map(|offset| offset.to_string())}))
        })),
        "consumer.assignments" => {
            Ok(call(session, async move { Ok(json!({"items": partitions(&consumer.assignments())})) }))
        }
        "consumer.next_change" => Ok(call(session, async move {
            let change = consumer.next_change(millis(&args, "timeout_ms")).await?;
            Ok(json!({"change": change.as_ref().map(assignment_change)}))
        })),
        "consumer.close" => {
            let timeout = millis(&args, "timeout_ms").unwrap_or(CLOSE);
            Ok(call(session, async move { consumer.close(timeout).await.map(|()| json!({})) }))
        }
        other => Err(Reply::AdapterError(format!("there is no operation {other:?}"))),
    }
}

/// The partition of a command.
fn which(args: &Value) -> PartitionRef<'_> {
    PartitionRef { topic: args["topic"].as_str(), partition: number(&args["partition"]).unwrap_or(0) }
}

fn offsets(list: &Value) -> Vec<PartitionOffset> {
    let one = |item: &Value| PartitionOffset {
        topic: text(item, "topic"),
        partition: number(&item["partition"]).unwrap_or(0),
        offset: number(&item["offset"]).unwrap_or(0),
    };
    list.as_array().into_iter().flatten().map(one).collect()
}

fn partitions(list: &[TopicPartition]) -> Value {
    list.iter().map(|one| json!({"topic": one.topic, "partition": one.partition})).collect()
}

fn assignment_change(change: &AssignmentChange) -> Value {
    json!({"kind": change.kind.name(), "partitions": partitions(&change.partitions)})
}

fn open_group(command: Command) -> Result<Call, Reply> {
    let Some(Handle::Client(client)) = command.on else { return Err(wrong_handle(&command.op)) };
    let session = Arc::clone(&command.session);
    Ok(call(Arc::clone(&session), async move {
        let named = values::named(&command.args["options"]);
        let topics = strings(&command.args["topics"]);
        let options = GroupConsumerOptions::from_values(text(&command.args, "group"), topics, named)?;
        let consumer = client.group_consumer(options).await?;
        session.keep(&command.makes, Handle::Consumer(Arc::new(consumer)));
        Ok(json!({}))
    }))
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn group_call(command: Command) -> Result<Call, Reply> {
    let Some(Handle::Client(client)) = command.on else { return Err(wrong_handle(&command.op)) };
    let (session, args, op) = (command.session, command.args, command.op);
    Ok(call(session, async move {
        let admin = client.admin();
        let group = text(&args, "group");
        let items = |items: Vec<Value>| json!({ "items": items });
        Ok(match op.as_str() {
            "group.list" => items(admin.list_groups().await?.iter().map(records::group).collect()),
            "group.describe" => records::group_description(&admin.describe_group(&group).await?),
            "group.delete" => {
                admin.delete_group(&group).await?;
                json!({})
            }
            "group.offsets" => {
                let topics = strings(&args["topics"]);
                let topics = (!args["topics"].is_null()).then_some(topics.as_slice());
                items(admin.group_offsets(&group, topics).await?.iter().map(records::stored_offset).collect())
            }
            _ => {
                let position: Position = read("position", &args["position"])?;
                let mode = (args["dry_run"] == true).into();
                let topics = strings(&args["topics"]);
                let changes = admin.reset_offsets(&group, &topics, position, number(&args["partition"]), mode).await?;
                items(changes.iter().map(records::offset_change).collect())
            }
        })
    }))
}

fn open_consumer(command: Command) -> Result<Call, Reply> {
    let Some(Handle::Client(client)) = command.on else { return Err(wrong_handle(&command.op)) };
    let session = Arc::clone(&command.session);
    Ok(call(Arc::clone(&session), async move {
        let mut options = command.args["options"].clone();
        match (session.defect, options.as_object_mut()) {
            (Some(Defect::IgnoreUntilEnd), Some(options)) => drop(options.remove("until_end")),
            (Some(Defect::IgnorePosition), Some(options)) => drop(options.insert("from".to_owned(), "earliest".into())),
            _ => {}
        }
        let options = ConsumerOptions::from_values(text(&command.args, "topic"), values::named(&options))?;
        let consumer = client.consumer(options).await?;
        session.keep(&command.makes, Handle::Consumer(Arc::new(consumer)));
        Ok(json!({}))
    }))
}

/// Rust's receive takes no time limit: the adapter gives it up, as the protocol has it.
fn receive(consumer: Arc<Consumer>, limit: Option<Duration>, session: Arc<Session>) -> Call {
    let timed_out = json!({
        "code": 60003, "name": "CLIENT_TIMEOUT", "class": "timeout", "retriable": true, "maybe_applied": false, "native": [],
    });
    Box::pin(async move {
        let received = match limit {
            None => consumer.receive().await,
            Some(limit) => match tokio::time::timeout(limit, consumer.receive()).await {
                Ok(received) => received,
                Err(_) => return Reply::Err(timed_out),
            },
        };
        match received {
            Ok(Some(message)) => Reply::Ok(json!({"message": values::received(&message, &session)})),
            Ok(None) => Reply::Ok(json!({"message": null, "finished": true})),
            Err(error) => Reply::Err(values::error(&error, &session)),
        }
    })
}

fn receive_batch(consumer: Arc<Consumer>, args: &Value, session: Arc<Session>) -> Call {
    let max_messages = count(args, "max_messages", BATCH_MESSAGES);
    let max_bytes = count(args, "max_bytes", BATCH_BYTES);
    let timeout = millis(args, "timeout_ms").unwrap_or(BATCH_TIMEOUT);
    let teller = Arc::clone(&session);
    call(session, async move {
        let mut batches = consumer.receive_batch(max_messages, max_bytes, timeout).await?;
        let mut finished = false;
        if batches.is_empty() {
            // Time or end? Asking costs nothing, and what has just come is not lost.
            let taken = consumer.try_take(max_messages, max_bytes)?;
            (batches, finished) = (taken.batches, taken.finished);
        }
        let messages = batches.iter().flat_map(|batch| batch.messages().map(|message| owned(batch, &message)));
        let mut told: Vec<Value> =
            messages.filter(|_| teller.tells_next()).map(|message| values::received(&message, &teller)).collect();
        if teller.has(Defect::SwapTwo) && 2 <= told.len() {
            told.swap(0, 1);
        }
        Ok(json!({"messages": told, "finished": finished}))
    })
}

fn owned(batch: &levada::Batch, message: &levada::ReceivedRef<'_>) -> levada::ReceivedMessage {
    levada::ReceivedMessage {
        topic: Arc::clone(batch.topic()),
        partition: batch.partition(),
        offset: message.offset,
        timestamp_us: message.timestamp_us,
        append_time_us: batch.append_time_us(),
        payload: message.payload.map(bytes::Bytes::copy_from_slice),
        key: message.key.map(bytes::Bytes::copy_from_slice),
        id: message.id,
        headers: message.headers(),
    }
}
