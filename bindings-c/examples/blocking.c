/* Creates a topic, sends three messages, and reads them back, all in one thread.
   Connects as the environment says: LEVADA_SERVER and LEVADA_TOKEN_FILE, or a server of the same user on this machine. */
#include <inttypes.h>
#include <levada.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every call of the example must succeed. */
static void must(const char *what, int32_t code, levada_error_t **error) {
  if (code == 0) return;
  fprintf(stderr, "%s: %s (%" PRId32 "): %s\n", what, levada_error_name(*error), code, levada_error_message(*error));
  exit(1);
}

int main(void) {
  levada_error_t *err = NULL;
  levada_client_t *client = NULL;
  must("connect", levada_client_open(NULL, LEVADA_TIMEOUT_DEFAULT, &client, &err), &err);

  levada_options_t *settings = levada_options_new();
  must("set", levada_options_set_int(settings, "partition_count", 2, &err), &err);
  int32_t code = levada_topic_create(client, "shop/orders", settings, NULL, &err);
  if (code == LEVADA_E_ALREADY_EXISTS)
    levada_error_free(err);
  else
    must("create the topic", code, &err);
  levada_options_free(settings);

  levada_producer_t *producer = NULL;
  must("open a producer", levada_producer_open(client, "shop/orders", NULL, NULL, &producer, &err), &err);
  const char *texts[] = {"a pound of apples", "two lemons", "a melon"};
  for (size_t i = 0; i < 3; i++) {
    levada_message_t message = LEVADA_MESSAGE_INIT;
    message.payload = (const uint8_t *)texts[i];
    message.payload_len = strlen(texts[i]);
    message.key = (const uint8_t *)"market";
    message.key_len = strlen("market");
    levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
    must("send", levada_producer_send(producer, &message, LEVADA_TIMEOUT_DEFAULT, &receipt, &err), &err);
    printf("sent to partition %" PRIu32 " at offset %" PRIu64 "\n", receipt.partition, receipt.offset);
  }
  must("close the producer", levada_producer_close(producer, LEVADA_TIMEOUT_DEFAULT, &err), &err);
  levada_producer_free(producer);

  levada_options_t *reading = levada_options_new();
  must("set", levada_options_set_text(reading, "from", "earliest", &err), &err);
  must("set", levada_options_set_bool(reading, "until_end", true, &err), &err);
  levada_consumer_t *consumer = NULL;
  must("open a consumer", levada_consumer_open(client, "shop/orders", reading, &consumer, &err), &err);
  levada_options_free(reading);
  for (bool finished = false; !finished;) {
    levada_batch_t *batch = NULL;
    must("receive",
         levada_consumer_receive_batch(consumer, LEVADA_MAX_MESSAGES_DEFAULT, LEVADA_MAX_BYTES_DEFAULT,
                                       LEVADA_TIMEOUT_DEFAULT, &batch, &err),
         &err);
    levada_message_view_t message = LEVADA_MESSAGE_VIEW_INIT;
    for (size_t i = 0; levada_batch_get(batch, i, &message, NULL) == 0; i++)
      printf("%" PRIu32 "@%" PRIu64 ": %.*s\n", message.partition, message.offset, (int)message.payload.len,
             (const char *)message.payload.data);
    finished = levada_batch_finished(batch);
    levada_batch_free(batch);
  }
  must("close the consumer", levada_consumer_close(consumer, LEVADA_TIMEOUT_DEFAULT, &err), &err);
  levada_consumer_free(consumer);

  must("close", levada_client_close(client, LEVADA_TIMEOUT_DEFAULT, &err), &err);
  levada_client_free(client);
  return 0;
}
