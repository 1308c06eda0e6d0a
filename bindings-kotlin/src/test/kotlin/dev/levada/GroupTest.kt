package dev.levada

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.yield
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.Timeout
import org.junit.jupiter.api.assertThrows
import java.time.Duration
import java.util.concurrent.ExecutionException

@Timeout(60)
class GroupTest {
    private val soon = Duration.ofSeconds(20)

    private fun test(partitions: Int = 4, body: suspend Scope.() -> Unit) = runBlocking {
        Levada.connect(TestServer.shared.options()).use { client ->
            val topic = TestServer.freshTopic()
            client.admin.createTopic(topic, TopicOptions().partitionCount(partitions).durability(Durability.MEMORY))
            Scope(client, topic, partitions).body()
        }
    }

    private class Scope(val client: Client, val topic: String, private val partitions: Int) {
        val group = topic.replace('/', '-')

        /** As many messages to every partition. */
        suspend fun fill(count: Int) {
            client.producer(topic).use { producer ->
                for (partition in 0 until partitions) {
                    producer.sendBatch(List(count) { OutgoingMessage("$it").partition(partition) })
                }
            }
        }

        suspend fun member(configure: GroupConsumerOptions.() -> Unit = {}): Consumer =
            client.groupConsumer(group, listOf(topic), GroupConsumerOptions().from(Position.EARLIEST).apply(configure))

        fun at(partition: Int, offset: Long) = PartitionOffset(topic, partition, offset)
    }

    private suspend fun Consumer.untilItHas(partitions: Int) {
        while (assignments().size != partitions) assertTrue(nextChange(soon) != null, "it has ${assignments()}")
    }

    private suspend fun Consumer.take(count: Int): List<Message> {
        val messages = ArrayList<Message>()
        while (messages.size < count) {
            val batch = receiveBatch(count - messages.size, timeout = soon)
            assertTrue(batch.isNotEmpty(), "only ${messages.size} came")
            messages += batch
        }
        return messages
    }

    private inline fun <reified E : LevadaException> failing(code: Int, crossinline body: suspend () -> Unit): E {
        val error = assertThrows<E> { runBlocking { body() } }
        assertEquals(code, error.code)
        return error
    }

    @Test
    fun `two members share, commit, and others go on`() = test {
        fill(5)
        member { autoCommit = false }.use { first ->
            val all = List(4) { TopicPartition(topic, it) }
            assertEquals(AssignmentChange(AssignmentKind.ASSIGNED, all), first.nextChange(soon))
            assertEquals(all, first.assignments())
            assertTrue(first.take(20).all { it.topic == topic })
            assertNull(first.committed(topic, 0))
            first.commit()
            assertEquals(listOf(5L, 5L, 5L, 5L), all.map { first.committed(topic, it.partition) })
            member { autoCommit = false }.use { second ->
                val revoked = first.nextChange(soon)
                assertEquals(AssignmentKind.REVOKED, revoked?.kind)
                second.untilItHas(2)
                assertEquals(revoked?.partitions, second.assignments())
                assertEquals(all, (first.assignments() + second.assignments()).sortedBy { it.partition })
                fill(3)
                for (member in listOf(first, second)) {
                    val wanted = member.assignments().flatMap { part -> (5L..7L).map { part.partition to it } }
                    assertEquals(wanted.toSet(), member.take(6).map { it.partition to it.offset }.toSet())
                }
                second.commit()
            }
            first.untilItHas(4)
            assertEquals(listOf(5L, 5L, 8L, 8L), all.mapNotNull { first.committed(topic, it.partition) }.sorted())
            assertNull(first.nextChange(Duration.ofMillis(50))?.takeIf { it.kind != AssignmentKind.ASSIGNED })
            first.commit()
        }
        fill(1)
        member().use { third -> assertEquals(listOf(8L, 8L, 8L, 8L), third.take(4).map { it.offset }) }
        val described = client.admin.describeGroup(group)
        assertEquals(GroupState.EMPTY, described.group.state)
        assertEquals(listOf(9L, 9L, 9L, 9L), described.partitions.map { it.storedOffset })
        assertTrue(described.partitions.all { it.lag == 0L })
    }

    @Test
    fun `offsets of one's choice are stored together, and go back only after a seek`() = test(2) {
        fill(10)
        member { autoCommit = false }.use { consumer ->
            consumer.untilItHas(2)
            consumer.commitOffsets(listOf(at(0, 8), at(1, 3)))
            assertEquals(8L, consumer.committed(topic, 0))
            val both = listOf(at(1, 5), at(0, 7))
            val error = failing<ConflictException>(ErrorCode.OFFSET_REGRESSION) { consumer.commitOffsets(both) }
            assertEquals("8", error.details["stored_offset"])
            assertEquals(3L, consumer.committed(topic, 1))
            consumer.seek(0, Position.offset(2), topic)
            consumer.commitOffsets(listOf(at(0, 2)))
            assertEquals(2L, consumer.committed(topic, 0))
            failing<FencedException>(ErrorCode.NOT_ASSIGNED) { consumer.commitOffsets(listOf(at(7, 0))) }
        }
    }

