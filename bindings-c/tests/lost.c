/* Connections that break while the library writes: a program that leaves SIGPIPE as it is does not die of it, every message is
   stored once and in order, and what never arrives is counted. The server stands behind a proxy that hangs up in the middle of what
   it is sent. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

enum { LOSSES = 15, BYTES_UNTIL_LOST = 20000 };

static atomic_int losses;
static atomic_bool is_gone;

static struct sockaddr_in server_address(void) {
  const char *text = getenv("LEVADA_SERVER"), *colon = strrchr(text, ':');
  char host[64] = {0};
  HOLDS(colon != NULL && (size_t)(colon - text) < sizeof host);
  memcpy(host, text, (size_t)(colon - text));
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
  HOLDS(inet_pton(AF_INET, host, &address.sin_addr) == 1);
  return address;
}

/* Passes on what there is, up to so much; the number of bytes, 0 at the end. */
static size_t pass(int from, int to, size_t most) {
  char bytes[4096];
  ssize_t count = recv(from, bytes, most, 0);
  for (ssize_t sent = 0, part; sent < count; sent += part)
    if ((part = send(to, bytes + sent, (size_t)(count - sent), MSG_NOSIGNAL)) <= 0) return 0;
  return count < 0 ? 0 : (size_t)count;
}

/* Serves a connection until it has passed on what one may, and the last ones for as long as they live. */
static void *serve(void *argument) {
  int client = (int)(intptr_t)argument, server = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = server_address();
  HOLDS(connect(server, (struct sockaddr *)&address, sizeof address) == 0);
  struct pollfd waits[2] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
  size_t passed = 0, part = 1;
  while (part != 0 && (losses >= LOSSES || passed < BYTES_UNTIL_LOST)) {
    HOLDS(poll(waits, 2, -1) > 0);
    if (is_gone) part = 0;
    if (waits[0].revents != 0 && part != 0) passed += part = pass(client, server, 4096);
    if (waits[1].revents != 0 && part != 0) part = pass(server, client, 4096);
  }
  if (part != 0) {
    losses++;
    /* An acknowledgement, after which the client sends more that nobody reads; then more of them, for which it sends again. */
    if (poll(&waits[1], 1, 100) > 0) pass(server, client, 64);
    poll(&waits[0], 1, 100);
    if (poll(&waits[1], 1, 100) > 0) pass(server, client, 4096);
  }
  /* First the end of the stream, then a reset for what was not read: the next write is one to a broken pipe. */
  shutdown(client, SHUT_WR);
  close(client);
  close(server);
  return NULL;
}

static void *accept_all(void *listener) {
  for (int client; (client = accept(*(int *)listener, NULL, NULL)) >= 0;) {
    pthread_t thread;
    HOLDS(pthread_create(&thread, NULL, serve, (void *)(intptr_t)client) == 0 && pthread_detach(thread) == 0);
  }
  return NULL;
}

int main(void) {
  signal(SIGPIPE, SIG_DFL);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  HOLDS(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 8) == 0);
  HOLDS(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
  pthread_t proxy;
  HOLDS(pthread_create(&proxy, NULL, accept_all, &listener) == 0);

  char name[64];
  snprintf(name, sizeof name, "127.0.0.1:%d", ntohs(address.sin_port));
  levada_options_t *options = option(NULL, "server", name);
  MUST(levada_options_set_int(options, "backoff_floor_ms", 1, &err));
  MUST(levada_options_set_int(options, "backoff_ceiling_ms", 10, &err));
  levada_client_t *client = NULL;
  MUST(levada_client_open(options, 20000, &client, &err));
  levada_options_free(options);
  create(client, "lost/t", 1, "memory");
  levada_producer_t *producer = NULL;
  options = levada_options_new();
  MUST(levada_options_set_int(options, "batch_messages", 1, &err));
  MUST(levada_options_set_int(options, "max_in_flight", 8, &err));
  MUST(levada_producer_open(client, "lost/t", options, NULL, &producer, &err));
  levada_options_free(options);

  uint64_t sent = 0;
  levada_message_t message = LEVADA_MESSAGE_INIT;
  message.payload = (const uint8_t *)&sent;
  message.payload_len = sizeof sent;
  for (; losses < LOSSES; sent++) MUST(levada_producer_enqueue(producer, &message, 20000, NULL, &err));
  MUST(levada_producer_flush(producer, 20000, &err));

  options = option(NULL, "from", "earliest");
  MUST(levada_options_set_bool(options, "until_end", true, &err));
  levada_consumer_t *consumer = NULL;
  MUST(levada_consumer_open(client, "lost/t", options, &consumer, &err));
  levada_options_free(options);
  uint64_t count = 0;
  for (bool finished = false; !finished;) {
    levada_batch_t *batch = NULL;
    MUST(levada_consumer_receive_batch(consumer, 1000, LEVADA_MAX_BYTES_DEFAULT, 20000, &batch, &err));
    levada_message_view_t view = LEVADA_MESSAGE_VIEW_INIT;
    for (size_t i = 0; i < levada_batch_count(batch); i++, count++) {
      MUST(levada_batch_get(batch, i, &view, &err));
      HOLDS(view.payload.len == sizeof count && memcmp(view.payload.data, &count, sizeof count) == 0);
    }
    finished = levada_batch_finished(batch);
    levada_batch_free(batch);
  }
  HOLDS(count == sent);
  levada_consumer_free(consumer);

  /* Without a server what was handed over is not settled, and the end of all says how much that is. */
  is_gone = true;
  shutdown(listener, SHUT_RDWR);
  HOLDS(pthread_join(proxy, NULL) == 0);
  close(listener);
  for (int i = 0; i < 5; i++) MUST(levada_producer_enqueue(producer, &message, 20000, NULL, &err));
  size_t unsettled = 0;
  MUST(levada_close_all(100, &unsettled, &err));
  HOLDS(unsettled == 5);
  levada_producer_free(producer);
  levada_client_free(client);
  return 0;
}
