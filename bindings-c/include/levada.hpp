// levada.hpp: the Levada client for C++17, on levada.h. Header-only.
//
// Errors are exceptions: levada::Error, with one class for each kind under it. What is made is owned and move-only; it is freed
// at the end of its life, which never waits and never throws: close or flush before, to hear of errors. Views (MessageView,
// ValueView, string_view of a payload) live as long as the Batch or Value they were read from. Time-outs are std::chrono
// durations. Threads and fork are as levada.h says.
#ifndef LEVADA_HPP
#define LEVADA_HPP

#include <levada.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace levada {

// ---------------------------------------------------------------- errors

// Why a call failed.
class Error : public std::runtime_error {
 public:
  explicit Error(const levada_error_t *error)
      : std::runtime_error(std::string(levada_error_name(error)) + ": " + levada_error_message(error)),
        code_(levada_error_code(error)),
        class_(levada_error_class(error)),
        retry_after_(levada_error_retry_after_ms(error)),
        retriable_(levada_error_is_retriable(error)),
        maybe_applied_(levada_error_maybe_applied(error)),
        name_(levada_error_name(error)),
        class_name_(levada_error_class_name(error)),
        message_(levada_error_message(error)) {
    for (std::size_t i = 0; i < levada_error_detail_count(error); i++)
      details_.emplace_back(levada_error_detail_name(error, i), levada_error_detail_value(error, i));
  }

  // The stable number, one of LEVADA_E_*.
  std::int32_t code() const noexcept { return code_; }
  const std::string &name() const noexcept { return name_; }
  // Its kind, one of LEVADA_CLASS_*.
  std::int32_t class_number() const noexcept { return class_; }
  const std::string &class_name() const noexcept { return class_name_; }
  // Whether the same call may succeed later.
  bool is_retriable() const noexcept { return retriable_; }
  // Whether the call may have taken effect although it failed.
  bool maybe_applied() const noexcept { return maybe_applied_; }
  // How long the server asks to wait before another attempt; 0 leaves it to you.
  std::chrono::milliseconds retry_after() const noexcept { return std::chrono::milliseconds(retry_after_); }
  // What went wrong, without the name.
  const std::string &message() const noexcept { return message_; }
  const std::vector<std::pair<std::string, std::string>> &details() const noexcept { return details_; }
  // A named value; nothing if there is none of that name.
  std::optional<std::string> detail(std::string_view name) const {
    for (const auto &[known, value] : details_)
      if (known == name) return value;
    return std::nullopt;
  }

 private:
  std::int32_t code_, class_;
  std::uint32_t retry_after_;
  bool retriable_, maybe_applied_;
  std::string name_, class_name_, message_;
  std::vector<std::pair<std::string, std::string>> details_;
};

class UsageError : public Error { using Error::Error; };
class AuthError : public Error { using Error::Error; };
class NotFoundError : public Error { using Error::Error; };
class ConflictError : public Error { using Error::Error; };
class QuotaError : public Error { using Error::Error; };
class TimeoutError : public Error { using Error::Error; };
class ConnectionError : public Error { using Error::Error; };
class ProtocolError : public Error { using Error::Error; };
class UnsupportedError : public Error { using Error::Error; };
class UnavailableError : public Error { using Error::Error; };
class FencedError : public Error { using Error::Error; };
class CorruptError : public Error { using Error::Error; };
class CancelledError : public Error { using Error::Error; };
class ClosedError : public Error { using Error::Error; };
class ForkedError : public Error { using Error::Error; };
class InternalError : public Error { using Error::Error; };

using OptionalText = std::optional<std::string>;

namespace detail {

template <auto Free>
struct Freed {
  template <class Type>
  void operator()(Type *pointer) const noexcept {
    Free(pointer);
  }
};

template <class Type, auto Free>
using Owned = std::unique_ptr<Type, Freed<Free>>;

[[noreturn]] inline void raise(const levada_error_t *error) {
  switch (levada_error_class(error)) {
    case LEVADA_CLASS_USAGE: throw UsageError(error);
    case LEVADA_CLASS_AUTH: throw AuthError(error);
    case LEVADA_CLASS_NOT_FOUND: throw NotFoundError(error);
    case LEVADA_CLASS_CONFLICT: throw ConflictError(error);
    case LEVADA_CLASS_QUOTA: throw QuotaError(error);
    case LEVADA_CLASS_TIMEOUT: throw TimeoutError(error);
    case LEVADA_CLASS_CONNECTION: throw ConnectionError(error);
    case LEVADA_CLASS_PROTOCOL: throw ProtocolError(error);
    case LEVADA_CLASS_UNSUPPORTED: throw UnsupportedError(error);
    case LEVADA_CLASS_UNAVAILABLE: throw UnavailableError(error);
    case LEVADA_CLASS_FENCED: throw FencedError(error);
    case LEVADA_CLASS_CORRUPT: throw CorruptError(error);
    case LEVADA_CLASS_CANCELLED: throw CancelledError(error);
    case LEVADA_CLASS_CLOSED: throw ClosedError(error);
    case LEVADA_CLASS_FORKED: throw ForkedError(error);
    case LEVADA_CLASS_INTERNAL: throw InternalError(error);
    default: throw Error(error);
  }
}

inline const char *text(const std::optional<std::string> &text) { return text ? text->c_str() : nullptr; }

inline std::vector<const char *> pointers(const std::vector<std::string> &texts) {
  std::vector<const char *> pointers;
  for (const std::string &text : texts) pointers.push_back(text.c_str());
  return pointers;
}

// Makes a call of levada.h whose last argument is where its error goes, and throws that.
template <class Call>
void check(Call &&call) {
  levada_error_t *error = nullptr;
  if (call(&error) == 0) return;
  Owned<levada_error_t, levada_error_free> owned(error);
  raise(owned.get());
}

inline std::string_view view(levada_slice_t slice) {
  return slice.len == 0 ? std::string_view() : std::string_view(reinterpret_cast<const char *>(slice.data), slice.len);
}

// Bytes for C: empty ones are not NULL, which would be absent.
inline const std::uint8_t *bytes_of(std::string_view bytes) {
  return reinterpret_cast<const std::uint8_t *>(bytes.data() == nullptr ? "" : bytes.data());
}

}  // namespace detail

