/* Measures the client against a running server, and prints JSON: messages of 1 KiB sent in batches and received with every
   payload read, then one at a time. Connects as the environment says. Arguments: [MESSAGES [ONE_AT_A_TIME]]. */
#include <inttypes.h>
#include <levada.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZE = 1024, TOGETHER = 1000 };

static void must(const char *what, int32_t code, levada_error_t **error) {
  if (code == 0) return;
  fprintf(stderr, "%s: %s (%" PRId32 "): %s\n", what, levada_error_name(*error), code, levada_error_message(*error));
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int by_value(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

/* Adds the words of a payload: every byte is read. */
static uint64_t sum_of(levada_slice_t payload) {
  uint64_t sum = 0, word;
  for (size_t at = 0; at + 8 <= payload.len; at += 8) {
    memcpy(&word, payload.data + at, 8);
    sum += word;
  }
  return sum;
}

int main(int argc, char **argv) {
  uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000, singles = argc > 2 ? strtoull(argv[2], NULL, 10) : 2000;
  char topic[64];
  snprintf(topic, sizeof topic, "bench/c-%ld", (long)time(NULL));
  levada_error_t *err = NULL;
  levada_client_t *client = NULL;
  must("connect", levada_client_open(NULL, LEVADA_TIMEOUT_DEFAULT, &client, &err), &err);
  levada_options_t *options = levada_options_new();
  must("set", levada_options_set_text(options, "durability", "memory", &err), &err);
  must("create the topic", levada_topic_create(client, topic, options, NULL, &err), &err);
  levada_options_free(options);

  levada_queue_t *queue = NULL;
  levada_producer_t *producer = NULL;
  must("make a queue", levada_queue_new(&queue, &err), &err);
  must("open a producer", levada_producer_open(client, topic, NULL, NULL, &producer, &err), &err);
  uint8_t *payloads = calloc(TOGETHER, SIZE);
  uint32_t lengths[TOGETHER];
  if (payloads == NULL) return 1;
  for (size_t i = 0; i < (size_t)TOGETHER * SIZE; i++) payloads[i] = (uint8_t)(i * 2654435761u >> 13);
  for (int i = 0; i < TOGETHER; i++) lengths[i] = SIZE;

  /* A few calls are under way at a time, so that the connection never waits for this thread. */
  double start = now();
  uint64_t sent = 0, settled = 0;
  while (settled < count) {
    while (sent < count && sent - settled < 8 * TOGETHER) {
      uint64_t left = count - sent, together = left < TOGETHER ? left : TOGETHER;
      must("send", levada_producer_send_packed_submit(producer, payloads, (size_t)together * SIZE, lengths, (size_t)together,
                                                      queue, together, NULL, &err), &err);
      sent += together;
    }
    levada_event_t *event = NULL;
    must("poll", levada_queue_poll(queue, LEVADA_TIMEOUT_INFINITE, &event, &err), &err);
    if (levada_event_code(event) != 0) return 1;
    settled += levada_event_token(event);
    levada_event_free(event);
  }
  double produced = now() - start;

  levada_consumer_t *consumer = NULL;
  options = levada_options_new();
  must("set", levada_options_set_text(options, "from", "earliest", &err), &err);
  must("open a consumer", levada_consumer_open(client, topic, options, &consumer, &err), &err);
  levada_options_free(options);
  start = now();
  uint64_t received = 0, sum = 0;
  while (received < count) {
    levada_batch_t *batch = NULL;
    must("receive", levada_consumer_receive_batch(consumer, 10000, 16u << 20, LEVADA_TIMEOUT_DEFAULT, &batch, &err), &err);
    levada_message_view_t message = LEVADA_MESSAGE_VIEW_INIT;
    size_t size = levada_batch_count(batch);
    for (size_t i = 0; i < size; i++) {
      must("get", levada_batch_get(batch, i, &message, &err), &err);
      sum += sum_of(message.payload);
    }
    received += size;
    levada_batch_free(batch);
  }
  double consumed = now() - start;

  double *took = calloc(singles + 1, sizeof *took);
  if (took == NULL) return 1;
  levada_message_t message = LEVADA_MESSAGE_INIT;
  message.payload = payloads;
  message.payload_len = SIZE;
  for (uint64_t i = 0; i < singles; i++) {
    levada_batch_t *batch = NULL;
    start = now();
    must("send", levada_producer_send(producer, &message, LEVADA_TIMEOUT_DEFAULT, NULL, &err), &err);
    must("receive", levada_consumer_receive(consumer, LEVADA_TIMEOUT_INFINITE, &batch, &err), &err);
    took[i] = now() - start;
    levada_batch_free(batch);
  }
  qsort(took, singles, sizeof *took, by_value);
  printf("{\"client\":\"c\",\"payload_bytes\":%d,\"messages\":%" PRIu64 ",\"produce_per_s\":%.0f,\"consume_per_s\":%.0f,", SIZE, count,
         (double)count / produced, (double)count / consumed);
  printf("\"round_trip_p50_us\":%.1f,\"round_trip_p99_us\":%.1f,\"checksum\":\"%016" PRIx64 "\"}\n", took[singles / 2] * 1e6,
         took[singles * 99 / 100] * 1e6, sum);

  must("delete the topic", levada_topic_delete(client, topic, NULL, &err), &err);
  free(took);
  free(payloads);
  levada_consumer_free(consumer);
  levada_producer_free(producer);
  levada_queue_free(queue);
  must("close", levada_client_close(client, LEVADA_TIMEOUT_DEFAULT, &err), &err);
  levada_client_free(client);
  return 0;
}
