/* Every part of the interface once, as a program would use it, and what is refused. */
#include <pthread.h>

#include "check.h"

static void options_are_refused_by_name(void) {
  levada_client_t *client = NULL;
  levada_error_t *error = NULL;
  levada_options_t *options = option(NULL, "colour", "blue");
  HOLDS(levada_client_open(options, LEVADA_TIMEOUT_DEFAULT, &client, &error) == LEVADA_E_CLIENT_USAGE);
  HOLDS(client == NULL && strcmp(levada_error_detail(error, "argument"), "colour") == 0);
  HOLDS(levada_error_class(error) == LEVADA_CLASS_USAGE && !levada_error_is_retriable(error));
  HOLDS(levada_error_detail_count(error) == 1 && strcmp(levada_error_detail_name(error, 0), "argument") == 0);
  levada_error_free(error);
  levada_options_free(options);
}

static void a_refused_connection_is_told(void) {
  levada_client_t *client = NULL;
  levada_options_t *options = option(option(NULL, "server", "127.0.0.1:1"), "token", "t");
  FAILS(LEVADA_E_CONNECT_FAILED, levada_client_open(options, LEVADA_TIMEOUT_DEFAULT, &client, &err));
  levada_options_free(options);
}

static void answers_are_read_by_name(levada_client_t *client) {
  create(client, "calls/answers", 3, "memory");
  levada_value_t *answer = NULL;
  MUST(levada_topic_describe(client, "calls/answers", &answer, &err));
  const levada_value_t *topic = levada_value_get(answer, "topic"), *settings = levada_value_get(topic, "options");
  HOLDS(strcmp(levada_value_text(levada_value_get(topic, "topic")), "answers") == 0);
  HOLDS(levada_value_u64(levada_value_get(settings, "partition_count")) == 3);
  HOLDS(strcmp(levada_value_text(levada_value_get(settings, "durability")), "memory") == 0);
  HOLDS(levada_value_kind(levada_value_get(settings, "retention_bytes")) == LEVADA_KIND_NULL);
  HOLDS(levada_value_count(levada_value_get(answer, "partitions")) == 3);
  levada_value_free(answer);
  MUST(levada_client_server_info(client, &answer, &err));
  HOLDS(levada_value_bytes(levada_value_get(answer, "cluster_id")).len == 16);
  levada_value_free(answer);
  int64_t took = -1;
  MUST(levada_client_ping(client, LEVADA_TIMEOUT_DEFAULT, &took, &err));
  HOLDS(took >= 0);
  FAILS(LEVADA_E_TOPIC_NOT_FOUND, levada_topic_delete(client, "calls/nothing", NULL, &err));
  FAILS(LEVADA_E_ALREADY_EXISTS, levada_topic_create(client, "calls/answers", NULL, &answer, &err));
  HOLDS(answer == NULL);
}

