package dev.levada

import dev.levada.internal.NativeLog
import dev.levada.internal.NativeLogLine
import kotlin.concurrent.thread

/**
 * What the core logs, passed on to [System.Logger]: to the logger of its module, such as `levada.producer`, from a daemon thread
 * that lives as long as an [Exchange]. A slow log loses lines and says how many; it never slows the client.
 */
internal class CoreLog private constructor(private val log: NativeLog) {
    @Volatile private var isEnded = false

    /** Ends the thread, after it has passed on what is there. */
    fun end() {
        isEnded = true
        log.ring()
    }

    private fun run() {
        var heard = ULong.MAX_VALUE
        while (true) {
            // Asked before the lines are: those of a client that was closed before are among them.
            val isLast = isEnded
            val taken = log.wait(if (isLast) ULong.MAX_VALUE else heard)
            taken.lines.forEach(::passOn)
            if (taken.droppedCount > 0u) tellDropped(taken.droppedCount)
            if (isLast) return
            heard = taken.ringCount
        }
    }

    companion object {
        private const val NAME = "levada"
        private val levels = mapOf(
            "TRACE" to System.Logger.Level.TRACE,
            "DEBUG" to System.Logger.Level.DEBUG,
            "INFO" to System.Logger.Level.INFO,
            "WARN" to System.Logger.Level.WARNING,
            "ERROR" to System.Logger.Level.ERROR,
        )

        /** The one reader of this process; null where nothing is wanted, or another copy of this package reads. */
        private val log: NativeLog? by lazy { runCatching(::subscribe).getOrNull() }

        private fun subscribe(): NativeLog? {
            val logger = System.getLogger(NAME)
            val finest = levels.entries.firstOrNull { (_, level) -> logger.isLoggable(level) }
            return finest?.let { NativeLog(it.key.lowercase()) }
        }

        /** Begins to pass on; null where nothing is wanted. */
        fun start(): CoreLog? =
            log?.let { CoreLog(it) }?.also { thread(isDaemon = true, name = "levada-log") { it.run() } }

        private fun passOn(line: NativeLogLine): Unit =
            tell(line.target.replace("::", "."), levels[line.level] ?: System.Logger.Level.INFO, line.message)

        private fun tellDropped(count: ULong): Unit =
            tell(NAME, System.Logger.Level.WARNING, "$count lines of the log were lost, because they came too fast")

        /** A log that fails must not end the thread: the lines after this one may be the important ones. */
        private fun tell(name: String, level: System.Logger.Level, line: String) {
            runCatching { System.getLogger(name).log(level, line) }
        }
    }
}
