package dev.levada

import dev.levada.internal.NativeValue
import java.time.Instant

/** A place in a partition. */
public class Position private constructor(private val form: String) {
    internal fun field(): NativeValue = NativeValue.Text(form)

    override fun toString(): String = form

    override fun equals(other: Any?): Boolean = other is Position && form == other.form

    override fun hashCode(): Int = form.hashCode()

    public companion object {
        /** The lowest offset kept. */
        @JvmField public val EARLIEST: Position = Position("earliest")

        /** After the last message. */
        @JvmField public val LATEST: Position = Position("latest")

        /** Where a group's stored offset is. */
        @JvmField public val STORED: Position = Position("stored")

        /** That offset. */
        @JvmStatic public fun offset(offset: Long): Position = Position("offset($offset)")

        /** The first message appended at that time or later. */
        @JvmStatic public fun timestamp(timestamp: Instant): Position = timestampUs(microseconds(timestamp))

        /** The first message appended at that time or later, in microseconds since the Unix epoch. */
        @JvmStatic public fun timestampUs(timestampUs: Long): Position = Position("timestamp($timestampUs)")

        /** That many messages before the end. */
        @JvmStatic public fun last(count: Long): Position = Position("last($count)")

        /** The position that a text such as `offset(5)` means; it is checked where it is used. */
        @JvmStatic public fun parse(text: String): Position = Position(text)
    }
}
