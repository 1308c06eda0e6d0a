package dev.levada

import java.nio.file.Files
import java.nio.file.Path
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicInteger

/** A server of the tests' own, on a free port, with its data in a folder that goes away. */
class TestServer private constructor(private val process: Process, private val home: Path, val address: String) : AutoCloseable {
    val tokenFile: Path get() = home.resolve("data/root.token")

    fun options(): ClientOptions = ClientOptions().server(address).tokenFile(tokenFile)

    override fun close() {
        process.destroy()
        if (!process.waitFor(10, TimeUnit.SECONDS)) process.destroyForcibly().waitFor()
        home.toFile().deleteRecursively()
    }

    companion object {
        private val topics = AtomicInteger()

        /** One for all tests; it ends with the JVM. */
        @JvmStatic
        val shared: TestServer by lazy { start().also { Runtime.getRuntime().addShutdownHook(Thread(it::close)) } }

        fun start(): TestServer {
            val binary = checkNotNull(System.getenv("LEVADA_SERVER_BIN")) { "LEVADA_SERVER_BIN must name the server's binary" }
            val home = Files.createTempDirectory("levada-kotlin")
            val builder = ProcessBuilder(binary, "--data-dir", home.resolve("data").toString(), "--listen", "127.0.0.1:0")
            builder.environment().keys.removeAll { it.startsWith("LEVADA_") || it == "XDG_RUNTIME_DIR" }
            builder.environment()["HOME"] = home.toString()
            val process = builder.redirectError(home.resolve("server.log").toFile()).start()
            val line = process.inputReader().readLine() ?: error(Files.readString(home.resolve("server.log")))
            val address = Regex("""127\.0\.0\.1:\d+""").find(line)?.value ?: error("the server said: $line")
            return TestServer(process, home, address)
        }

        /** A name for a topic that no other test uses. */
        @JvmStatic
        fun freshTopic(): String = "s${ProcessHandle.current().pid()}-${topics.incrementAndGet()}/t"
    }
}

/** Threads of the client that are alive: the queue's and the native library's. */
fun clientThreads(): List<String> =
    Files.list(Path.of("/proc/self/task")).use { tasks ->
        tasks.map { runCatching { Files.readString(it.resolve("comm")).trim() }.getOrDefault("") }
            .filter { it.startsWith("levada") }
            .toList()
    }

/** Waits for what another thread is about to do; fails after a time no test should need. */
fun eventually(what: String, isSo: () -> Boolean) {
    val deadline = System.nanoTime() + 20_000_000_000
    while (!isSo()) {
        check(System.nanoTime() < deadline) { "it never came to this: $what" }
        Thread.onSpinWait()
        Thread.sleep(5)
    }
}
