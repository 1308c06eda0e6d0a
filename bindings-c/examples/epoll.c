/* Sends and receives in one thread that never waits but in epoll: the queue's descriptor is one of its own.
   Connects as the environment says: LEVADA_SERVER and LEVADA_TOKEN_FILE, or a server of the same user on this machine. */
#include <inttypes.h>
#include <levada.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { CONNECTED = 1, CREATED, CAN_SEND, CAN_RECEIVE, READY, CLOSED };
enum { MESSAGES = 5 };

static levada_queue_t *queue;
static levada_client_t *client;
static levada_producer_t *producer;
static levada_consumer_t *consumer;
static int acknowledged, received;
static bool is_closing;

static void must(const char *what, int32_t code, const levada_error_t *error) {
  if (code == 0) return;
  fprintf(stderr, "%s: %s (%" PRId32 "): %s\n", what, levada_error_name(error), code, levada_error_message(error));
  exit(1);
}

static void send_all(void) {
  for (uint64_t i = 0; i < MESSAGES; i++) {
    char text[32];
    levada_message_t message = LEVADA_MESSAGE_INIT;
    message.payload = (const uint8_t *)text;
    message.payload_len = (size_t)snprintf(text, sizeof text, "message %" PRIu64, i);
    must("send", levada_producer_try_send(producer, &message, i, NULL), NULL);
  }
}

/* Takes what there is, and asks to be told when there is more. */
static void receive(void) {
  levada_error_t *err = NULL;
  levada_batch_t *batch = NULL;
  for (bool more = true; more; levada_batch_free(batch)) {
    int32_t code =
        levada_consumer_take(consumer, LEVADA_MAX_MESSAGES_DEFAULT, LEVADA_MAX_BYTES_DEFAULT, &batch, &err);
    must("take", code, err);
    levada_message_view_t message = LEVADA_MESSAGE_VIEW_INIT;
    for (size_t i = 0; levada_batch_get(batch, i, &message, NULL) == 0; i++) {
      printf("%" PRIu64 ": %.*s\n", message.offset, (int)message.payload.len, (const char *)message.payload.data);
      received++;
    }
    more = levada_batch_more(batch);
  }
  int32_t code = levada_consumer_arm(consumer, queue, READY, &err);
  must("arm", code, err);
}

static bool on_event(levada_event_t *event) {
  levada_error_t *err = NULL;
  int32_t code = levada_event_code(event);
  if (levada_event_kind(event) == LEVADA_EVENT_ACKED) {
    must("acknowledge", code, levada_event_error(event));
    acknowledged += (int)levada_event_token_count(event);
  } else if (levada_event_token(event) == CREATED && code == LEVADA_E_ALREADY_EXISTS) {
    code = 0;
  }
  must("call", code, levada_event_error(event));
  switch (levada_event_token(event)) {
    case CONNECTED: {
      client = levada_event_take_client(event);
      levada_options_t *arguments = levada_options_new();
      code = levada_options_set_text(arguments, "topic", "shop/events", &err);
      must("set", code, err);
      code = levada_client_call_submit(client, "create_topic", arguments, queue, CREATED, NULL, &err);
      must("create the topic", code, err);
      levada_options_free(arguments);
      break;
    }
    case CREATED:
      if (levada_event_kind(event) != LEVADA_EVENT_DONE) break;
      code = levada_consumer_open_submit(client, "shop/events", NULL, queue, CAN_RECEIVE, NULL, &err);
      must("open a consumer", code, err);
      break;
    case CAN_RECEIVE:
      if (levada_event_kind(event) != LEVADA_EVENT_DONE) break;
      consumer = levada_event_take_consumer(event);
      receive();
      code = levada_producer_open_submit(client, "shop/events", NULL, queue, queue, CAN_SEND, NULL, &err);
      must("open a producer", code, err);
      break;
    case CAN_SEND:
      if (levada_event_kind(event) != LEVADA_EVENT_DONE) break;
      producer = levada_event_take_producer(event);
      send_all();
      break;
    case READY:
      if (!is_closing) receive();
      break;
    case CLOSED:
      return false;
  }
  if (!is_closing && acknowledged == MESSAGES && received >= MESSAGES) {
    is_closing = true;
    code = levada_client_close_submit(client, LEVADA_TIMEOUT_DEFAULT, queue, CLOSED, NULL, &err);
    must("close", code, err);
  }
  return true;
}

int main(void) {
  levada_error_t *err = NULL;
  int32_t code = levada_queue_new(&queue, &err);
  must("make a queue", code, err);
  code = levada_client_open_submit(NULL, queue, CONNECTED, NULL, &err);
  must("connect", code, err);

  int loop = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event wanted = {.events = EPOLLIN};
  if (loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, levada_queue_fd(queue), &wanted) != 0) return 1;
  for (bool goes_on = true; goes_on;) {
    struct epoll_event happened;
    if (epoll_wait(loop, &happened, 1, 20000) <= 0) return 1;
    levada_event_t *event = NULL;
    while (goes_on && levada_queue_poll(queue, 0, &event, NULL) == 0 && event != NULL) {
      goes_on = on_event(event);
      levada_event_free(event);
    }
  }
  close(loop);
  levada_consumer_free(consumer);
  levada_producer_free(producer);
  levada_client_free(client);
  levada_queue_free(queue);
  return 0;
}
