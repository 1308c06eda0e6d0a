/* JSON for the adapters: a reader into a tree, and a writer into a growing text. */
#ifndef LEVADA_ADAPTER_JSON_H
#define LEVADA_ADAPTER_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_TEXT, JSON_LIST, JSON_OBJECT } json_kind_t;

typedef struct json_t {
  json_kind_t kind;
  bool boolean;
  char *text; /* of text; of a number, as it was written */
  size_t len;
  struct json_t *items; /* of lists and objects */
  char **names;         /* of objects */
  size_t count;
} json_t;

/* Reads one value; NULL if it is malformed. Free it with json_free. */
json_t *json_read(const char *text, size_t len);
void json_free(json_t *json);

/* All accessors take NULL and answer "absent". */
const json_t *json_get(const json_t *object, const char *name);
const char *json_text(const json_t *json);                  /* NULL if it is not text */
bool json_is_absent(const json_t *json);                    /* not there, or null */
bool json_int(const json_t *json, int64_t *value);          /* a number, or decimal text */
bool json_uint(const json_t *json, uint64_t *value);

typedef struct {
  char *text;
  size_t len, capacity;
  bool needs_comma;
} writer_t;

void write_open(writer_t *out, char bracket); /* '{' or '[' */
void write_close(writer_t *out, char bracket);
void write_name(writer_t *out, const char *name);
void write_text(writer_t *out, const char *text);
void write_text_n(writer_t *out, const char *text, size_t len);
void write_raw(writer_t *out, const char *literal); /* true, null, 5 */
void write_bool(writer_t *out, bool value);
void write_u32(writer_t *out, uint32_t value);
void write_uint(writer_t *out, uint64_t value); /* as decimal text */
void write_int(writer_t *out, int64_t value);
void write_f64(writer_t *out, double value);                         /* its bits, 16 digits */
void write_base64(writer_t *out, const uint8_t *data, size_t len); /* null for NULL */
void write_end(writer_t *out);                                       /* frees it */

/* Bytes of base64; NULL if it is malformed. Free them. */
uint8_t *base64_decode(const char *text, size_t *len);
/* The number of 16 hexadecimal digits. */
bool f64_decode(const char *text, double *value);

#ifdef __cplusplus
}
#endif
#endif