    @Test
    fun `messages say which topic they are of, and a partition of several needs its topic`() = test(1) {
        val other = "${topic}u"
        client.admin.createTopic(other, TopicOptions().partitionCount(1).durability(Durability.MEMORY))
        fill(1)
        client.producer(other).use { it.send("other") }
        client.groupConsumer(group, listOf("${topic.substringBefore('/')}/*")) { from = Position.EARLIEST }.use { consumer ->
            assertEquals(setOf(topic to "0", other to "other"), consumer.take(2).map { it.topic to it.text() }.toSet())
            assertEquals(1L, consumer.position(0, other))
            consumer.pause(0, other)
            consumer.seek(0, Position.EARLIEST, topic)
            assertEquals(topic, consumer.receive(soon)?.topic)
            consumer.seek(0, Position.EARLIEST, other)
            assertEquals(0, consumer.receiveBatch(timeout = Duration.ofMillis(50)).size)
            consumer.resume(0, other)
            assertEquals(other, consumer.receive(soon)?.topic)
            val error = failing<UsageException>(ErrorCode.CLIENT_USAGE) { consumer.seek(0, Position.EARLIEST) }
            assertEquals("topic", error.details["argument"])
        }
    }

    @Test
    fun `a group's stored offsets serve readers of chosen partitions`() = test(1) {
        fill(10)
        suspend fun reader(start: Position) = client.consumer("$topic:0") { group = this@test.group; from = start }
        failing<NotFoundException>(ErrorCode.NO_STORED_OFFSET) { reader(Position.STORED).use { it.receive(soon) } }
        reader(Position.EARLIEST).use { consumer ->
            consumer.take(6)
            consumer.commit()
        }
        reader(Position.STORED).use { assertEquals(listOf(6L, 7L, 8L, 9L), it.take(4).map { message -> message.offset }) }
        assertEquals(listOf(6L), client.admin.groupOffsets(group).map { it.offset })
        val dry = client.admin.resetOffsets(group, listOf(topic), Position.EARLIEST, dryRun = true)
        assertEquals(listOf(6L to 0L), dry.map { it.before to it.after })
        assertEquals(listOf(6L), client.admin.groupOffsets(group, listOf(topic)).map { it.offset })
    }

    @Test
    fun `without a group there is nothing to commit and nothing changes`() = test(1) {
        client.consumer(topic).use { consumer ->
            assertEquals(listOf(TopicPartition(topic, 0)), consumer.assignments())
            failing<UsageException>(ErrorCode.CLIENT_USAGE) { consumer.commit() }
            failing<UsageException>(ErrorCode.CLIENT_USAGE) { consumer.nextChange() }
        }
        val error = failing<UsageException>(ErrorCode.CLIENT_USAGE) { client.groupConsumer(group, emptyList()) }
        assertEquals("topics", error.details["argument"])
        val short = failing<UsageException>(ErrorCode.CLIENT_USAGE) { member { sessionTimeout = Duration.ZERO } }
        assertEquals("session_timeout_ms", short.details["argument"])
    }

    @Test
    fun `a change that is given up at any point is told later`() = test {
        member().use { consumer ->
            val told = HashSet<TopicPartition>()
            fun hear(change: AssignmentChange) {
                val isAssigned = change.kind == AssignmentKind.ASSIGNED
                assertTrue(change.partitions.all { (it in told) != isAssigned }, "$change after $told")
                if (isAssigned) told += change.partitions else told -= change.partitions.toSet()
            }
            coroutineScope {
                val others = launch(Dispatchers.Default) {
                    repeat(15) { member().use { it.untilItHas(2) } }
                }
                var round = 0
                while (!others.isCompleted) {
                    val asking = launch(Dispatchers.Default) { consumer.nextChange()?.let(::hear) }
                    repeat(round++ % 40) { yield() }
                    if (round % 3 == 0) Thread.sleep(0, 50_000)
                    asking.cancelAndJoin()
                }
            }
            // What it was to release it has released: only what comes back may still be on its way.
            while (consumer.assignments().size < 4) hear(consumer.nextChange(soon) ?: break)
            while (true) hear(consumer.nextChange(Duration.ZERO) ?: break)
            assertEquals(consumer.assignments().toSet(), told)
            assertEquals(4, told.size)
        }
    }

    @Test
    fun `a close ends who waits for a change`() = test(1) {
        val consumer = member()
        assertEquals(AssignmentKind.ASSIGNED, consumer.nextChange(soon)?.kind)
        val waiting = coroutineScope {
            val job = launch(Dispatchers.Default) { while (true) consumer.nextChange() }
            job.cancelAndJoin()
            consumer.nextChangeAsync()
        }
        consumer.close()
        val error = assertThrows<ExecutionException> { waiting.get() }
        assertEquals(ErrorCode.CLOSED, (error.cause as LevadaException).code)
        failing<ClosedException>(ErrorCode.CLOSED) { consumer.commit() }
        failing<ClosedException>(ErrorCode.CLOSED) { consumer.nextChange() }
        Unit
    }
}
