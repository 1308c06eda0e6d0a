package dev.levada

import dev.levada.internal.NativeConsumer
import dev.levada.internal.NativeOutcome
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.withTimeoutOrNull
import java.time.Duration

/**
 * Changes of what a consumer reads. The core is asked by one call at a time, which goes on when its caller gives up: what it
 * brings is then the next caller's, so that giving up loses nothing.
 */
@OptIn(ExperimentalCoroutinesApi::class)
internal class Changes(private val native: NativeConsumer) {
    private val lock = Any()
    private var asked: CompletableDeferred<NativeOutcome>? = null

    /** Takes, and waits and takes again, until there is a change; null when the time has passed. */
    suspend fun <T> waitFor(timeout: Duration?, take: () -> T?): T? {
        currentCoroutineContext().ensureActive()
        val deadline = timeout?.let { System.nanoTime() + nanoseconds(it) }
        while (true) {
            val left = deadline?.let { maxOf(it - System.nanoTime(), 0) }
            awaitOutcome(left?.let { (it + NANOS_PER_MS - 1) / NANOS_PER_MS })
            take()?.let { return it }
            if (left == 0L) return null
        }
    }

    /** The change that has come, for one caller only. */
    fun take(): AssignmentChange? {
        val outcome = synchronized(lock) {
            val outcome = asked?.takeIf { it.isCompleted }?.getCompleted() ?: return null
            asked = null
            outcome
        }
        return when (outcome) {
            is NativeOutcome.Done -> null
            is NativeOutcome.Result -> AssignmentChange.of(Value(outcome.value))
            is NativeOutcome.Failed -> throw exceptionOf(outcome.failure)
            else -> unexpected(outcome)
        }
    }

    private suspend fun awaitOutcome(timeoutMs: Long?) {
        val (outcome, isOurs) = synchronized(lock) {
            val known = asked?.takeUnless { it.isCompleted && it.getCompleted() is NativeOutcome.Done }
            if (known != null) known to false else ask(timeoutMs) to true
        }
        // The core watches the time of a call that was made for it; that of an earlier one is another.
        if (isOurs || timeoutMs == null) outcome.await() else withTimeoutOrNull(timeoutMs) { outcome.await() }
    }

    /** Asks the core, which answers in any case: at the latest when the consumer ends. */
    private fun ask(timeoutMs: Long?): CompletableDeferred<NativeOutcome> {
        val exchange = Exchange.acquire()
        val waiter = Exchange.Ended()
        val token = exchange.expect(waiter)
        val operation = try {
            native { native.nextChange(timeoutMs?.toULong(), exchange.queue, token.toULong()) }
        } catch (error: Throwable) {
            exchange.forget(token)
            Exchange.release(exchange)
            throw error
        }
        asked = waiter.outcome
        waiter.outcome.invokeOnCompletion {
            operation.close()
            Exchange.release(exchange)
        }
        return waiter.outcome
    }

    private companion object {
        const val NANOS_PER_MS = 1_000_000L
    }
}
