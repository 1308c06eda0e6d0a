// The conformance adapter of the Kotlin client: reads commands, makes each one call, writes what came of it. See
// adapter-protocol.md. Each command is a coroutine.

import com.fasterxml.jackson.databind.JsonNode
import com.fasterxml.jackson.databind.node.ObjectNode
import dev.levada.Client
import dev.levada.ClientOptions
import dev.levada.Consumer
import dev.levada.ConsumerOptions
import dev.levada.Delivery
import dev.levada.GroupConsumerOptions
import dev.levada.LevadaException
import dev.levada.Levada
import dev.levada.PartitionOffset
import dev.levada.Position
import dev.levada.Producer
import dev.levada.ProducerOptions
import dev.levada.Quota
import dev.levada.Role
import dev.levada.TopicChanges
import dev.levada.TopicOptions
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.job
import kotlinx.coroutines.joinAll
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import java.time.Duration
import java.util.concurrent.ConcurrentHashMap

private val FEATURES = listOf(
    "core", "admin", "lifecycle", "names", "sequences", "users", "access", "produce", "enqueue", "send_batch", "consume", "seek", "pause", "groups", "cancel", "lz4",
    "zstd", "idempotent", "reconnect", "password", "tls", "discovery", "retry",
)
private val CLOSE_TIMEOUT = Duration.ofSeconds(5)
private val RESET_TIMEOUT = Duration.ofSeconds(2)

/** A command, and the one reply it gets. */
private class Command(node: JsonNode) {
    val id: String = node.need("id").asText()
    val operation: String = node.need("op").textValue()
    val on: String? = node.field("on")?.textValue()
    val name: String? = node.field("as")?.textValue()
    val args: JsonNode = node.field("args") ?: json.createObjectNode()
    private var announces = node.field("announce")?.booleanValue() == true
    private var isAnswered = false

    /** The call has been submitted. */
    @Synchronized
    fun started() {
        if (announces && !isAnswered) write(obj { put("started", true) })
        announces = false
    }

    @Synchronized
    fun answer(reply: ObjectNode) {
        if (isAnswered) return
        if (announces) started()
        isAnswered = true
        write(reply)
    }

    private fun write(reply: ObjectNode) {
        val line = json.writeValueAsString(obj { put("id", id) }.setAll<ObjectNode>(reply))
        synchronized(System.out) {
            System.out.print(line + "\n")
            System.out.flush()
        }
    }
}