static void all_of_a_message_arrives(levada_client_t *client) {
  create(client, "calls/message", 2, "memory");
  levada_producer_t *producer = producer_of(client, "calls/message");
  levada_header_t headers[6];
  for (int i = 0; i < 6; i++) {
    static const char *const names[] = {"s", "b", "t", "i", "u", "f"};
    headers[i] = LEVADA_HEADER_INIT;
    headers[i].kind = i + 1;
    headers[i].name = names[i];
    headers[i].name_len = 1;
    headers[i].data = (const uint8_t *)"text";
    headers[i].len = 4;
    headers[i].boolean = 1;
    headers[i].i64 = -5;
    headers[i].u64 = UINT64_MAX;
    headers[i].f64 = 0.5;
  }
  levada_message_t message = message_of("payload");
  message.flags = LEVADA_MESSAGE_HAS_TIMESTAMP | LEVADA_MESSAGE_HAS_PARTITION;
  message.key = (const uint8_t *)"";
  message.headers = headers;
  message.header_count = 6;
  message.timestamp_us = -7;
  message.partition = 1;
  message.id = (const uint8_t *)"0123456789abcdef";
  levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
  MUST(levada_producer_send(producer, &message, LEVADA_TIMEOUT_DEFAULT, &receipt, &err));
  HOLDS(receipt.partition == 1 && receipt.has_offset && receipt.offset == 0 && receipt.message_count == 1);
  levada_message_t bare = message_of(NULL);
  bare.flags = LEVADA_MESSAGE_HAS_PARTITION;
  bare.partition = 1;
  MUST(levada_producer_send(producer, &bare, LEVADA_TIMEOUT_DEFAULT, NULL, &err));

  levada_consumer_t *consumer = consumer_of(client, "calls/message:1", "earliest");
  levada_batch_t *batch = NULL;
  MUST(levada_consumer_receive(consumer, 10000, &batch, &err));
  levada_message_view_t view = LEVADA_MESSAGE_VIEW_INIT;
  MUST(levada_batch_get(batch, 0, &view, &err));
  HOLDS(view.partition == 1 && view.offset == 0 && view.timestamp_us == -7);
  HOLDS(view.payload.len == 7 && memcmp(view.payload.data, "payload", 7) == 0);
  HOLDS(view.key.data != NULL && view.key.len == 0 && memcmp(view.id, "0123456789abcdef", 16) == 0);
  HOLDS(levada_batch_header_count(batch, 0) == 6);
  for (int i = 0; i < 6; i++) {
    levada_header_t header = LEVADA_HEADER_INIT;
    MUST(levada_batch_header(batch, 0, (size_t)i, &header, &err));
    HOLDS(header.kind == i + 1 && header.name_len == 1 && header.name[0] == "sbtiuf"[i]);
    HOLDS(i > 1 || (header.len == 4 && memcmp(header.data, "text", 4) == 0));
    HOLDS((i != 2 || header.boolean == 1) && (i != 3 || header.i64 == -5));
    HOLDS((i != 4 || header.u64 == UINT64_MAX) && (i != 5 || header.f64 == 0.5));
  }
  FAILS(LEVADA_E_CLIENT_USAGE, levada_batch_get(batch, 1, &view, &err));
  levada_batch_free(batch);
  MUST(levada_consumer_receive(consumer, 10000, &batch, &err));
  MUST(levada_batch_get(batch, 0, &view, &err));
  HOLDS(view.payload.data == NULL && view.key.data == NULL && view.id == NULL && view.offset == 1);
  HOLDS(levada_batch_header_count(batch, 0) == 0);
  levada_batch_free(batch);
  FAILS(LEVADA_E_CLIENT_TIMEOUT, levada_consumer_receive(consumer, 50, &batch, &err));
  HOLDS(batch == NULL);

  uint64_t offset = 0;
  bool known = false;
  MUST(levada_consumer_position(consumer, NULL, 1, &offset, &known, &err));
  HOLDS(known && offset == 2);
  MUST(levada_consumer_seek_offset(consumer, NULL, 1, 1, &err));
  MUST(levada_consumer_receive_batch(consumer, 10, 1000000, 10000, &batch, &err));
  HOLDS(levada_batch_count(batch) == 1);
  levada_batch_free(batch);
  FAILS(LEVADA_E_CLIENT_USAGE, levada_consumer_seek(consumer, NULL, 1, "nowhere", &err));
  FAILS(LEVADA_E_PARTITION_NOT_FOUND, levada_consumer_pause(consumer, NULL, 0, &err));
  levada_consumer_free(consumer);
  levada_producer_free(producer);
}

static void many_are_sent_together(levada_client_t *client) {
  create(client, "calls/many", 1, "memory");
  levada_producer_t *producer = producer_of(client, "calls/many");
  levada_message_t list[100];
  for (int i = 0; i < 100; i++) list[i] = message_of("one of many");
  levada_receipts_t *receipts = NULL;
  MUST(levada_producer_send_batch(producer, list, 100, LEVADA_TIMEOUT_DEFAULT, &receipts, &err));
  uint64_t count = 0;
  levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
  for (size_t i = 0; i < levada_receipts_count(receipts); i++) {
    MUST(levada_receipts_at(receipts, i, &receipt, &err));
    count += receipt.message_count;
  }
  HOLDS(count == 100);
  levada_receipts_free(receipts);
  const uint32_t lengths[] = {3, 0, 5};
  MUST(levada_producer_send_packed(producer, (const uint8_t *)"onethree", 8, lengths, 3, LEVADA_TIMEOUT_DEFAULT, NULL, &err));
  FAILS(LEVADA_E_CLIENT_USAGE,
        levada_producer_send_packed(producer, (const uint8_t *)"one", 3, lengths, 3, LEVADA_TIMEOUT_DEFAULT, NULL, &err));

  levada_delivery_t *delivery = NULL;
  MUST(levada_producer_enqueue(producer, list, LEVADA_TIMEOUT_DEFAULT, &delivery, &err));
  MUST(levada_producer_flush(producer, LEVADA_TIMEOUT_DEFAULT, &err));
  bool settled = false;
  MUST(levada_delivery_try(delivery, &settled, &receipt, &err));
  HOLDS(settled && receipt.offset == 103);
  MUST(levada_delivery_wait(delivery, LEVADA_TIMEOUT_DEFAULT, &receipt, &err));
  levada_delivery_free(delivery);

  levada_options_t *options = option(NULL, "from", "earliest");
  MUST(levada_options_set_bool(options, "until_end", true, &err));
  levada_consumer_t *consumer = NULL;
  MUST(levada_consumer_open(client, "calls/many", options, &consumer, &err));
  levada_options_free(options);
  count = 0;
  for (bool finished = false; !finished;) {
    levada_batch_t *batch = NULL;
    MUST(levada_consumer_receive_batch(consumer, 7, LEVADA_MAX_BYTES_DEFAULT, 10000, &batch, &err));
    HOLDS(levada_batch_count(batch) <= 7);
    levada_message_view_t view = LEVADA_MESSAGE_VIEW_INIT;
    for (size_t i = 0; i < levada_batch_count(batch); i++) {
      MUST(levada_batch_get(batch, i, &view, &err));
      HOLDS(view.offset == count++);
    }
    finished = levada_batch_finished(batch);
    levada_batch_free(batch);
  }
  HOLDS(count == 104);
  levada_consumer_free(consumer);
  levada_producer_free(producer);
}

