/* The conformance adapter of the C client, by its non-blocking half: one thread, one queue, one loop. Every command is one _submit
   call, or for receives an arm and a take; see conformance/adapter-protocol.md. The C++ adapter covers the blocking half. */
#include <errno.h>
#include <levada.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "convert.h"
#include "json.h"

typedef enum { CLIENT, PRODUCER, CONSUMER, DELIVERY } kind_t;

typedef struct handle_t {
  struct handle_t *next;
  kind_t kind;
  char *name;
  union {
    levada_client_t *client;
    levada_producer_t *producer;
    levada_consumer_t *consumer;
    levada_delivery_t *delivery;
  } of;
} handle_t;

/* A command under way. */
typedef struct command_t {
  struct command_t *next;
  uint64_t token;
  char *id, *as; /* id is NULL for calls of the adapter's own, when it resets */
  bool is_cancelled, gives_receipt, gives_delivery, gives_number, gives_change;
  levada_operation_t *operation;
  /* Of receives: */
  levada_consumer_t *waits_on;
  bool is_single;
  size_t max_messages, max_bytes;
  int64_t deadline_ms; /* -1: none */
} command_t;

static levada_queue_t *queue;
static handle_t *handles;
static command_t *commands;
static uint64_t last_token;
static char *reset_id; /* a reset or shutdown waits for the commands under way */
static bool is_ending, has_closed_handles;

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static char *copied(const char *text) {
  char *copy = text == NULL ? NULL : strdup(text);
  if (text != NULL && copy == NULL) abort();
  return copy;
}

/* ------------------------------------------------------------------ replies */

static void begin(writer_t *out, const char *id, const char *key) {
  memset(out, 0, sizeof *out);
  write_open(out, '{');
  write_name(out, "id");
  write_text(out, id);
  write_name(out, key);
}

static void finish(writer_t *out) {
  write_close(out, '}');
  fwrite(out->text, 1, out->len, stdout);
  fputc('\n', stdout);
  fflush(stdout);
  write_end(out);
}

static void reply_empty(const char *id) {
  writer_t out;
  begin(&out, id, "ok");
  write_raw(&out, "{}");
  finish(&out);
}

static void reply_text(const char *id, const char *key, const char *text) {
  writer_t out;
  begin(&out, id, key);
  write_text(&out, text);
  finish(&out);
}

static void reply_failure(const char *id, const levada_error_t *error, bool is_cancelled) {
  writer_t out;
  begin(&out, id, is_cancelled ? "cancelled" : "err");
  if (is_cancelled) {
    write_bool(&out, true);
    write_name(&out, "err");
  }
  reply_error(&out, error, NULL);
  finish(&out);
}

/* ------------------------------------------------------------------ handles and commands */

static handle_t *find(const json_t *command, kind_t kind) {
  const char *name = json_text(json_get(command, "on"));
  for (handle_t *handle = handles; handle != NULL && name != NULL; handle = handle->next)
    if (handle->kind == kind && strcmp(handle->name, name) == 0) return handle;
  return NULL;
}

static handle_t *keep(kind_t kind, const char *name) {
  handle_t *handle = calloc(1, sizeof *handle);
  if (handle == NULL) abort();
  handle->kind = kind;
  handle->name = copied(name == NULL ? "" : name);
  handle->next = handles;
  handles = handle;
  return handle;
}

static void forget(handle_t *handle) {
  switch (handle->kind) {
    case CLIENT:
      levada_client_free(handle->of.client);
      break;
    case PRODUCER:
      levada_producer_free(handle->of.producer);
      break;
    case CONSUMER:
      levada_consumer_free(handle->of.consumer);
      break;
    case DELIVERY:
      levada_delivery_free(handle->of.delivery);
      break;
  }
  free(handle->name);
  free(handle);
}

