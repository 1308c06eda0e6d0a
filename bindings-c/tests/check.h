/* The small vocabulary of the tests in C: a call that must succeed, a call that must fail with one error, a fact. The server is
   the one of the environment. */
#ifndef LEVADA_TESTS_CHECK_H
#define LEVADA_TESTS_CHECK_H

#include <inttypes.h>
#include <levada.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOLDS(fact)                                                              \
  do {                                                                           \
    if (!(fact)) {                                                               \
      fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__, #fact); \
      exit(1);                                                                   \
    }                                                                            \
  } while (0)

/* A call with `&err` as its last argument. */
#define MUST(call)                                                                                       \
  do {                                                                                                   \
    levada_error_t *err = NULL;                                                                          \
    if ((call) != 0) {                                                                                   \
      fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, levada_error_name(err), levada_error_message(err)); \
      exit(1);                                                                                           \
    }                                                                                                    \
    HOLDS(err == NULL);                                                                                  \
  } while (0)

#define FAILS(wanted, call)                                                                                       \
  do {                                                                                                            \
    levada_error_t *err = NULL;                                                                                   \
    int32_t code_ = (call);                                                                                       \
    if (code_ != (wanted) || levada_error_code(err) != (wanted)) {                                                \
      fprintf(stderr, "%s:%d: %s gives %" PRId32 " and not %s: %s\n", __FILE__, __LINE__, #call, code_, #wanted, \
              levada_error_message(err));                                                                        \
      exit(1);                                                                                                    \
    }                                                                                                             \
    levada_error_free(err);                                                                                       \
  } while (0)

static inline levada_client_t *connected(void) {
  levada_client_t *client = NULL;
  MUST(levada_client_open(NULL, 20000, &client, &err));
  return client;
}

static inline void closed(levada_client_t *client) {
  MUST(levada_client_close(client, LEVADA_TIMEOUT_DEFAULT, &err));
  levada_client_free(client);
}

static inline levada_options_t *option(levada_options_t *options, const char *name, const char *text) {
  if (options == NULL) options = levada_options_new();
  MUST(levada_options_set_text(options, name, text, &err));
  return options;
}

static inline void create(levada_client_t *client, const char *topic, int64_t partitions, const char *durability) {
  levada_options_t *options = option(NULL, "durability", durability);
  MUST(levada_options_set_int(options, "partition_count", partitions, &err));
  MUST(levada_topic_create(client, topic, options, NULL, &err));
  levada_options_free(options);
}

static inline levada_producer_t *producer_of(levada_client_t *client, const char *topic) {
  levada_producer_t *producer = NULL;
  MUST(levada_producer_open(client, topic, NULL, NULL, &producer, &err));
  return producer;
}

static inline levada_consumer_t *consumer_of(levada_client_t *client, const char *topic, const char *from) {
  levada_options_t *options = option(NULL, "from", from);
  levada_consumer_t *consumer = NULL;
  MUST(levada_consumer_open(client, topic, options, &consumer, &err));
  levada_options_free(options);
  return consumer;
}

static inline levada_message_t message_of(const char *payload) {
  levada_message_t message = LEVADA_MESSAGE_INIT;
  message.payload = (const uint8_t *)payload;
  message.payload_len = payload == NULL ? 0 : strlen(payload);
  return message;
}

/* Live handles of a kind. */
static inline uint64_t live(const char *kind) {
  levada_value_t *stats = NULL;
  MUST(levada_stats(&stats, &err));
  uint64_t count = levada_value_u64(levada_value_get(stats, kind));
  levada_value_free(stats);
  return count;
}

#endif