// How long a call may take: a duration, what is usual for the call (the default), or for ever.
class Timeout {
 public:
  constexpr Timeout() noexcept : ms_(LEVADA_TIMEOUT_DEFAULT) {}
  template <class Number, class Period>
  constexpr Timeout(std::chrono::duration<Number, Period> duration)
      : ms_(std::chrono::ceil<std::chrono::milliseconds>(duration).count()) {
    if (ms_ < 0) ms_ = 0;
  }
  static constexpr Timeout infinite() noexcept {
    Timeout timeout;
    timeout.ms_ = LEVADA_TIMEOUT_INFINITE;
    return timeout;
  }
  constexpr std::int64_t ms() const noexcept { return ms_; }

 private:
  std::int64_t ms_;
};

// ---------------------------------------------------------------- options and values

// Options, or arguments of a call, by their names in docs/reference/api.md: Options{{"from", "earliest"}, {"until_end", true}}.
class Options {
 public:
  using Setting = std::variant<bool, std::int64_t, std::uint64_t, double, std::string, std::vector<std::uint32_t>,
                               std::vector<std::string>>;

  // A name and its value.
  struct Named {
    Named(const char *name, bool value) : name(name), value(value) {}
    Named(const char *name, int value) : name(name), value(static_cast<std::int64_t>(value)) {}
    Named(const char *name, long value) : name(name), value(static_cast<std::int64_t>(value)) {}
    Named(const char *name, long long value) : name(name), value(static_cast<std::int64_t>(value)) {}
    Named(const char *name, unsigned value) : name(name), value(static_cast<std::uint64_t>(value)) {}
    Named(const char *name, unsigned long value) : name(name), value(static_cast<std::uint64_t>(value)) {}
    Named(const char *name, unsigned long long value) : name(name), value(static_cast<std::uint64_t>(value)) {}
    Named(const char *name, double value) : name(name), value(value) {}
    Named(const char *name, const char *value) : name(name), value(std::string(value)) {}
    Named(const char *name, std::string value) : name(name), value(std::move(value)) {}
    Named(const char *name, std::vector<std::uint32_t> value) : name(name), value(std::move(value)) {}
    Named(const char *name, std::vector<std::string> value) : name(name), value(std::move(value)) {}
    template <class Number, class Period>
    Named(const char *name, std::chrono::duration<Number, Period> value)
        : name(name), value(std::chrono::duration<double, std::milli>(value).count()) {}

    const char *name;
    Setting value;
  };

  Options() : options_(levada_options_new()) {}
  Options(std::initializer_list<Named> settings) : Options() {
    for (const Named &setting : settings) set(setting);
  }
  // Takes over options of levada.h.
  explicit Options(levada_options_t *options) : options_(options) {}

  Options &set(const Named &setting) {
    detail::check([&](levada_error_t **err) {
      struct Visitor {
        levada_options_t *options;
        const char *name;
        levada_error_t **err;
        std::int32_t operator()(bool value) { return levada_options_set_bool(options, name, value, err); }
        std::int32_t operator()(std::int64_t value) { return levada_options_set_int(options, name, value, err); }
        std::int32_t operator()(std::uint64_t value) { return levada_options_set_uint(options, name, value, err); }
        std::int32_t operator()(double value) { return levada_options_set_double(options, name, value, err); }
        std::int32_t operator()(const std::string &value) {
          return levada_options_set_text(options, name, value.c_str(), err);
        }
        std::int32_t operator()(const std::vector<std::uint32_t> &value) {
          return levada_options_set_partitions(options, name, value.data(), value.size(), err);
        }
        std::int32_t operator()(const std::vector<std::string> &value) {
          const auto texts = detail::pointers(value);
          return levada_options_set_texts(options, name, texts.data(), texts.size(), err);
        }
      };
      return std::visit(Visitor{options_.get(), setting.name, err}, setting.value);
    });
    return *this;
  }
  // Options within options.
  Options &set(const char *name, const Options &value) {
    detail::check([&](auto err) { return levada_options_set_options(options_.get(), name, value.get(), err); });
    return *this;
  }
  // Where to start in one partition.
  Options &partition_from(std::uint32_t partition, const std::string &position) {
    detail::check([&](auto err) {
      return levada_options_set_partition_position(options_.get(), "partition_from", partition, position.c_str(), err);
    });
    return *this;
  }

  const levada_options_t *get() const noexcept { return options_.get(); }

 private:
  detail::Owned<levada_options_t, levada_options_free> options_;
};

// A part of a Value. Of something that is not there, it is null.
class ValueView {
 public:
  explicit ValueView(const levada_value_t *value = nullptr) noexcept : value_(value) {}
  std::int32_t kind() const { return levada_value_kind(value_); }
  bool is_null() const { return kind() == LEVADA_KIND_NULL; }
  // How many values a list or fields a record has.
  std::size_t size() const { return levada_value_count(value_); }
  ValueView operator[](const char *name) const { return ValueView(levada_value_get(value_, name)); }
  ValueView operator[](std::size_t index) const { return ValueView(levada_value_at(value_, index)); }
  ValueView operator[](int index) const { return (*this)[static_cast<std::size_t>(index)]; }
  std::string_view name_at(std::size_t index) const { return text_of(levada_value_name_at(value_, index)); }
  std::string_view text() const { return text_of(levada_value_text(value_)); }
  std::string_view bytes() const { return detail::view(levada_value_bytes(value_)); }
  std::uint64_t u64() const { return levada_value_u64(value_); }
  std::int64_t i64() const { return levada_value_i64(value_); }
  double f64() const { return levada_value_f64(value_); }
  bool boolean() const { return levada_value_bool(value_); }
  const levada_value_t *get() const noexcept { return value_; }

 private:
  static std::string_view text_of(const char *text) { return text == nullptr ? std::string_view() : text; }
  const levada_value_t *value_;
};

