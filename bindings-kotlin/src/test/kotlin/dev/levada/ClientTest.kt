package dev.levada

import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import kotlinx.coroutines.yield
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.Timeout
import org.junit.jupiter.api.assertThrows
import java.time.Duration
import java.time.Instant
import java.util.UUID

@Timeout(60)
class ClientTest {
    private val server = TestServer.shared

    private fun test(body: suspend Scope.() -> Unit) = runBlocking {
        Levada.connect(server.options()).use { client ->
            val topic = TestServer.freshTopic()
            client.admin.createTopic(topic, TopicOptions().durability(Durability.MEMORY))
            Scope(client, topic).body()
        }
    }

    private class Scope(val client: Client, val topic: String) {
        suspend fun fill(count: Int) {
            client.producer(topic).use { it.sendBatch(List(count) { index -> OutgoingMessage("$index") }) }
        }

        suspend fun fromStart(configure: ConsumerOptions.() -> Unit = {}): Consumer =
            client.consumer(topic, ConsumerOptions().from(Position.EARLIEST).apply(configure))
    }

    private inline fun <reified E : LevadaException> failing(code: Int, crossinline body: suspend () -> Unit): E {
        val error = assertThrows<E> { runBlocking { body() } }
        assertEquals(code, error.code)
        return error
    }

    @Test
    fun `a message comes back as it was sent`() = test {
        val id = UUID.randomUUID()
        val sent = OutgoingMessage("payload").key("key")
            .header("text", "ö").header("bytes", byteArrayOf(0, -1)).header("truth", true)
            .header("signed", Long.MIN_VALUE).header("unsigned", ULong.MAX_VALUE).header("real", 0.5).header("int", 7)
            .timestamp(Instant.ofEpochSecond(1_700_000_000, 123_000)).id(id)
        val receipt = client.producer(topic).use { it.send(sent) }
        assertEquals(0, receipt.partition)
        assertEquals(0L, receipt.offset)
        assertTrue(receipt.durability in listOf(Durability.MEMORY, Durability.DISK))
        assertFalse(receipt.duplicate)
        fromStart().use { consumer ->
            val message = consumer.receive(Duration.ofSeconds(10))!!
            assertEquals(topic, message.topic)
            assertEquals("payload", message.text())
            assertEquals("key", message.key?.decodeToString())
            assertEquals(0L, message.offset)
            assertEquals(1_700_000_000_000_123, message.timestampUs)
            assertEquals(receipt.appendTimeUs, message.appendTimeUs)
            val headers = listOf("ö", byteArrayOf(0, -1), true, Long.MIN_VALUE, ULong.MAX_VALUE, 0.5, 7L)
            assertEquals(sent.headers.map { it.name }.zip(headers).map { (name, value) -> Header(name, value) }, message.headers)
            assertEquals(id.mostSignificantBits, java.nio.ByteBuffer.wrap(message.id!!).getLong())
            assertTrue(message.payloadView()!!.isReadOnly)
        }
    }

    @Test
    fun `absent differs from empty`() = test {
        client.producer(topic).use { producer ->
            producer.sendBatch(
                listOf(OutgoingMessage(null as ByteArray?), OutgoingMessage(ByteArray(0)), OutgoingMessage("x").key("")),
            )
        }
        fromStart { untilEnd = true }.use { consumer ->
            val messages = consumer.messages().toList()
            assertEquals(listOf(null, "", "x"), messages.map { it.text() })
            assertEquals(listOf(null, null, ""), messages.map { it.key?.decodeToString() })
            assertTrue(messages.all { it.headers.isEmpty() && it.id == null })
        }
    }

    @Test
    fun `many messages come in order, one at a time, in batches, as a flow and by iteration`() = test {
        val count = 5_000
        fill(count)
        val wanted = (0 until count).map { "$it" }
        fromStart { untilEnd = true }.use { consumer ->
            val texts = ArrayList<String?>()
            while (true) texts.add((consumer.receive() ?: break).text())
            assertEquals(wanted, texts)
            assertNull(consumer.receive())
            assertEquals(count.toLong(), consumer.position(0))
        }
        fromStart { untilEnd = true }.use { consumer ->
            val texts = ArrayList<String?>()
            do {
                val batch = consumer.receiveBatch(maxMessages = 700)
                assertTrue(batch.size <= 700)
                texts += batch.map { it.text() }
            } while (!batch.finished)
            assertEquals(wanted, texts)
        }
        fromStart { untilEnd = true }.use { assertEquals(wanted, it.messages().toList().map { m -> m.text() }) }
        fromStart { untilEnd = true }.use { consumer -> assertEquals(wanted, withContext(Dispatchers.IO) { consumer.map { it.text() } }) }
    }

