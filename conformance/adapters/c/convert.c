/* See convert.h. */
#include "convert.h"

#include <stdlib.h>
#include <string.h>

#include "sha256.h"

/* 64-bit numbers cross as decimal text: these options are such numbers. */
static const char *const NUMBERS[] = {"batch_bytes",    "batch_messages",  "max_in_flight", "max_buffered_bytes", "commit_messages",
                                      "prefetch_bytes", "retention_bytes", "segment_bytes", "expires_at_us",
                                      "bytes_in",       "bytes_out",       "segment_age_us"};

static bool is_one_of(const char *name, const char *const *list, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(name, list[i]) == 0) return true;
  return false;
}

static int32_t set_number(levada_options_t *options, const char *name, const json_t *json) {
  int64_t number;
  uint64_t large;
  if (json_int(json, &number)) return levada_options_set_int(options, name, number, NULL);
  if (json_uint(json, &large)) return levada_options_set_uint(options, name, large, NULL);
  if (json->kind == JSON_NUMBER) return levada_options_set_double(options, name, strtod(json->text, NULL), NULL);
  return levada_options_set_text(options, name, json->text, NULL);
}

static bool is_by_partition(const json_t *json) {
  for (size_t i = 0; i < json->count; i++)
    if (json->items[i].kind != JSON_TEXT || strspn(json->names[i], "0123456789") != strlen(json->names[i])) return false;
  return true;
}

static int32_t set_object(levada_options_t *options, const char *name, const json_t *json) {
  int32_t code = 0;
  if (strcmp(name, "partition_from") == 0 && is_by_partition(json)) {
    for (size_t i = 0; i < json->count && code == 0; i++)
      code = levada_options_set_partition_position(options, name, (uint32_t)strtoul(json->names[i], NULL, 10),
                                                   json->items[i].text, NULL);
    return code;
  }
  levada_options_t *inner = convert_options(json);
  if (inner == NULL) return 1;
  code = levada_options_set_options(options, name, inner, NULL);
  levada_options_free(inner);
  return code;
}

const char **texts_of(const json_t *json) {
  const char **texts = calloc((json == NULL ? 0 : json->count) + 1, sizeof *texts);
  if (texts == NULL) abort();
  for (size_t i = 0; json != NULL && i < json->count; i++) texts[i] = json_text(&json->items[i]);
  return texts;
}

static int32_t set_list(levada_options_t *options, const char *name, const json_t *json) {
  if (strcmp(name, "partitions") != 0) {
    const char **texts = texts_of(json);
    int32_t code = levada_options_set_texts(options, name, texts, json->count, NULL);
    free(texts);
    return code;
  }
  uint32_t *partitions = malloc((json->count + 1) * sizeof *partitions);
  bool is_read = partitions != NULL;
  for (size_t i = 0; i < json->count && is_read; i++) {
    uint64_t number;
    is_read = json_uint(&json->items[i], &number) && number <= UINT32_MAX;
    if (is_read) partitions[i] = (uint32_t)number;
  }
  int32_t code = is_read ? levada_options_set_partitions(options, name, partitions, json->count, NULL) : 1;
  free(partitions);
  return code;
}

static int32_t set(levada_options_t *options, const char *name, const json_t *json) {
  switch (json->kind) {
    case JSON_NULL:
      return 0;
    case JSON_BOOL:
      return levada_options_set_bool(options, name, json->boolean, NULL);
    case JSON_NUMBER:
      return set_number(options, name, json);
    case JSON_TEXT:
      if (is_one_of(name, NUMBERS, sizeof NUMBERS / sizeof *NUMBERS)) return set_number(options, name, json);
      return levada_options_set_text(options, name, json->text, NULL);
    case JSON_LIST:
      return set_list(options, name, json);
    case JSON_OBJECT:
      return set_object(options, name, json);
  }
  return 1;
}

levada_options_t *convert_options(const json_t *json) {
  levada_options_t *options = levada_options_new();
  for (size_t i = 0; json != NULL && i < json->count; i++) {
    if (json->kind == JSON_OBJECT && set(options, json->names[i], &json->items[i]) == 0) continue;
    levada_options_free(options);
    return NULL;
  }
  return options;
}

static void put_word(uint8_t *to, size_t len, size_t at, uint64_t word) {
  for (size_t i = 0; i < 8 && at + i < len; i++) to[at + i] = (uint8_t)(word >> (8 * i));
}

