// The conformance adapter of the C++ client, by its blocking half: a thread for each command, cancelled by an interrupt; see
// conformance/adapter-protocol.md. The C adapter covers the non-blocking half.
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <functional>
#include <iostream>
#include <levada.hpp>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "convert.h"
#include "json.h"

namespace {

// What a command is called with cannot be read: the adapter's fault or the runner's, never the client's.
struct BadCommand : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Handle = std::variant<std::shared_ptr<levada::Client>, std::shared_ptr<levada::Producer>,
                            std::shared_ptr<levada::Consumer>, std::shared_ptr<levada::Delivery>>;
using Json = std::shared_ptr<json_t>;

// The `ok` of a reply.
using Reply = std::function<void(writer_t *)>;

// Threads that are not joined use these until the very end: they are never destroyed.
auto &lock = *new std::mutex;
auto &ended = *new std::condition_variable;
auto &handles = *new std::map<std::string, Handle>;
auto &running = *new std::map<std::string, std::shared_ptr<levada::Interrupt>>;

void send(writer_t &out) {
  static auto &output = *new std::mutex;
  write_close(&out, '}');
  std::lock_guard<std::mutex> held(output);
  std::fwrite(out.text, 1, out.len, stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
  write_end(&out);
}

writer_t begin(const std::string &id, const char *key) {
  writer_t out{};
  write_open(&out, '{');
  write_name(&out, "id");
  write_text_n(&out, id.data(), id.size());
  write_name(&out, key);
  return out;
}

void reply_text(const std::string &id, const char *key, const std::string &text) {
  writer_t out = begin(id, key);
  write_text_n(&out, text.data(), text.size());
  send(out);
}

void nothing(writer_t *out) { write_raw(out, "{}"); }

// The type of an exception.
const char *type_of(const levada::Error &error) {
  static const std::map<std::int32_t, const char *> types = {
      {LEVADA_CLASS_USAGE, "levada::UsageError"},           {LEVADA_CLASS_AUTH, "levada::AuthError"},
      {LEVADA_CLASS_NOT_FOUND, "levada::NotFoundError"},    {LEVADA_CLASS_CONFLICT, "levada::ConflictError"},
      {LEVADA_CLASS_QUOTA, "levada::QuotaError"},           {LEVADA_CLASS_TIMEOUT, "levada::TimeoutError"},
      {LEVADA_CLASS_CONNECTION, "levada::ConnectionError"}, {LEVADA_CLASS_PROTOCOL, "levada::ProtocolError"},
      {LEVADA_CLASS_UNSUPPORTED, "levada::UnsupportedError"}, {LEVADA_CLASS_UNAVAILABLE, "levada::UnavailableError"},
      {LEVADA_CLASS_FENCED, "levada::FencedError"},         {LEVADA_CLASS_CORRUPT, "levada::CorruptError"},
      {LEVADA_CLASS_CANCELLED, "levada::CancelledError"},   {LEVADA_CLASS_CLOSED, "levada::ClosedError"},
      {LEVADA_CLASS_FORKED, "levada::ForkedError"},         {LEVADA_CLASS_INTERNAL, "levada::InternalError"},
  };
  auto found = types.find(error.class_number());
  return found == types.end() ? nullptr : found->second;
}

void write_failure(writer_t *out, const levada::Error &error) {
  write_open(out, '{');
  write_name(out, "code");
  write_u32(out, static_cast<std::uint32_t>(error.code()));
  write_name(out, "name");
  write_text(out, error.name().c_str());
  write_name(out, "class");
  write_text(out, error.class_name().c_str());
  write_name(out, "retriable");
  write_bool(out, error.is_retriable());
  write_name(out, "maybe_applied");
  write_bool(out, error.maybe_applied());
  write_name(out, "message");
  write_text(out, error.message().c_str());
  write_name(out, "details");
  write_open(out, '{');
  for (const auto &[name, value] : error.details()) {
    write_name(out, name.c_str());
    write_text(out, value.c_str());
  }
  write_close(out, '}');
  write_name(out, "native");
  write_open(out, '[');
  if (const char *type = type_of(error)) write_text(out, type);
  write_text(out, "levada::Error");
  write_text(out, "std::runtime_error");
  write_close(out, ']');
  write_close(out, '}');
}

// A command as its thread sees it.
class Command {
 public:
  explicit Command(Json json) : json_(std::move(json)) {
    id = text(json_.get(), "id").value_or("");
    op = text(json_.get(), "op").value_or("");
    args = json_get(json_.get(), "args");
  }

  static std::optional<std::string> text(const json_t *object, const char *name) {
    const char *text = json_text(json_get(object, name));
    return text == nullptr ? std::nullopt : std::optional<std::string>(text);
  }
  std::optional<std::string> text(const char *name) const { return text(args, name); }
  std::string needed(const char *name) const {
    auto given = text(name);
    if (!given) throw BadCommand(std::string("no text for ") + name);
    return *given;
  }
  std::uint32_t partition() const {
    std::uint64_t number = 0;
    if (!json_uint(json_get(args, "partition"), &number) || number > UINT32_MAX) throw BadCommand("no partition");
    return static_cast<std::uint32_t>(number);
  }
  std::size_t size(const char *name, std::size_t otherwise) const {
    std::uint64_t number = otherwise;
    const json_t *given = json_get(args, name);
    if (!json_is_absent(given) && !json_uint(given, &number)) throw BadCommand(name);
    return static_cast<std::size_t>(number);
  }
  levada::Timeout timeout() const {
    std::int64_t ms = 0;
    const json_t *given = json_get(args, "timeout_ms");
    if (json_is_absent(given)) return {};
    if (!json_int(given, &ms)) throw BadCommand("timeout_ms");
    return std::chrono::milliseconds(ms);
  }
  std::vector<std::string> texts(const char *name) const {
    std::vector<std::string> texts;
    const json_t *list = json_get(args, name);
    for (std::size_t i = 0; list != nullptr && i < list->count; i++) {
      const char *text = json_text(&list->items[i]);
      if (text == nullptr) throw BadCommand(name);
      texts.emplace_back(text);
    }
    return texts;
  }
  std::vector<levada::PartitionOffset> offsets() const {
    std::vector<levada::PartitionOffset> offsets;
    const json_t *list = json_get(args, "offsets");
    for (std::size_t i = 0; list != nullptr && i < list->count; i++) {
      levada::PartitionOffset offset;
      std::uint64_t partition = 0;
      offset.topic = text(&list->items[i], "topic").value_or("");
      if (!json_uint(json_get(&list->items[i], "partition"), &partition) || partition > UINT32_MAX ||
          !json_uint(json_get(&list->items[i], "offset"), &offset.offset))
        throw BadCommand("offsets");
      offset.partition = static_cast<std::uint32_t>(partition);
      offsets.push_back(std::move(offset));
    }
    return offsets;
  }
  levada::Options options(const char *name) const {
    levada_options_t *options = convert_options(json_get(args, name));
    if (options == nullptr) throw BadCommand(name);
    return levada::Options(options);
  }
  bool wants_announcement() const {
    const json_t *announce = json_get(json_.get(), "announce");
    return announce != nullptr && announce->kind == JSON_BOOL && announce->boolean;
  }

  template <class Type>
  std::shared_ptr<Type> on() const {
    std::lock_guard<std::mutex> held(lock);
    auto found = handles.find(text(json_.get(), "on").value_or(""));
    if (found == handles.end() || !std::holds_alternative<std::shared_ptr<Type>>(found->second))
      throw BadCommand("an unknown handle");
    return std::get<std::shared_ptr<Type>>(found->second);
  }
  template <class Type>
  Reply keep(Type made) const {
    std::lock_guard<std::mutex> held(lock);
    handles[text(json_.get(), "as").value_or("")] = std::make_shared<Type>(std::move(made));
    return nothing;
  }

  std::string id, op;
  const json_t *args;

 private:
  Json json_;
};

// Messages of a command, with the memory they point to.
class Messages {
 public:
  void add(const json_t *json) {
    if (!convert_message(&given_, json)) throw BadCommand("a message that cannot be read");
  }
  std::vector<levada::Message> read() const {
    std::vector<levada::Message> messages;
    for (std::size_t i = 0; i < given_.count; i++) messages.push_back(read(given_.list[i]));
    return messages;
  }
  Messages() = default;
  ~Messages() { messages_free(&given_); }
  Messages(const Messages &) = delete;
  Messages &operator=(const Messages &) = delete;

 private:
  static std::optional<std::string_view> view(const std::uint8_t *data, std::size_t len) {
    if (data == nullptr) return std::nullopt;
    return std::string_view(reinterpret_cast<const char *>(data), len);
  }
  static levada::Message read(const levada_message_t &given) {
    levada::Message message;
    message.payload = view(given.payload, given.payload_len);
    message.key = view(given.key, given.key_len);
    if (given.flags & LEVADA_MESSAGE_HAS_TIMESTAMP) message.timestamp = std::chrono::microseconds(given.timestamp_us);
    if (given.flags & LEVADA_MESSAGE_HAS_PARTITION) message.partition = given.partition;
    if (given.flags & LEVADA_MESSAGE_HAS_SEQUENCE) message.sequence = given.sequence;
    if (given.id != nullptr) {
      message.id.emplace();
      std::memcpy(message.id->data(), given.id, message.id->size());
    }
    for (std::size_t i = 0; i < given.header_count; i++) message.headers.push_back(read(given.headers[i]));
    return message;
  }
  static levada::Header read(const levada_header_t &given) {
    std::string name(given.name, given.name_len);
    switch (given.kind) {
      case LEVADA_HEADER_STRING: return {name, std::string(reinterpret_cast<const char *>(given.data), given.len)};
      case LEVADA_HEADER_BYTES: return {name, levada::Bytes(given.data, given.data + given.len)};
      case LEVADA_HEADER_BOOL: return {name, given.boolean != 0};
      case LEVADA_HEADER_I64: return {name, given.i64};
      case LEVADA_HEADER_U64: return {name, given.u64};
      default: return {name, given.f64};
    }
  }
  messages_t given_{};
};

levada_receipt_t raw(const levada::Receipt &receipt) {
  levada_receipt_t raw = LEVADA_RECEIPT_INIT;
  raw.partition = receipt.partition;
  raw.offset = receipt.offset.value_or(0);
  raw.has_offset = receipt.offset.has_value();
  raw.message_count = receipt.message_count;
  raw.append_time_us = receipt.append_time.count();
  raw.durability = receipt.durability;
  raw.duplicate = receipt.duplicate;
  raw.server_encoded = receipt.server_encoded;
  return raw;
}

Reply result(levada::Value value) {
  auto shared = std::make_shared<levada::Value>(std::move(value));
  return [shared](writer_t *out) { reply_result(out, shared->get()); };
}

Reply number(std::optional<std::uint64_t> number) {
  return [number](writer_t *out) {
    write_open(out, '{');
    write_name(out, "value");
    if (number)
      write_uint(out, *number);
    else
      write_raw(out, "null");
    write_close(out, '}');
  };
}

Reply receipt(const levada::Receipt &receipt) {
  return [receipt](writer_t *out) {
    const levada_receipt_t given = raw(receipt);
    reply_receipt(out, &given, false);
  };
}

Reply messages(levada::Batch batch, bool is_single) {
  auto shared = std::make_shared<levada::Batch>(std::move(batch));
  return [shared, is_single](writer_t *out) {
    write_open(out, '{');
    write_name(out, is_single ? "message" : "messages");
    if (!is_single) write_open(out, '[');
    for (std::size_t i = 0; i < shared->size(); i++) reply_message(out, shared->get(), i);
    if (is_single && shared->empty()) write_raw(out, "null");
    if (!is_single) write_close(out, ']');
    if (!is_single || shared->empty()) {
      write_name(out, "finished");
      write_bool(out, shared->finished());
    }
    write_close(out, '}');
  };
}

using Operation = Reply (*)(const Command &);

template <class Type>
Reply close(const Command &command) {
  command.on<Type>()->close(command.timeout());
  return nothing;
}

std::shared_ptr<levada::Client> client(const Command &command) { return command.on<levada::Client>(); }

std::shared_ptr<levada::Consumer> consumer(const Command &command) { return command.on<levada::Consumer>(); }

Reply change(levada::Value value) {
  auto shared = std::make_shared<levada::Value>(std::move(value));
  return [shared](writer_t *out) {
    write_open(out, '{');
    write_name(out, "change");
    reply_value(out, shared->get());
    write_close(out, '}');
  };
}

Reply reset_offsets(const Command &command) {
  const json_t *dry_run = json_get(command.args, "dry_run");
  std::optional<std::uint32_t> partition;
  if (!json_is_absent(json_get(command.args, "partition"))) partition = command.partition();
  return result(client(command)->reset_offsets(command.needed("group"), command.texts("topics"), command.needed("position"),
                                               partition, dry_run != nullptr && dry_run->boolean));
}

Reply send_batch(const Command &command) {
  Messages given;
  const json_t *list = json_get(command.args, "messages");
  for (std::size_t i = 0; list != nullptr && i < list->count; i++) given.add(&list->items[i]);
  auto receipts = command.on<levada::Producer>()->send_batch(given.read());
  return [receipts](writer_t *out) {
    write_open(out, '{');
    write_name(out, "receipts");
    write_open(out, '[');
    for (const levada::Receipt &receipt : receipts) {
      const levada_receipt_t given = raw(receipt);
      reply_receipt(out, &given, true);
    }
    write_close(out, ']');
    write_close(out, '}');
  };
}

Reply create_token(const Command &command) {
  std::optional<std::chrono::microseconds> expires_at;
  std::optional<std::vector<std::string>> scope;
  if (!json_is_absent(json_get(command.args, "scope"))) scope = command.texts("scope");
  std::int64_t us = 0;
  if (json_int(json_get(command.args, "expires_at_us"), &us)) expires_at = std::chrono::microseconds(us);
  return result(client(command)->create_token(command.needed("name"), command.text("user"), expires_at, scope));
}

Reply stats(const Command &) {
  return [](writer_t *out) {
    static const char *const names[] = {"clients", "producers", "consumers", "deliveries"};
    std::uint32_t counts[4] = {};
    std::lock_guard<std::mutex> held(lock);
    for (const auto &[name, handle] : handles) counts[handle.index()]++;
    write_open(out, '{');
    write_name(out, "handles");
    write_open(out, '{');
    for (int i = 0; i < 4; i++) {
      write_name(out, names[i]);
      write_u32(out, counts[i]);
    }
    write_close(out, '}');
    write_name(out, "in_flight");
    write_u32(out, static_cast<std::uint32_t>(running.size() - 1));
    write_close(out, '}');
  };
}

Reply hello(const Command &) {
  return [](writer_t *out) {
    static const char *const features[] = {"core", "admin", "lifecycle", "names", "users", "access", "produce", "enqueue", "send_batch", "consume", "seek", "pause",
                                           "cancel", "lz4", "zstd", "idempotent", "reconnect", "password", "tls", "discovery", "retry", "groups", "sequences"};
    write_open(out, '{');
    write_name(out, "adapter_protocol");
    write_raw(out, "[1]");
    write_name(out, "client");
    write_text(out, "levada-cpp");
    write_name(out, "client_version");
    write_text(out, levada::version().c_str());
    write_name(out, "language");
    write_text(out, "cpp");
    write_name(out, "runtime");
    write_text(out, "C++17, " __VERSION__);
    write_name(out, "api");
    write_text(out, "blocking");
    write_name(out, "features");
    write_open(out, '[');
    for (const char *feature : features) write_text(out, feature);
    write_close(out, ']');
    write_name(out, "wire_versions");
    write_raw(out, "[1]");
    write_name(out, "pid");
    write_u32(out, static_cast<std::uint32_t>(getpid()));
    write_close(out, '}');
  };
}

Reply cancel(const Command &command) {
  std::lock_guard<std::mutex> held(lock);
  auto found = running.find(command.needed("target"));
  if (found != running.end()) found->second->raise();
  return nothing;
}

// Gives up what is under way, waits for its replies, and closes and forgets all.
Reply reset(const Command &command) {
  std::map<std::string, Handle> forgotten;
  {
    std::unique_lock<std::mutex> held(lock);
    for (auto &[id, interrupt] : running)
      if (id != command.id) interrupt->raise();
    ended.wait(held, [&] { return running.size() <= running.count(command.id); });
    forgotten.swap(handles);
  }
  for (auto &[name, handle] : forgotten) {
    if (!std::holds_alternative<std::shared_ptr<levada::Client>>(handle)) continue;
    try {
      std::get<std::shared_ptr<levada::Client>>(handle)->close(std::chrono::seconds(2));
    } catch (const levada::Error &) {
      // What was unsettled is no business of a reset.
    }
  }
  return nothing;
}

const std::map<std::string, Operation> OPERATIONS = {
    {"hello", hello},
    {"cancel", cancel},
    {"stats", stats},
    {"reset", reset},
    {"shutdown", reset},
    {"connect", [](const Command &c) { return c.keep(levada::Client(c.options("options"))); }},
    {"close", close<levada::Client>},
    {"ping", [](const Command &c) { return number(static_cast<std::uint64_t>(client(c)->ping().count())); }},
    {"server_info", [](const Command &c) { return result(client(c)->server_info()); }},
    {"stream.create", [](const Command &c) { return result(client(c)->create_stream(c.needed("stream"))); }},
    {"stream.delete",
     [](const Command &c) {
       const json_t *topics = json_get(c.args, "topics");
       return number(client(c)->delete_stream(c.needed("stream"), topics != nullptr && topics->boolean));
     }},
    {"stream.list", [](const Command &c) { return result(client(c)->list_streams()); }},
    {"stream.describe", [](const Command &c) { return result(client(c)->describe_stream(c.needed("stream"))); }},
    {"topic.create", [](const Command &c) { return result(client(c)->create_topic(c.needed("topic"), c.options("options"))); }},
    {"topic.alter", [](const Command &c) { return result(client(c)->alter_topic(c.needed("topic"), c.options("changes"))); }},
    {"topic.delete", [](const Command &c) { return client(c)->delete_topic(c.needed("topic")), Reply(nothing); }},
    {"topic.purge", [](const Command &c) { return client(c)->purge_topic(c.needed("topic")), Reply(nothing); }},
    {"topic.list", [](const Command &c) { return result(client(c)->list_topics(c.text("stream"))); }},
    {"topic.describe", [](const Command &c) { return result(client(c)->describe_topic(c.needed("topic"))); }},
    {"topic.trim", [](const Command &c) { return result(client(c)->delete_messages(c.needed("partition"), c.needed("before"))); }},
    {"topic.set_segment_age",
     [](const Command &c) {
       int64_t us = 0;
       json_int(json_get(c.args, "segment_age_us"), &us);
       return client(c)->set_segment_age(c.needed("topic"), std::chrono::microseconds(us)), Reply(nothing);
     }},
    {"topic.set_dedup_messages",
     [](const Command &c) {
       int64_t messages = 0;
       json_int(json_get(c.args, "dedup_messages"), &messages);
       return client(c)->set_dedup_messages(c.needed("topic"), static_cast<uint32_t>(messages)), Reply(nothing);
     }},
    {"topic.producer_progress",
     [](const Command &c) { return result(client(c)->producer_progress(c.needed("name"), c.needed("partition"))); }},
    {"position.resolve",
     [](const Command &c) { return result(client(c)->resolve_position(c.needed("partition"), c.needed("position"))); }},
    {"user.create",
     [](const Command &c) {
       return result(client(c)->create_user(c.needed("user"), c.needed("password"), c.needed("role"), c.texts("grants")));
     }},
    {"user.alter",
     [](const Command &c) { return result(client(c)->alter_user(c.needed("user"), c.text("password"), c.text("role"))); }},
    {"user.delete", [](const Command &c) { return client(c)->delete_user(c.needed("user")), Reply(nothing); }},
    {"user.list", [](const Command &c) { return result(client(c)->list_users()); }},
    {"user.describe", [](const Command &c) { return result(client(c)->describe_user(c.needed("user"))); }},
    {"token.create", create_token},
    {"token.delete", [](const Command &c) { return client(c)->delete_token(c.needed("name"), c.text("user")), Reply(nothing); }},
    {"token.list", [](const Command &c) { return result(client(c)->list_tokens(c.text("user"))); }},
    {"access.set",
     [](const Command &c) { return client(c)->set_access(c.needed("user"), c.texts("roles"), c.texts("grants")), Reply(nothing); }},
    {"access.describe", [](const Command &c) { return result(client(c)->describe_access(c.text("user"))); }},
    {"role.set", [](const Command &c) { return client(c)->set_role(c.needed("role"), c.texts("grants")), Reply(nothing); }},
    {"role.delete", [](const Command &c) { return client(c)->delete_role(c.needed("role")), Reply(nothing); }},
    {"role.list", [](const Command &c) { return result(client(c)->list_roles()); }},
    {"quota.set", [](const Command &c) { return client(c)->set_quota(c.needed("user"), c.options("quota")), Reply(nothing); }},
    {"quota.describe", [](const Command &c) { return result(client(c)->describe_quota(c.text("user"))); }},
    {"status", [](const Command &c) { return result(client(c)->status()); }},
    {"producer.open", [](const Command &c) { return c.keep(client(c)->producer(c.needed("topic"), c.options("options"))); }},
    {"producer.send",
     [](const Command &c) {
       Messages given;
       given.add(json_get(c.args, "message"));
       return receipt(c.on<levada::Producer>()->send(given.read().at(0)));
     }},
    {"producer.enqueue",
     [](const Command &c) {
       Messages given;
       given.add(json_get(c.args, "message"));
       return c.keep(c.on<levada::Producer>()->enqueue(given.read().at(0)));
     }},
    {"delivery.wait", [](const Command &c) { return receipt(c.on<levada::Delivery>()->wait()); }},
    {"producer.send_batch", send_batch},
    {"producer.flush", [](const Command &c) { return c.on<levada::Producer>()->flush(), Reply(nothing); }},
    {"producer.close", close<levada::Producer>},
    {"consumer.open", [](const Command &c) { return c.keep(client(c)->consumer(c.needed("topic"), c.options("options"))); }},
    {"consumer.receive", [](const Command &c) { return messages(c.on<levada::Consumer>()->receive(c.timeout()), true); }},
    {"consumer.receive_batch",
     [](const Command &c) {
       auto max_messages = c.size("max_messages", LEVADA_MAX_MESSAGES_DEFAULT);
       auto max_bytes = c.size("max_bytes", LEVADA_MAX_BYTES_DEFAULT);
       return messages(c.on<levada::Consumer>()->receive_batch(c.timeout(), max_messages, max_bytes), false);
     }},
    {"consumer.seek",
     [](const Command &c) {
       return consumer(c)->seek(c.partition(), c.needed("position"), c.text("topic")), Reply(nothing);
     }},
    {"consumer.position", [](const Command &c) { return number(consumer(c)->position(c.partition(), c.text("topic"))); }},
    {"consumer.pause", [](const Command &c) { return consumer(c)->pause(c.partition(), c.text("topic")), Reply(nothing); }},
    {"consumer.resume", [](const Command &c) { return consumer(c)->resume(c.partition(), c.text("topic")), Reply(nothing); }},
    {"consumer.commit", [](const Command &c) { return consumer(c)->commit(), Reply(nothing); }},
    {"consumer.commit_offsets", [](const Command &c) { return consumer(c)->commit_offsets(c.offsets()), Reply(nothing); }},
    {"consumer.committed",
     [](const Command &c) { return number(consumer(c)->committed(c.needed("topic"), c.partition())); }},
    {"consumer.assignments", [](const Command &c) { return result(consumer(c)->assignments()); }},
    {"consumer.next_change", [](const Command &c) { return change(consumer(c)->next_change(c.timeout())); }},
    {"group.open",
     [](const Command &c) {
       return c.keep(client(c)->group_consumer(c.needed("group"), c.texts("topics"), c.options("options")));
     }},
    {"group.list", [](const Command &c) { return result(client(c)->list_groups()); }},
    {"group.describe", [](const Command &c) { return result(client(c)->describe_group(c.needed("group"))); }},
    {"group.delete", [](const Command &c) { return client(c)->delete_group(c.needed("group")), Reply(nothing); }},
    {"group.offsets",
     [](const Command &c) { return result(client(c)->group_offsets(c.needed("group"), c.texts("topics"))); }},
    {"group.reset_offsets", reset_offsets},
    {"consumer.close", close<levada::Consumer>},
};

void run(const Command &command, const levada::Interrupt &interrupt) {
  auto operation = OPERATIONS.find(command.op);
  if (operation == OPERATIONS.end()) return reply_text(command.id, "unsupported", command.op);
  try {
    levada::InterruptScope scope(interrupt);
    if (command.wants_announcement()) {
      writer_t out = begin(command.id, "started");
      write_bool(&out, true);
      send(out);
    }
    Reply ok = operation->second(command);
    writer_t out = begin(command.id, "ok");
    ok(&out);
    send(out);
  } catch (const levada::CancelledError &error) {
    writer_t out = begin(command.id, "cancelled");
    write_bool(&out, true);
    write_name(&out, "err");
    write_failure(&out, error);
    send(out);
  } catch (const levada::Error &error) {
    writer_t out = begin(command.id, "err");
    write_failure(&out, error);
    send(out);
  } catch (const std::exception &error) {
    reply_text(command.id, "adapter_error", error.what());
  }
}

}  // namespace

int main() {
  bool is_ending = false;
  for (std::string line; !is_ending && std::getline(std::cin, line);) {
    Json json(json_read(line.data(), line.size()), json_free);
    if (!json) {
      std::cerr << "this is no command: " << line.substr(0, 200) << "\n";
      continue;
    }
    auto command = std::make_shared<Command>(std::move(json));
    auto interrupt = std::make_shared<levada::Interrupt>();
    is_ending = command->op == "shutdown";
    {
      std::lock_guard<std::mutex> held(lock);
      running[command->id] = interrupt;
    }
    std::thread([command, interrupt] {
      run(*command, *interrupt);
      std::lock_guard<std::mutex> held(lock);
      running.erase(command->id);
      ended.notify_all();
    }).detach();
  }
  // The end of input means what shutdown does.
  if (!is_ending) reset(Command(Json(json_read("{}", 2), json_free)));
  std::unique_lock<std::mutex> held(lock);
  ended.wait(held, [] { return running.empty(); });
  return 0;
}
