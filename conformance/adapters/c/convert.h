/* Between the adapter protocol's JSON and the C API: what both adapters share. */
#ifndef LEVADA_ADAPTER_CONVERT_H
#define LEVADA_ADAPTER_CONVERT_H

#include <levada.h>

#include "json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Options or arguments of a command, by name; absent ones are left out. NULL if they cannot be read. */
levada_options_t *convert_options(const json_t *options);

/* Texts of a list, NULL for what is none; freed with free(). */
const char **texts_of(const json_t *list);

/* Bytes of base64 or of a generator, raised by `step`; *bytes is NULL for absent. */
bool convert_bytes(const json_t *json, uint64_t step, uint8_t **bytes, size_t *len);

/* Messages of a command, with what they point to. */
typedef struct {
  levada_message_t *list;
  size_t count, capacity;
} messages_t;
bool convert_message(messages_t *messages, const json_t *json); /* `count` of it */
void messages_free(messages_t *messages);

/* Into replies. */
void reply_value(writer_t *out, const levada_value_t *value);
void reply_result(writer_t *out, const levada_value_t *value); /* as `ok`: a record itself, items, or value */
void reply_error(writer_t *out, const levada_error_t *error, const char *const *native);
void reply_receipt(writer_t *out, const levada_receipt_t *receipt, bool is_batch);
void reply_message(writer_t *out, const levada_batch_t *batch, size_t index);

/* The name in docs/reference/api.md of a control operation; NULL if it is none. */
const char *call_of(const char *operation);

#ifdef __cplusplus
}
#endif
#endif
