/* See json.h. */
#include "json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *grown(void *memory, size_t size) {
  void *moved = realloc(memory, size);
  if (moved == NULL) abort();
  return moved;
}

/* ------------------------------------------------------------------ reading */

typedef struct {
  const char *at, *end;
  int depth;
} reader_t;

static bool read_value(reader_t *in, json_t *out);

static void skip_space(reader_t *in) {
  while (in->at < in->end && strchr(" \t\r\n", *in->at) != NULL) in->at++;
}

static bool take(reader_t *in, char wanted) {
  skip_space(in);
  if (in->at >= in->end || *in->at != wanted) return false;
  in->at++;
  return true;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

static bool read_hex4(reader_t *in, uint32_t *unit) {
  *unit = 0;
  if (in->end - in->at < 4) return false;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(*in->at++);
    if (digit < 0) return false;
    *unit = *unit * 16 + (uint32_t)digit;
  }
  return true;
}

static size_t put_utf8(char *to, uint32_t c) {
  if (c < 0x80) {
    to[0] = (char)c;
    return 1;
  }
  if (c < 0x800) {
    to[0] = (char)(0xC0 | (c >> 6));
    to[1] = (char)(0x80 | (c & 0x3F));
    return 2;
  }
  if (c < 0x10000) {
    to[0] = (char)(0xE0 | (c >> 12));
    to[1] = (char)(0x80 | ((c >> 6) & 0x3F));
    to[2] = (char)(0x80 | (c & 0x3F));
    return 3;
  }
  to[0] = (char)(0xF0 | (c >> 18));
  to[1] = (char)(0x80 | ((c >> 12) & 0x3F));
  to[2] = (char)(0x80 | ((c >> 6) & 0x3F));
  to[3] = (char)(0x80 | (c & 0x3F));
  return 4;
}

/* After the opening quote. What is escaped is never longer than its escape. */
static char *read_text(reader_t *in, size_t *len) {
  const char *close = in->at;
  while (close < in->end && *close != '"') close += *close == '\\' ? 2 : 1;
  if (close >= in->end) return NULL;
  char *text = grown(NULL, (size_t)(close - in->at) + 1);
  size_t n = 0;
  while (in->at < close) {
    char c = *in->at++;
    if (c != '\\') {
      text[n++] = c;
      continue;
    }
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char escape = *in->at++;
    const char *found = escape == 0 ? NULL : strchr(escapes, escape);
    if (found != NULL) {
      text[n++] = meant[found - escapes];
      continue;
    }
    uint32_t unit, low;
    if (escape != 'u' || !read_hex4(in, &unit)) goto malformed;
    if (unit >= 0xD800 && unit < 0xDC00 && close - in->at >= 6 && in->at[0] == '\\' && in->at[1] == 'u') {
      in->at += 2;
      if (!read_hex4(in, &low) || low < 0xDC00 || low > 0xDFFF) goto malformed;
      unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    }
    n += put_utf8(text + n, unit);
  }
  in->at = close + 1;
  text[n] = 0;
  *len = n;
  return text;
malformed:
  free(text);
  return NULL;
}

static bool read_items(reader_t *in, json_t *out, char close) {
  size_t capacity = 0;
  if (take(in, close)) return true;
  for (;;) {
    if (out->count == capacity) {
      capacity = capacity == 0 ? 4 : capacity * 2;
      out->items = grown(out->items, capacity * sizeof(json_t));
      if (out->kind == JSON_OBJECT) out->names = grown(out->names, capacity * sizeof(char *));
    }
    json_t *item = &out->items[out->count];
    memset(item, 0, sizeof *item);
    if (out->kind == JSON_OBJECT) {
      size_t len;
      out->names[out->count] = NULL;
      if (!take(in, '"') || (out->names[out->count] = read_text(in, &len)) == NULL) return false;
      out->count++;
      if (!take(in, ':')) return false;
    } else {
      out->count++;
    }
    if (!read_value(in, item)) return false;
    if (take(in, close)) return true;
    if (!take(in, ',')) return false;
  }
}

