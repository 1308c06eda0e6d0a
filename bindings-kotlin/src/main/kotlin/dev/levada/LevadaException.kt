package dev.levada

import dev.levada.internal.NativeException
import dev.levada.internal.NativeFailure

/** What the core tells of a failure. */
internal class Failure(native: NativeFailure) {
    val code: Int = native.number.toInt()
    val name: String = native.name
    val errorClass: String = native.className
    val retriable: Boolean = native.retriable
    val maybeApplied: Boolean = native.maybeApplied
    val retryAfterMs: Long = native.retryAfterMs.toLong()
    val text: String = native.text
    val details: Map<String, String> = native.details.associate { it.name to it.value }
}

/**
 * Why a call failed. There is one subclass for each class of error; the code within it tells more, and a code that is newer
 * than this client still has its class, its number and its flags.
 */
public abstract class LevadaException internal constructor(failure: Failure) :
    RuntimeException("${failure.name} (${failure.code}): ${failure.text}") {
    /** The stable number of the error, see [ErrorCode]. */
    public val code: Int = failure.code

    /** The stable upper-case name of the error; `UNKNOWN` for one newer than this client. */
    public val name: String = failure.name

    /** The class of the error, such as `not_found`. */
    public val errorClass: String = failure.errorClass

    /** Whether the same call may succeed later. */
    public val retriable: Boolean = failure.retriable

    /** Whether the call may have taken effect although it failed. */
    public val maybeApplied: Boolean = failure.maybeApplied

    /** How long the server asks to wait before a retry, in milliseconds; 0 leaves it to the caller. */
    public val retryAfterMs: Long = failure.retryAfterMs

    /** What went wrong, for a person, without name and number. */
    public val text: String = failure.text

    /** Named values, as listed for the code in the table of errors; numbers are decimal. */
    public val details: Map<String, String> = failure.details
}

internal fun exceptionOf(failure: NativeFailure): LevadaException = exceptionOf(Failure(failure))

/** Runs a call into the library; its error becomes an exception of this package. */
internal inline fun <T> native(body: () -> T): T =
    try {
        body()
    } catch (error: NativeException.Failed) {
        throw exceptionOf(error.failure)
    } catch (error: IllegalStateException) {
        // What UniFFI says of an object that was let go of, which happens when it is closed.
        if (error.message?.endsWith("has already been destroyed") == true) throw closed()
        throw error
    }

internal fun closed(): LevadaException {
    val text = "the client, producer or consumer is closed"
    return exceptionOf(NativeFailure(ErrorCode.CLOSED.toUShort(), "CLOSED", "closed", false, false, 0u, text, emptyList()))
}
