package dev.levada

import com.sun.jna.Memory
import dev.levada.internal.NativeDelivery
import dev.levada.internal.NativeOutcome
import dev.levada.internal.NativeProducer
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.future.asCompletableFuture
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.time.Duration
import java.util.concurrent.CompletableFuture
import java.util.concurrent.atomic.AtomicReference

/**
 * A producer. Threads and coroutines may share it. A message is copied before a call returns or suspends; giving up a call
 * afterwards gives up waiting only: the message is sent all the same.
 */
public class Producer internal constructor(private val native: NativeProducer, private val exchange: Exchange) : AutoCloseable {
    /** Native memory for the next packed call. It is freed by hand: the collector does not know how large it is. */
    private val spare = AtomicReference<Memory?>()

    /** The topic it appends to, `stream/topic`. */
    public val topic: String get() = native { native.topic() }

    /** Partitions of the topic when the producer was made. */
    public val partitionCount: Int get() = native { native.partitionCount() }.toInt()

    /** Sends one message and waits for its acknowledgement. */
    public suspend fun send(message: OutgoingMessage): Receipt {
        currentCoroutineContext().ensureActive()
        val waiter = Exchange.Acknowledged()
        val token = trySend(message, waiter)
        if (token == null) {
            return perform({ queue, wanted -> native.send(message.native(), queue, wanted) }) { _, outcome ->
                (outcome as? NativeOutcome.Receipt ?: unexpected(outcome)).receipt.message()
            }
        }
        try {
            return waiter.receipt.await()
        } catch (cancelled: CancellationException) {
            exchange.forget(token)
            throw cancelled
        }
    }

    /** Sends one message of that payload, and maybe key, and waits for its acknowledgement. */
    public suspend fun send(payload: ByteArray, key: ByteArray? = null): Receipt = send(OutgoingMessage(payload, key))

    /** Sends one message of that text and waits for its acknowledgement. */
    public suspend fun send(text: String): Receipt = send(OutgoingMessage(text))

    /** [send], blocking. */
    public fun sendBlocking(message: OutgoingMessage): Receipt = blocking { send(message) }

    /** [send], blocking. */
    @JvmOverloads
    public fun sendBlocking(payload: ByteArray, key: ByteArray? = null): Receipt = sendBlocking(OutgoingMessage(payload, key))

    /** [send], blocking. */
    public fun sendBlocking(text: String): Receipt = sendBlocking(OutgoingMessage(text))

    /** [send] as a future. */
    public fun sendAsync(message: OutgoingMessage): CompletableFuture<Receipt> = future { send(message) }

    /** [send] as a future. */
    @JvmOverloads
    public fun sendAsync(payload: ByteArray, key: ByteArray? = null): CompletableFuture<Receipt> =
        sendAsync(OutgoingMessage(payload, key))

    /** [send] as a future. */
    public fun sendAsync(text: String): CompletableFuture<Receipt> = sendAsync(OutgoingMessage(text))

    /** The token under which the acknowledgement will come; null if there is no space for the message now. */
    private fun trySend(message: OutgoingMessage, waiter: Exchange.Acknowledged): Long? {
        val outgoing = message.native()
        val token = exchange.expect(waiter)
        val isTaken = try {
            native { native.trySend(outgoing, token.toULong()) }
        } catch (error: Throwable) {
            exchange.forget(token)
            throw error
        }
        if (!isTaken) exchange.forget(token)
        return token.takeIf { isTaken }
    }

    /**
     * Copies one message into the open batch and gives its acknowledgement to come. Suspends only while the buffer is full;
     * given up before there is space, the message was not taken.
     */
    public suspend fun enqueue(message: OutgoingMessage): Delivery {
        currentCoroutineContext().ensureActive()
        val waiter = Exchange.Acknowledged()
        if (trySend(message, waiter) != null) return Delivery(waiter.receipt)
        return perform({ queue, token -> native.enqueue(message.native(), queue, token) }) { exchange, outcome ->
            follow(exchange, (outcome as? NativeOutcome.Delivery ?: unexpected(outcome)).delivery)
        }
    }

    private fun follow(exchange: Exchange, delivery: NativeDelivery): Delivery {
        val receipt = CompletableDeferred<Receipt>()
        val ended = Exchange.Ended()
        ended.outcome.invokeOnCompletion {
            @OptIn(kotlinx.coroutines.ExperimentalCoroutinesApi::class)
            when (val outcome = ended.outcome.getCompleted()) {
                is NativeOutcome.Receipt -> receipt.complete(outcome.receipt.message())
                is NativeOutcome.Failed -> receipt.completeExceptionally(exceptionOf(outcome.failure))
                else -> unexpected(outcome)
            }
        }
        delivery.use { it.wait(exchange.queue, exchange.expect(ended).toULong()).close() }
        return Delivery(receipt)
    }

    /** [enqueue] of that payload, and maybe key. */
    public suspend fun enqueue(payload: ByteArray, key: ByteArray? = null): Delivery = enqueue(OutgoingMessage(payload, key))

    /** [enqueue], blocking while the buffer is full. */
    public fun enqueueBlocking(message: OutgoingMessage): Delivery = blocking { enqueue(message) }

    /** [enqueue], blocking while the buffer is full. */
    @JvmOverloads
    public fun enqueueBlocking(payload: ByteArray, key: ByteArray? = null): Delivery =
        enqueueBlocking(OutgoingMessage(payload, key))

