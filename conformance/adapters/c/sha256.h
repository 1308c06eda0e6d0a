/* SHA-256 (FIPS 180-4), for the payloads that adapters report. */
#ifndef LEVADA_ADAPTER_SHA256_H
#define LEVADA_ADAPTER_SHA256_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The digest in 64 hexadecimal digits and a NUL. */
void sha256_hex(const uint8_t *data, size_t len, char digits[65]);

#ifdef __cplusplus
}
#endif
#endif
