package dev.levada

import dev.levada.internal.NativeField
import dev.levada.internal.NativeHeader
import dev.levada.internal.NativeHeaderValue
import dev.levada.internal.NativeReceipt
import dev.levada.internal.NativeValue
import dev.levada.internal.wrongArgument
import java.time.Duration
import java.time.Instant

/** A result of the core, as it is read into records. */
internal class Value(private val native: NativeValue) {
    fun required(name: String): Value = optional(name) ?: mismatch("a field $name")

    fun optional(name: String): Value? {
        val fields = (native as? NativeValue.Fields)?.fields ?: mismatch("a record")
        return fields.firstOrNull { it.name == name }?.value?.takeIf { it !is NativeValue.Absent }?.let(::Value)
    }

    val isAbsent: Boolean get() = native is NativeValue.Absent

    fun text(): String = (native as? NativeValue.Text)?.value ?: mismatch("text")

    fun truth(): Boolean = (native as? NativeValue.Truth)?.value ?: mismatch("a truth value")

    fun bytes(): ByteArray = (native as? NativeValue.Binary)?.value ?: mismatch("bytes")

    fun number(): Long =
        when (native) {
            is NativeValue.Signed -> native.value
            is NativeValue.Unsigned -> native.value.toLong()
            else -> mismatch("a number")
        }

    fun <T> items(read: (Value) -> T): List<T> =
        (native as? NativeValue.Items)?.values?.map { read(Value(it)) } ?: mismatch("a list")

    fun numbers(): Map<String, Long> =
        (native as? NativeValue.Fields)?.fields?.associate { it.name to Value(it.value).number() } ?: mismatch("a record")

    private fun mismatch(wanted: String): Nothing = error("the native library gave ${native::class.simpleName} for $wanted")
}

/** Options or arguments on their way to the core, which checks them. */
internal class Fields {
    private val fields = ArrayList<NativeField>()

    fun add(name: String, value: NativeValue) {
        fields.add(NativeField(name, value))
    }

    fun native(): List<NativeField> = fields

    fun value(): NativeValue = NativeValue.Fields(fields)
}

internal fun text(value: String): NativeValue = NativeValue.Text(value)

internal fun truth(value: Boolean): NativeValue = NativeValue.Truth(value)

internal fun number(value: Long): NativeValue = NativeValue.Signed(value)

internal fun number(value: Int): NativeValue = NativeValue.Signed(value.toLong())

internal fun texts(values: List<String>): NativeValue = NativeValue.Items(values.map { text(it) })

internal fun numbers(values: List<Int>): NativeValue = NativeValue.Items(values.map { number(it) })

internal fun partitionOffsets(values: List<PartitionOffset>): NativeValue =
    NativeValue.Items(
        values.map {
            Fields().apply {
                add("topic", text(it.topic))
                add("partition", number(it.partition))
                add("offset", number(it.offset))
            }.value()
        },
    )

internal fun positions(values: Map<Int, Position>): NativeValue =
    NativeValue.Fields(values.map { (partition, position) -> NativeField(partition.toString(), position.field()) })

/** Milliseconds, with their fraction where there is one. */
internal fun milliseconds(value: Duration): NativeValue =
    if (value.nano % 1_000_000 == 0 && value.abs() < Duration.ofDays(365_000)) {
        NativeValue.Signed(value.toMillis())
    } else {
        NativeValue.Real(value.seconds * 1e3 + value.nano / 1e6)
    }

internal fun instant(microseconds: Long): Instant =
    Instant.ofEpochSecond(Math.floorDiv(microseconds, 1_000_000L), Math.floorMod(microseconds, 1_000_000L) * 1_000)

internal fun microseconds(instant: Instant): Long =
    Math.addExact(Math.multiplyExact(instant.epochSecond, 1_000_000L), instant.nano / 1_000L)

internal fun micros(value: Long): Duration = Duration.ofSeconds(value / 1_000_000, value % 1_000_000 * 1_000)

internal fun Duration.timeoutMs(): ULong = if (isNegative) 0u else runCatching { toMillis() }.getOrDefault(Long.MAX_VALUE).toULong()

internal fun nanoseconds(duration: Duration): Long = runCatching { duration.toNanos() }.getOrDefault(Long.MAX_VALUE / 2)

internal fun Header.native(): NativeHeader =
    NativeHeader(
        name,
        when (val value = value) {
            is String -> NativeHeaderValue.Text(value)
            is ByteArray -> NativeHeaderValue.Binary(value)
            is Boolean -> NativeHeaderValue.Truth(value)
            is Long -> NativeHeaderValue.Signed(value)
            is Int -> NativeHeaderValue.Signed(value.toLong())
            is Short -> NativeHeaderValue.Signed(value.toLong())
            is Byte -> NativeHeaderValue.Signed(value.toLong())
            is ULong -> NativeHeaderValue.Unsigned(value)
            is UInt -> NativeHeaderValue.Unsigned(value.toULong())
            is Double -> NativeHeaderValue.Real(value)
            is Float -> NativeHeaderValue.Real(value.toDouble())
            else -> {
                val wanted = "a String, ByteArray, Boolean, Long, ULong or Double"
                throw exceptionOf(wrongArgument("headers", "header $name must be $wanted, not a ${value::class.simpleName}"))
            }
        },
    )

internal fun NativeHeader.header(): Header =
    Header(
        name,
        when (val value = value) {
            is NativeHeaderValue.Text -> value.value
            is NativeHeaderValue.Binary -> value.value
            is NativeHeaderValue.Truth -> value.value
            is NativeHeaderValue.Signed -> value.value
            is NativeHeaderValue.Unsigned -> value.value
            is NativeHeaderValue.Real -> value.value
        },
    )

internal fun NativeReceipt.message(index: Int = 0): Receipt =
    Receipt(
        partition.toInt(),
        offset?.let { it.toLong() + index },
        appendTimeUs,
        Durability.of(durability),
        duplicate,
        serverEncoded,
    )

internal fun NativeReceipt.batch(): BatchReceipt =
    BatchReceipt(
        partition.toInt(),
        offset?.toLong(),
        messageCount.toInt(),
        appendTimeUs,
        Durability.of(durability),
        duplicate,
        serverEncoded,
    )