private class Adapter {
    private val handles = ConcurrentHashMap<String, Any>()
    private val running = ConcurrentHashMap<String, Job>()
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)

    /** Makes the command's call up to where it waits, in this thread; the rest runs on other threads. */
    fun start(command: Command) {
        scope.launch(start = CoroutineStart.UNDISPATCHED) {
            running[command.id] = coroutineContext.job
            val reply = answer(command)
            running.remove(command.id)
            command.answer(reply)
        }
        command.started()
    }

    private suspend fun answer(command: Command): ObjectNode =
        try {
            val result = call(command)
            obj { set<JsonNode>("ok", result) }
        } catch (cancelled: CancellationException) {
            obj { put("cancelled", true) }
        } catch (unsupported: Unsupported) {
            obj { put("unsupported", unsupported.feature) }
        } catch (error: LevadaException) {
            obj { set<JsonNode>("err", failure(error)) }
        } catch (error: Throwable) {
            obj { put("adapter_error", error.stackTraceToString().take(2000)) }
        }

    private inline fun <reified T> handle(command: Command): T {
        val handle = handles[command.on ?: error("${command.operation} needs a handle")] ?: error("no handle ${command.on}")
        return handle as? T ?: error("${command.on} is no ${T::class.simpleName}")
    }

    private fun keep(command: Command, handle: Any): ObjectNode {
        handles[command.name ?: error("${command.operation} needs a name for its result")] = handle
        return obj { }
    }

    private suspend fun call(command: Command): ObjectNode {
        val args = command.args
        return when (command.operation) {
            "hello" -> hello()
            "cancel" -> obj { }.also { running[args.need("target").asText()]?.cancel() }
            "stats" -> stats()
            "connect" -> keep(command, Levada.connect(options(ClientOptions(), args.field("options"))))
            "producer.open" -> {
                val producer = options(ProducerOptions(), args.field("options"))
                keep(command, handle<Client>(command).producer(args.need("topic").textValue(), producer))
            }
            "consumer.open" -> {
                val consumer = options(ConsumerOptions(), args.field("options"))
                keep(command, handle<Client>(command).consumer(args.need("topic").textValue(), consumer))
            }
            "group.open" -> {
                val consumer = options(GroupConsumerOptions(), args.field("options"))
                val topics = args.need("topics").map { it.textValue() }
                keep(command, handle<Client>(command).groupConsumer(args.need("group").textValue(), topics, consumer))
            }
            "close" -> empty { handle<Client>(command).close(timeout(args) ?: CLOSE_TIMEOUT) }
            "ping" -> value(handle<Client>(command).ping().toNanos() / 1_000)
            "server_info" -> record(handle<Client>(command).serverInfo()) as? ObjectNode ?: value(null)
            "delivery.wait" -> record(handle<Delivery>(command).await()) as ObjectNode
            else ->
                when (command.operation.substringBefore('.')) {
                    "producer" -> produce(command, handle(command))
                    "consumer" -> consume(command, handle(command))
                    else -> administer(command, handle(command))
                }
        }
    }

    private suspend fun produce(command: Command, producer: Producer): ObjectNode {
        val args = command.args
        return when (command.operation) {
            "producer.send" -> record(producer.send(message(args.need("message")))) as ObjectNode
            "producer.enqueue" -> keep(command, producer.enqueue(message(args.need("message"))))
            "producer.send_batch" -> {
                val receipts = producer.sendBatch(messages(args.need("messages")))
                obj { set<JsonNode>("receipts", record(receipts)) }
            }
            "producer.flush" -> empty { producer.flush() }
            "producer.close" -> empty { producer.close(timeout(args) ?: CLOSE_TIMEOUT) }
            else -> throw Unsupported(command.operation)
        }
    }

    private suspend fun consume(command: Command, consumer: Consumer): ObjectNode {
        val args = command.args
        val topic = args.field("topic")?.textValue()
        fun partition() = args.need("partition").long().toInt()
        return when (command.operation) {
            "consumer.receive" -> {
                val message = consumer.receive(timeout(args))
                obj {
                    set<JsonNode>("message", message?.let(::message))
                    if (message == null) put("finished", true)
                }
            }
            "consumer.receive_batch" -> {
                val messages = consumer.receiveBatch(
                    args.field("max_messages")?.long()?.toInt() ?: 1000,
                    args.field("max_bytes")?.long() ?: (4L shl 20),
                    timeout(args) ?: Duration.ofSeconds(1),
                )
                obj {
                    putArray("messages").addAll(messages.map(::message))
                    put("finished", messages.finished)
                }
            }
            "consumer.seek" -> empty { consumer.seek(partition(), position(args), topic) }
            "consumer.position" -> value(consumer.position(partition(), topic))
            "consumer.pause" -> empty { consumer.pause(partition(), topic) }
            "consumer.resume" -> empty { consumer.resume(partition(), topic) }
            "consumer.commit" -> empty { consumer.commit() }
            "consumer.commit_offsets" -> empty { consumer.commitOffsets(args.need("offsets").map(::partitionOffset)) }
            "consumer.committed" -> value(consumer.committed(args.need("topic").textValue(), partition()))
            "consumer.assignments" -> items(consumer.assignments())
            "consumer.next_change" -> {
                val change = consumer.nextChange(timeout(args))
                obj { set<JsonNode>("change", record(change)) }
            }
            "consumer.close" -> empty { consumer.close(timeout(args) ?: CLOSE_TIMEOUT) }
            else -> throw Unsupported(command.operation)
        }
    }

    private suspend fun administer(command: Command, client: Client): ObjectNode {
        val args = command.args
        val admin = client.admin
        fun text(name: String) = args.need(name).textValue()
        fun maybe(name: String) = args.field(name)?.textValue()
        fun texts(name: String) = args.field(name)?.map { it.textValue() }
        fun role(name: String) = constant(Role::class.java, name) as Role
        return when (command.operation) {
            "stream.create" -> record(admin.createStream(text("stream"))) as ObjectNode
            "stream.delete" -> value(admin.deleteStream(text("stream"), args.field("topics")?.booleanValue() ?: false))
            "stream.list" -> items(admin.listStreams())
            "stream.describe" -> record(admin.describeStream(text("stream"))) as ObjectNode
            "topic.create" -> record(admin.createTopic(text("topic"), options(TopicOptions(), args.field("options")))) as ObjectNode
            "topic.alter" -> record(admin.alterTopic(text("topic"), options(TopicChanges(), args.field("changes")))) as ObjectNode
            "topic.delete" -> empty { admin.deleteTopic(text("topic")) }
            "topic.purge" -> empty { admin.purgeTopic(text("topic")) }
            "topic.list" -> items(admin.listTopics(maybe("stream")))
            "topic.describe" -> record(admin.describeTopic(text("topic"))) as ObjectNode
            "topic.trim" -> record(admin.deleteMessages(text("partition"), position(args, "before"))) as ObjectNode
            "topic.set_segment_age" -> empty { admin.setSegmentAge(text("topic"), args.field("segment_age_us")?.long()) }
            "topic.set_dedup_messages" -> empty { admin.setDedupMessages(text("topic"), args.field("dedup_messages")?.long()?.toInt()) }
            "topic.producer_progress" -> record(admin.producerProgress(text("name"), text("partition"))) as ObjectNode
            "position.resolve" -> record(admin.resolvePosition(text("partition"), position(args))) as ObjectNode
            "user.create" -> record(admin.createUser(text("user"), text("password"), role(text("role")), texts("grants").orEmpty())) as ObjectNode
            "user.alter" -> record(admin.alterUser(text("user"), maybe("password"), maybe("role")?.let(::role))) as ObjectNode
            "user.delete" -> empty { admin.deleteUser(text("user")) }
            "user.list" -> items(admin.listUsers())
            "user.describe" -> record(admin.describeUser(text("user"))) as ObjectNode
            "token.create" ->
                record(admin.createToken(text("name"), maybe("user"), args.field("expires_at_us")?.long(), texts("scope"))) as ObjectNode
            "token.delete" -> empty { admin.deleteToken(text("name"), maybe("user")) }
            "token.list" -> items(admin.listTokens(maybe("user")))
            "access.set" -> empty { admin.setAccess(text("user"), texts("roles").orEmpty(), texts("grants").orEmpty()) }
            "access.describe" -> record(admin.describeAccess(maybe("user"))) as ObjectNode
            "role.set" -> empty { admin.setRole(text("role"), args.need("grants").map { it.textValue() }) }
            "role.delete" -> empty { admin.deleteRole(text("role")) }
            "role.list" -> items(admin.listRoles())
            "quota.set" -> empty { admin.setQuota(text("user"), options(Quota(), args.field("quota"))) }
            "quota.describe" -> record(admin.describeQuota(maybe("user"))) as ObjectNode
            "status" -> record(admin.status()) as ObjectNode
            "group.list" -> items(admin.listGroups())
            "group.describe" -> record(admin.describeGroup(text("group"))) as ObjectNode
            "group.delete" -> empty { admin.deleteGroup(text("group")) }
            "group.offsets" -> items(admin.groupOffsets(text("group"), args.field("topics")?.map { it.textValue() }))
            "group.reset_offsets" -> {
                val topics = args.need("topics").map { it.textValue() }
                val partition = args.field("partition")?.long()?.toInt()
                val dryRun = args.field("dry_run")?.booleanValue() ?: false
                items(admin.resetOffsets(text("group"), topics, position(args), partition, dryRun))
            }
            else -> throw Unsupported(command.operation)
        }
    }

    private fun hello(): ObjectNode =
        obj {
            set<JsonNode>("adapter_protocol", json.createArrayNode().add(1))
            put("client", "levada-kotlin")
            put("client_version", "0.1.0")
            put("language", "kotlin")
            put("runtime", "JVM ${Runtime.version()}, Kotlin ${KotlinVersion.CURRENT}")
            put("api", "")
            set<JsonNode>("features", json.createArrayNode().also { features -> FEATURES.forEach(features::add) })
            set<JsonNode>("wire_versions", json.createArrayNode().add(1).add(2))
            put("pid", ProcessHandle.current().pid())
        }

    private fun stats(): ObjectNode =
        obj {
            val kept = putObject("handles")
            kept.put("clients", handles.values.count { it is Client })
            kept.put("producers", handles.values.count { it is Producer })
            kept.put("consumers", handles.values.count { it is Consumer })
            kept.put("deliveries", handles.values.count { it is Delivery })
            put("in_flight", running.size - 1)
        }

    /** Gives up every command under way and closes every handle. */
    suspend fun reset() {
        val jobs = running.values.toList()
        jobs.forEach { it.cancel() }
        jobs.joinAll()
        val open = handles.values.toList()
        handles.clear()
        for (handle in open) {
            if (handle is Client) runCatching { handle.close(RESET_TIMEOUT) }
        }
    }

    private fun timeout(args: JsonNode): Duration? = args.field("timeout_ms")?.duration()

    private fun partitionOffset(given: JsonNode): PartitionOffset =
        PartitionOffset(given.need("topic").textValue(), given.need("partition").long().toInt(), given.need("offset").long())

    private fun position(args: JsonNode, name: String = "position"): Position = Position.parse(args.need(name).textValue())

    private inline fun empty(call: () -> Unit): ObjectNode {
        call()
        return obj { }
    }

    private fun value(value: Any?): ObjectNode = obj { set<JsonNode>("value", record(value)) }

    private fun items(items: List<Any>): ObjectNode = obj { set<JsonNode>("items", record(items)) }
}

fun main() {
    val adapter = Adapter()
    val lines = System.`in`.bufferedReader()
    while (true) {
        val line = lines.readLine() ?: break
        val command = Command(json.readTree(line))
        when (command.operation) {
            "reset" -> {
                runBlocking { adapter.reset() }
                command.answer(obj { putObject("ok") })
            }
            "shutdown" -> {
                runBlocking { adapter.reset() }
                command.answer(obj { putObject("ok") })
                return
            }
            else -> adapter.start(command)
        }
    }
    runBlocking { adapter.reset() }
}
