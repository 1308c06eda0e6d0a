/* Wrong programs, one for each argument. The first kind is told by a typed error, and this program succeeds if it was; the second
   (double_free, leak, slice_after_free) must be caught by the library's last words or by a sanitizer, and this program fails. */
#include <pthread.h>
#include <unistd.h>

#include "check.h"

static levada_client_t *client;
static levada_producer_t *producer;
static levada_consumer_t *consumer;

static levada_batch_t *received(void) {
  levada_batch_t *batch = NULL;
  MUST(levada_consumer_receive(consumer, 20000, &batch, &err));
  return batch;
}

static void null(void) {
  levada_message_t message = message_of("x");
  message.payload = NULL;
  FAILS(LEVADA_E_CLIENT_USAGE, levada_producer_send(producer, &message, 1000, NULL, &err));
  FAILS(LEVADA_E_CLIENT_USAGE, levada_producer_send(producer, NULL, 1000, NULL, &err));
  FAILS(LEVADA_E_CLIENT_USAGE, levada_producer_send(NULL, &message, 1000, NULL, &err));
  FAILS(LEVADA_E_CLIENT_USAGE, levada_client_open(NULL, 1000, NULL, &err));
  FAILS(LEVADA_E_CLIENT_USAGE, levada_topic_create(client, NULL, NULL, NULL, &err));
  HOLDS(levada_producer_send(NULL, NULL, 0, NULL, NULL) == LEVADA_E_CLIENT_USAGE);
  HOLDS(levada_batch_count(NULL) == 0 && levada_value_get(NULL, NULL) == NULL && levada_event_token(NULL) == 0);
  levada_client_free(NULL);
  levada_batch_free(NULL);
}

static void struct_size(void) {
  levada_message_t message;
  memset(&message, 0, sizeof message);
  FAILS(LEVADA_E_CLIENT_USAGE, levada_producer_send(producer, &message, 1000, NULL, &err));
  levada_receipt_t receipt = {.struct_size = 8};
  message = message_of("x");
  FAILS(LEVADA_E_CLIENT_USAGE, levada_producer_send(producer, &message, 1000, &receipt, &err));
  /* As a program from before levada_message_t had a sequence says it. */
  message.struct_size = offsetof(levada_message_t, sequence);
  MUST(levada_producer_send(producer, &message, LEVADA_TIMEOUT_DEFAULT, NULL, &err));
  message.flags = LEVADA_MESSAGE_HAS_SEQUENCE;
  levada_error_t *refused = NULL;
  HOLDS(levada_producer_send(producer, &message, 1000, NULL, &refused) == LEVADA_E_CLIENT_USAGE);
  HOLDS(strcmp(levada_error_detail(refused, "argument"), "struct_size") == 0);
  levada_error_free(refused);
}

static void flags(void) {
  levada_message_t message = message_of("x");
  message.flags = 0x80;
  FAILS(LEVADA_E_CLIENT_USAGE, levada_producer_send(producer, &message, 1000, NULL, &err));
  FAILS(LEVADA_E_CLIENT_USAGE, levada_producer_flush(producer, -7, &err));
}

static void use_after_close(void) {
  MUST(levada_client_close(client, LEVADA_TIMEOUT_DEFAULT, &err));
  levada_message_t message = message_of("x");
  FAILS(LEVADA_E_CLOSED, levada_producer_send(producer, &message, 1000, NULL, &err));
  FAILS(LEVADA_E_CLOSED, levada_client_ping(client, 1000, NULL, &err));
}

static void batch_after_free(void) {
  levada_batch_t *batch = received();
  levada_batch_free(batch);
  levada_message_view_t view = LEVADA_MESSAGE_VIEW_INIT;
  FAILS(LEVADA_E_CLIENT_USAGE, levada_batch_get(batch, 0, &view, &err));
  HOLDS(levada_batch_count(batch) == 0);
}

static void another_type(void) {
  FAILS(LEVADA_E_CLIENT_USAGE, levada_client_ping((const levada_client_t *)(const void *)producer, 1000, NULL, &err));
}

static void *wait_long(void *argument) {
  (void)argument;
  levada_batch_t *batch = NULL;
  levada_consumer_seek(consumer, NULL, 0, "latest", NULL);
  FAILS(LEVADA_E_CLOSED, levada_consumer_receive(consumer, 20000, &batch, &err));
  return NULL;
}

static void two_receives(void) {
  pthread_t thread;
  levada_batch_t *batch = NULL;
  HOLDS(pthread_create(&thread, NULL, wait_long, NULL) == 0);
  int32_t code = 0;
  for (int i = 0; i < 2000 && code != LEVADA_E_CONCURRENT_CALL; i++) {
    usleep(1000);
    code = levada_consumer_receive(consumer, 0, &batch, NULL);
    levada_batch_free(batch);
  }
  HOLDS(code == LEVADA_E_CONCURRENT_CALL);
  MUST(levada_consumer_close(consumer, LEVADA_TIMEOUT_DEFAULT, &err));
  HOLDS(pthread_join(thread, NULL) == 0);
}

static void double_free(void) {
  levada_batch_t *batch = received();
  levada_batch_free(batch);
  levada_batch_free(batch);
}

static void leak(void) {
  levada_options_t *options = levada_options_new();
  MUST(levada_options_set_int(options, "linger_ms", 5, &err));
  options = NULL;
}

static void slice_after_free(void) {
  levada_message_t message = message_of("0123456789");
  MUST(levada_producer_send(producer, &message, 20000, NULL, &err));
  levada_batch_t *batch = received();
  levada_message_view_t view = LEVADA_MESSAGE_VIEW_INIT;
  MUST(levada_batch_get(batch, 0, &view, &err));
  /* Batches share the buffers they were received in: only with the connection gone is this one the last. */
  MUST(levada_client_close(client, LEVADA_TIMEOUT_DEFAULT, &err));
  levada_consumer_free(consumer);
  consumer = NULL;
  levada_batch_free(batch);
  int sum = 0;
  for (size_t i = 0; i < view.payload.len; i++) sum += view.payload.data[i];
  printf("%d\n", sum);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } programs[] = {
      {"null", null},
      {"struct_size", struct_size},
      {"flags", flags},
      {"use_after_close", use_after_close},
      {"batch_after_free", batch_after_free},
      {"another_type", another_type},
      {"two_receives", two_receives},
      {"double_free", double_free},
      {"leak", leak},
      {"slice_after_free", slice_after_free},
  };
  HOLDS(argc == 2);
  char topic[64];
  snprintf(topic, sizeof topic, "misuse/t%ld", (long)getpid());
  client = connected();
  create(client, topic, 1, "memory");
  producer = producer_of(client, topic);
  consumer = consumer_of(client, topic, "earliest");
  levada_message_t message = message_of("here");
  MUST(levada_producer_send(producer, &message, 20000, NULL, &err));
  int found = 0;
  for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
    if (strcmp(programs[i].name, argv[1]) != 0) continue;
    programs[i].run();
    found = 1;
  }
  HOLDS(found);
  levada_consumer_free(consumer);
  levada_producer_free(producer);
  levada_client_close(client, LEVADA_TIMEOUT_DEFAULT, NULL);
  levada_client_free(client);
  return 0;
}