// The answer of a control call.
class Value {
 public:
  explicit Value(levada_value_t *value = nullptr) noexcept : value_(value) {}
  ValueView view() const noexcept { return ValueView(value_.get()); }
  ValueView operator[](const char *name) const { return view()[name]; }
  ValueView operator[](std::size_t index) const { return view()[index]; }
  std::size_t size() const { return view().size(); }
  const levada_value_t *get() const noexcept { return value_.get(); }

 private:
  detail::Owned<levada_value_t, levada_value_free> value_;
};

// ---------------------------------------------------------------- messages

using Bytes = std::vector<std::uint8_t>;

// A named value of a message.
struct Header {
  std::string name;
  std::variant<std::string, Bytes, bool, std::int64_t, std::uint64_t, double> value;
};

// A message to produce. What it points to is copied by the call that sends it.
struct Message {
  Message() = default;
  Message(std::string_view payload) : payload(payload) {}
  Message(const char *payload) : payload(payload) {}
  Message(const std::string &payload) : payload(payload) {}

  std::optional<std::string_view> payload;  // absent differs from empty
  std::optional<std::string_view> key;
  std::vector<Header> headers;
  std::optional<std::chrono::microseconds> timestamp;  // since the Unix epoch
  std::optional<std::array<std::uint8_t, 16>> id;
  std::optional<std::uint32_t> partition;
  // Its number, for a producer with external_sequence: above that of every message before it in its partition, gaps allowed,
  // at most UINT64_MAX - 1.
  std::optional<std::uint64_t> sequence;
};

// Where a message went, or where messages of one batch went: `message_count` offsets from `offset` on.
struct Receipt {
  Receipt() = default;
  explicit Receipt(const levada_receipt_t &receipt)
      : partition(receipt.partition),
        offset(receipt.has_offset ? std::optional<std::uint64_t>(receipt.offset) : std::nullopt),
        message_count(receipt.message_count),
        append_time(receipt.append_time_us),
        durability(receipt.durability),
        duplicate(receipt.duplicate != 0),
        server_encoded(receipt.server_encoded != 0) {}

  std::uint32_t partition = 0;
  std::optional<std::uint64_t> offset;
  std::uint32_t message_count = 0;
  std::chrono::microseconds append_time{0};  // since the Unix epoch
  std::int32_t durability = 0;               // LEVADA_DURABILITY_*
  bool duplicate = false;
  bool server_encoded = false;
};

namespace detail {

inline levada_header_t lend(const Header &header) {
  levada_header_t lent = LEVADA_HEADER_INIT;
  lent.name = header.name.data();
  lent.name_len = header.name.size();
  lent.kind = static_cast<std::int32_t>(header.value.index()) + 1;
  switch (lent.kind) {
    case LEVADA_HEADER_STRING:
      lent.data = bytes_of(std::get<std::string>(header.value));
      lent.len = std::get<std::string>(header.value).size();
      break;
    case LEVADA_HEADER_BYTES:
      lent.data = std::get<Bytes>(header.value).data();
      lent.len = std::get<Bytes>(header.value).size();
      break;
    case LEVADA_HEADER_BOOL: lent.boolean = std::get<bool>(header.value); break;
    case LEVADA_HEADER_I64: lent.i64 = std::get<std::int64_t>(header.value); break;
    case LEVADA_HEADER_U64: lent.u64 = std::get<std::uint64_t>(header.value); break;
    default: lent.f64 = std::get<double>(header.value);
  }
  return lent;
}

// A message as levada.h wants it, while the message lives.
class Lent {
 public:
  explicit Lent(const Message &message) {
    headers_.reserve(message.headers.size());
    for (const Header &header : message.headers) headers_.push_back(lend(header));
    message_ = LEVADA_MESSAGE_INIT;
    if (message.payload) {
      message_.payload = bytes_of(*message.payload);
      message_.payload_len = message.payload->size();
    }
    if (message.key) {
      message_.key = bytes_of(*message.key);
      message_.key_len = message.key->size();
    }
    message_.headers = headers_.data();
    message_.header_count = headers_.size();
    if (message.timestamp) {
      message_.flags |= LEVADA_MESSAGE_HAS_TIMESTAMP;
      message_.timestamp_us = message.timestamp->count();
    }
    if (message.id) message_.id = message.id->data();
    if (message.partition) {
      message_.flags |= LEVADA_MESSAGE_HAS_PARTITION;
      message_.partition = *message.partition;
    }
    if (message.sequence) {
      message_.flags |= LEVADA_MESSAGE_HAS_SEQUENCE;
      message_.sequence = *message.sequence;
    }
  }
  const levada_message_t *get() const noexcept { return &message_; }

 private:
  std::vector<levada_header_t> headers_;
  levada_message_t message_;
};

using OwnedReceipts = Owned<levada_receipts_t, levada_receipts_free>;

inline std::vector<Receipt> read(const levada_receipts_t *receipts) {
  std::vector<Receipt> read;
  levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
  for (std::size_t i = 0; i < levada_receipts_count(receipts); i++) {
    check([&](auto err) { return levada_receipts_at(receipts, i, &receipt, err); });
    read.emplace_back(receipt);
  }
  return read;
}

}  // namespace detail

