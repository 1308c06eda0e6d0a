/* Closing with work in flight: whoever waits is told, what was taken is settled, and all handles stay usable until freed. */
#include <pthread.h>
#include <unistd.h>

#include "check.h"

typedef struct {
  levada_client_t *client;
  levada_producer_t *producer;
  levada_consumer_t *consumer;
  int sent;
} work_t;

static void *send_until_closed(void *argument) {
  work_t *work = argument;
  levada_message_t message = message_of("until the end");
  int32_t code;
  while ((code = levada_producer_send(work->producer, &message, 20000, NULL, NULL)) == 0) work->sent++;
  HOLDS(code == LEVADA_E_CLOSED || code == LEVADA_E_CANCELLED);
  return NULL;
}

static void *receive_until_closed(void *argument) {
  work_t *work = argument;
  levada_batch_t *batch = NULL;
  int32_t code;
  while ((code = levada_consumer_receive_batch(work->consumer, 1000, 1000000, LEVADA_TIMEOUT_INFINITE, &batch, NULL)) == 0)
    levada_batch_free(batch);
  HOLDS(code == LEVADA_E_CLOSED);
  return NULL;
}

static void *ping_until_closed(void *argument) {
  work_t *work = argument;
  int32_t code;
  while ((code = levada_client_ping(work->client, 20000, NULL, NULL)) == 0) continue;
  HOLDS(code == LEVADA_E_CLOSED);
  return NULL;
}

int main(void) {
  levada_client_t *client = connected();
  create(client, "close/t", 2, "disk");
  closed(client);
  for (int round = 0; round < 10; round++) {
    work_t work = {.client = connected()};
    pthread_t threads[5];
    work.producer = producer_of(work.client, "close/t");
    work.consumer = consumer_of(work.client, "close/t", "latest");
    work_t works[2] = {work, work};
    for (int i = 0; i < 2; i++) HOLDS(pthread_create(&threads[i], NULL, send_until_closed, &works[i]) == 0);
    HOLDS(pthread_create(&threads[2], NULL, receive_until_closed, &work) == 0);
    for (int i = 3; i < 5; i++) HOLDS(pthread_create(&threads[i], NULL, ping_until_closed, &work) == 0);
    usleep(20000 + (unsigned)round * 3000);
    levada_delivery_t *delivery = NULL;
    levada_message_t last = message_of("the last");
    MUST(levada_producer_enqueue(work.producer, &last, LEVADA_TIMEOUT_DEFAULT, &delivery, &err));
    MUST(levada_client_close(work.client, 20000, &err));
    /* What was taken before the close is settled by it. */
    bool settled = false;
    MUST(levada_delivery_try(delivery, &settled, NULL, &err));
    HOLDS(settled);
    levada_delivery_free(delivery);
    for (int i = 0; i < 5; i++) HOLDS(pthread_join(threads[i], NULL) == 0);
    HOLDS(works[0].sent + works[1].sent > 0);
    FAILS(LEVADA_E_CLOSED, levada_producer_send(work.producer, &last, LEVADA_TIMEOUT_DEFAULT, NULL, &err));
    FAILS(LEVADA_E_CLOSED, levada_client_ping(work.client, LEVADA_TIMEOUT_DEFAULT, NULL, &err));
    MUST(levada_client_close(work.client, LEVADA_TIMEOUT_DEFAULT, &err));
    MUST(levada_consumer_close(work.consumer, LEVADA_TIMEOUT_DEFAULT, &err));
    levada_producer_free(work.producer);
    levada_consumer_free(work.consumer);
    levada_client_free(work.client);
  }
  HOLDS(live("clients") == 0 && live("producers") == 0 && live("consumers") == 0);

  /* Freed without closing, in the worst order: nothing waits, nothing breaks. */
  client = connected();
  levada_producer_t *producer = producer_of(client, "close/t");
  levada_consumer_t *consumer = consumer_of(client, "close/t", "earliest");
  levada_message_t message = message_of("forgotten");
  MUST(levada_producer_enqueue(producer, &message, LEVADA_TIMEOUT_DEFAULT, NULL, &err));
  levada_client_free(client);
  levada_batch_t *batch = NULL;
  MUST(levada_consumer_receive(consumer, 20000, &batch, &err));
  levada_consumer_free(consumer);
  levada_producer_free(producer);
  levada_message_view_t view = LEVADA_MESSAGE_VIEW_INIT;
  MUST(levada_batch_get(batch, 0, &view, &err));
  HOLDS(view.payload.len > 0 && view.payload.data[0] != 0);
  levada_batch_free(batch);
  return 0;
}
