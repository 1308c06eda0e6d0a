package dev.levada

import com.sun.jna.Pointer
import dev.levada.internal.NativeBatch
import dev.levada.internal.NativeMessage
import dev.levada.internal.decodeHeaders
import dev.levada.internal.wrongArgument
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.time.Instant
import java.util.UUID

/**
 * A named value of a message. The value is a [String], [ByteArray], [Boolean], [Long] (signed), [ULong] (unsigned) or [Double];
 * smaller numbers are widened.
 */
public class Header(
    /** UTF-8, unique within the message. */
    public val name: String,
    /** The value. */
    public val value: Any,
) {
    override fun equals(other: Any?): Boolean =
        other is Header && name == other.name &&
            (value == other.value || value is ByteArray && other.value is ByteArray && value.contentEquals(other.value))

    override fun hashCode(): Int = 31 * name.hashCode() + if (value is ByteArray) value.contentHashCode() else value.hashCode()

    override fun toString(): String = "$name=${if (value is ByteArray) "${value.size} bytes" else value}"

    public companion object {
        /** A header with an unsigned number, for languages without [ULong]. */
        @JvmStatic
        public fun unsigned(name: String, value: Long): Header = Header(name, value.toULong())
    }
}

/** A message to produce. */
public class OutgoingMessage private constructor(
    /** What it says; absent differs from empty. */
    public val payload: ByteArray?,
    /** What it is about: messages of one key keep their order. */
    public val key: ByteArray?,
    /** Named values, in order; names are unique. */
    public val headers: List<Header>,
    /** When it happened, in microseconds since the Unix epoch; absent: when it is handed over. */
    public val timestampUs: Long?,
    /** An identity of the application's own, 16 bytes. */
    public val id: ByteArray?,
    /** Partition it must go to; absent: by key, or any. */
    public val partition: Int?,
    /**
     * Its number, for a producer with [ProducerOptions.externalSequence]: above that of every message before it in its
     * partition, gaps allowed, at most 2^64 - 2. Such a producer needs one with each message, and others take none.
     */
    @get:JvmName("getSequence")
    public val sequence: ULong?,
) {
    /** A message of those parts. */
    @JvmOverloads
    public constructor(
        payload: ByteArray?,
        key: ByteArray? = null,
        headers: List<Header> = emptyList(),
        timestampUs: Long? = null,
        id: ByteArray? = null,
        partition: Int? = null,
    ) : this(payload, key, headers, timestampUs, id, partition, null)

    /** A message of that text. */
    public constructor(text: String) : this(text.encodeToByteArray())

    /** The same with that key. */
    public fun key(key: ByteArray?): OutgoingMessage = copy(key = key)

    /** The same with that text as its key. */
    public fun key(key: String): OutgoingMessage = key(key.encodeToByteArray())

    /** The same with one more header. */
    public fun header(name: String, value: Any): OutgoingMessage = copy(headers = headers + Header(name, value))

    /** The same with that time, in microseconds since the Unix epoch. */
    public fun timestampUs(timestampUs: Long): OutgoingMessage = copy(timestampUs = timestampUs)

    /** The same with that time. */
    public fun timestamp(timestamp: Instant): OutgoingMessage = timestampUs(microseconds(timestamp))

    /** The same with that id. */
    public fun id(id: UUID): OutgoingMessage =
        copy(id = ByteBuffer.allocate(16).putLong(id.mostSignificantBits).putLong(id.leastSignificantBits).array())

    /** The same for that partition. */
    public fun partition(partition: Int): OutgoingMessage = copy(partition = partition)

    /** The same with that number, which is not negative; see [OutgoingMessage.sequence]. */
    public fun sequence(sequence: Long): OutgoingMessage {
        if (sequence < 0) throw exceptionOf(wrongArgument("sequence", "sequence must not be negative, as $sequence is"))
        return copy(sequence = sequence.toULong())
    }

    /** The same with that number; see [OutgoingMessage.sequence]. */
    public fun sequence(sequence: ULong): OutgoingMessage = copy(sequence = sequence)

    private fun copy(
        key: ByteArray? = this.key,
        headers: List<Header> = this.headers,
        timestampUs: Long? = this.timestampUs,
        id: ByteArray? = this.id,
        partition: Int? = this.partition,
        sequence: ULong? = this.sequence,
    ): OutgoingMessage = OutgoingMessage(payload, key, headers, timestampUs, id, partition, sequence)

    internal val isPlain: Boolean
        get() = payload != null && key == null && headers.isEmpty() && timestampUs == null && id == null && isUnplaced

    private val isUnplaced: Boolean get() = partition == null && sequence == null

    internal fun native(): NativeMessage =
        NativeMessage(payload, key, headers.map { it.native() }, timestampUs, id, partition?.toUInt(), sequence)
}

