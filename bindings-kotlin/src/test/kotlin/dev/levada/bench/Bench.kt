package dev.levada.bench

import dev.levada.Client
import dev.levada.Consumer
import dev.levada.Levada
import dev.levada.Message
import dev.levada.Position
import dev.levada.Producer
import kotlinx.coroutines.runBlocking
import java.time.Duration
import java.util.Locale

/**
 * What the binding costs: messages of 1 KiB in batch calls with every payload read, and one at a time. Prints one line of JSON.
 * The same phases in Rust are `sdk-rust/examples/baseline.rs`; run both against one server, one after the other, each on an empty
 * topic. Server and credentials are discovered, as by any client. Arguments: the topic, and how many messages (500,000).
 */
object Bench {
    private const val PAYLOAD_BYTES = 1024
    private const val BATCH = 1000
    private const val SINGLES = 2000
    private const val REPEATS = 3

    /** Sent first, so that what is measured is compiled. */
    private const val WARM_UP = 100_000
    private val payload = ByteArray(PAYLOAD_BYTES) { it.toByte() }

    @JvmStatic
    fun main(arguments: Array<String>) {
        val topic = arguments.firstOrNull() ?: error("the first argument is an empty topic")
        val count = arguments.getOrNull(1)?.toInt() ?: 500_000
        val phases = runBlocking { Levada.connect().use { measure(it, topic, count) } }
        println(phases.joinToString(", ", """{"client": "kotlin", """, "}") { (name, value) -> """"$name": $value""" })
    }

    private suspend fun measure(client: Client, topic: String, count: Int): List<Pair<String, String>> =
        client.producer(topic).use { producer ->
            sendBatches(producer, WARM_UP)
            repeat(WARM_UP) { producer.enqueue(payload) }
            producer.flush()
            listOf(
                "send_batch" to rate(count, nanoseconds { sendBatches(producer, count) }),
                "enqueue" to rate(
                    count,
                    nanoseconds {
                        repeat(count) { producer.enqueue(payload) }
                        producer.flush()
                    },
                ),
                "send_one" to sendOne(producer),
            )
        } + listOf(
            "receive_batch" to consume(client, topic) { batches(it) { message -> message.payload?.size } },
            "receive_batch_views" to consume(client, topic) { batches(it) { message -> message.payloadView()?.remaining() } },
            "iterate" to consume(client, topic, ::oneByOne),
        )

    private suspend fun sendBatches(producer: Producer, count: Int) {
        val batch = List(BATCH) { payload }
        repeat(count / BATCH) { producer.sendPayloads(batch) }
    }

    private suspend fun sendOne(producer: Producer): String {
        val samples = LongArray(SINGLES) { nanoseconds { producer.send(payload) } }.apply { sort() }
        val shares = listOf(50, 90, 99).map { percent ->
            "\"p${percent}_us\": ${decimal(samples[SINGLES * percent / 100] / 1e3, 1)}"
        }
        return shares.joinToString(", ", "{", "}")
    }

    /** Reads the topic to its end; the fastest of some times. */
    private suspend fun consume(client: Client, topic: String, read: suspend (Consumer) -> Int): String {
        val measured = List(REPEATS) {
            client.consumer(topic) { from = Position.EARLIEST; untilEnd = true }.use { consumer ->
                var count = 0
                val took = nanoseconds { count = read(consumer) }
                count to took
            }
        }
        return measured.minBy { (_, took) -> took }.let { (count, took) -> rate(count, took) }
    }

    private suspend fun batches(consumer: Consumer, size: (Message) -> Int?): Int {
        var count = 0
        var bytes = 0L
        do {
            val messages = consumer.receiveBatch(maxMessages = BATCH, timeout = Duration.ofSeconds(10))
            for (message in messages) bytes += size(message) ?: 0
            count += messages.size
        } while (!messages.finished)
        check(bytes == count.toLong() * PAYLOAD_BYTES) { "$bytes bytes in $count messages" }
        return count
    }

    private suspend fun oneByOne(consumer: Consumer): Int {
        var count = 0
        while (true) {
            val message = consumer.receive() ?: return count
            if (message.payload != null) count += 1
        }
    }

    private fun rate(count: Int, nanoseconds: Long): String {
        val seconds = nanoseconds / 1e9
        val perSecond = count / seconds
        val mib = perSecond * PAYLOAD_BYTES / (1 shl 20)
        return """{"messages_per_s": ${decimal(perSecond, 0)}, "mib_per_s": ${decimal(mib, 1)}, "seconds": ${decimal(seconds, 3)}}"""
    }

    private fun decimal(value: Double, digits: Int): String = "%.${digits}f".format(Locale.ROOT, value)

    private inline fun nanoseconds(body: () -> Unit): Long {
        val started = System.nanoTime()
        body()
        return System.nanoTime() - started
    }
}