static bool generate(const json_t *json, uint64_t step, uint8_t **bytes, size_t *len) {
  uint64_t size, index = 0, seed = 0;
  const char *kind = json_text(json_get(json, "gen"));
  const json_t *given_index = json_get(json, "index"), *given_seed = json_get(json, "seed");
  if (kind == NULL || !json_uint(json_get(json, "size"), &size) || size > (1u << 30)) return false;
  if (!json_is_absent(given_index) && !json_uint(given_index, &index)) return false;
  if (!json_is_absent(given_seed) && !json_uint(given_seed, &seed)) return false;
  index += step;
  *len = (size_t)size;
  *bytes = calloc(*len + 1, 1);
  if (*bytes == NULL || strcmp(kind, "zeros") == 0) return *bytes != NULL;
  bool is_random = strcmp(kind, "random") == 0;
  if (!is_random && strcmp(kind, "seq") != 0) {
    free(*bytes);
    return false;
  }
  uint64_t state = seed + index * 0xD1B54A32D192ED03u;
  for (size_t at = 0; at < *len; at += 8) {
    uint64_t word = index + at / 8;
    if (is_random) {
      state += 0x9E3779B97F4A7C15u;
      word = state;
      word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
      word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
      word ^= word >> 31;
    }
    put_word(*bytes, *len, at, word);
  }
  return true;
}

bool convert_bytes(const json_t *json, uint64_t step, uint8_t **bytes, size_t *len) {
  *bytes = NULL;
  *len = 0;
  if (json_is_absent(json)) return true;
  if (json->kind == JSON_OBJECT) return generate(json, step, bytes, len);
  const char *text = json_text(json);
  return text != NULL && (*bytes = base64_decode(text, len)) != NULL;
}

static bool convert_header(levada_header_t *header, const json_t *json, uint64_t step) {
  const char *name = json_text(json_get(json, "name")), *type = json_text(json_get(json, "type"));
  const json_t *value = json_get(json, "value");
  *header = LEVADA_HEADER_INIT;
  if (name == NULL || type == NULL || value == NULL) return false;
  header->name = strdup(name);
  header->name_len = strlen(name);
  if (strcmp(type, "string") == 0) {
    header->kind = LEVADA_HEADER_STRING;
    if (json_text(value) == NULL) return false;
    header->data = (const uint8_t *)strdup(value->text);
    header->len = value->len;
    return true;
  }
  if (strcmp(type, "bytes") == 0) {
    header->kind = LEVADA_HEADER_BYTES;
    return convert_bytes(value, step, (uint8_t **)&header->data, &header->len) && header->data != NULL;
  }
  if (strcmp(type, "bool") == 0) {
    header->kind = LEVADA_HEADER_BOOL;
    header->boolean = value->boolean;
    return value->kind == JSON_BOOL;
  }
  if (strcmp(type, "i64") == 0) {
    header->kind = LEVADA_HEADER_I64;
    return json_int(value, &header->i64);
  }
  if (strcmp(type, "u64") == 0) {
    header->kind = LEVADA_HEADER_U64;
    return json_uint(value, &header->u64);
  }
  header->kind = LEVADA_HEADER_F64;
  return strcmp(type, "f64") == 0 && json_text(value) != NULL && f64_decode(value->text, &header->f64);
}

static bool convert_one(levada_message_t *message, const json_t *json, uint64_t step) {
  const json_t *headers = json_get(json, "headers"), *timestamp = json_get(json, "timestamp_us");
  const json_t *partition = json_get(json, "partition"), *sequence = json_get(json, "sequence");
  uint64_t number;
  size_t id_len;
  if (!convert_bytes(json_get(json, "payload"), step, (uint8_t **)&message->payload, &message->payload_len)) return false;
  if (!convert_bytes(json_get(json, "key"), step, (uint8_t **)&message->key, &message->key_len)) return false;
  if (!convert_bytes(json_get(json, "id"), step, (uint8_t **)&message->id, &id_len)) return false;
  if (message->id != NULL && id_len != 16) return false;
  if (!json_is_absent(timestamp)) {
    message->flags |= LEVADA_MESSAGE_HAS_TIMESTAMP;
    if (!json_int(timestamp, &message->timestamp_us)) return false;
  }
  if (!json_is_absent(partition)) {
    if (!json_uint(partition, &number) || number > UINT32_MAX) return false;
    message->flags |= LEVADA_MESSAGE_HAS_PARTITION;
    message->partition = (uint32_t)number;
  }
  if (!json_is_absent(sequence)) {
    message->flags |= LEVADA_MESSAGE_HAS_SEQUENCE;
    if (!json_uint(sequence, &message->sequence)) return false;
  }
  if (json_is_absent(headers) || headers->count == 0) return true;
  levada_header_t *list = calloc(headers->count, sizeof *list);
  if (list == NULL) return false;
  message->headers = list;
  for (size_t i = 0; i < headers->count; i++) {
    message->header_count = i + 1;
    if (!convert_header(&list[i], &headers->items[i], step)) return false;
  }
  return true;
}