static command_t *enter(const json_t *json) {
  command_t *command = calloc(1, sizeof *command);
  if (command == NULL) abort();
  command->token = ++last_token;
  command->id = copied(json_text(json_get(json, "id")));
  command->as = copied(json_text(json_get(json, "as")));
  command->deadline_ms = -1;
  command->next = commands;
  commands = command;
  return command;
}

static void leave(command_t *command) {
  for (command_t **place = &commands; *place != NULL; place = &(*place)->next) {
    if (*place != command) continue;
    *place = command->next;
    break;
  }
  levada_operation_free(command->operation);
  free(command->id);
  free(command->as);
  free(command);
}

static command_t *by_token(uint64_t token) {
  command_t *command = commands;
  while (command != NULL && command->token != token) command = command->next;
  return command;
}

/* A call was made, or refused at once. */
static void submitted(command_t *command, const json_t *json, int32_t code, levada_error_t **error) {
  const json_t *announce = json_get(json, "announce");
  if (announce != NULL && announce->kind == JSON_BOOL && announce->boolean) {
    writer_t out;
    begin(&out, command->id, "started");
    write_bool(&out, true);
    finish(&out);
  }
  if (code == 0) return;
  reply_failure(command->id, *error, false);
  levada_error_free(*error);
  leave(command);
}

/* ------------------------------------------------------------------ receives */

static void reply_messages(const command_t *command, levada_batch_t *batch) {
  writer_t out;
  size_t count = levada_batch_count(batch);
  begin(&out, command->id, "ok");
  write_open(&out, '{');
  if (command->is_single) {
    write_name(&out, "message");
    if (count > 0)
      reply_message(&out, batch, 0);
    else
      write_raw(&out, "null");
  } else {
    write_name(&out, "messages");
    write_open(&out, '[');
    for (size_t i = 0; i < count; i++) reply_message(&out, batch, i);
    write_close(&out, ']');
  }
  if (!command->is_single || count == 0) {
    write_name(&out, "finished");
    write_bool(&out, levada_batch_finished(batch));
  }
  write_close(&out, '}');
  finish(&out);
}

/* Takes what is there. Without anything, and before its time has passed, the command goes on waiting. */
static void try_take(command_t *command, bool is_over) {
  levada_error_t *error = NULL;
  levada_batch_t *batch = NULL;
  int32_t code = command->is_single ? levada_consumer_take_message(command->waits_on, &batch, &error)
                                    : levada_consumer_take(command->waits_on, command->max_messages,
                                                           command->max_bytes, &batch, &error);
  bool is_answer = code == 0 && (levada_batch_count(batch) > 0 || levada_batch_finished(batch));
  if (code == 0 && !is_answer && !is_over) {
    levada_batch_free(batch);
    code = levada_consumer_arm(command->waits_on, queue, command->token, &error);
    if (code == 0) return;
    batch = NULL;
  }
  if (code != 0) {
    reply_failure(command->id, error, false);
    levada_error_free(error);
  } else if (is_answer || !command->is_single) {
    reply_messages(command, batch);
  } else {
    writer_t out;
    begin(&out, command->id, "err");
    write_raw(&out,
              "{\"code\":60003,\"name\":\"CLIENT_TIMEOUT\",\"class\":\"timeout\",\"retriable\":true,"
              "\"maybe_applied\":false,\"message\":\"no message came in time\",\"details\":{},\"native\":[]}");
    finish(&out);
  }
  levada_batch_free(batch);
  leave(command);
}

