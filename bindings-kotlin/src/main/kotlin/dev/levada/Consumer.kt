package dev.levada

import dev.levada.internal.NativeConsumer
import dev.levada.internal.NativeOutcome
import dev.levada.internal.concurrentCall
import dev.levada.internal.timedOut
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.DelicateCoroutinesApi
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.GlobalScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.FlowCollector
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import kotlinx.coroutines.withTimeoutOrNull
import java.time.Duration
import java.util.concurrent.CompletableFuture
import java.util.concurrent.atomic.AtomicBoolean

/**
 * A consumer. One receive may be under way at a time; a second is a [ConflictException].
 *
 * A receive waits for readiness, which carries nothing, and takes messages only in the continuation that returns them: giving
 * up a receive, by a time limit or by cancellation, loses nothing. To limit the time, pass a timeout rather than wrapping the
 * call in `withTimeout`, which may drop a result that had just been returned.
 */
public class Consumer internal constructor(private val native: NativeConsumer) : AutoCloseable, Iterable<Message> {
    private val isReceiving = AtomicBoolean(false)
    private var current: ReceivedBatch? = null

    /** What the receive under way waits for. */
    @Volatile private var waiting: Exchange.Ready? = null

    /** A receive whose future was cancelled, until it has let go. */
    @Volatile private var abandoned: Job? = null

    private val changes = Changes(native)

    /** The topic it reads, `stream/topic`; of a member of a group, the topics and patterns. */
    public val topic: String get() = native { native.topic() }

    /** The partitions it reads; of a member of a group, those it reads now: see [assignments]. */
    public val partitions: List<Int> get() = native { native.partitions() }.map { it.toInt() }

    /**
     * The next message; null at the end asked for by `untilEnd`.
     *
     * @param timeout how long to wait; null: without limit. [TimeoutException] when it has passed.
     */
    public suspend fun receive(timeout: Duration? = null): Message? =
        exclusive { (waitFor(timeout, ::takeOne) ?: throw exceptionOf(timedOut())).message }

    /** [receive], blocking. */
    @JvmOverloads
    public fun receiveBlocking(timeout: Duration? = null): Message? = blocking { receive(timeout) }

    /** [receive] as a future. Cancelling it loses nothing: a message goes to the future or stays. */
    @JvmOverloads
    public fun receiveAsync(timeout: Duration? = null): CompletableFuture<Message?> =
        receiving(timeout, ::takeOne) { (it ?: throw exceptionOf(timedOut())).message }

    /**
     * The next messages, at most [maxMessages] and about [maxBytes] but at least one batch; none when [timeout] has passed or
     * the end is reached.
     */
    public suspend fun receiveBatch(
        maxMessages: Int = MAX_MESSAGES,
        maxBytes: Long = MAX_BYTES,
        timeout: Duration? = BATCH_TIMEOUT,
    ): Messages = exclusive { waitFor(timeout) { takeMany(maxMessages, maxBytes) } ?: NONE }

    /** [receiveBatch], blocking. */
    @JvmOverloads
    public fun receiveBatchBlocking(
        maxMessages: Int = MAX_MESSAGES,
        maxBytes: Long = MAX_BYTES,
        timeout: Duration? = BATCH_TIMEOUT,
    ): Messages = blocking { receiveBatch(maxMessages, maxBytes, timeout) }

    /** [receiveBatch] as a future. Cancelling it loses nothing. */
    @JvmOverloads
    public fun receiveBatchAsync(
        maxMessages: Int = MAX_MESSAGES,
        maxBytes: Long = MAX_BYTES,
        timeout: Duration? = BATCH_TIMEOUT,
    ): CompletableFuture<Messages> = receiving(timeout, { takeMany(maxMessages, maxBytes) }) { it ?: NONE }

    /** The messages as a flow, to the end asked for by `untilEnd`. A collector that stops loses nothing it was not given. */
    public fun messages(): Flow<Message> =
        object : Flow<Message> {
            // Not the builder `flow`, whose emit may drop a message when the collector was cancelled meanwhile.
            override suspend fun collect(collector: FlowCollector<Message>) {
                while (true) {
                    currentCoroutineContext().ensureActive()
                    collector.emit(receive() ?: return)
                }
            }
        }

    /** The messages one after the other, blocking, to the end asked for by `untilEnd`. */
    override fun iterator(): Iterator<Message> =
        iterator {
            while (true) yield(receiveBlocking() ?: break)
        }

    /**
     * Moves to another position in one partition. What was handed out is not taken back.
     *
     * @param topic which topic's partition is meant, where several are read.
     */
    @JvmOverloads
    public fun seek(partition: Int, position: Position, topic: String? = null): Unit =
        native { native.seek(topic, partition.toUInt(), position.field()) }

    /** Offset of the next message to be handed out; null until the server has told what the start came to. */
    @JvmOverloads
    public fun position(partition: Int, topic: String? = null): Long? =
        native { native.position(topic, partition.toUInt()) }?.toLong()

    /** Stops handing out messages of a partition; at most its share of the prefetched bytes is kept. */
    @JvmOverloads
    public fun pause(partition: Int, topic: String? = null): Unit = native { native.pause(topic, partition.toUInt()) }