// A received message; lives as long as its batch.
class MessageView {
 public:
  MessageView(const levada_batch_t *batch, std::size_t index) : batch_(batch), index_(index), view_(LEVADA_MESSAGE_VIEW_INIT) {
    detail::check([&](auto err) { return levada_batch_get(batch_, index_, &view_, err); });
  }
  std::string_view topic() const noexcept { return detail::view(view_.topic); }
  std::uint32_t partition() const noexcept { return view_.partition; }
  std::uint64_t offset() const noexcept { return view_.offset; }
  // Since the Unix epoch.
  std::chrono::microseconds timestamp() const noexcept { return std::chrono::microseconds(view_.timestamp_us); }
  std::chrono::microseconds append_time() const noexcept { return std::chrono::microseconds(view_.append_time_us); }
  // What it says; empty where it is absent, see has_payload.
  std::string_view payload() const noexcept { return detail::view(view_.payload); }
  bool has_payload() const noexcept { return view_.payload.data != nullptr; }
  std::optional<std::string_view> key() const noexcept {
    return view_.key.data == nullptr ? std::nullopt : std::optional<std::string_view>(detail::view(view_.key));
  }
  std::optional<std::array<std::uint8_t, 16>> id() const {
    if (view_.id == nullptr) return std::nullopt;
    std::array<std::uint8_t, 16> id;
    std::memcpy(id.data(), view_.id, id.size());
    return id;
  }
  std::vector<Header> headers() const {
    std::vector<Header> headers;
    levada_header_t header = LEVADA_HEADER_INIT;
    for (std::size_t i = 0; i < levada_batch_header_count(batch_, index_); i++) {
      detail::check([&](auto err) { return levada_batch_header(batch_, index_, i, &header, err); });
      headers.push_back(read(header));
    }
    return headers;
  }

 private:
  static Header read(const levada_header_t &header) {
    std::string name(header.name, header.name_len);
    switch (header.kind) {
      case LEVADA_HEADER_STRING:
        return {name, std::string(reinterpret_cast<const char *>(header.data), header.len)};
      case LEVADA_HEADER_BYTES: return {name, Bytes(header.data, header.data + header.len)};
      case LEVADA_HEADER_BOOL: return {name, header.boolean != 0};
      case LEVADA_HEADER_I64: return {name, header.i64};
      case LEVADA_HEADER_U64: return {name, header.u64};
      default: return {name, header.f64};
    }
  }
  const levada_batch_t *batch_;
  std::size_t index_;
  levada_message_view_t view_;
};

// Messages received together: for (levada::MessageView message : batch).
class Batch {
 public:
  explicit Batch(levada_batch_t *batch) noexcept : batch_(batch) {}

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = MessageView;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = MessageView;
    Iterator(const levada_batch_t *batch, std::size_t index) noexcept : batch_(batch), index_(index) {}
    MessageView operator*() const { return MessageView(batch_, index_); }
    Iterator &operator++() noexcept {
      index_++;
      return *this;
    }
    bool operator==(const Iterator &other) const noexcept { return index_ == other.index_; }
    bool operator!=(const Iterator &other) const noexcept { return index_ != other.index_; }

   private:
    const levada_batch_t *batch_;
    std::size_t index_;
  };

  std::size_t size() const { return levada_batch_count(batch_.get()); }
  bool empty() const { return size() == 0; }
  // Whether more may be ready: take again before waiting.
  bool more() const { return levada_batch_more(batch_.get()); }
  // Whether the end asked for by until_end is reached.
  bool finished() const { return levada_batch_finished(batch_.get()); }
  MessageView operator[](std::size_t index) const { return MessageView(batch_.get(), index); }
  Iterator begin() const noexcept { return Iterator(batch_.get(), 0); }
  Iterator end() const { return Iterator(batch_.get(), size()); }
  const levada_batch_t *get() const noexcept { return batch_.get(); }

 private:
  detail::Owned<levada_batch_t, levada_batch_free> batch_;
};

// ---------------------------------------------------------------- queues

class Client;
class Producer;
class Consumer;
class Delivery;

// Something a program asked to hear of.
class Event {
 public:
  explicit Event(levada_event_t *event) noexcept : event_(event) {}
  std::int32_t kind() const { return levada_event_kind(event_.get()); }
  std::uint64_t token() const { return levada_event_token(event_.get()); }
  // Throws the error of the call, if there is one.
  void check() const {
    if (const levada_error_t *error = levada_event_error(event_.get())) detail::raise(error);
  }
  std::uint64_t producer_id() const { return levada_event_producer(event_.get()); }
  // The tokens of an acknowledged batch, in order.
  std::vector<std::uint64_t> tokens() const {
    const std::uint64_t *tokens = levada_event_tokens(event_.get());
    return std::vector<std::uint64_t>(tokens, tokens + levada_event_token_count(event_.get()));
  }
  Receipt receipt() const {
    check();
    levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
    detail::check([&](auto err) { return levada_event_receipt(event_.get(), &receipt, err); });
    return Receipt(receipt);
  }
  std::vector<Receipt> receipts() {
    check();
    detail::OwnedReceipts receipts(levada_event_take_receipts(event_.get()));
    return detail::read(receipts.get());
  }
  Value value() {
    check();
    return Value(levada_event_take_value(event_.get()));
  }
  inline Client client();
  inline Producer producer();
  inline Consumer consumer();
  inline Delivery delivery();

 private:
  detail::Owned<levada_event_t, levada_event_free> event_;
};

// Where outcomes of submitted calls go: one for each loop of the program.
class Queue {
 public:
  Queue() {
    levada_queue_t *queue = nullptr;
    detail::check([&](auto err) { return levada_queue_new(&queue, err); });
    queue_.reset(queue);
  }
  // Readable while events wait; owned by the queue.
  int fd() const { return levada_queue_fd(queue_.get()); }
  // The oldest event; nothing when the time has passed.
  std::optional<Event> poll(Timeout timeout = Timeout::infinite()) {
    levada_event_t *event = nullptr;
    detail::check([&](auto err) { return levada_queue_poll(queue_.get(), timeout.ms(), &event, err); });
    return event == nullptr ? std::nullopt : std::optional<Event>(Event(event));
  }
  const levada_queue_t *get() const noexcept { return queue_.get(); }

 private:
  detail::Owned<levada_queue_t, levada_queue_free> queue_;
};

// A call under way; what it comes to goes to its queue in any case.
class Operation {
 public:
  explicit Operation(levada_operation_t *operation = nullptr) noexcept : operation_(operation) {}
  void cancel() {
    detail::check([&](auto err) { return levada_operation_cancel(operation_.get(), err); });
  }

 private:
  detail::Owned<levada_operation_t, levada_operation_free> operation_;
};

namespace detail {

template <class Call>
Operation submit(Call &&call) {
  levada_operation_t *operation = nullptr;
  check([&](levada_error_t **err) { return call(&operation, err); });
  return Operation(operation);
}

}  // namespace detail