static bool receive(const json_t *json, const json_t *args, bool is_single) {
  handle_t *on = find(json, CONSUMER);
  uint64_t max_messages = LEVADA_MAX_MESSAGES_DEFAULT, max_bytes = LEVADA_MAX_BYTES_DEFAULT;
  int64_t timeout_ms = is_single ? -1 : 1000;
  const json_t *messages = json_get(args, "max_messages"), *bytes = json_get(args, "max_bytes");
  const json_t *timeout = json_get(args, "timeout_ms");
  if (on == NULL || (!json_is_absent(messages) && !json_uint(messages, &max_messages)) ||
      (!json_is_absent(bytes) && !json_uint(bytes, &max_bytes)) ||
      (!json_is_absent(timeout) && !json_int(timeout, &timeout_ms)))
    return false;
  command_t *command = enter(json);
  command->waits_on = on->of.consumer;
  command->is_single = is_single;
  command->max_messages = (size_t)max_messages;
  command->max_bytes = (size_t)max_bytes;
  command->deadline_ms = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
  levada_error_t *error = NULL;
  submitted(command, json, levada_consumer_arm(on->of.consumer, queue, command->token, &error), &error);
  return true;
}

/* ------------------------------------------------------------------ operations; false: arguments that cannot be read */

static bool do_connect(const json_t *json, const json_t *args) {
  levada_options_t *options = convert_options(json_get(args, "options"));
  if (options == NULL) return false;
  command_t *command = enter(json);
  levada_error_t *error = NULL;
  int32_t code = levada_client_open_submit(options, queue, command->token, &command->operation, &error);
  levada_options_free(options);
  submitted(command, json, code, &error);
  return true;
}

static int64_t timeout_of(const json_t *args) {
  int64_t timeout_ms;
  return json_int(json_get(args, "timeout_ms"), &timeout_ms) ? timeout_ms : LEVADA_TIMEOUT_DEFAULT;
}

static bool do_close(const json_t *json, const json_t *args) {
  handle_t *client = find(json, CLIENT), *producer = find(json, PRODUCER), *consumer = find(json, CONSUMER);
  if (client == NULL && producer == NULL && consumer == NULL) return false;
  command_t *command = enter(json);
  levada_error_t *error = NULL;
  int64_t timeout_ms = timeout_of(args);
  int32_t code;
  if (client != NULL)
    code = levada_client_close_submit(client->of.client, timeout_ms, queue, command->token, &command->operation, &error);
  else if (producer != NULL)
    code = levada_producer_close_submit(producer->of.producer, timeout_ms, queue, command->token, &command->operation,
                                        &error);
  else
    code = levada_consumer_close_submit(consumer->of.consumer, timeout_ms, queue, command->token, &command->operation,
                                        &error);
  submitted(command, json, code, &error);
  return true;
}

static bool do_call(const json_t *json, const json_t *args, const char *call) {
  handle_t *on = find(json, CLIENT);
  levada_options_t *arguments = convert_options(args);
  if (on == NULL || arguments == NULL) {
    levada_options_free(arguments);
    return false;
  }
  command_t *command = enter(json);
  levada_error_t *error = NULL;
  int32_t code = levada_client_call_submit(on->of.client, call, arguments, queue, command->token, &command->operation,
                                           &error);
  levada_options_free(arguments);
  submitted(command, json, code, &error);
  return true;
}

static bool do_server_info(const json_t *json) {
  handle_t *on = find(json, CLIENT);
  if (on == NULL) return false;
  levada_value_t *value = NULL;
  levada_error_t *error = NULL;
  const char *id = json_text(json_get(json, "id"));
  if (levada_client_server_info(on->of.client, &value, &error) != 0) {
    reply_failure(id, error, false);
    levada_error_free(error);
    return true;
  }
  writer_t out;
  begin(&out, id, "ok");
  reply_result(&out, value);
  finish(&out);
  levada_value_free(value);
  return true;
}

static bool do_open(const json_t *json, const json_t *args, bool is_producer) {
  handle_t *on = find(json, CLIENT);
  const char *topic = json_text(json_get(args, "topic"));
  levada_options_t *options = convert_options(json_get(args, "options"));
  if (on == NULL || topic == NULL || options == NULL) {
    levada_options_free(options);
    return false;
  }
  command_t *command = enter(json);
  levada_error_t *error = NULL;
  int32_t code =
      is_producer
          ? levada_producer_open_submit(on->of.client, topic, options, NULL, queue, command->token, &command->operation, &error)
          : levada_consumer_open_submit(on->of.client, topic, options, queue, command->token, &command->operation, &error);
  levada_options_free(options);
  submitted(command, json, code, &error);
  return true;
}