    /** [enqueue] as a future. */
    public fun enqueueAsync(message: OutgoingMessage): CompletableFuture<Delivery> = future { enqueue(message) }

    /** Sends many messages and waits for their acknowledgements. */
    public suspend fun sendBatch(messages: List<OutgoingMessage>): List<BatchReceipt> {
        if (messages.all { it.isPlain }) return sendPayloads(messages.map { it.payload ?: EMPTY })
        return receipts { queue, token -> native.sendBatch(messages.map { it.native() }, queue, token) }
    }

    /** [sendBatch], blocking. */
    public fun sendBatchBlocking(messages: List<OutgoingMessage>): List<BatchReceipt> = blocking { sendBatch(messages) }

    /** [sendBatch] as a future. */
    public fun sendBatchAsync(messages: List<OutgoingMessage>): CompletableFuture<List<BatchReceipt>> =
        future { sendBatch(messages) }

    /** Sends many messages that are payloads only, and waits for their acknowledgements: the fastest way. */
    public suspend fun sendPayloads(payloads: List<ByteArray>): List<BatchReceipt> =
        receipts { queue, token -> packed(payloads) { native.sendPacked(it, payloads.size.toUInt(), queue, token) } }

    /** [sendPayloads], blocking. */
    public fun sendPayloadsBlocking(payloads: List<ByteArray>): List<BatchReceipt> = blocking { sendPayloads(payloads) }

    /** [sendPayloads] as a future. */
    public fun sendPayloadsAsync(payloads: List<ByteArray>): CompletableFuture<List<BatchReceipt>> =
        future { sendPayloads(payloads) }

    private suspend fun receipts(
        start: (dev.levada.internal.NativeQueue, ULong) -> dev.levada.internal.NativeOperation,
    ): List<BatchReceipt> =
        perform(start) { _, outcome ->
            (outcome as? NativeOutcome.Receipts ?: unexpected(outcome)).receipts.map { it.batch() }
        }

    /** Lengths, then payloads, in memory that native code can read; the library copies them before it returns. */
    private fun <T> packed(payloads: List<ByteArray>, use: (ByteBuffer) -> T): T {
        val size = Math.toIntExact(payloads.size * 4L + payloads.sumOf { it.size.toLong() })
        val memory = memory(size)
        try {
            val buffer = memory.getByteBuffer(0, size.toLong()).order(ByteOrder.LITTLE_ENDIAN)
            for (payload in payloads) buffer.putInt(payload.size)
            for (payload in payloads) buffer.put(payload)
            return use(buffer.flip())
        } finally {
            val surplus = if (memory.size() <= SPARE_BYTES) spare.getAndSet(memory) else memory
            surplus?.close()
            if (native.uniffiIsDestroyed) dropSpare()
        }
    }

    private fun memory(size: Int): Memory {
        val kept = spare.getAndSet(null)
        if (kept != null && kept.size() >= size) return kept
        kept?.close()
        return Memory(maxOf(size, LEAST_BYTES).toLong())
    }

    private fun dropSpare() {
        spare.getAndSet(null)?.close()
    }

    /** Waits until everything handed over before is settled; open batches do not linger. */
    public suspend fun flush(): Unit = perform({ queue, token -> native.flush(queue, token) }) { _, _ -> }

    /** [flush], blocking. */
    public fun flushBlocking(): Unit = blocking { flush() }

    /** [flush] as a future. */
    public fun flushAsync(): CompletableFuture<Unit> = future { flush() }

    /** Takes no more messages and waits until those taken are settled. Closing again does nothing. */
    public suspend fun close(timeout: Duration) {
        if (native.uniffiIsDestroyed) return
        perform({ queue, token -> native.end(timeout.timeoutMs(), queue, token) }) { _, _ -> }
        letGo()
    }

    /** Lets go of the core's half; calls are refused from then on. */
    internal fun letGo() {
        native.close()
        dropSpare()
    }

    /** [close] with 5 seconds, blocking. */
    override fun close(): Unit = closeBlocking(CLOSE_TIMEOUT)

    /** [close], blocking. */
    public fun closeBlocking(timeout: Duration): Unit = blocking { close(timeout) }

    /** [close] as a future. */
    @JvmOverloads
    public fun closeAsync(timeout: Duration = CLOSE_TIMEOUT): CompletableFuture<Unit> = future { close(timeout) }

    private companion object {
        val EMPTY = ByteArray(0)

        const val LEAST_BYTES = 1 shl 16

        /** Larger memory is not kept for the next call. */
        const val SPARE_BYTES = 8L shl 20
    }
}

/** The acknowledgement of an enqueued message, to come. Forgetting it does not take the message back. */
public class Delivery internal constructor(private val receipt: CompletableDeferred<Receipt>) {
    /** Whether the outcome is known. */
    public val isSettled: Boolean get() = receipt.isCompleted

    /** Waits for the outcome. May be asked for any number of times; given up, the message is sent all the same. */
    public suspend fun await(): Receipt = receipt.await()

    /** [await], blocking. */
    public fun awaitBlocking(): Receipt = blocking { await() }

    /** [await] as a future. */
    public fun awaitAsync(): CompletableFuture<Receipt> = receipt.asCompletableFuture().copy()
}
