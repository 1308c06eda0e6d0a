package dev.levada

import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.Timeout
import java.nio.file.Path
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import java.util.logging.Handler
import java.util.logging.Level
import java.util.logging.LogRecord
import java.util.logging.Logger

/** The core's log in loggers of the platform. In JVMs of their own: a process has one reader, from its first connect on. */
@Timeout(60)
class CoreLogTest {
    /** What the program below says in a JVM of its own, which must end by itself. */
    private fun said(level: String, warnings: Int): List<String> {
        val server = TestServer.shared
        val java = Path.of(System.getProperty("java.home"), "bin", "java").toString()
        val classes = System.getProperty("java.class.path")
        val program = listOf(java, "-cp", classes, LogProgram::class.java.name, level, "$warnings", server.address)
        val process = ProcessBuilder(program + server.tokenFile.toString()).redirectErrorStream(true).start()
        process.outputStream.close()
        try {
            assertTrue(process.waitFor(30, TimeUnit.SECONDS), "the JVM does not end")
            val lines = process.inputReader().readLines()
            assertEquals(0, process.exitValue(), lines.joinToString("\n"))
            return lines
        } finally {
            process.destroyForcibly()
        }
    }

    @Test
    fun `a line reaches the logger of its module, also after one that the log failed at`() {
        val lines = said("FINE", warnings = 2)
        val warning = "levada.transport WARNING certificates are not verified: anyone on the path can read and change everything"
        assertEquals(listOf(warning, warning), lines.filter { it.startsWith("levada.transport") })
        assertTrue(lines.any { it.startsWith("levada.link.driver FINE no connection address=levada://127.0.0.1:1 error=") }, "$lines")
        assertTrue(lines.contains("connected"))
    }

    @Test
    fun `a logger that wants nothing is told nothing`() {
        assertEquals(listOf("connected"), said("OFF", warnings = 0))
    }
}

/** Fails to connect twice, which the core tells of, then connects and leaves the client open. */
object LogProgram {
    @JvmStatic
    fun main(arguments: Array<String>) {
        val (level, warnings, address, tokenFile) = arguments
        val awaited = CountDownLatch(warnings.toInt())
        // A logger that nobody keeps forgets its level.
        val logger = Logger.getLogger("levada")
        logger.level = Level.parse(level)
        logger.useParentHandlers = false
        logger.addHandler(
            object : Handler() {
                override fun publish(record: LogRecord) {
                    println("${record.loggerName} ${record.level} ${record.message}")
                    if (record.level != Level.WARNING) return
                    awaited.countDown()
                    check(awaited.count == 0L) { "the log fails at all but the last" }
                }

                override fun flush() = Unit

                override fun close() = Unit
            },
        )
        val nowhere = ClientOptions().server("127.0.0.1:1").anonymous(true).tlsDangerouslyAcceptAnyCertificate(true)
        repeat(2) { runCatching { Levada.connectBlocking(nowhere) } }
        check(awaited.await(20, TimeUnit.SECONDS)) { "the log is silent" }
        val client = Levada.connectBlocking(ClientOptions().server(address).tokenFile(Path.of(tokenFile)))
        runBlocking { client.ping() }
        println("connected")
    }
}