static bool do_send(const json_t *json, const json_t *args, bool is_enqueue) {
  handle_t *on = find(json, PRODUCER);
  messages_t messages = {0};
  bool is_read = on != NULL && convert_message(&messages, json_get(args, "message")) && messages.count == 1;
  if (is_read) {
    command_t *command = enter(json);
    levada_error_t *error = NULL;
    command->gives_receipt = !is_enqueue;
    int32_t code = is_enqueue ? levada_producer_enqueue_submit(on->of.producer, messages.list, queue, command->token,
                                                               &command->operation, &error)
                              : levada_producer_send_submit(on->of.producer, messages.list, queue, command->token,
                                                            &command->operation, &error);
    submitted(command, json, code, &error);
  }
  messages_free(&messages);
  return is_read;
}

static bool do_send_batch(const json_t *json, const json_t *args) {
  handle_t *on = find(json, PRODUCER);
  const json_t *list = json_get(args, "messages");
  messages_t messages = {0};
  bool is_read = on != NULL && list != NULL && list->kind == JSON_LIST;
  for (size_t i = 0; is_read && i < list->count; i++) is_read = convert_message(&messages, &list->items[i]);
  if (is_read) {
    command_t *command = enter(json);
    levada_error_t *error = NULL;
    int32_t code = levada_producer_send_batch_submit(on->of.producer, messages.list, messages.count, queue, command->token,
                                                     &command->operation, &error);
    submitted(command, json, code, &error);
  }
  messages_free(&messages);
  return is_read;
}

static bool do_flush(const json_t *json) {
  handle_t *on = find(json, PRODUCER);
  if (on == NULL) return false;
  command_t *command = enter(json);
  levada_error_t *error = NULL;
  submitted(command, json,
            levada_producer_flush_submit(on->of.producer, queue, command->token, &command->operation, &error), &error);
  return true;
}

static bool do_delivery_wait(const json_t *json) {
  handle_t *on = find(json, DELIVERY);
  if (on == NULL) return false;
  command_t *command = enter(json);
  command->gives_receipt = true;
  levada_error_t *error = NULL;
  submitted(command, json,
            levada_delivery_wait_submit(on->of.delivery, queue, command->token, &command->operation, &error), &error);
  return true;
}

/* seek, position, pause, resume: they never wait. */
static bool do_cursor(const json_t *json, const json_t *args, const char *what) {
  handle_t *on = find(json, CONSUMER);
  uint64_t partition, offset = 0;
  bool is_known = false;
  if (on == NULL || !json_uint(json_get(args, "partition"), &partition) || partition > UINT32_MAX) return false;
  levada_error_t *error = NULL;
  const char *id = json_text(json_get(json, "id")), *topic = json_text(json_get(args, "topic"));
  int32_t code;
  if (strcmp(what, "seek") == 0)
    code = levada_consumer_seek(on->of.consumer, topic, (uint32_t)partition, json_text(json_get(args, "position")), &error);
  else if (strcmp(what, "pause") == 0)
    code = levada_consumer_pause(on->of.consumer, topic, (uint32_t)partition, &error);
  else if (strcmp(what, "resume") == 0)
    code = levada_consumer_resume(on->of.consumer, topic, (uint32_t)partition, &error);
  else
    code = levada_consumer_position(on->of.consumer, topic, (uint32_t)partition, &offset, &is_known, &error);
  if (code != 0) {
    reply_failure(id, error, false);
    levada_error_free(error);
  } else if (strcmp(what, "position") == 0) {
    writer_t out;
    begin(&out, id, "ok");
    write_open(&out, '{');
    write_name(&out, "value");
    if (is_known)
      write_uint(&out, offset);
    else
      write_raw(&out, "null");
    write_close(&out, '}');
    finish(&out);
  } else {
    reply_empty(id);
  }
  return true;
}

