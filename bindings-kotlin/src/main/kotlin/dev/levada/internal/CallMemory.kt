package dev.levada.internal

import com.sun.jna.Memory

/**
 * Native memory of the structures that one thread's calls into the library take. JNA would leave each to the collector, and under
 * load allocates them faster than its cleaner frees them: so statuses are used again, and buffers' structures freed by hand.
 * levada-kotlin-bindgen puts the calls of this class into what UniFFI writes.
 */
internal class CallMemory private constructor() {
    private val statuses = ArrayList<UniffiRustCallStatus>()

    /** Structures of arguments, of the calls under way: a call may be made while another's arguments are. */
    private val lowered = ArrayList<RustBuffer>()

    /** Where the arguments of the call that begins will be. */
    fun mark(): Int = lowered.size

    /** A status that says success. */
    fun status(): UniffiRustCallStatus = statuses.removeLastOrNull() ?: UniffiRustCallStatus()

    /** Takes back a status that still says success. */
    fun keep(status: UniffiRustCallStatus) {
        statuses.add(status)
    }

    /** Owns a structure until the call it is an argument of has returned. */
    fun lower(buffer: RustBuffer) {
        lowered.add(buffer)
    }

    /** Frees the structures of arguments made since that mark. */
    fun release(mark: Int) {
        while (lowered.size > mark) free(lowered.removeAt(lowered.lastIndex))
    }

    companion object {
        private val ofThread = ThreadLocal.withInitial(::CallMemory)

        fun get(): CallMemory = ofThread.get()

        /** Frees a structure that is not read any more; what it points to is the library's. */
        fun free(buffer: RustBuffer) {
            (buffer.pointer as? Memory)?.close()
        }
    }
}