    /** Goes on with a paused partition. */
    @JvmOverloads
    public fun resume(partition: Int, topic: String? = null): Unit = native { native.resume(topic, partition.toUInt()) }

    /**
     * Stores how far the group is: everything handed out so far counts as done. Returns when it is durable. Partitions that went
     * to another member meanwhile are left out.
     */
    public suspend fun commit(): Unit = perform({ queue, token -> native.commit(queue, token) }) { _, _ -> }

    /** [commit], blocking. */
    public fun commitBlocking(): Unit = blocking { commit() }

    /** [commit] as a future. */
    public fun commitAsync(): CompletableFuture<Unit> = future { commit() }

    /**
     * Stores offsets of the caller's choice, all or none: `NOT_ASSIGNED` if one is another member's. They may go back only after
     * a [seek].
     */
    public suspend fun commitOffsets(offsets: List<PartitionOffset>): Unit =
        perform({ queue, token -> native.commitOffsets(partitionOffsets(offsets), queue, token) }) { _, _ -> }

    /** [commitOffsets], blocking. */
    public fun commitOffsetsBlocking(offsets: List<PartitionOffset>): Unit = blocking { commitOffsets(offsets) }

    /** [commitOffsets] as a future. */
    public fun commitOffsetsAsync(offsets: List<PartitionOffset>): CompletableFuture<Unit> = future { commitOffsets(offsets) }

    /** The offset the group has stored for a partition, asked of the server; null if there is none. */
    public suspend fun committed(topic: String, partition: Int): Long? =
        perform({ queue, token -> native.committed(topic, partition.toUInt(), queue, token) }) { _, outcome ->
            when (outcome) {
                is NativeOutcome.Done -> null
                is NativeOutcome.Result -> Value(outcome.value).number()
                else -> unexpected(outcome)
            }
        }

    /** [committed], blocking. */
    public fun committedBlocking(topic: String, partition: Int): Long? = blocking { committed(topic, partition) }

    /** [committed] as a future. */
    public fun committedAsync(topic: String, partition: Int): CompletableFuture<Long?> = future { committed(topic, partition) }

    /** The partitions it reads now, by topic and number. */
    public fun assignments(): List<TopicPartition> = Value(native { native.assignments() }).items { TopicPartition.of(it) }

    /**
     * The next change of what it reads, beginning with what it was assigned first. Changes wait until they are asked for; where
     * too many wait, they are told as one step from what was told last. Giving it up loses nothing.
     *
     * @param timeout how long to wait; null: without limit. The change is null when it has passed.
     */
    public suspend fun nextChange(timeout: Duration? = null): AssignmentChange? = changes.waitFor(timeout, changes::take)

    /** [nextChange], blocking. */
    @JvmOverloads
    public fun nextChangeBlocking(timeout: Duration? = null): AssignmentChange? = blocking { nextChange(timeout) }

    /** [nextChange] as a future. Cancelling it loses nothing. */
    @OptIn(DelicateCoroutinesApi::class)
    @JvmOverloads
    public fun nextChangeAsync(timeout: Duration? = null): CompletableFuture<AssignmentChange?> {
        val future = Receiving<AssignmentChange?>()
        val job = GlobalScope.launch(Dispatchers.Default) {
            try {
                val given = changes.waitFor(timeout) {
                    synchronized(future) { if (future.isDone) Unit else changes.take()?.let { future.complete(it) } }
                }
                if (given == null) future.complete(null)
            } catch (error: Throwable) {
                future.completeExceptionally(error)
            }
        }
        future.whenComplete { _, error -> if (error != null) job.cancel() }
        return future
    }

    /** Ends the subscriptions; a receive under way fails with [ClosedException]. Closing again does nothing. */
    public suspend fun close(timeout: Duration) {
        if (native.uniffiIsDestroyed) return
        perform({ queue, token -> native.end(timeout.timeoutMs(), queue, token) }) { _, _ -> }
        letGo()
    }

    /** Lets go of the core's half: calls are refused from then on, and who waits hears of it. */
    internal fun letGo() {
        native.close()
        waiting?.signal?.complete(Unit)
    }

    /** [close] with 5 seconds, blocking. */
    override fun close(): Unit = closeBlocking(CLOSE_TIMEOUT)

    /** [close], blocking. */
    public fun closeBlocking(timeout: Duration): Unit = blocking { close(timeout) }

    /** [close] as a future. */
    @JvmOverloads
    public fun closeAsync(timeout: Duration = CLOSE_TIMEOUT): CompletableFuture<Unit> = future { close(timeout) }

    /** One message, or that there will be none. */
    private class One(val message: Message?)

    private fun takeOne(): One? {
        val taken = native { native.takeMessage() }
        if (taken == NOTHING) return null
        if (taken == FINISHED) return One(null)
        if (taken and NEW_BATCH != 0L) current = native.current()?.let(::ReceivedBatch)
        val batch = checkNotNull(current) { "a message was taken, so there is its batch" }
        val index = (taken and (NEW_BATCH - 1)).toInt()
        if (index == batch.count - 1) {
            // The last of its batch: its messages alone keep its copy, and nobody the core's bytes. A close has let go of them.
            current = null
            runCatching { native.dropCurrent() }
        }
        return One(Message(batch, index))
    }