static bool do_group_open(const json_t *json, const json_t *args) {
  handle_t *on = find(json, CLIENT);
  const char *group = json_text(json_get(args, "group"));
  const json_t *topics = json_get(args, "topics");
  levada_options_t *options = convert_options(json_get(args, "options"));
  if (on == NULL || group == NULL || topics == NULL || options == NULL) {
    levada_options_free(options);
    return false;
  }
  const char **texts = texts_of(topics);
  command_t *command = enter(json);
  levada_error_t *error = NULL;
  int32_t code = levada_group_open_submit(on->of.client, group, texts, topics->count, options, queue, command->token,
                                          &command->operation, &error);
  free(texts);
  levada_options_free(options);
  submitted(command, json, code, &error);
  return true;
}

static bool do_commit(const json_t *json) {
  handle_t *on = find(json, CONSUMER);
  if (on == NULL) return false;
  command_t *command = enter(json);
  levada_error_t *error = NULL;
  int32_t code = levada_consumer_commit_submit(on->of.consumer, queue, command->token, &command->operation, &error);
  submitted(command, json, code, &error);
  return true;
}

static bool do_commit_offsets(const json_t *json, const json_t *args) {
  handle_t *on = find(json, CONSUMER);
  const json_t *list = json_get(args, "offsets");
  if (on == NULL || list == NULL) return false;
  levada_partition_offset_t *offsets = calloc(list->count + 1, sizeof *offsets);
  if (offsets == NULL) abort();
  bool is_read = true;
  for (size_t i = 0; i < list->count && is_read; i++) {
    uint64_t partition = 0;
    offsets[i] = LEVADA_PARTITION_OFFSET_INIT;
    offsets[i].topic = json_text(json_get(&list->items[i], "topic"));
    is_read = json_uint(json_get(&list->items[i], "partition"), &partition) && partition <= UINT32_MAX &&
              json_uint(json_get(&list->items[i], "offset"), &offsets[i].offset);
    offsets[i].partition = (uint32_t)partition;
  }
  if (is_read) {
    command_t *command = enter(json);
    levada_error_t *error = NULL;
    int32_t code = levada_consumer_commit_offsets_submit(on->of.consumer, offsets, list->count, queue, command->token,
                                                         &command->operation, &error);
    submitted(command, json, code, &error);
  }
  free(offsets);
  return is_read;
}

static bool do_committed(const json_t *json, const json_t *args) {
  handle_t *on = find(json, CONSUMER);
  uint64_t partition;
  if (on == NULL || !json_uint(json_get(args, "partition"), &partition) || partition > UINT32_MAX) return false;
  command_t *command = enter(json);
  command->gives_number = true;
  levada_error_t *error = NULL;
  int32_t code = levada_consumer_committed_submit(on->of.consumer, json_text(json_get(args, "topic")), (uint32_t)partition,
                                                  queue, command->token, &command->operation, &error);
  submitted(command, json, code, &error);
  return true;
}

static bool do_assignments(const json_t *json) {
  handle_t *on = find(json, CONSUMER);
  if (on == NULL) return false;
  levada_value_t *value = NULL;
  levada_error_t *error = NULL;
  const char *id = json_text(json_get(json, "id"));
  if (levada_consumer_assignments(on->of.consumer, &value, &error) != 0) {
    reply_failure(id, error, false);
    levada_error_free(error);
    return true;
  }
  writer_t out;
  begin(&out, id, "ok");
  reply_result(&out, value);
  finish(&out);
  levada_value_free(value);
  return true;
}

static bool do_next_change(const json_t *json, const json_t *args) {
  handle_t *on = find(json, CONSUMER);
  const json_t *given = json_get(args, "timeout_ms");
  int64_t timeout_ms = LEVADA_TIMEOUT_DEFAULT;
  if (on == NULL || (!json_is_absent(given) && !json_int(given, &timeout_ms))) return false;
  command_t *command = enter(json);
  command->gives_change = true;
  levada_error_t *error = NULL;
  int32_t code = levada_consumer_next_change_submit(on->of.consumer, timeout_ms, queue, command->token, &command->operation,
                                                    &error);
  submitted(command, json, code, &error);
  return true;
}