// Ends blocking calls from another thread, or from a signal handler.
class Interrupt {
 public:
  Interrupt() : interrupt_(levada_interrupt_new()) {}
  void raise() noexcept { levada_interrupt_raise(interrupt_.get()); }
  void clear() noexcept { levada_interrupt_clear(interrupt_.get()); }
  const levada_interrupt_t *get() const noexcept { return interrupt_.get(); }

 private:
  detail::Owned<levada_interrupt_t, levada_interrupt_free> interrupt_;
};

// While it lives, blocking calls of its thread end with CancelledError once the interrupt is raised.
class InterruptScope {
 public:
  explicit InterruptScope(const Interrupt &interrupt) { use(interrupt.get()); }
  ~InterruptScope() { levada_interrupt_use(nullptr, nullptr); }
  InterruptScope(const InterruptScope &) = delete;
  InterruptScope &operator=(const InterruptScope &) = delete;

 private:
  static void use(const levada_interrupt_t *interrupt) {
    detail::check([&](auto err) { return levada_interrupt_use(interrupt, err); });
  }
};

// ---------------------------------------------------------------- producers

// The acknowledgement of one enqueued message, to come.
class Delivery {
 public:
  explicit Delivery(levada_delivery_t *delivery) noexcept : delivery_(delivery) {}
  Receipt wait(Timeout timeout = {}) const {
    levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
    detail::check([&](auto err) { return levada_delivery_wait(delivery_.get(), timeout.ms(), &receipt, err); });
    return Receipt(receipt);
  }
  // The receipt, if it is there.
  std::optional<Receipt> try_wait() const {
    levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
    bool settled = false;
    detail::check([&](auto err) { return levada_delivery_try(delivery_.get(), &settled, &receipt, err); });
    return settled ? std::optional<Receipt>(receipt) : std::nullopt;
  }
  Operation wait_submit(const Queue &queue, std::uint64_t token) const {
    return detail::submit(
        [&](auto out, auto err) { return levada_delivery_wait_submit(delivery_.get(), queue.get(), token, out, err); });
  }

 private:
  detail::Owned<levada_delivery_t, levada_delivery_free> delivery_;
};

// A producer to one topic, for all threads.
class Producer {
 public:
  explicit Producer(levada_producer_t *producer) noexcept : producer_(producer) {}
  std::uint64_t id() const { return levada_producer_id(producer_.get()); }
  std::string_view topic() const { return levada_producer_topic(producer_.get()); }
  std::uint32_t partition_count() const { return levada_producer_partition_count(producer_.get()); }

  // Sends one message and waits for its acknowledgement.
  Receipt send(const Message &message, Timeout timeout = {}) const {
    levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
    const detail::Lent lent(message);
    detail::check([&](auto err) { return levada_producer_send(producer_.get(), lent.get(), timeout.ms(), &receipt, err); });
    return Receipt(receipt);
  }
  // Copies one message into the open batch; waits only while the buffer is full.
  Delivery enqueue(const Message &message, Timeout timeout = {}) const {
    levada_delivery_t *delivery = nullptr;
    const detail::Lent lent(message);
    detail::check(
        [&](auto err) { return levada_producer_enqueue(producer_.get(), lent.get(), timeout.ms(), &delivery, err); });
    return Delivery(delivery);
  }
  // Takes one message without waiting, or throws QuotaError; its acknowledgement comes to the producer's queue.
  void try_send(const Message &message, std::uint64_t token) const {
    const detail::Lent lent(message);
    detail::check([&](auto err) { return levada_producer_try_send(producer_.get(), lent.get(), token, err); });
  }
  // Sends many messages and waits for their acknowledgements.
  std::vector<Receipt> send_batch(const std::vector<Message> &messages, Timeout timeout = {}) const {
    std::vector<detail::Lent> lent;
    std::vector<levada_message_t> list;
    lent.reserve(messages.size());
    for (const Message &message : messages) list.push_back(*lent.emplace_back(message).get());
    levada_receipts_t *receipts = nullptr;
    detail::check([&](auto err) {
      return levada_producer_send_batch(producer_.get(), list.data(), list.size(), timeout.ms(), &receipts, err);
    });
    return detail::read(detail::OwnedReceipts(receipts).get());
  }
  // The same for payloads that lie one after the other, with those lengths: the fast path.
  std::vector<Receipt> send_packed(std::string_view payloads, const std::vector<std::uint32_t> &lengths,
                                   Timeout timeout = {}) const {
    levada_receipts_t *receipts = nullptr;
    detail::check([&](auto err) {
      return levada_producer_send_packed(producer_.get(), detail::bytes_of(payloads), payloads.size(), lengths.data(),
                                         lengths.size(), timeout.ms(), &receipts, err);
    });
    return detail::read(detail::OwnedReceipts(receipts).get());
  }
  Operation send_submit(const Message &message, const Queue &queue, std::uint64_t token) const {
    const detail::Lent lent(message);
    return detail::submit([&](auto out, auto err) {
      return levada_producer_send_submit(producer_.get(), lent.get(), queue.get(), token, out, err);
    });
  }
  // Waits until everything handed over before is settled.
  void flush(Timeout timeout = {}) const {
    detail::check([&](auto err) { return levada_producer_flush(producer_.get(), timeout.ms(), err); });
  }
  // Takes no more messages and waits until those taken are settled.
  void close(Timeout timeout = {}) const {
    detail::check([&](auto err) { return levada_producer_close(producer_.get(), timeout.ms(), err); });
  }

 private:
  detail::Owned<levada_producer_t, levada_producer_free> producer_;
};

// ---------------------------------------------------------------- consumers

// How far a partition is done: the offset of the next message to be read.
struct PartitionOffset {
  std::string topic;
  std::uint32_t partition = 0;
  std::uint64_t offset = 0;
};