static void acknowledgements_come_by_the_batch(levada_client_t *client) {
  create(client, "calls/acks", 1, "memory");
  levada_queue_t *queue = NULL;
  MUST(levada_queue_new(&queue, &err));
  levada_producer_t *producer = NULL;
  MUST(levada_producer_open(client, "calls/acks", NULL, queue, &producer, &err));
  levada_message_t message = message_of("acknowledge me");
  for (uint64_t token = 0; token < 1000; token++) MUST(levada_producer_try_send(producer, &message, token, &err));
  for (uint64_t next = 0; next < 1000;) {
    levada_event_t *event = NULL;
    levada_receipt_t receipt = LEVADA_RECEIPT_INIT;
    MUST(levada_queue_poll(queue, 10000, &event, &err));
    HOLDS(levada_event_kind(event) == LEVADA_EVENT_ACKED && levada_event_code(event) == 0);
    HOLDS(levada_event_producer(event) == levada_producer_id(producer));
    MUST(levada_event_receipt(event, &receipt, &err));
    HOLDS(receipt.offset == next && receipt.message_count == levada_event_token_count(event));
    for (size_t i = 0; i < levada_event_token_count(event); i++) HOLDS(levada_event_tokens(event)[i] == next++);
    HOLDS(levada_event_take_client(event) == NULL);
    levada_event_free(event);
  }
  levada_producer_free(producer);
  levada_queue_free(queue);
}

static void *raise_later(void *interrupt) {
  levada_interrupt_raise(interrupt);
  return NULL;
}

static void an_interrupt_ends_a_wait(levada_client_t *client) {
  levada_consumer_t *consumer = consumer_of(client, "calls/acks", "latest");
  levada_interrupt_t *interrupt = levada_interrupt_new();
  MUST(levada_interrupt_use(interrupt, &err));
  pthread_t thread;
  HOLDS(pthread_create(&thread, NULL, raise_later, interrupt) == 0);
  levada_batch_t *batch = NULL;
  FAILS(LEVADA_E_CANCELLED, levada_consumer_receive(consumer, LEVADA_TIMEOUT_INFINITE, &batch, &err));
  HOLDS(pthread_join(thread, NULL) == 0);
  levada_interrupt_clear(interrupt);
  FAILS(LEVADA_E_CLIENT_TIMEOUT, levada_consumer_receive(consumer, 10, &batch, &err));
  levada_interrupt_free(interrupt);
  MUST(levada_interrupt_use(NULL, &err));
  levada_consumer_free(consumer);
}

int main(void) {
  options_are_refused_by_name();
  a_refused_connection_is_told();
  levada_client_t *client = connected();
  answers_are_read_by_name(client);
  all_of_a_message_arrives(client);
  many_are_sent_together(client);
  acknowledgements_come_by_the_batch(client);
  an_interrupt_ends_a_wait(client);
  closed(client);
  HOLDS(live("clients") == 0 && live("producers") == 0 && live("consumers") == 0 && live("queues") == 0);
  return 0;
}
