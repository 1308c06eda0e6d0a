package dev.levada

import dev.levada.internal.NativeEvent
import dev.levada.internal.NativeOperation
import dev.levada.internal.NativeOutcome
import dev.levada.internal.NativeQueue
import dev.levada.internal.ended
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.ExperimentalCoroutinesApi
import java.nio.ByteBuffer
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicLong
import kotlin.concurrent.thread

/**
 * The one queue of this JVM and the daemon thread that polls it. It lives as long as a client is open or a call is under way.
 *
 * The thread only completes what waits: no code of a caller runs on it, unless a caller asks for that (`Unconfined`).
 */
internal class Exchange private constructor() {
    val queue = NativeQueue()
    private val waiting = ConcurrentHashMap<Long, Waiter>()
    private val log = CoreLog.start()

    @Volatile private var isShut = false
    private var users = 0

    /** What waits for an event. */
    sealed interface Waiter

    /** Waits for the end of an operation. */
    class Ended(val outcome: CompletableDeferred<NativeOutcome> = CompletableDeferred()) : Waiter

    /** Waits for an acknowledgement. */
    class Acknowledged(val receipt: CompletableDeferred<Receipt> = CompletableDeferred()) : Waiter

    /** Waits for something to take: what, is not told here, so that giving up loses nothing. */
    class Ready(val signal: CompletableDeferred<Unit> = CompletableDeferred()) : Waiter

    fun expect(waiter: Waiter): Long {
        val token = tokens.incrementAndGet()
        waiting[token] = waiter
        if (isShut && waiting.remove(token) != null) endWaiter(waiter)
        return token
    }

    fun forget(token: Long) {
        waiting.remove(token)
    }

    private fun run() {
        while (!isShut) {
            for (event in queue.poll(EVENTS_AT_ONCE)) deliver(event)
        }
        queue.close()
        for (token in waiting.keys) waiting.remove(token)?.let(::endWaiter)
        log?.end()
    }

    private fun deliver(event: NativeEvent) {
        when (event) {
            is NativeEvent.Done -> {
                val waiter = waiting.remove(event.token.toLong())
                if (waiter is Ended) waiter.outcome.complete(event.outcome) else discard(event.outcome)
            }
            is NativeEvent.Ready -> (waiting.remove(event.token.toLong()) as? Ready)?.signal?.complete(Unit)
            is NativeEvent.Acked ->
                eachOf(event.tokens) { index, waiter -> waiter.receipt.complete(event.receipt.message(index)) }
            is NativeEvent.Lost -> {
                val failure = Failure(event.failure)
                eachOf(event.tokens) { _, waiter -> waiter.receipt.completeExceptionally(exceptionOf(failure)) }
            }
        }
    }

    private inline fun eachOf(tokens: ByteArray, act: (Int, Acknowledged) -> Unit) {
        val numbers = ByteBuffer.wrap(tokens).asLongBuffer()
        for (index in 0 until numbers.limit()) {
            (waiting.remove(numbers.get(index)) as? Acknowledged)?.let { act(index, it) }
        }
    }

    private fun endWaiter(waiter: Waiter) {
        when (waiter) {
            is Ended -> waiter.outcome.complete(NativeOutcome.Failed(ended()))
            is Acknowledged -> waiter.receipt.completeExceptionally(exceptionOf(ended()))
            is Ready -> waiter.signal.complete(Unit)
        }
    }

    companion object {
        private const val EVENTS_AT_ONCE = 1024u
        private val tokens = AtomicLong()
        private val lock = Any()
        private var current: Exchange? = null

        /** The exchange, kept until [release]. */
        fun acquire(): Exchange =
            synchronized(lock) {
                val exchange = current ?: Exchange().also {
                    current = it
                    thread(isDaemon = true, name = "levada-queue") { it.run() }
                }
                exchange.users += 1
                exchange
            }

        fun release(exchange: Exchange) {
            synchronized(lock) {
                exchange.users -= 1
                if (exchange.users > 0) return
                current = null
            }
            // In this order: the thread frees the queue as soon as it sees the second.
            exchange.queue.shut()
            exchange.isShut = true
        }
    }
}

/** Lets go of what an outcome brings that nobody waits for. */
internal fun discard(outcome: NativeOutcome) {
    when (outcome) {
        is NativeOutcome.Client -> outcome.client.close()
        is NativeOutcome.Producer -> outcome.producer.close()
        is NativeOutcome.Consumer -> outcome.consumer.close()
        is NativeOutcome.Delivery -> outcome.delivery.close()
        else -> {}
    }
}

/** Starts an operation, waits for its end, and gives it up when the caller's coroutine is cancelled. */
internal suspend fun <T> perform(
    start: (NativeQueue, ULong) -> NativeOperation,
    convert: (Exchange, NativeOutcome) -> T,
): T {
    currentCoroutineContext().ensureActive()
    val exchange = Exchange.acquire()
    try {
        val waiter = Exchange.Ended()
        val token = exchange.expect(waiter)
        val operation = try {
            native { start(exchange.queue, token.toULong()) }
        } catch (error: Throwable) {
            exchange.forget(token)
            throw error
        }
        val outcome = try {
            waiter.outcome.await()
        } catch (cancelled: CancellationException) {
            operation.cancel()
            discardLater(waiter.outcome)
            throw cancelled
        } finally {
            operation.close()
        }
        if (outcome is NativeOutcome.Failed) throw exceptionOf(outcome.failure)
        return convert(exchange, outcome)
    } finally {
        Exchange.release(exchange)
    }
}

@OptIn(ExperimentalCoroutinesApi::class)
private fun discardLater(outcome: CompletableDeferred<NativeOutcome>) {
    outcome.invokeOnCompletion { discard(outcome.getCompleted()) }
}

/** The outcome should have been of another kind: a defect of this package. */
internal fun unexpected(outcome: NativeOutcome): Nothing =
    error("the native library ended a call with ${outcome::class.simpleName}")