// A consumer. One receive at a time.
class Consumer {
 public:
  explicit Consumer(levada_consumer_t *consumer) noexcept : consumer_(consumer) {}
  std::string_view topic() const { return levada_consumer_topic(consumer_.get()); }
  std::vector<std::uint32_t> partitions() const {
    std::vector<std::uint32_t> partitions(4096);
    std::size_t count = 0;
    detail::check([&](auto err) {
      return levada_consumer_partitions(consumer_.get(), partitions.data(), partitions.size(), &count, err);
    });
    partitions.resize(count < partitions.size() ? count : partitions.size());
    return partitions;
  }

  // Waits for the next message: a batch of one; of none at the end asked for by until_end.
  Batch receive(Timeout timeout = {}) const {
    levada_batch_t *batch = nullptr;
    detail::check([&](auto err) { return levada_consumer_receive(consumer_.get(), timeout.ms(), &batch, err); });
    return Batch(batch);
  }
  // Waits for messages; none when the time has passed or the end is reached.
  Batch receive_batch(Timeout timeout = {}, std::size_t max_messages = LEVADA_MAX_MESSAGES_DEFAULT,
                      std::size_t max_bytes = LEVADA_MAX_BYTES_DEFAULT) const {
    levada_batch_t *batch = nullptr;
    detail::check([&](auto err) {
      return levada_consumer_receive_batch(consumer_.get(), max_messages, max_bytes, timeout.ms(), &batch, err);
    });
    return Batch(batch);
  }
  // Announces once, in the queue, that there is something to take.
  void arm(const Queue &queue, std::uint64_t token) const {
    detail::check([&](auto err) { return levada_consumer_arm(consumer_.get(), queue.get(), token, err); });
  }
  void disarm() const {
    detail::check([&](auto err) { return levada_consumer_disarm(consumer_.get(), err); });
  }
  // What is ready, without waiting.
  Batch take(std::size_t max_messages = LEVADA_MAX_MESSAGES_DEFAULT, std::size_t max_bytes = LEVADA_MAX_BYTES_DEFAULT) const {
    levada_batch_t *batch = nullptr;
    detail::check([&](auto err) { return levada_consumer_take(consumer_.get(), max_messages, max_bytes, &batch, err); });
    return Batch(batch);
  }
  // To another position: earliest, latest, offset(5), timestamp(...), last(3). Here and below `topic` is needed only where the
  // consumer reads that partition of several topics.
  void seek(std::uint32_t partition, const std::string &position, const OptionalText &topic = std::nullopt) const {
    detail::check([&](auto err) {
      return levada_consumer_seek(consumer_.get(), detail::text(topic), partition, position.c_str(), err);
    });
  }
  void seek(std::uint32_t partition, std::uint64_t offset, const OptionalText &topic = std::nullopt) const {
    detail::check([&](auto err) {
      return levada_consumer_seek_offset(consumer_.get(), detail::text(topic), partition, offset, err);
    });
  }
  // Offset of the next message to be handed out; nothing until the server has told what the start came to.
  std::optional<std::uint64_t> position(std::uint32_t partition, const OptionalText &topic = std::nullopt) const {
    std::uint64_t offset = 0;
    bool known = false;
    detail::check([&](auto err) {
      return levada_consumer_position(consumer_.get(), detail::text(topic), partition, &offset, &known, err);
    });
    return known ? std::optional<std::uint64_t>(offset) : std::nullopt;
  }
  void pause(std::uint32_t partition, const OptionalText &topic = std::nullopt) const {
    detail::check(
        [&](auto err) { return levada_consumer_pause(consumer_.get(), detail::text(topic), partition, err); });
  }
  void resume(std::uint32_t partition, const OptionalText &topic = std::nullopt) const {
    detail::check(
        [&](auto err) { return levada_consumer_resume(consumer_.get(), detail::text(topic), partition, err); });
  }

  // Stores how far the group is: everything handed out so far counts as done. Returns when it is durable.
  void commit(Timeout timeout = {}) const {
    detail::check([&](auto err) { return levada_consumer_commit(consumer_.get(), timeout.ms(), err); });
  }
  // Stores offsets of the caller's choice, all or none. They may go back only after a seek.
  void commit_offsets(const std::vector<PartitionOffset> &offsets, Timeout timeout = {}) const {
    std::vector<levada_partition_offset_t> raw;
    for (const PartitionOffset &offset : offsets) {
      raw.push_back(LEVADA_PARTITION_OFFSET_INIT);
      raw.back().topic = offset.topic.c_str();
      raw.back().partition = offset.partition;
      raw.back().offset = offset.offset;
    }
    detail::check([&](auto err) {
      return levada_consumer_commit_offsets(consumer_.get(), raw.data(), raw.size(), timeout.ms(), err);
    });
  }
  // The offset the group has stored for a partition, asked of the server.
  std::optional<std::uint64_t> committed(const std::string &topic, std::uint32_t partition, Timeout timeout = {}) const {
    std::uint64_t offset = 0;
    bool known = false;
    detail::check([&](auto err) {
      return levada_consumer_committed(consumer_.get(), topic.c_str(), partition, timeout.ms(), &offset, &known, err);
    });
    return known ? std::optional<std::uint64_t>(offset) : std::nullopt;
  }
  // The partitions it reads now: a list of TopicPartition.
  Value assignments() const {
    levada_value_t *value = nullptr;
    detail::check([&](auto err) { return levada_consumer_assignments(consumer_.get(), &value, err); });
    return Value(value);
  }
  // The next change of what it reads, an AssignmentChange; a value of none when the time has passed.
  Value next_change(Timeout timeout = {}) const {
    levada_value_t *value = nullptr;
    detail::check([&](auto err) { return levada_consumer_next_change(consumer_.get(), timeout.ms(), &value, err); });
    return Value(value);
  }
  void close(Timeout timeout = {}) const {
    detail::check([&](auto err) { return levada_consumer_close(consumer_.get(), timeout.ms(), err); });
  }

 private:
  detail::Owned<levada_consumer_t, levada_consumer_free> consumer_;
};

// ---------------------------------------------------------------- clients