    private fun takeMany(maxMessages: Int, maxBytes: Long): Messages? {
        val taken = native { native.take(maxMessages.toLong().toULong(), maxBytes.toULong()) }
        if (taken.batches.isEmpty()) return if (taken.finished) Messages(emptyList(), true) else null
        val messages = ArrayList<Message>(taken.batches.sumOf { it.messageCount.toInt() })
        try {
            for (lent in taken.batches) {
                val batch = ReceivedBatch(lent)
                for (index in 0 until batch.count) messages.add(Message(batch, index))
            }
        } finally {
            taken.hold?.close()
        }
        return Messages(messages, taken.finished)
    }

    private suspend inline fun <T> exclusive(body: () -> T): T {
        abandoned?.join()
        if (!isReceiving.compareAndSet(false, true)) throw exceptionOf(concurrentCall())
        try {
            return body()
        } finally {
            isReceiving.set(false)
        }
    }

    /** Takes, and waits and takes again, until there is something; null when the time has passed. */
    private suspend fun <T> waitFor(timeout: Duration?, take: () -> T?): T? {
        currentCoroutineContext().ensureActive()
        val deadline = timeout?.let { System.nanoTime() + nanoseconds(it) }
        while (true) {
            take()?.let { return it }
            val left = deadline?.let { it - System.nanoTime() }
            if (left != null && left <= 0) return null
            awaitReady(left)
        }
    }

    /** Waits until there is something to take, or for that many nanoseconds. */
    private suspend fun awaitReady(nanoseconds: Long?) {
        val exchange = Exchange.acquire()
        try {
            val waiter = Exchange.Ready()
            val token = exchange.expect(waiter)
            waiting = waiter
            try {
                native { native.arm(exchange.queue, token.toULong()) }
                if (nanoseconds == null) {
                    waiter.signal.await()
                } else {
                    withTimeoutOrNull(nanoseconds / 1_000_000 + 1) { waiter.signal.await() }
                }
            } finally {
                waiting = null
                exchange.forget(token)
                if (!native.uniffiIsDestroyed) native { native.disarm() }
            }
        } finally {
            Exchange.release(exchange)
        }
    }

    /**
     * A future that is completed under the lock its cancellation takes: what is taken reaches the future, or is not taken.
     */
    private class Receiving<T> : CompletableFuture<T>() {
        override fun cancel(mayInterruptIfRunning: Boolean): Boolean = synchronized(this) { super.cancel(mayInterruptIfRunning) }

        override fun completeExceptionally(error: Throwable): Boolean = synchronized(this) { super.completeExceptionally(error) }

        override fun complete(value: T): Boolean = synchronized(this) { super.complete(value) }

        override fun <U> newIncompleteFuture(): CompletableFuture<U> = CompletableFuture()
    }

    @OptIn(DelicateCoroutinesApi::class, kotlinx.coroutines.ExperimentalCoroutinesApi::class)
    private fun <T, R> receiving(timeout: Duration?, take: () -> T?, convert: (T?) -> R): CompletableFuture<R> {
        val future = Receiving<R>()
        val before = abandoned?.takeIf { it.isActive || !it.isCompleted }
        if (before == null && !isReceiving.compareAndSet(false, true)) {
            future.completeExceptionally(exceptionOf(concurrentCall()))
            return future
        }
        val isOurs = AtomicBoolean(before == null)
        // Whoever hears of the outcome may receive again at once.
        val leave = { if (isOurs.compareAndSet(true, false)) isReceiving.set(false) }
        // Begun even if it is cancelled at once, and ended only after what it waits for: then nobody receives any more.
        val job = GlobalScope.launch(Dispatchers.Default, CoroutineStart.ATOMIC) {
            try {
                if (before != null) {
                    withContext(NonCancellable) { before.join() }
                    if (!isReceiving.compareAndSet(false, true)) throw exceptionOf(concurrentCall())
                    isOurs.set(true)
                }
                val last = waitFor(timeout) {
                    synchronized(future) {
                        if (future.isDone) return@synchronized Unit
                        take()?.let {
                            leave()
                            future.complete(convert(it))
                        }?.let { }
                    }
                }
                leave()
                if (last == null) future.complete(convert(null))
            } catch (error: Throwable) {
                leave()
                future.completeExceptionally(error)
            }
        }
        job.invokeOnCompletion { leave() }
        future.whenComplete { _, error ->
            if (error != null && job.isActive) {
                abandoned = job
                job.cancel()
            }
        }
        return future
    }

    private companion object {
        const val MAX_MESSAGES = 1000
        const val MAX_BYTES = 4L shl 20
        val BATCH_TIMEOUT: Duration = Duration.ofSeconds(1)
        val NONE = Messages(emptyList(), false)

        /** What the library answers instead of an index. */
        const val NOTHING = -1L
        const val FINISHED = -2L

        /** Set beside an index whose batch is another than that of the message before. */
        const val NEW_BATCH = 1L shl 32
    }
}