static void cancel(command_t *command) {
  command->is_cancelled = true;
  if (command->waits_on == NULL) {
    levada_operation_cancel(command->operation, NULL);
    return;
  }
  levada_consumer_disarm(command->waits_on, NULL);
  writer_t out;
  begin(&out, command->id, "cancelled");
  write_bool(&out, true);
  finish(&out);
  leave(command);
}

static bool do_cancel(const json_t *json, const json_t *args) {
  const char *target = json_text(json_get(args, "target"));
  if (target == NULL) return false;
  reply_empty(json_text(json_get(json, "id")));
  for (command_t *command = commands; command != NULL; command = command->next) {
    if (command->id == NULL || strcmp(command->id, target) != 0) continue;
    cancel(command);
    break;
  }
  return true;
}

static void do_hello(const char *id) {
  static const char *const features[] = {"core",  "admin", "lifecycle", "names",  "users", "access", "produce", "enqueue",    "send_batch", "consume",  "seek", "pause",
                                         "cancel", "lz4", "zstd",  "idempotent", "reconnect", "password", "tls", "discovery", "retry", "groups", "sequences"};
  writer_t out;
  begin(&out, id, "ok");
  write_open(&out, '{');
  write_name(&out, "adapter_protocol");
  write_raw(&out, "[1]");
  write_name(&out, "client");
  write_text(&out, "levada-c");
  write_name(&out, "client_version");
  write_text(&out, levada_version_string());
  write_name(&out, "language");
  write_text(&out, "c");
  write_name(&out, "runtime");
  write_text(&out, "C11, " __VERSION__);
  write_name(&out, "api");
  write_text(&out, "queue");
  write_name(&out, "features");
  write_open(&out, '[');
  for (size_t i = 0; i < sizeof features / sizeof *features; i++) write_text(&out, features[i]);
  write_close(&out, ']');
  write_name(&out, "wire_versions");
  write_raw(&out, "[1]");
  write_name(&out, "pid");
  write_u32(&out, (uint32_t)getpid());
  write_close(&out, '}');
  finish(&out);
}

static void do_stats(const char *id) {
  static const char *const names[] = {"clients", "producers", "consumers", "deliveries"};
  uint32_t counts[4] = {0}, in_flight = 0;
  for (handle_t *handle = handles; handle != NULL; handle = handle->next) counts[handle->kind]++;
  for (command_t *command = commands; command != NULL; command = command->next) in_flight += command->id != NULL;
  writer_t out;
  begin(&out, id, "ok");
  write_open(&out, '{');
  write_name(&out, "handles");
  write_open(&out, '{');
  for (int i = 0; i < 4; i++) {
    write_name(&out, names[i]);
    write_u32(&out, counts[i]);
  }
  write_close(&out, '}');
  write_name(&out, "in_flight");
  write_u32(&out, in_flight);
  write_close(&out, '}');
  finish(&out);
}

/* Goes on with a reset: commands end first, then clients close, then all names are forgotten. */
static void go_on_with_reset(void) {
  if (reset_id == NULL || commands != NULL) return;
  if (!has_closed_handles) {
    has_closed_handles = true;
    for (handle_t *handle = handles; handle != NULL; handle = handle->next) {
      if (handle->kind != CLIENT) continue;
      command_t *command = enter(NULL);
      if (levada_client_close_submit(handle->of.client, 2000, queue, command->token, &command->operation, NULL) != 0)
        leave(command);
    }
    if (commands != NULL) return;
  }
  while (handles != NULL) {
    handle_t *next = handles->next;
    forget(handles);
    handles = next;
  }
  if (*reset_id != 0) reply_empty(reset_id);
  free(reset_id);
  reset_id = NULL;
}