// A client: connections to a server, repaired by themselves. Made once, for all threads.
class Client {
 public:
  // Connects and authenticates; without options, as the environment says.
  explicit Client(const Options &options = {}, Timeout timeout = {}) {
    levada_client_t *client = nullptr;
    detail::check([&](auto err) { return levada_client_open(options.get(), timeout.ms(), &client, err); });
    client_.reset(client);
  }
  // To a server, with what else the environment says.
  explicit Client(const std::string &server) : Client(Options{{"server", server}}) {}
  explicit Client(const char *server) : Client(Options{{"server", server}}) {}
  // Takes over a client of levada.h.
  explicit Client(levada_client_t *client) noexcept : client_(client) {}

  static Operation open_submit(const Options &options, const Queue &queue, std::uint64_t token) {
    return detail::submit(
        [&](auto out, auto err) { return levada_client_open_submit(options.get(), queue.get(), token, out, err); });
  }

  // Lets every producer settle what it has taken, then ends everything made from this client.
  void close(Timeout timeout = {}) const {
    detail::check([&](auto err) { return levada_client_close(client_.get(), timeout.ms(), err); });
  }
  // The time a sign of life took.
  std::chrono::microseconds ping(Timeout timeout = {}) const {
    std::int64_t took = 0;
    detail::check([&](auto err) { return levada_client_ping(client_.get(), timeout.ms(), &took, err); });
    return std::chrono::microseconds(took);
  }
  Value server_info() const {
    return value([&](auto out, auto err) { return levada_client_server_info(client_.get(), out, err); });
  }

  // A producer; acknowledgements of its try_send go to `acks`.
  Producer producer(const std::string &topic, const Options &options = {}, const Queue *acks = nullptr) const {
    levada_producer_t *producer = nullptr;
    const levada_queue_t *queue = acks == nullptr ? nullptr : acks->get();
    detail::check([&](auto err) {
      return levada_producer_open(client_.get(), topic.c_str(), options.get(), queue, &producer, err);
    });
    return Producer(producer);
  }
  Consumer consumer(const std::string &topic, const Options &options = {}) const {
    levada_consumer_t *consumer = nullptr;
    detail::check(
        [&](auto err) { return levada_consumer_open(client_.get(), topic.c_str(), options.get(), &consumer, err); });
    return Consumer(consumer);
  }
  // A consumer that is a member of a group and reads its share of `topics`, with * for any run of characters but /.
  Consumer group_consumer(const std::string &group, const std::vector<std::string> &topics, const Options &options = {}) const {
    levada_consumer_t *consumer = nullptr;
    const auto texts = detail::pointers(topics);
    detail::check([&](auto err) {
      return levada_group_open(client_.get(), group.c_str(), texts.data(), texts.size(), options.get(), &consumer, err);
    });
    return Consumer(consumer);
  }