static bool read_literal(reader_t *in, const char *literal) {
  size_t len = strlen(literal);
  if ((size_t)(in->end - in->at) < len || memcmp(in->at, literal, len) != 0) return false;
  in->at += len;
  return true;
}

static bool read_value(reader_t *in, json_t *out) {
  skip_space(in);
  if (in->at >= in->end || in->depth > 64) return false;
  switch (*in->at) {
    case '{':
    case '[': {
      char close = *in->at == '{' ? '}' : ']';
      out->kind = *in->at++ == '{' ? JSON_OBJECT : JSON_LIST;
      in->depth++;
      bool is_read = read_items(in, out, close);
      in->depth--;
      return is_read;
    }
    case '"':
      in->at++;
      out->kind = JSON_TEXT;
      return (out->text = read_text(in, &out->len)) != NULL;
    case 'n':
      return read_literal(in, "null");
    case 't':
      out->kind = JSON_BOOL;
      out->boolean = true;
      return read_literal(in, "true");
    case 'f':
      out->kind = JSON_BOOL;
      return read_literal(in, "false");
    default: {
      const char *start = in->at;
      while (in->at < in->end && strchr("+-0123456789.eE", *in->at) != NULL) in->at++;
      if (in->at == start) return false;
      out->kind = JSON_NUMBER;
      out->len = (size_t)(in->at - start);
      out->text = grown(NULL, out->len + 1);
      memcpy(out->text, start, out->len);
      out->text[out->len] = 0;
      return true;
    }
  }
}

static void clear(json_t *json) {
  for (size_t i = 0; i < json->count; i++) {
    clear(&json->items[i]);
    if (json->kind == JSON_OBJECT) free(json->names[i]);
  }
  free(json->items);
  free(json->names);
  free(json->text);
}

json_t *json_read(const char *text, size_t len) {
  reader_t in = {text, text + len, 0};
  json_t *json = grown(NULL, sizeof *json);
  memset(json, 0, sizeof *json);
  bool is_read = read_value(&in, json);
  skip_space(&in);
  if (is_read && in.at == in.end) return json;
  json_free(json);
  return NULL;
}

void json_free(json_t *json) {
  if (json == NULL) return;
  clear(json);
  free(json);
}

const json_t *json_get(const json_t *object, const char *name) {
  if (object == NULL || object->kind != JSON_OBJECT) return NULL;
  for (size_t i = 0; i < object->count; i++)
    if (strcmp(object->names[i], name) == 0) return &object->items[i];
  return NULL;
}

const char *json_text(const json_t *json) { return json != NULL && json->kind == JSON_TEXT ? json->text : NULL; }

bool json_is_absent(const json_t *json) { return json == NULL || json->kind == JSON_NULL; }

static bool is_number(const json_t *json) {
  return json != NULL && (json->kind == JSON_TEXT || json->kind == JSON_NUMBER) && json->len > 0 &&
         strspn(json->text, "-0123456789") == json->len;
}

bool json_int(const json_t *json, int64_t *value) {
  if (!is_number(json)) return false;
  errno = 0;
  *value = strtoll(json->text, NULL, 10);
  return errno == 0;
}

bool json_uint(const json_t *json, uint64_t *value) {
  if (!is_number(json) || json->text[0] == '-') return false;
  errno = 0;
  *value = strtoull(json->text, NULL, 10);
  return errno == 0;
}

/* ------------------------------------------------------------------ writing */

static void put(writer_t *out, const char *text, size_t len) {
  if (out->len + len + 1 > out->capacity) {
    out->capacity = (out->len + len + 1) * 2;
    out->text = grown(out->text, out->capacity);
  }
  memcpy(out->text + out->len, text, len);
  out->len += len;
  out->text[out->len] = 0;
}

static void separate(writer_t *out) {
  if (out->needs_comma) put(out, ",", 1);
  out->needs_comma = true;
}

void write_open(writer_t *out, char bracket) {
  separate(out);
  put(out, &bracket, 1);
  out->needs_comma = false;
}

void write_close(writer_t *out, char bracket) {
  put(out, &bracket, 1);
  out->needs_comma = true;
}