/** A received batch in memory of the JVM, and where in it the parts of each message lie. */
internal class ReceivedBatch(lent: NativeBatch) {
    val topic: String = lent.topic
    val partition: Int = lent.partition.toInt()
    val appendTimeUs: Long = lent.appendTimeUs
    val count: Int = lent.messageCount.toInt()
    val bytes: ByteArray = copy(lent.bytesAddress, lent.bytesLength.toInt())
    private val baseOffset = lent.baseOffset.toLong()
    private val origin = lent.origin.toInt()
    private val table = ByteBuffer.wrap(copy(lent.tableAddress, count * ENTRY_BYTES)).order(ByteOrder.LITTLE_ENDIAN)

    fun start(index: Int, part: Int): Int = word(index, part) - origin

    fun length(index: Int, part: Int): Int = word(index, part + 4)

    fun has(index: Int, flag: Int): Boolean = word(index, FLAGS) and flag != 0

    fun offset(index: Int): Long = baseOffset + (word(index, OFFSET_DELTA).toLong() and 0xFFFF_FFFFL)

    fun timestampUs(index: Int): Long = table.getLong(index * ENTRY_BYTES + TIMESTAMP)

    private fun word(index: Int, part: Int): Int = table.getInt(index * ENTRY_BYTES + part)

    private fun copy(address: ULong, length: Int): ByteArray =
        if (length == 0) ByteArray(0) else Pointer(address.toLong()).getByteArray(0, length)

    companion object {
        const val ENTRY_BYTES = 40
        const val PAYLOAD = 0
        const val KEY = 8
        const val HEADERS = 16
        const val OFFSET_DELTA = 24
        const val FLAGS = 28
        const val TIMESTAMP = 32
        const val NULL_PAYLOAD = 1
        const val HAS_KEY = 2
        const val HAS_ID = 4
        const val ID_BYTES = 16
    }
}

/**
 * A message received. Its parts are copied out of its batch when they are asked for; as long as a message is kept, so is the
 * memory of its batch.
 */
public class Message internal constructor(private val batch: ReceivedBatch, private val index: Int) {
    private var payloadCopy: ByteArray? = null

    /** Its topic, `stream/topic`. */
    public val topic: String get() = batch.topic

    /** Its partition. */
    public val partition: Int get() = batch.partition

    /** Its offset. */
    public val offset: Long get() = batch.offset(index)

    /** When it happened, in microseconds since the Unix epoch. */
    public val timestampUs: Long get() = batch.timestampUs(index)

    /** When it happened. */
    public val timestamp: Instant get() = instant(timestampUs)

    /** When it was appended, in microseconds since the Unix epoch. */
    public val appendTimeUs: Long get() = batch.appendTimeUs

    /** When it was appended. */
    public val appendTime: Instant get() = instant(appendTimeUs)

    /** What it says; absent differs from empty. The same array every time. */
    public val payload: ByteArray?
        get() = payloadCopy ?: payloadView()?.let { view ->
            ByteArray(view.remaining()).also {
                view.get(it)
                payloadCopy = it
            }
        }

    /** [payload] without a copy: a read-only view of its batch. */
    public fun payloadView(): ByteBuffer? =
        if (batch.has(index, ReceivedBatch.NULL_PAYLOAD)) null else view(ReceivedBatch.PAYLOAD)

    /** [payload] as UTF-8 text. */
    public fun text(): String? = payload?.decodeToString()

    /** What it is about; absent differs from empty. */
    public val key: ByteArray?
        get() = if (batch.has(index, ReceivedBatch.HAS_KEY)) copy(ReceivedBatch.KEY) else null

    /** The application's own identity, 16 bytes. */
    public val id: ByteArray?
        get() {
            if (!batch.has(index, ReceivedBatch.HAS_ID)) return null
            val end = batch.start(index, ReceivedBatch.KEY)
            return batch.bytes.copyOfRange(end - ReceivedBatch.ID_BYTES, end)
        }

    /** Its headers, in order. */
    public val headers: List<Header>
        get() {
            if (batch.length(index, ReceivedBatch.HEADERS) == 0) return emptyList()
            return decodeHeaders(copy(ReceivedBatch.HEADERS)).map { it.header() }
        }

    private fun view(part: Int): ByteBuffer =
        ByteBuffer.wrap(batch.bytes, batch.start(index, part), batch.length(index, part)).slice().asReadOnlyBuffer()

    private fun copy(part: Int): ByteArray {
        val start = batch.start(index, part)
        return batch.bytes.copyOfRange(start, start + batch.length(index, part))
    }

    override fun toString(): String = "Message(topic=$topic, partition=$partition, offset=$offset)"
}

/** Messages received together. */
public class Messages internal constructor(
    private val messages: List<Message>,
    /** Whether the end asked for by `untilEnd` is reached. */
    public val finished: Boolean,
) : AbstractList<Message>() {
    override val size: Int get() = messages.size

    override fun get(index: Int): Message = messages[index]
}