    @Test
    fun `large payloads and packed payloads cross whole`() = test {
        val payloads = List(20) { index -> ByteArray(index * 50_000) { (it * 31 + index).toByte() } }
        client.producer(topic).use { producer ->
            val receipts = producer.sendPayloads(payloads)
            assertEquals(payloads.size, receipts.sumOf { it.messageCount })
        }
        fromStart { untilEnd = true }.use { consumer ->
            consumer.messages().toList().zip(payloads).forEach { (message, payload) -> assertArrayEquals(payload, message.payload) }
        }
    }

    @Test
    fun `enqueue gives acknowledgements to come, also when the buffer is full`() = test {
        client.producer(topic) { maxBufferedBytes = 4096 }.use { producer ->
            val deliveries = List(500) { producer.enqueue(ByteArray(1000)) }
            producer.flush()
            assertEquals((0L until 500L).toList(), deliveries.map { it.await().offset })
            assertTrue(deliveries.all { it.isSettled })
            assertEquals(499L, deliveries.last().await().offset)
        }
    }

    @Test
    fun `seek, pause, resume and position`() = test {
        fill(100)
        fromStart().use { consumer ->
            assertEquals("0", consumer.receive()?.text())
            consumer.seek(0, Position.offset(42))
            assertEquals("42", consumer.receive()?.text())
            consumer.pause(0)
            assertEquals(0, consumer.receiveBatch(timeout = Duration.ofMillis(50)).size)
            consumer.resume(0)
            assertEquals("43", consumer.receive()?.text())
            assertEquals(44L, consumer.position(0))
            consumer.seek(0, Position.last(1))
            assertEquals("99", consumer.receive()?.text())
            failing<NotFoundException>(ErrorCode.PARTITION_NOT_FOUND) { consumer.seek(7, Position.EARLIEST) }
            val error = failing<UsageException>(ErrorCode.CLIENT_USAGE) { consumer.seek(0, Position.parse("soon")) }
            assertEquals("position", error.details["argument"])
        }
    }

    @Test
    fun `errors have class, code, name, flags and details`() = test {
        val error = failing<NotFoundException>(ErrorCode.TOPIC_NOT_FOUND) { client.producer("${topic}x") }
        assertEquals("TOPIC_NOT_FOUND", error.name)
        assertEquals("not_found", error.errorClass)
        assertEquals("${topic}x", error.details["topic"])
        assertFalse(error.retriable)
        assertFalse(error.maybeApplied)
        assertTrue(LevadaException::class.java.isInstance(error))
        failing<ConflictException>(ErrorCode.ALREADY_EXISTS) { client.admin.createTopic(topic) }
        val connecting = ClientOptions().server("127.0.0.1:1").anonymous(true)
        assertTrue(failing<ConnectionException>(ErrorCode.CONNECT_FAILED) { Levada.connect(connecting) }.retriable)
    }

    @Test
    fun `wrong arguments are named by the core`() = test {
        fun argument(body: suspend () -> Unit) = failing<UsageException>(ErrorCode.CLIENT_USAGE, body).details["argument"]
        assertEquals("batch_bytes", argument { client.producer(topic) { batchBytes = -1 } })
        assertEquals("linger_ms", argument { client.producer(topic) { linger = Duration.ofDays(1) } })
        assertEquals("max_in_flight", argument { client.producer(topic) { maxInFlight = 65 } })
        assertEquals("id", argument { client.producer(topic).use { it.send(OutgoingMessage(null, id = ByteArray(3))) } })
        assertEquals("headers", argument { client.producer(topic).use { it.send(OutgoingMessage("x").header("h", Any())) } })
        assertEquals("sequence", argument { OutgoingMessage("x").sequence(-1L) })
        val numbered = OutgoingMessage("x").sequence(1L).partition(0)
        assertEquals("sequence", argument { client.producer(topic).use { it.sendBatch(listOf(numbered)) } })
        failing<UsageException>(ErrorCode.CLIENT_USAGE) { Levada.connect { server = ""; anonymous = true } }
    }

    @Test
    fun `administration gives records`() = test {
        val (stream, name) = topic.split("/")
        val described = client.admin.describeTopic(topic)
        assertEquals(name, described.topic.topic)
        assertEquals(1, described.partitions.size)
        val changes = TopicChanges().partitionCount(3).retentionAge(Duration.ofHours(2))
        val altered = client.admin.alterTopic(topic, changes)
        assertEquals(3, altered.options.partitionCount)
        assertEquals(Duration.ofHours(2), Duration.ofNanos(1_000 * altered.options.retentionAgeUs!!))
        assertEquals(listOf(name), client.admin.listTopics(stream).map { it.topic })
        assertTrue(client.admin.listStreams().any { it.stream == stream })
        assertEquals(0L, client.admin.resolvePosition("$topic:0", Position.LATEST).offset)
        val token = client.admin.createToken("t-$stream")
        assertFalse(token.secret in token.toString())
        Levada.connect { server = this@ClientTest.server.address; this.token = token.secret }.use { it.ping() }
        client.admin.deleteToken("t-$stream")
        assertTrue(client.admin.status().topicCount > 0)
        assertEquals(Role.ADMIN, client.serverInfo()?.role)
        assertEquals(16, client.serverInfo()?.clusterId?.size)
        assertEquals(1, client.admin.deleteStream(stream, topics = true))
    }