static void do_reset(const char *id) {
  free(reset_id);
  reset_id = copied(id);
  has_closed_handles = false;
  for (command_t *command = commands, *next; command != NULL; command = next) {
    next = command->next;
    cancel(command);
  }
}

static bool do_operation(const json_t *json, const json_t *args, const char *op) {
  const char *call = call_of(op), *id = json_text(json_get(json, "id"));
  if (call != NULL) return do_call(json, args, call);
  if (strcmp(op, "connect") == 0) return do_connect(json, args);
  if (strcmp(op, "close") == 0 || strcmp(op, "producer.close") == 0 || strcmp(op, "consumer.close") == 0)
    return do_close(json, args);
  if (strcmp(op, "server_info") == 0) return do_server_info(json);
  if (strcmp(op, "producer.open") == 0) return do_open(json, args, true);
  if (strcmp(op, "consumer.open") == 0) return do_open(json, args, false);
  if (strcmp(op, "producer.send") == 0) return do_send(json, args, false);
  if (strcmp(op, "producer.enqueue") == 0) return do_send(json, args, true);
  if (strcmp(op, "producer.send_batch") == 0) return do_send_batch(json, args);
  if (strcmp(op, "producer.flush") == 0) return do_flush(json);
  if (strcmp(op, "delivery.wait") == 0) return do_delivery_wait(json);
  if (strcmp(op, "consumer.receive") == 0) return receive(json, args, true);
  if (strcmp(op, "consumer.receive_batch") == 0) return receive(json, args, false);
  if (strcmp(op, "group.open") == 0) return do_group_open(json, args);
  if (strcmp(op, "consumer.commit") == 0) return do_commit(json);
  if (strcmp(op, "consumer.commit_offsets") == 0) return do_commit_offsets(json, args);
  if (strcmp(op, "consumer.committed") == 0) return do_committed(json, args);
  if (strcmp(op, "consumer.assignments") == 0) return do_assignments(json);
  if (strcmp(op, "consumer.next_change") == 0) return do_next_change(json, args);
  if (strncmp(op, "consumer.", 9) == 0) return do_cursor(json, args, op + 9);
  if (strcmp(op, "cancel") == 0) return do_cancel(json, args);
  if (strcmp(op, "hello") == 0)
    do_hello(id);
  else if (strcmp(op, "stats") == 0)
    do_stats(id);
  else if (strcmp(op, "reset") == 0 || strcmp(op, "shutdown") == 0) {
    is_ending = is_ending || strcmp(op, "shutdown") == 0;
    do_reset(id);
  } else
    reply_text(id, "unsupported", op);
  return true;
}

static void do_line(const char *line, size_t len) {
  json_t *json = json_read(line, len);
  const char *id = json_text(json_get(json, "id")), *op = json_text(json_get(json, "op"));
  if (id == NULL || op == NULL)
    fprintf(stderr, "this is no command: %.*s\n", len < 200 ? (int)len : 200, line);
  else if (!do_operation(json, json_get(json, "args"), op))
    reply_text(id, "adapter_error", "an unknown handle, or arguments that cannot be read");
  json_free(json);
}

/* ------------------------------------------------------------------ outcomes */