  // A control call by its name in docs/reference/api.md.
  Value call(const char *name, const Options &arguments = {}, Timeout timeout = {}) const {
    return value([&](auto out, auto err) {
      return levada_client_call(client_.get(), name, arguments.get(), timeout.ms(), out, err);
    });
  }
  Value create_stream(const std::string &stream) const {
    return value([&](auto out, auto err) { return levada_stream_create(client_.get(), stream.c_str(), out, err); });
  }
  std::uint64_t delete_stream(const std::string &stream, bool topics = false) const {
    auto answer =
        value([&](auto out, auto err) { return levada_stream_delete(client_.get(), stream.c_str(), topics, out, err); });
    return answer.view().u64();
  }
  Value list_streams() const {
    return value([&](auto out, auto err) { return levada_stream_list(client_.get(), out, err); });
  }
  Value describe_stream(const std::string &stream) const {
    return value([&](auto out, auto err) { return levada_stream_describe(client_.get(), stream.c_str(), out, err); });
  }
  Value create_topic(const std::string &topic, const Options &options = {}) const {
    return value(
        [&](auto out, auto err) { return levada_topic_create(client_.get(), topic.c_str(), options.get(), out, err); });
  }
  Value alter_topic(const std::string &topic, const Options &changes) const {
    return value(
        [&](auto out, auto err) { return levada_topic_alter(client_.get(), topic.c_str(), changes.get(), out, err); });
  }
  void delete_topic(const std::string &topic) const {
    value([&](auto out, auto err) { return levada_topic_delete(client_.get(), topic.c_str(), out, err); });
  }
  void purge_topic(const std::string &topic) const {
    value([&](auto out, auto err) { return levada_topic_purge(client_.get(), topic.c_str(), out, err); });
  }
  Value list_topics(const std::optional<std::string> &stream = std::nullopt) const {
    return value([&](auto out, auto err) { return levada_topic_list(client_.get(), text(stream), out, err); });
  }
  Value describe_topic(const std::string &topic) const {
    return value([&](auto out, auto err) { return levada_topic_describe(client_.get(), topic.c_str(), out, err); });
  }
  Value delete_messages(const std::string &partition, const std::string &before) const {
    return value([&](auto out, auto err) {
      return levada_topic_trim(client_.get(), partition.c_str(), before.c_str(), out, err);
    });
  }
  /// 0: the server decides.
  void set_segment_age(const std::string &topic, std::chrono::microseconds age) const {
    value([&](auto out, auto err) {
      return levada_topic_set_segment_age(client_.get(), topic.c_str(), static_cast<uint64_t>(age.count()), out, err);
    });
  }
  /// 0: none.
  void set_dedup_messages(const std::string &topic, uint32_t messages) const {
    value([&](auto out, auto err) {
      return levada_topic_set_dedup_messages(client_.get(), topic.c_str(), messages, out, err);
    });
  }
  Value producer_progress(const std::string &name, const std::string &partition) const {
    return value([&](auto out, auto err) {
      return levada_topic_producer_progress(client_.get(), name.c_str(), partition.c_str(), out, err);
    });
  }
  Value resolve_position(const std::string &partition, const std::string &position) const {
    return value([&](auto out, auto err) {
      return levada_position_resolve(client_.get(), partition.c_str(), position.c_str(), out, err);
    });
  }
  Value list_groups() const {
    return value([&](auto out, auto err) { return levada_group_list(client_.get(), out, err); });
  }
  Value describe_group(const std::string &group) const {
    return value([&](auto out, auto err) { return levada_group_describe(client_.get(), group.c_str(), out, err); });
  }
  void delete_group(const std::string &group) const {
    value([&](auto out, auto err) { return levada_group_delete(client_.get(), group.c_str(), out, err); });
  }
  // Of topics and patterns, or of all.
  Value group_offsets(const std::string &group, const std::vector<std::string> &topics = {}) const {
    const auto texts = detail::pointers(topics);
    return value([&](auto out, auto err) {
      return levada_group_offsets(client_.get(), group.c_str(), texts.data(), texts.size(), out, err);
    });
  }
  Value reset_offsets(const std::string &group, const std::vector<std::string> &topics, const std::string &position,
                      std::optional<std::uint32_t> partition = std::nullopt, bool dry_run = false) const {
    const auto texts = detail::pointers(topics);
    const std::int64_t which = partition ? static_cast<std::int64_t>(*partition) : LEVADA_ALL_PARTITIONS;
    return value([&](auto out, auto err) {
      return levada_group_reset_offsets(client_.get(), group.c_str(), texts.data(), texts.size(), which, position.c_str(),
                                        dry_run, out, err);
    });
  }
  Value create_user(const std::string &user, const std::string &password, const std::string &role,
                    const std::vector<std::string> &grants = {}) const {
    const auto given = detail::pointers(grants);
    return value([&](auto out, auto err) {
      return levada_user_create(client_.get(), user.c_str(), password.c_str(), role.c_str(), given.data(), given.size(), out, err);
    });
  }
  Value alter_user(const std::string &user, const std::optional<std::string> &password,
                   const std::optional<std::string> &role = std::nullopt) const {
    return value([&](auto out, auto err) {
      return levada_user_alter(client_.get(), user.c_str(), text(password), text(role), out, err);
    });
  }
  void delete_user(const std::string &user) const {
    value([&](auto out, auto err) { return levada_user_delete(client_.get(), user.c_str(), out, err); });
  }
  Value list_users() const {
    return value([&](auto out, auto err) { return levada_user_list(client_.get(), out, err); });
  }
  Value describe_user(const std::string &user) const {
    return value([&](auto out, auto err) { return levada_user_describe(client_.get(), user.c_str(), out, err); });
  }
  Value create_token(const std::string &name, const std::optional<std::string> &user = std::nullopt,
                     std::optional<std::chrono::microseconds> expires_at = std::nullopt,
                     const std::optional<std::vector<std::string>> &scope = std::nullopt) const {
    // An empty scope is one all the same; NULL is none.
    static const char *const nothing[] = {nullptr};
    const std::vector<std::string> texts = scope.value_or(std::vector<std::string>());
    const auto given = detail::pointers(texts);
    const char *const *bounds = given.empty() ? nothing : given.data();
    return value([&](auto out, auto err) {
      return levada_token_create(client_.get(), name.c_str(), text(user), expires_at ? expires_at->count() : 0,
                                 scope ? bounds : nullptr, given.size(), out, err);
    });
  }
  void delete_token(const std::string &name, const std::optional<std::string> &user = std::nullopt) const {
    value([&](auto out, auto err) { return levada_token_delete(client_.get(), name.c_str(), text(user), out, err); });
  }
  Value list_tokens(const std::optional<std::string> &user = std::nullopt) const {
    return value([&](auto out, auto err) { return levada_token_list(client_.get(), text(user), out, err); });
  }
  void set_access(const std::string &user, const std::vector<std::string> &roles,
                  const std::vector<std::string> &grants) const {
    const auto given_roles = detail::pointers(roles), given = detail::pointers(grants);
    value([&](auto out, auto err) {
      return levada_access_set(client_.get(), user.c_str(), given_roles.data(), given_roles.size(), given.data(), given.size(),
                               out, err);
    });
  }
  Value describe_access(const std::optional<std::string> &user = std::nullopt) const {
    return value([&](auto out, auto err) { return levada_access_describe(client_.get(), text(user), out, err); });
  }
  void set_role(const std::string &role, const std::vector<std::string> &grants) const {
    const auto given = detail::pointers(grants);
    value([&](auto out, auto err) {
      return levada_role_set(client_.get(), role.c_str(), given.data(), given.size(), out, err);
    });
  }
  void delete_role(const std::string &role) const {
    value([&](auto out, auto err) { return levada_role_delete(client_.get(), role.c_str(), out, err); });
  }
  Value list_roles() const {
    return value([&](auto out, auto err) { return levada_role_list(client_.get(), out, err); });
  }
  void set_quota(const std::string &user, const Options &quota) const {
    value([&](auto out, auto err) { return levada_quota_set(client_.get(), user.c_str(), quota.get(), out, err); });
  }
  Value describe_quota(const std::optional<std::string> &user = std::nullopt) const {
    return value([&](auto out, auto err) { return levada_quota_describe(client_.get(), text(user), out, err); });
  }
  Value status() const {
    return value([&](auto out, auto err) { return levada_status(client_.get(), out, err); });
  }

 private:
  template <class Call>
  static Value value(Call &&call) {
    levada_value_t *value = nullptr;
    detail::check([&](levada_error_t **err) { return call(&value, err); });
    return Value(value);
  }
  static const char *text(const OptionalText &text) { return detail::text(text); }

  detail::Owned<levada_client_t, levada_client_free> client_;
};

inline Client Event::client() {
  check();
  return Client(levada_event_take_client(event_.get()));
}
inline Producer Event::producer() {
  check();
  return Producer(levada_event_take_producer(event_.get()));
}
inline Consumer Event::consumer() {
  check();
  return Consumer(levada_event_take_consumer(event_.get()));
}
inline Delivery Event::delivery() {
  check();
  return Delivery(levada_event_take_delivery(event_.get()));
}

// Live handles of this process: {clients, producers, consumers, operations, queues}.
inline Value stats() {
  levada_value_t *value = nullptr;
  detail::check([&](auto err) { return levada_stats(&value, err); });
  return Value(value);
}

inline std::string version() { return levada_version_string(); }

}  // namespace levada

#endif
