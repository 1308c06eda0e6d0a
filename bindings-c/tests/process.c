/* What a process has once: its log, told to a function from a thread of the library, and the closing of all that is open. */
#include <pthread.h>

#include "check.h"

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t asker;
  bool is_told;
} heard_t;

static void on_line(void *user, const char *level, const char *target, const char *message, int64_t timestamp_us) {
  heard_t *heard = user;
  HOLDS(strcmp(level, "ERROR") == 0 || strcmp(level, "WARN") == 0);
  HOLDS(strncmp(target, "levada", 6) == 0 && 1600000000000000 < timestamp_us);
  pthread_mutex_lock(&heard->lock);
  HOLDS(!pthread_equal(pthread_self(), heard->asker));
  heard->is_told = heard->is_told || strstr(message, "certificates are not verified") != NULL;
  pthread_cond_signal(&heard->changed);
  pthread_mutex_unlock(&heard->lock);
}

static void the_log_is_told_to_one_function(void) {
  /* It may be called until the process ends. */
  static heard_t heard = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
  heard.asker = pthread_self();
  FAILS(LEVADA_E_CLIENT_USAGE, levada_log_subscribe("loud", on_line, &heard, &err));
  FAILS(LEVADA_E_CLIENT_USAGE, levada_log_subscribe("warn", NULL, &heard, &err));
  MUST(levada_log_subscribe("warn", on_line, &heard, &err));
  FAILS(LEVADA_E_CONFLICT, levada_log_subscribe("warn", on_line, &heard, &err));
  levada_options_t *options = option(option(NULL, "server", "127.0.0.1:1"), "token", "t");
  MUST(levada_options_set_bool(options, "tls_dangerously_accept_any_certificate", true, &err));
  levada_client_t *client = NULL;
  FAILS(LEVADA_E_CONNECT_FAILED, levada_client_open(options, LEVADA_TIMEOUT_DEFAULT, &client, &err));
  levada_options_free(options);
  pthread_mutex_lock(&heard.lock);
  while (!heard.is_told) pthread_cond_wait(&heard.changed, &heard.lock);
  pthread_mutex_unlock(&heard.lock);
}

static void all_that_is_open_is_closed(void) {
  levada_client_t *clients[2] = {connected(), connected()};
  create(clients[0], "process/t", 1, "disk");
  levada_producer_t *producers[2];
  levada_delivery_t *deliveries[2];
  levada_message_t message = message_of("before the end");
  for (int i = 0; i < 2; i++) {
    producers[i] = producer_of(clients[i], "process/t");
    MUST(levada_producer_enqueue(producers[i], &message, LEVADA_TIMEOUT_DEFAULT, &deliveries[i], &err));
  }
  FAILS(LEVADA_E_CLIENT_USAGE, levada_close_all(-3, NULL, &err));
  size_t unsettled = 1;
  MUST(levada_close_all(20000, &unsettled, &err));
  HOLDS(unsettled == 0);
  for (int i = 0; i < 2; i++) {
    bool settled = false;
    MUST(levada_delivery_try(deliveries[i], &settled, NULL, &err));
    HOLDS(settled);
    FAILS(LEVADA_E_CLOSED, levada_client_ping(clients[i], LEVADA_TIMEOUT_DEFAULT, NULL, &err));
    levada_delivery_free(deliveries[i]);
    levada_producer_free(producers[i]);
    levada_client_free(clients[i]);
  }
  /* Nothing is open any more; that is no error, and new clients may be. */
  MUST(levada_close_all(LEVADA_TIMEOUT_DEFAULT, NULL, &err));
  closed(connected());
}

int main(void) {
  the_log_is_told_to_one_function();
  all_that_is_open_is_closed();
  HOLDS(live("clients") == 0 && live("producers") == 0);
  return 0;
}
