/* Calls given up at every point: each has exactly one outcome, nothing is lost that was not given up, nothing is left behind, and
   the client goes on. */
#include <unistd.h>

#include "check.h"

/* The next outcome, which must be that of `token`. */
static int32_t outcome(levada_queue_t *queue, uint64_t token) {
  levada_event_t *event = NULL;
  MUST(levada_queue_poll(queue, 20000, &event, &err));
  HOLDS(event != NULL && levada_event_token(event) == token);
  int32_t code = levada_event_code(event);
  levada_client_t *client = levada_event_take_client(event);
  if (client != NULL) closed(client);
  levada_event_free(event);
  return code;
}

/* Cancels what was submitted after that many microseconds. */
static int32_t given_up(levada_queue_t *queue, uint64_t token, levada_operation_t *operation, unsigned after_us) {
  if (after_us > 0) usleep(after_us);
  MUST(levada_operation_cancel(operation, &err));
  MUST(levada_operation_cancel(operation, &err));
  levada_operation_free(operation);
  return outcome(queue, token);
}

int main(void) {
  levada_client_t *client = connected();
  create(client, "cancel/t", 1, "disk");
  levada_queue_t *queue = NULL;
  MUST(levada_queue_new(&queue, &err));
  levada_producer_t *producer = producer_of(client, "cancel/t");
  levada_message_t message = message_of("maybe");
  uint64_t token = 0, cancelled = 0, done = 0;
  for (unsigned round = 0; round < 60; round++) {
    levada_operation_t *operation = NULL;
    /* From before it can have left to after it can have come back. */
    unsigned after_us = round % 12 == 0 ? 0 : 1u << (round % 12);
    int32_t codes[6];
    MUST(levada_producer_send_submit(producer, &message, queue, ++token, &operation, &err));
    codes[0] = given_up(queue, token, operation, after_us);
    MUST(levada_client_call_submit(client, "ping", NULL, queue, ++token, &operation, &err));
    codes[1] = given_up(queue, token, operation, after_us);
    MUST(levada_client_open_submit(NULL, queue, ++token, &operation, &err));
    codes[2] = given_up(queue, token, operation, after_us * 8);
    MUST(levada_producer_open_submit(client, "cancel/t", NULL, NULL, queue, ++token, &operation, &err));
    codes[3] = given_up(queue, token, operation, after_us);
    MUST(levada_consumer_open_submit(client, "cancel/t", NULL, queue, ++token, &operation, &err));
    codes[4] = given_up(queue, token, operation, after_us);
    MUST(levada_producer_flush_submit(producer, queue, ++token, &operation, &err));
    codes[5] = given_up(queue, token, operation, after_us);
    for (int i = 0; i < 6; i++) {
      HOLDS(codes[i] == 0 || codes[i] == LEVADA_E_CANCELLED);
      if (codes[i] == 0)
        done++;
      else
        cancelled++;
    }
  }
  HOLDS(done > 0 && cancelled > 0);

  /* A receive that is given up loses nothing, however late. */
  levada_consumer_t *consumer = consumer_of(client, "cancel/t", "latest");
  levada_batch_t *batch = NULL;
  FAILS(LEVADA_E_CLIENT_TIMEOUT, levada_consumer_receive(consumer, 300, &batch, &err));
  char text[16];
  for (int i = 0; i < 200; i++) {
    snprintf(text, sizeof text, "%d", i);
    message = message_of(text);
    MUST(levada_consumer_arm(consumer, queue, ++token, &err));
    MUST(levada_producer_enqueue(producer, &message, LEVADA_TIMEOUT_DEFAULT, NULL, &err));
    if (i % 3 != 0) usleep((unsigned)(i % 7) * 300);
    MUST(levada_consumer_disarm(consumer, &err));
    if (i % 5 == 0) levada_consumer_receive(consumer, 0, &batch, NULL), levada_batch_free(batch), batch = NULL;
    if (i % 5 == 0) MUST(levada_consumer_seek(consumer, NULL, 0, "last(1)", &err));
  }
  MUST(levada_producer_flush(producer, LEVADA_TIMEOUT_DEFAULT, &err));
  levada_value_t *end = NULL;
  MUST(levada_position_resolve(client, "cancel/t:0", "latest", &end, &err));
  uint64_t offset = levada_value_u64(levada_value_get(end, "offset"));
  levada_value_free(end);
  MUST(levada_consumer_seek_offset(consumer, NULL, 0, offset - 200, &err));
  for (int i = 0; i < 200; i++) {
    /* Given up once before each. */
    MUST(levada_consumer_arm(consumer, queue, ++token, &err));
    MUST(levada_consumer_disarm(consumer, &err));
    levada_message_view_t view = LEVADA_MESSAGE_VIEW_INIT;
    MUST(levada_consumer_receive(consumer, 20000, &batch, &err));
    MUST(levada_batch_get(batch, 0, &view, &err));
    snprintf(text, sizeof text, "%d", i);
    HOLDS(view.payload.len == strlen(text) && memcmp(view.payload.data, text, view.payload.len) == 0);
    levada_batch_free(batch);
  }
  levada_consumer_free(consumer);
  levada_producer_free(producer);
  levada_queue_free(queue);
  closed(client);
  HOLDS(live("clients") == 0 && live("producers") == 0 && live("consumers") == 0 && live("queues") == 0);
  return 0;
}
