/* The binary interface as programs compiled against version 1 know it: a change here needs a new LEVADA_ABI_VERSION. */
#include <assert.h>
#include <levada.h>

#define AT(type, field, offset) static_assert(offsetof(type, field) == (offset), #type "." #field " has moved")
#define SIZE(type, size) static_assert(sizeof(type) == (size), #type " has another size")

SIZE(levada_slice_t, 16);
AT(levada_slice_t, data, 0);
AT(levada_slice_t, len, 8);

/* Programs from before `sequence` say 80: what they know stays where it is. */
SIZE(levada_message_t, 88);
AT(levada_message_t, struct_size, 0);
AT(levada_message_t, flags, 4);
AT(levada_message_t, payload, 8);
AT(levada_message_t, payload_len, 16);
AT(levada_message_t, key, 24);
AT(levada_message_t, key_len, 32);
AT(levada_message_t, headers, 40);
AT(levada_message_t, header_count, 48);
AT(levada_message_t, timestamp_us, 56);
AT(levada_message_t, id, 64);
AT(levada_message_t, partition, 72);
AT(levada_message_t, sequence, 80);

SIZE(levada_header_t, 72);
AT(levada_header_t, struct_size, 0);
AT(levada_header_t, kind, 4);
AT(levada_header_t, name, 8);
AT(levada_header_t, name_len, 16);
AT(levada_header_t, data, 24);
AT(levada_header_t, len, 32);
AT(levada_header_t, i64, 40);
AT(levada_header_t, u64, 48);
AT(levada_header_t, f64, 56);
AT(levada_header_t, boolean, 64);

SIZE(levada_receipt_t, 40);
AT(levada_receipt_t, struct_size, 0);
AT(levada_receipt_t, partition, 4);
AT(levada_receipt_t, offset, 8);
AT(levada_receipt_t, append_time_us, 16);
AT(levada_receipt_t, message_count, 24);
AT(levada_receipt_t, durability, 28);
AT(levada_receipt_t, has_offset, 32);
AT(levada_receipt_t, duplicate, 33);
AT(levada_receipt_t, server_encoded, 34);

SIZE(levada_message_view_t, 88);
AT(levada_message_view_t, struct_size, 0);
AT(levada_message_view_t, partition, 4);
AT(levada_message_view_t, offset, 8);
AT(levada_message_view_t, timestamp_us, 16);
AT(levada_message_view_t, append_time_us, 24);
AT(levada_message_view_t, payload, 32);
AT(levada_message_view_t, key, 48);
AT(levada_message_view_t, id, 64);
AT(levada_message_view_t, topic, 72);

SIZE(levada_partition_offset_t, 24);
AT(levada_partition_offset_t, struct_size, 0);
AT(levada_partition_offset_t, partition, 4);
AT(levada_partition_offset_t, topic, 8);
AT(levada_partition_offset_t, offset, 16);

static_assert(LEVADA_ABI_VERSION == 1, "the layouts above are those of version 1");
static_assert(LEVADA_E_TOPIC_NOT_FOUND == 301 && LEVADA_E_CLIENT_USAGE == 60000, "numbers of errors never change");
static_assert(LEVADA_CLASS_INTERNAL == 16 && LEVADA_TIMEOUT_DEFAULT == -1 && LEVADA_TIMEOUT_INFINITE == -2, "nor do these");

int main(void) { return levada_abi_version() == LEVADA_ABI_VERSION ? 0 : 1; }