static void reply_done(command_t *command, levada_event_t *event) {
  levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
  levada_client_t *client = levada_event_take_client(event);
  levada_producer_t *producer = levada_event_take_producer(event);
  levada_consumer_t *consumer = levada_event_take_consumer(event);
  levada_delivery_t *delivery = levada_event_take_delivery(event);
  levada_receipts_t *receipts = levada_event_take_receipts(event);
  levada_value_t *value = levada_event_take_value(event);
  if (client != NULL) keep(CLIENT, command->as)->of.client = client;
  if (producer != NULL) keep(PRODUCER, command->as)->of.producer = producer;
  if (consumer != NULL) keep(CONSUMER, command->as)->of.consumer = consumer;
  if (delivery != NULL) keep(DELIVERY, command->as)->of.delivery = delivery;
  writer_t out;
  begin(&out, command->id, "ok");
  if (receipts != NULL) {
    write_open(&out, '{');
    write_name(&out, "receipts");
    write_open(&out, '[');
    for (size_t i = 0; levada_receipts_at(receipts, i, &receipt, NULL) == 0; i++) reply_receipt(&out, &receipt, true);
    write_close(&out, ']');
    write_close(&out, '}');
  } else if (command->gives_receipt && levada_event_receipt(event, &receipt, NULL) == 0) {
    reply_receipt(&out, &receipt, false);
  } else if (command->gives_number || command->gives_change) {
    write_open(&out, '{');
    write_name(&out, command->gives_number ? "value" : "change");
    reply_value(&out, value);
    write_close(&out, '}');
  } else {
    reply_result(&out, value);
  }
  finish(&out);
  levada_receipts_free(receipts);
  levada_value_free(value);
}

static void on_event(levada_event_t *event) {
  command_t *command = by_token(levada_event_token(event));
  if (command == NULL) return;
  if (levada_event_kind(event) == LEVADA_EVENT_READY) {
    try_take(command, false);
    return;
  }
  const levada_error_t *error = levada_event_error(event);
  if (command->id != NULL && error != NULL)
    reply_failure(command->id, error, command->is_cancelled && levada_error_code(error) == LEVADA_E_CANCELLED);
  else if (command->id != NULL)
    reply_done(command, event);
  leave(command);
}

/* ------------------------------------------------------------------ the loop */

static char *input;
static size_t input_len, input_capacity;

/* Reads what standard input has; false at its end. */
static bool on_input(void) {
  if (input_capacity - input_len < 65536) {
    input_capacity = input_capacity * 2 + 131072;
    input = realloc(input, input_capacity);
    if (input == NULL) abort();
  }
  ssize_t count = read(STDIN_FILENO, input + input_len, input_capacity - input_len);
  if (count <= 0) return count < 0 && errno == EINTR;
  size_t from = input_len, start = 0;
  input_len += (size_t)count;
  for (char *end; (end = memchr(input + from, '\n', input_len - from)) != NULL; from = start) {
    do_line(input + start, (size_t)(end - input) - start);
    start = (size_t)(end - input) + 1;
  }
  memmove(input, input + start, input_len - start);
  input_len -= start;
  return true;
}

/* Milliseconds until the first receive has waited long enough; -1: none will. Those that have are answered. */
static int on_time(void) {
  int64_t first = -1, now = now_ms();
  for (command_t *command = commands, *next; command != NULL; command = next) {
    next = command->next;
    if (command->deadline_ms < 0) continue;
    if (command->deadline_ms <= now)
      try_take(command, true);
    else if (first < 0 || command->deadline_ms < first)
      first = command->deadline_ms;
  }
  return first < 0 ? -1 : (int)(first - now < 60000 ? first - now : 60000);
}

int main(void) {
  levada_error_t *error = NULL;
  if (levada_queue_new(&queue, &error) != 0) {
    fprintf(stderr, "%s\n", levada_error_message(error));
    return 1;
  }
  while (!is_ending || reset_id != NULL) {
    struct pollfd waits[2] = {{.fd = levada_queue_fd(queue), .events = POLLIN}, {.fd = is_ending ? -1 : STDIN_FILENO, .events = POLLIN}};
    if (poll(waits, 2, on_time()) < 0 && errno != EINTR) return 1;
    levada_event_t *event = NULL;
    while (levada_queue_poll(queue, 0, &event, NULL) == 0 && event != NULL) {
      on_event(event);
      levada_event_free(event);
    }
    if (waits[1].revents != 0 && !on_input()) {
      is_ending = true;
      do_reset("");
    }
    go_on_with_reset();
  }
  levada_queue_free(queue);
  free(input);
  return 0;
}
