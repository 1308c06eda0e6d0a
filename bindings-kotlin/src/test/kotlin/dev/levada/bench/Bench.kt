package dev.levada.bench

import dev.levada.Levada
import dev.levada.Position
import dev.levada.TestServer
import dev.levada.TopicOptions
import kotlinx.coroutines.runBlocking
import java.time.Duration

/**
 * Messages of 1 KiB, sent and received in batches with every payload read, and the latency of one at a time: JSON on standard
 * output. `mvn test-compile exec:java@bench`, with LEVADA_SERVER_BIN set. Argument: how many messages; default 1,000,000.
 */
object Bench {
    private const val PAYLOAD_BYTES = 1024
    private const val BATCH = 1000

    @JvmStatic
    fun main(arguments: Array<String>) {
        val count = arguments.firstOrNull()?.toInt() ?: 1_000_000
        TestServer.start().use { server -> runBlocking { print(measure(server, count)) } }
    }

    private suspend fun measure(server: TestServer, count: Int): String =
        Levada.connect(server.options()).use { client ->
            for (topic in listOf("bench/warm", "bench/batched", "bench/single")) client.admin.createTopic(topic, TopicOptions())
            produce(client, "bench/warm", count / 4)
            consume(client, "bench/warm", count / 4)
            val sent = produce(client, "bench/batched", count)
            val received = consume(client, "bench/batched", count)
            val single = client.producer("bench/single").use { producer ->
                val payload = ByteArray(PAYLOAD_BYTES)
                repeat(1_000) { producer.send(payload) }
                LongArray(5_000) { nanoseconds { producer.send(payload) } }.apply { sort() }
            }
            """{"client": "kotlin", "payload_bytes": $PAYLOAD_BYTES, "messages": $count, """ +
                """"produce_messages_per_s": ${count * 1_000_000_000L / sent}, """ +
                """"consume_messages_per_s": ${count * 1_000_000_000L / received}, """ +
                """"send_p50_us": ${single[2_500] / 1_000}, "send_p99_us": ${single[4_950] / 1_000}}""" + "\n"
        }

    private suspend fun produce(client: dev.levada.Client, topic: String, count: Int): Long {
        val batch = List(BATCH) { ByteArray(PAYLOAD_BYTES) { it.toByte() } }
        return client.producer(topic).use { producer ->
            nanoseconds {
                // Two calls under way keep the connection busy.
                var before = producer.sendPayloadsAsync(batch)
                repeat(count / BATCH - 1) {
                    val next = producer.sendPayloadsAsync(batch)
                    before.join()
                    before = next
                }
                before.join()
            }
        }
    }

    private suspend fun consume(client: dev.levada.Client, topic: String, count: Int): Long =
        client.consumer(topic) { from = Position.EARLIEST }.use { consumer ->
            var left = count
            var bytes = 0L
            val took = nanoseconds {
                while (left > 0) {
                    val messages = consumer.receiveBatch(timeout = Duration.ofSeconds(10))
                    for (message in messages) bytes += message.payload!!.size
                    left -= messages.size
                }
            }
            check(bytes == count.toLong() * PAYLOAD_BYTES) { "$bytes bytes came" }
            took
        }

    private inline fun nanoseconds(body: () -> Unit): Long {
        val started = System.nanoTime()
        body()
        return System.nanoTime() - started
    }
}