static void put_quoted(writer_t *out, const char *text, size_t len) {
  put(out, "\"", 1);
  size_t start = 0;
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    char escape[8];
    put(out, text + start, i - start);
    put(out, escape, (size_t)snprintf(escape, sizeof escape, c < 0x20 ? "\\u%04x" : "\\%c", c));
    start = i + 1;
  }
  put(out, text + start, len - start);
  put(out, "\"", 1);
}

void write_name(writer_t *out, const char *name) {
  separate(out);
  put_quoted(out, name, strlen(name));
  put(out, ":", 1);
  out->needs_comma = false;
}

void write_text_n(writer_t *out, const char *text, size_t len) {
  separate(out);
  put_quoted(out, text, len);
}

void write_text(writer_t *out, const char *text) { write_text_n(out, text, strlen(text)); }

void write_raw(writer_t *out, const char *literal) {
  separate(out);
  put(out, literal, strlen(literal));
}

void write_bool(writer_t *out, bool value) { write_raw(out, value ? "true" : "false"); }

void write_u32(writer_t *out, uint32_t value) {
  char digits[16];
  snprintf(digits, sizeof digits, "%" PRIu32, value);
  write_raw(out, digits);
}

void write_uint(writer_t *out, uint64_t value) {
  char digits[24];
  snprintf(digits, sizeof digits, "%" PRIu64, value);
  write_text(out, digits);
}

void write_int(writer_t *out, int64_t value) {
  char digits[24];
  snprintf(digits, sizeof digits, "%" PRId64, value);
  write_text(out, digits);
}

void write_f64(writer_t *out, double value) {
  uint64_t bits;
  char digits[20];
  memcpy(&bits, &value, sizeof bits);
  snprintf(digits, sizeof digits, "%016" PRIx64, bits);
  write_text(out, digits);
}

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void write_base64(writer_t *out, const uint8_t *data, size_t len) {
  if (data == NULL) {
    write_raw(out, "null");
    return;
  }
  separate(out);
  put(out, "\"", 1);
  for (size_t i = 0; i < len; i += 3) {
    size_t left = len - i;
    uint32_t group = (uint32_t)data[i] << 16;
    if (left > 1) group |= (uint32_t)data[i + 1] << 8;
    if (left > 2) group |= data[i + 2];
    char digits[4] = {ALPHABET[group >> 18], ALPHABET[(group >> 12) & 63], '=', '='};
    if (left > 1) digits[2] = ALPHABET[(group >> 6) & 63];
    if (left > 2) digits[3] = ALPHABET[group & 63];
    put(out, digits, 4);
  }
  put(out, "\"", 1);
}

void write_end(writer_t *out) {
  free(out->text);
  memset(out, 0, sizeof *out);
}

/* ------------------------------------------------------------------ codings */

uint8_t *base64_decode(const char *text, size_t *len) {
  size_t digits = strlen(text);
  if (digits % 4 != 0) return NULL;
  uint8_t *bytes = grown(NULL, digits / 4 * 3 + 1);
  size_t n = 0;
  for (size_t i = 0; i < digits; i += 4) {
    uint32_t group = 0;
    int padding = 0;
    for (int k = 0; k < 4; k++) {
      char c = text[i + (size_t)k];
      const char *found = strchr(ALPHABET, c);
      if (c == '=' && i + 4 == digits && k >= 2) {
        padding++;
        found = ALPHABET;
      } else if (found == NULL || padding > 0) {
        free(bytes);
        return NULL;
      }
      group = group << 6 | (uint32_t)(found - ALPHABET);
    }
    for (int k = 0; k < 3 - padding; k++) bytes[n++] = (uint8_t)(group >> (16 - 8 * k));
  }
  *len = n;
  return bytes;
}

bool f64_decode(const char *text, double *value) {
  if (strlen(text) != 16 || strspn(text, "0123456789abcdefABCDEF") != 16) return false;
  uint64_t bits = strtoull(text, NULL, 16);
  memcpy(value, &bits, sizeof bits);
  return true;
}