bool convert_message(messages_t *messages, const json_t *json) {
  uint64_t count = 1;
  const json_t *given = json_get(json, "count");
  if (json == NULL || json->kind != JSON_OBJECT) return false;
  if (!json_is_absent(given) && (!json_uint(given, &count) || count > 10000000)) return false;
  for (uint64_t step = 0; step < count; step++) {
    if (messages->count == messages->capacity) {
      messages->capacity = messages->capacity == 0 ? 16 : messages->capacity * 2;
      messages->list = realloc(messages->list, messages->capacity * sizeof *messages->list);
      if (messages->list == NULL) abort();
    }
    levada_message_t *message = &messages->list[messages->count++];
    *message = LEVADA_MESSAGE_INIT;
    if (!convert_one(message, json, step)) return false;
  }
  return true;
}

void messages_free(messages_t *messages) {
  for (size_t i = 0; i < messages->count; i++) {
    levada_message_t *message = &messages->list[i];
    for (size_t k = 0; k < message->header_count; k++) {
      free((void *)message->headers[k].name);
      free((void *)message->headers[k].data);
    }
    free((void *)message->headers);
    free((void *)message->payload);
    free((void *)message->key);
    free((void *)message->id);
  }
  free(messages->list);
  memset(messages, 0, sizeof *messages);
}

void reply_value(writer_t *out, const levada_value_t *value) {
  size_t count = levada_value_count(value);
  switch (levada_value_kind(value)) {
    case LEVADA_KIND_BOOL:
      write_bool(out, levada_value_bool(value));
      break;
    case LEVADA_KIND_I64:
      write_int(out, levada_value_i64(value));
      break;
    case LEVADA_KIND_U64:
      write_uint(out, levada_value_u64(value));
      break;
    case LEVADA_KIND_F64:
      write_f64(out, levada_value_f64(value));
      break;
    case LEVADA_KIND_TEXT:
      write_text(out, levada_value_text(value));
      break;
    case LEVADA_KIND_BYTES:
      write_base64(out, levada_value_bytes(value).data, levada_value_bytes(value).len);
      break;
    case LEVADA_KIND_LIST:
      write_open(out, '[');
      for (size_t i = 0; i < count; i++) reply_value(out, levada_value_at(value, i));
      write_close(out, ']');
      break;
    case LEVADA_KIND_RECORD:
      write_open(out, '{');
      for (size_t i = 0; i < count; i++) {
        write_name(out, levada_value_name_at(value, i));
        reply_value(out, levada_value_at(value, i));
      }
      write_close(out, '}');
      break;
    default:
      write_raw(out, "null");
  }
}

void reply_result(writer_t *out, const levada_value_t *value) {
  int32_t kind = levada_value_kind(value);
  if (kind == LEVADA_KIND_RECORD) {
    reply_value(out, value);
    return;
  }
  write_open(out, '{');
  if (kind != LEVADA_KIND_NULL) {
    write_name(out, kind == LEVADA_KIND_LIST ? "items" : "value");
    reply_value(out, value);
  }
  write_close(out, '}');
}

void reply_error(writer_t *out, const levada_error_t *error, const char *const *native) {
  write_open(out, '{');
  write_name(out, "code");
  write_u32(out, (uint32_t)levada_error_code(error));
  write_name(out, "name");
  write_text(out, levada_error_name(error));
  write_name(out, "class");
  write_text(out, levada_error_class_name(error));
  write_name(out, "retriable");
  write_bool(out, levada_error_is_retriable(error));
  write_name(out, "maybe_applied");
  write_bool(out, levada_error_maybe_applied(error));
  write_name(out, "message");
  write_text(out, levada_error_message(error));
  write_name(out, "details");
  write_open(out, '{');
  for (size_t i = 0; i < levada_error_detail_count(error); i++) {
    write_name(out, levada_error_detail_name(error, i));
    write_text(out, levada_error_detail_value(error, i));
  }
  write_close(out, '}');
  write_name(out, "native");
  write_open(out, '[');
  for (; native != NULL && *native != NULL; native++) write_text(out, *native);
  write_close(out, ']');
  write_close(out, '}');
}

void reply_receipt(writer_t *out, const levada_receipt_t *receipt, bool is_batch) {
  static const char *const durabilities[] = {"memory", "disk", "quorum"};
  write_open(out, '{');
  write_name(out, "partition");
  write_u32(out, receipt->partition);
  write_name(out, is_batch ? "base_offset" : "offset");
  if (receipt->has_offset)
    write_uint(out, receipt->offset);
  else
    write_raw(out, "null");
  if (is_batch) {
    write_name(out, "message_count");
    write_u32(out, receipt->message_count);
  }
  write_name(out, "append_time_us");
  write_int(out, receipt->append_time_us);
  write_name(out, "durability");
  write_text(out, receipt->durability >= 0 && receipt->durability <= 2 ? durabilities[receipt->durability] : "");
  write_name(out, "duplicate");
  write_bool(out, receipt->duplicate);
  write_name(out, "server_encoded");
  write_bool(out, receipt->server_encoded);
  write_close(out, '}');
}

