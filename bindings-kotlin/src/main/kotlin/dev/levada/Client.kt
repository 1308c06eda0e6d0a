package dev.levada

import dev.levada.internal.NativeClient
import dev.levada.internal.NativeOutcome
import dev.levada.internal.NativeValue
import java.time.Duration
import java.util.Collections
import java.util.WeakHashMap
import java.util.concurrent.CompletableFuture
import java.util.concurrent.atomic.AtomicBoolean

/** How long a close waits unless told otherwise. */
internal val CLOSE_TIMEOUT: Duration = Duration.ofSeconds(5)

/** Makes control calls. */
internal class Caller(private val client: NativeClient) {
    suspend fun <T> call(operation: String, arguments: Fields, read: (Value) -> T): T =
        perform({ queue, token -> client.call(operation, arguments.native(), queue, token) }) { _, outcome ->
            read(
                when (outcome) {
                    is NativeOutcome.Done -> Value(NativeValue.Absent)
                    is NativeOutcome.Result -> Value(outcome.value)
                    else -> unexpected(outcome)
                },
            )
        }
}

/**
 * A connected client. Threads and coroutines may share it. Closing it ends every producer and consumer made from it.
 *
 * Every call that waits exists three times: suspending, blocking (`…Blocking`) and as a [CompletableFuture] (`…Async`).
 */
public class Client internal constructor(private val native: NativeClient, private val exchange: Exchange) : AutoCloseable {
    private val caller = Caller(native)
    private val isReleased = AtomicBoolean(false)

    /** What was made from this client and may be open: it would keep memory and descriptors of the core. */
    private val children: MutableSet<AutoCloseable> = Collections.synchronizedSet(Collections.newSetFromMap(WeakHashMap()))

    init {
        Exchange.acquire()
    }

    /** Streams, topics, users and tokens. */
    public val admin: Admin = Admin(caller)

    /** Asks for a sign of life; gives the time it took. */
    public suspend fun ping(): Duration = caller.call("ping", Fields()) { micros(it.number()) }

    /** [ping], blocking. */
    public fun pingBlocking(): Duration = blocking { ping() }

    /** [ping] as a future. */
    public fun pingAsync(): CompletableFuture<Duration> = future { ping() }

    /** What the server told at the last handshake. */
    public fun serverInfo(): ServerInfo? = Value(native { native.serverInfo() }).takeUnless { it.isAbsent }?.let(ServerInfo::of)

    /** A producer to `stream/topic`. */
    public suspend fun producer(topic: String, options: ProducerOptions = ProducerOptions()): Producer =
        perform({ queue, token -> native.producer(topic, options.fields().native(), queue, token) }) { exchange, outcome ->
            val producer = Producer((outcome as? NativeOutcome.Producer ?: unexpected(outcome)).producer, exchange)
            producer.also { adopt(it, it::letGo) }
        }

    /** [producer] with options set in a block. */
    public suspend fun producer(topic: String, configure: ProducerOptions.() -> Unit): Producer =
        producer(topic, ProducerOptions().apply(configure))

    /** [producer], blocking. */
    @JvmOverloads
    public fun producerBlocking(topic: String, options: ProducerOptions = ProducerOptions()): Producer =
        blocking { producer(topic, options) }

    /** [producer] as a future. */
    @JvmOverloads
    public fun producerAsync(topic: String, options: ProducerOptions = ProducerOptions()): CompletableFuture<Producer> =
        future { producer(topic, options) }

    /** A consumer of `stream/topic`, or of one partition with `stream/topic:partition`. */
    public suspend fun consumer(topic: String, options: ConsumerOptions = ConsumerOptions()): Consumer =
        perform({ queue, token -> native.consumer(topic, options.fields().native(), queue, token) }) { _, outcome ->
            consumerOf(outcome)
        }

    /** [consumer] with options set in a block. */
    public suspend fun consumer(topic: String, configure: ConsumerOptions.() -> Unit): Consumer =
        consumer(topic, ConsumerOptions().apply(configure))

    /** [consumer], blocking. */
    @JvmOverloads
    public fun consumerBlocking(topic: String, options: ConsumerOptions = ConsumerOptions()): Consumer =
        blocking { consumer(topic, options) }

    /** [consumer] as a future. */
    @JvmOverloads
    public fun consumerAsync(topic: String, options: ConsumerOptions = ConsumerOptions()): CompletableFuture<Consumer> =
        future { consumer(topic, options) }

    /**
     * A consumer that is a member of a group and reads its share of [topics]: `stream/topic`, with `*` for any run of characters
     * but `/`.
     */
    public suspend fun groupConsumer(
        group: String,
        topics: List<String>,
        options: GroupConsumerOptions = GroupConsumerOptions(),
    ): Consumer =
        perform({ queue, token -> native.groupConsumer(group, topics, options.fields().native(), queue, token) }) { _, outcome ->
            consumerOf(outcome)
        }

    /** [groupConsumer] with options set in a block. */
    public suspend fun groupConsumer(group: String, topics: List<String>, configure: GroupConsumerOptions.() -> Unit): Consumer =
        groupConsumer(group, topics, GroupConsumerOptions().apply(configure))

    /** [groupConsumer], blocking. */
    @JvmOverloads
    public fun groupConsumerBlocking(
        group: String,
        topics: List<String>,
        options: GroupConsumerOptions = GroupConsumerOptions(),
    ): Consumer = blocking { groupConsumer(group, topics, options) }

    /** [groupConsumer] as a future. */
    @JvmOverloads
    public fun groupConsumerAsync(
        group: String,
        topics: List<String>,
        options: GroupConsumerOptions = GroupConsumerOptions(),
    ): CompletableFuture<Consumer> = future { groupConsumer(group, topics, options) }

    private fun consumerOf(outcome: NativeOutcome): Consumer {
        val consumer = Consumer((outcome as? NativeOutcome.Consumer ?: unexpected(outcome)).consumer)
        return consumer.also { adopt(it, it::letGo) }
    }

    /** Keeps what was made from this client; what was made while it closed is let go of at once. */
    private fun adopt(child: AutoCloseable, letGo: () -> Unit) {
        children.add(child)
        if (isReleased.get()) letGo()
    }

    /**
     * Lets every producer settle what it has taken, then ends everything made from this client. Closing again does nothing.
     * A [TimeoutException] says that something was unacknowledged then; the client is closed all the same.
     */
    public suspend fun close(timeout: Duration) {
        if (native.uniffiIsDestroyed) return
        try {
            perform({ queue, token -> native.end(timeout.timeoutMs(), queue, token) }) { _, _ -> }
        } finally {
            if (isReleased.compareAndSet(false, true)) {
                for (child in synchronized(children) { children.toList() }) {
                    when (child) {
                        is Producer -> child.letGo()
                        is Consumer -> child.letGo()
                    }
                }
                native.close()
                Exchange.release(exchange)
            }
        }
    }

    /** [close] with 5 seconds, blocking. */
    override fun close(): Unit = closeBlocking(CLOSE_TIMEOUT)

    /** [close], blocking. */
    public fun closeBlocking(timeout: Duration): Unit = blocking { close(timeout) }

    /** [close] as a future. */
    @JvmOverloads
    public fun closeAsync(timeout: Duration = CLOSE_TIMEOUT): CompletableFuture<Unit> = future { close(timeout) }
}