    @Test
    fun `a receive that is cancelled at any point loses nothing`() = test {
        val count = 2_000
        val got = ArrayList<String?>()
        fromStart().use { consumer ->
            coroutineScope {
                val producing = launch(Dispatchers.Default) {
                    client.producer(topic).use { producer ->
                        for (index in 0 until count) {
                            producer.enqueue("$index".encodeToByteArray())
                            if (index % 7 == 0) producer.flush()
                        }
                        producer.flush()
                    }
                }
                var round = 0
                while (got.size < count) {
                    val receiving = launch(Dispatchers.Default) { got.add(consumer.receive()?.text()) }
                    repeat(round++ % 40) { yield() }
                    if (round % 3 == 0) Thread.sleep(0, 50_000)
                    receiving.cancelAndJoin()
                    if (producing.isCompleted && round % 50 == 0) got.add(consumer.receive(Duration.ofSeconds(10))?.text())
                }
            }
        }
        assertEquals((0 until count).map { "$it" }, got)
    }

    @Test
    fun `a receive whose time has passed loses nothing, and its error says so`() = test {
        fromStart().use { consumer ->
            val error = failing<TimeoutException>(ErrorCode.CLIENT_TIMEOUT) { consumer.receive(Duration.ofMillis(20)) }
            assertTrue(error.retriable)
            fill(1)
            assertEquals("0", consumer.receive(Duration.ofSeconds(10))?.text())
        }
    }

    @Test
    fun `a second receive at a time is refused`() = test {
        fromStart().use { consumer ->
            coroutineScope {
                val first = launch(start = CoroutineStart.UNDISPATCHED) { consumer.receive() }
                failing<ConflictException>(ErrorCode.CONCURRENT_CALL) { consumer.receiveBatch() }
                first.cancelAndJoin()
            }
            fill(1)
            assertEquals("0", consumer.receive(Duration.ofSeconds(10))?.text())
        }
    }

    @Test
    fun `a send that is given up is sent all the same`() = test {
        client.producer(topic) { linger = Duration.ofMillis(200) }.use { producer ->
            coroutineScope {
                launch(start = CoroutineStart.UNDISPATCHED) { producer.send("once") }.cancelAndJoin()
            }
            producer.flush()
        }
        fromStart { untilEnd = true }.use { assertEquals(listOf("once"), it.messages().toList().map { m -> m.text() }) }
    }

    @Test
    fun `close with work in flight ends it`() = runBlocking {
        val client = Levada.connect(server.options())
        val topic = TestServer.freshTopic()
        client.admin.createTopic(topic)
        val producer = client.producer(topic) { linger = Duration.ofMinutes(1) }
        // Of another topic: what close sends may be received before close ends the wait.
        val quiet = TestServer.freshTopic()
        client.admin.createTopic(quiet)
        val consumer = client.consumer(quiet)
        coroutineScope {
            val receiving = async(start = CoroutineStart.UNDISPATCHED) { runCatching { consumer.receive() } }
            val sending = async(start = CoroutineStart.UNDISPATCHED) { producer.send("last words") }
            client.close(Duration.ofSeconds(5))
            assertTrue(receiving.await().exceptionOrNull() is ClosedException)
            assertEquals(0L, sending.await().offset)
        }
        client.close()
        consumer.close()
        producer.close()
        failing<ClosedException>(ErrorCode.CLOSED) { client.ping() }
        failing<ClosedException>(ErrorCode.CLOSED) { producer.send("too late") }
        failing<ClosedException>(ErrorCode.CLOSED) { producer.sendBatch(listOf(OutgoingMessage("too late"))) }
        failing<ClosedException>(ErrorCode.CLOSED) { consumer.receive() }
        failing<ClosedException>(ErrorCode.CLOSED) { client.producer(topic) }
        Unit
    }

    @Test
    fun `a flow that is stopped goes on where it stopped`() = test {
        fill(10)
        fromStart().use { consumer ->
            assertEquals(listOf("0", "1", "2"), consumer.messages().take(3).toList().map { it.text() })
            assertEquals("3", consumer.receive()?.text())
        }
    }

    @Test
    fun `no thread and no handle outlives its client`() {
        repeat(5) {
            test {
                fill(3)
                fromStart { untilEnd = true }.use { consumer -> assertEquals(3, consumer.messages().toList().size) }
                assertTrue(clientThreads().isNotEmpty())
            }
        }
        eventually("no threads of the client") { clientThreads().isEmpty() }
        eventually("no handles of the client") { Levada.handles().values.all { it == 0L } }
    }
}
