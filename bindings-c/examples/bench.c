/* What the client costs, as JSON: messages of 1 KiB in batch calls and one after the other, one at a time, and read in batches with
   every byte of every payload. The same phases in Rust are sdk-rust/examples/baseline.rs: run both against one server, each on an
   empty topic. Connects as the environment says. Arguments: TOPIC [MESSAGES]. */
#include <inttypes.h>
#include <levada.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZE = 1024, TOGETHER = 1000, SINGLES = 2000, REPEATS = 3 };

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

static double rate_of(uint64_t count, double seconds) { return (double)count / seconds; }

/* Reads the topic to its end; how many a second. */
static double read_all(levada_client_t *client, const char *topic, uint64_t *checksum) {
  levada_error_t *err = NULL;
  levada_options_t *options = levada_options_new();
  must("set", levada_options_set_text(options, "from", "earliest", &err), &err);
  must("set", levada_options_set_bool(options, "until_end", 1, &err), &err);
  levada_consumer_t *consumer = NULL;
  must("open a consumer", levada_consumer_open(client, topic, options, &consumer, &err), &err);
  levada_options_free(options);
  uint64_t received = 0;
  double start = now();
  for (int finished = 0; !finished;) {
    levada_batch_t *batch = NULL;
    must("receive", levada_consumer_receive_batch(consumer, TOGETHER, 4u << 20, LEVADA_TIMEOUT_DEFAULT, &batch, &err), &err);
    levada_message_view_t message = LEVADA_MESSAGE_VIEW_INIT;
    size_t size = levada_batch_count(batch);
    for (size_t i = 0; i < size; i++) {
      must("get", levada_batch_get(batch, i, &message, &err), &err);
      *checksum += sum_of(message.payload);
    }
    received += size;
    finished = levada_batch_finished(batch);
    levada_batch_free(batch);
  }
  double took = now() - start;
  levada_consumer_free(consumer);
  return rate_of(received, took);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s TOPIC [MESSAGES]\n", argv[0]);
    return 2;
  }
  const char *topic = argv[1];
  uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 500000, checksum = 0;
  levada_error_t *err = NULL;
  levada_client_t *client = NULL;
  must("connect", levada_client_open(NULL, LEVADA_TIMEOUT_DEFAULT, &client, &err), &err);
  levada_producer_t *producer = NULL;
  must("open a producer", levada_producer_open(client, topic, NULL, NULL, &producer, &err), &err);
  uint8_t *payloads = calloc(TOGETHER, SIZE);
  double *took = calloc(SINGLES, sizeof *took);
  uint32_t lengths[TOGETHER];
  if (payloads == NULL || took == NULL) return 1;
  for (size_t i = 0; i < (size_t)TOGETHER * SIZE; i++) payloads[i] = (uint8_t)i;
  for (int i = 0; i < TOGETHER; i++) lengths[i] = SIZE;
  levada_message_t message = LEVADA_MESSAGE_INIT;
  message.payload = payloads;
  message.payload_len = SIZE;

  double start = now();
  for (uint64_t sent = 0; sent < count; sent += TOGETHER)
    must("send", levada_producer_send_packed(producer, payloads, (size_t)TOGETHER * SIZE, lengths, TOGETHER,
                                             LEVADA_TIMEOUT_DEFAULT, NULL, &err), &err);
  double send_batch = rate_of(count, now() - start);

  start = now();
  for (uint64_t sent = 0; sent < count; sent++)
    must("enqueue", levada_producer_enqueue(producer, &message, LEVADA_TIMEOUT_DEFAULT, NULL, &err), &err);
  must("flush", levada_producer_flush(producer, LEVADA_TIMEOUT_DEFAULT, &err), &err);
  double enqueue = rate_of(count, now() - start);

  for (int i = 0; i < SINGLES; i++) {
    start = now();
    must("send", levada_producer_send(producer, &message, LEVADA_TIMEOUT_DEFAULT, NULL, &err), &err);
    took[i] = now() - start;
  }
  qsort(took, SINGLES, sizeof *took, by_value);

  double receive_batch = 0;
  for (int i = 0; i < REPEATS; i++) {
    double rate = read_all(client, topic, &checksum);
    if (rate > receive_batch) receive_batch = rate;
  }
  printf("{\"client\": \"c\", \"send_batch\": {\"messages_per_s\": %.0f}, \"enqueue\": {\"messages_per_s\": %.0f}, ", send_batch, enqueue);
  printf("\"send_one\": {\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f}, ", took[SINGLES / 2] * 1e6,
         took[SINGLES * 90 / 100] * 1e6, took[SINGLES * 99 / 100] * 1e6);
  printf("\"receive_batch\": {\"messages_per_s\": %.0f}, \"checksum\": \"%016" PRIx64 "\"}\n", receive_batch, checksum);

  free(took);
  free(payloads);
  levada_producer_free(producer);
  must("close", levada_client_close(client, LEVADA_TIMEOUT_DEFAULT, &err), &err);
  levada_client_free(client);
  return 0;
}
