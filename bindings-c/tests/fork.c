/* 200 forks while other threads send and receive: a child is told that what it inherited is the parent's, frees it without harm, and
   every tenth connects anew. The parent notices nothing. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static levada_client_t *client;
static levada_producer_t *producer;
static levada_consumer_t *consumer;
static levada_queue_t *queue;
static atomic_bool is_over;
static atomic_ulong sent, received;

static void *keep_sending(void *argument) {
  (void)argument;
  levada_message_t message = message_of("from the parent");
  while (!is_over) {
    MUST(levada_producer_send(producer, &message, 20000, NULL, &err));
    sent++;
  }
  return NULL;
}

static void *keep_receiving(void *argument) {
  (void)argument;
  while (!is_over) {
    levada_batch_t *batch = NULL;
    MUST(levada_consumer_receive_batch(consumer, 1000, 1000000, 100, &batch, &err));
    received += levada_batch_count(batch);
    levada_batch_free(batch);
  }
  return NULL;
}

static void in_child(int number, levada_delivery_t *delivery, levada_batch_t *batch) {
  levada_message_t message = message_of("from a child");
  levada_batch_t *other = NULL;
  levada_event_t *event = NULL;
  FAILS(LEVADA_E_FORKED, levada_producer_send(producer, &message, 1000, NULL, &err));
  FAILS(LEVADA_E_FORKED, levada_client_ping(client, 1000, NULL, &err));
  FAILS(LEVADA_E_FORKED, levada_consumer_receive(consumer, 1000, &other, &err));
  FAILS(LEVADA_E_FORKED, levada_consumer_take(consumer, 10, 1000, &other, &err));
  FAILS(LEVADA_E_FORKED, levada_delivery_wait(delivery, 1000, NULL, &err));
  HOLDS(levada_queue_poll(queue, 0, &event, NULL) == 0 && event == NULL);
  HOLDS(levada_queue_fd(queue) == -1);
  MUST(levada_producer_close(producer, 1000, &err));
  MUST(levada_consumer_close(consumer, 1000, &err));
  MUST(levada_client_close(client, 1000, &err));
  levada_message_view_t view = LEVADA_MESSAGE_VIEW_INIT;
  MUST(levada_batch_get(batch, 0, &view, &err));
  HOLDS(view.payload.len > 0);
  levada_batch_free(batch);
  levada_delivery_free(delivery);
  levada_producer_free(producer);
  levada_consumer_free(consumer);
  levada_client_free(client);
  levada_queue_free(queue);
  if (number % 10 == 0) {
    levada_client_t *own = connected();
    levada_producer_t *own_producer = producer_of(own, "fork/t");
    MUST(levada_producer_send(own_producer, &message, 20000, NULL, &err));
    levada_producer_free(own_producer);
    closed(own);
  }
  _exit(0);
}

int main(void) {
  client = connected();
  create(client, "fork/t", 2, "memory");
  producer = producer_of(client, "fork/t");
  consumer = consumer_of(client, "fork/t", "earliest");
  MUST(levada_queue_new(&queue, &err));
  levada_delivery_t *delivery = NULL;
  levada_message_t message = message_of("first");
  MUST(levada_producer_enqueue(producer, &message, LEVADA_TIMEOUT_DEFAULT, &delivery, &err));
  levada_batch_t *batch = NULL;
  MUST(levada_consumer_receive(consumer, 20000, &batch, &err));
  pthread_t threads[3];
  for (int i = 0; i < 2; i++) HOLDS(pthread_create(&threads[i], NULL, keep_sending, NULL) == 0);
  HOLDS(pthread_create(&threads[2], NULL, keep_receiving, NULL) == 0);
  for (int number = 0; number < 200; number++) {
    pid_t child = fork();
    HOLDS(child >= 0);
    if (child == 0) {
      alarm(30);
      in_child(number, delivery, batch);
    }
    int status = 0;
    HOLDS(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      fprintf(stderr, "child %d ended with status %x\n", number, (unsigned)status);
      return 1;
    }
  }
  is_over = true;
  for (int i = 0; i < 3; i++) HOLDS(pthread_join(threads[i], NULL) == 0);
  HOLDS(sent > 0 && received > 0);
  levada_batch_free(batch);
  levada_delivery_free(delivery);
  levada_producer_free(producer);
  levada_consumer_free(consumer);
  levada_queue_free(queue);
  closed(client);
  return 0;
}