static void reply_header(writer_t *out, const levada_header_t *header) {
  static const char *const kinds[] = {"", "string", "bytes", "bool", "i64", "u64", "f64"};
  write_open(out, '{');
  write_name(out, "name");
  write_text_n(out, header->name, header->name_len);
  write_name(out, "type");
  write_text(out, header->kind >= 1 && header->kind <= 6 ? kinds[header->kind] : "");
  write_name(out, "value");
  switch (header->kind) {
    case LEVADA_HEADER_STRING:
      write_text_n(out, (const char *)header->data, header->len);
      break;
    case LEVADA_HEADER_BYTES:
      write_base64(out, header->data, header->len);
      break;
    case LEVADA_HEADER_BOOL:
      write_bool(out, header->boolean);
      break;
    case LEVADA_HEADER_I64:
      write_int(out, header->i64);
      break;
    case LEVADA_HEADER_U64:
      write_uint(out, header->u64);
      break;
    default:
      write_f64(out, header->f64);
  }
  write_close(out, '}');
}

void reply_message(writer_t *out, const levada_batch_t *batch, size_t index) {
  levada_message_view_t message = LEVADA_MESSAGE_VIEW_INIT;
  if (levada_batch_get(batch, index, &message, NULL) != 0) {
    write_raw(out, "null");
    return;
  }
  write_open(out, '{');
  write_name(out, "topic");
  write_text_n(out, (const char *)message.topic.data, message.topic.len);
  write_name(out, "partition");
  write_u32(out, message.partition);
  write_name(out, "offset");
  write_uint(out, message.offset);
  write_name(out, "timestamp_us");
  write_int(out, message.timestamp_us);
  write_name(out, "append_time_us");
  write_int(out, message.append_time_us);
  write_name(out, "payload");
  if (message.payload.data == NULL) {
    write_raw(out, "null");
  } else {
    char digest[65];
    sha256_hex(message.payload.data, message.payload.len, digest);
    write_open(out, '{');
    write_name(out, "length");
    write_uint(out, message.payload.len);
    write_name(out, "sha256");
    write_text(out, digest);
    write_name(out, "first");
    write_base64(out, message.payload.data, message.payload.len < 64 ? message.payload.len : 64);
    write_close(out, '}');
  }
  write_name(out, "key");
  write_base64(out, message.key.data, message.key.len);
  write_name(out, "id");
  write_base64(out, message.id, 16);
  write_name(out, "headers");
  write_open(out, '[');
  levada_header_t header = LEVADA_HEADER_INIT;
  for (size_t i = 0; levada_batch_header(batch, index, i, &header, NULL) == 0; i++) reply_header(out, &header);
  write_close(out, ']');
  write_close(out, '}');
}

const char *call_of(const char *operation) {
  static const char *const calls[][2] = {
      {"ping", "ping"},
      {"stream.create", "create_stream"},
      {"stream.delete", "delete_stream"},
      {"stream.list", "list_streams"},
      {"stream.describe", "describe_stream"},
      {"topic.create", "create_topic"},
      {"topic.alter", "alter_topic"},
      {"topic.delete", "delete_topic"},
      {"topic.purge", "purge_topic"},
      {"topic.trim", "delete_messages"},
      {"topic.set_segment_age", "set_segment_age"},
      {"topic.set_dedup_messages", "set_dedup_messages"},
      {"topic.producer_progress", "producer_progress"},
      {"topic.list", "list_topics"},
      {"topic.describe", "describe_topic"},
      {"group.list", "list_groups"},
      {"group.describe", "describe_group"},
      {"group.delete", "delete_group"},
      {"group.offsets", "group_offsets"},
      {"group.reset_offsets", "reset_offsets"},
      {"position.resolve", "resolve_position"},
      {"user.create", "create_user"},
      {"user.alter", "alter_user"},
      {"user.delete", "delete_user"},
      {"user.list", "list_users"},
      {"user.describe", "describe_user"},
      {"token.create", "create_token"},
      {"token.delete", "delete_token"},
      {"token.list", "list_tokens"},
      {"access.set", "set_access"},
      {"access.describe", "describe_access"},
      {"role.set", "set_role"},
      {"role.delete", "delete_role"},
      {"role.list", "list_roles"},
      {"quota.set", "set_quota"},
      {"quota.describe", "describe_quota"},
      {"status", "status"},
  };
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    if (strcmp(operation, calls[i][0]) == 0) return calls[i][1];
  return NULL;
}
