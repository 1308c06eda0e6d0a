// The values of the adapter protocol (section 3 of adapter-protocol.md), to and from the client's types.

import com.fasterxml.jackson.databind.JsonNode
import com.fasterxml.jackson.databind.ObjectMapper
import com.fasterxml.jackson.databind.node.ArrayNode
import com.fasterxml.jackson.databind.node.ObjectNode
import dev.levada.Header
import dev.levada.LevadaException
import dev.levada.Message
import dev.levada.OutgoingMessage
import dev.levada.Position
import java.lang.reflect.Modifier
import java.lang.reflect.ParameterizedType
import java.math.BigDecimal
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.file.Path
import java.security.MessageDigest
import java.time.Duration
import java.util.Base64

val json = ObjectMapper()

/** The command asks for what the client does not have. */
class Unsupported(val feature: String) : Exception()

fun JsonNode.field(name: String): JsonNode? = get(name)?.takeUnless { it.isNull }

fun JsonNode.need(name: String): JsonNode = field(name) ?: error("argument $name is absent")

fun JsonNode.u64(): ULong = if (isTextual) textValue().toULong() else longValue().toULong()

fun JsonNode.long(): Long = if (isTextual) textValue().toULongOrNull()?.toLong() ?: textValue().toLong() else longValue()

fun JsonNode.duration(): Duration =
    decimalValue().multiply(BigDecimal(1_000_000)).toBigInteger().let { Duration.ofNanos(it.toLong()) }

fun encode(bytes: ByteArray): String = Base64.getEncoder().encodeToString(bytes)

fun obj(fill: ObjectNode.() -> Unit): ObjectNode = json.createObjectNode().apply(fill)

/** Bytes, given or generated; [raised] is added to the generator's index. */
fun bytes(node: JsonNode, raised: ULong = 0u): ByteArray {
    if (node.isTextual) return Base64.getDecoder().decode(node.textValue())
    val size = node.need("size").long().toInt()
    val index = (node.field("index")?.u64() ?: 0u) + raised
    val seed = node.field("seed")?.u64() ?: 0u
    val words = ByteBuffer.allocate((size + 7) / 8 * 8).order(ByteOrder.LITTLE_ENDIAN)
    when (val kind = node.need("gen").textValue()) {
        "zeros" -> {}
        "seq" -> for (k in 0 until words.capacity() / 8) words.putLong((index + k.toULong()).toLong())
        "random" -> {
            var state = seed + index * 0xD1B54A32D192ED03u
            repeat(words.capacity() / 8) {
                state += 0x9E3779B97F4A7C15u
                var z = state
                z = (z xor (z shr 30)) * 0xBF58476D1CE4E5B9u
                z = (z xor (z shr 27)) * 0x94D049BB133111EBu
                words.putLong((z xor (z shr 31)).toLong())
            }
        }
        else -> error("no generator $kind")
    }
    return words.array().copyOf(size)
}

fun message(node: JsonNode, raised: ULong = 0u): OutgoingMessage =
    OutgoingMessage(
        node.field("payload")?.let { bytes(it, raised) },
        node.field("key")?.let { bytes(it, raised) },
        node.field("headers")?.map { header(it, raised) } ?: emptyList(),
        node.field("timestamp_us")?.long(),
        node.field("id")?.let { bytes(it, raised) },
        node.field("partition")?.intValue(),
    ).let { message -> node.field("sequence")?.let { message.sequence(it.u64()) } ?: message }

fun messages(nodes: JsonNode): List<OutgoingMessage> =
    nodes.flatMap { node -> List(node.field("count")?.long()?.toInt() ?: 1) { message(node, it.toULong()) } }

private fun header(node: JsonNode, raised: ULong): Header {
    val value = node.need("value")
    return Header(
        node.need("name").textValue(),
        when (val type = node.need("type").textValue()) {
            "string" -> value.textValue()
            "bytes" -> bytes(value, raised)
            "bool" -> value.booleanValue()
            "i64" -> if (value.isTextual) value.textValue().toLong() else value.longValue()
            "u64" -> value.u64()
            "f64" -> Double.fromBits(value.textValue().toULong(16).toLong())
            else -> error("no header type $type")
        },
    )
}

fun message(message: Message): ObjectNode =
    obj {
        put("topic", message.topic)
        put("partition", message.partition)
        put("offset", message.offset.toULong().toString())
        put("timestamp_us", message.timestampUs.toString())
        put("append_time_us", message.appendTimeUs.toString())
        val payload = message.payload
        if (payload == null) putNull("payload") else set<JsonNode>("payload", digest(payload))
        put("key", message.key?.let(::encode))
        val headers = putArray("headers")
        for (header in message.headers) headers.add(header(header))
        put("id", message.id?.let(::encode))
    }

private fun digest(payload: ByteArray): ObjectNode =
    obj {
        put("length", payload.size)
        put("sha256", MessageDigest.getInstance("SHA-256").digest(payload).joinToString("") { "%02x".format(it) })
        put("first", encode(payload.copyOf(minOf(64, payload.size))))
    }

private fun header(header: Header): ObjectNode =
    obj {
        put("name", header.name)
        when (val value = header.value) {
            is String -> put("type", "string").put("value", value)
            is ByteArray -> put("type", "bytes").put("value", encode(value))
            is Boolean -> put("type", "bool").put("value", value)
            is Long -> put("type", "i64").put("value", value.toString())
            is ULong -> put("type", "u64").put("value", value.toString())
            is Double -> put("type", "f64").put("value", "%016x".format(value.toRawBits()))
            else -> error("a header of type ${value::class}")
        }
    }

private fun snake(name: String): String = name.replace(Regex("[A-Z]")) { "_" + it.value.lowercase() }

/** A record of the client, under the names of the wire. */
fun record(value: Any?): JsonNode =
    when (value) {
        null -> json.nullNode()
        is Boolean -> json.nodeFactory.booleanNode(value)
        is Int -> json.nodeFactory.numberNode(value)
        is Long -> json.nodeFactory.textNode(value.toULong().toString())
        is String -> json.nodeFactory.textNode(value)
        is ByteArray -> json.nodeFactory.textNode(encode(value))
        is Enum<*> -> json.nodeFactory.textNode(value.javaClass.getMethod("getWireName").invoke(value) as String)
        is List<*> -> json.createArrayNode().also { array: ArrayNode -> value.forEach { array.add(record(it)) } }
        else -> fields(value)
    }

private fun fields(value: Any): ObjectNode =
    obj {
        for (field in value.javaClass.declaredFields) {
            if (Modifier.isStatic(field.modifiers)) continue
            field.isAccessible = true
            val name = snake(field.name)
            when (val content = field.get(value)) {
                // Times are signed; offsets, sizes and counts are not.
                is Long -> put(name, if (name.endsWith("_at_us") || name.endsWith("_time_us")) "$content" else "${content.toULong()}")
                else -> set<JsonNode>(name, record(content))
            }
        }
    }

/** Sets options by their names on the wire. */
fun <T : Any> options(options: T, given: JsonNode?): T {
    for ((wireName, value) in given?.properties() ?: emptySet()) {
        if (value.isNull) continue
        val name = wireName.removeSuffix("_ms").split('_').let { words ->
            words.first() + words.drop(1).joinToString("") { it.replaceFirstChar(Char::uppercase) }
        }
        val getter = runCatching { options.javaClass.getMethod("get" + name.replaceFirstChar(Char::uppercase)) }
            .getOrElse { throw Unsupported(wireName) }
        val setter = options.javaClass.getMethod("set" + name.replaceFirstChar(Char::uppercase), getter.returnType)
        setter.invoke(options, option(getter.returnType, getter.genericReturnType, value))
    }
    return options
}

private fun option(type: Class<*>, generic: java.lang.reflect.Type, value: JsonNode): Any =
    when {
        type == String::class.java -> value.textValue()
        type == Path::class.java -> Path.of(value.textValue())
        type == java.lang.Boolean::class.java -> value.booleanValue()
        type == Duration::class.java -> value.duration()
        type == Integer::class.java -> value.long().toInt()
        type == java.lang.Long::class.java -> value.long()
        type == Position::class.java -> Position.parse(value.textValue())
        type == List::class.java -> value.map { it.long().toInt() }
        type == Map::class.java -> value.properties().associate { it.key.toInt() to Position.parse(it.value.textValue()) }
        type.isEnum -> constant(type, value.textValue())
        else -> error("an option of type ${(generic as? ParameterizedType) ?: type}")
    }

fun constant(type: Class<*>, wireName: String): Any =
    type.enumConstants.firstOrNull { type.getMethod("getWireName").invoke(it) == wireName } ?: throw Unsupported(wireName)

fun failure(error: Throwable): ObjectNode =
    obj {
        if (error is LevadaException) {
            put("code", error.code)
            put("name", error.name)
            put("class", error.errorClass)
            put("retriable", error.retriable)
            put("maybe_applied", error.maybeApplied)
            put("message", error.text)
            val details = putObject("details")
            error.details.forEach { (name, value) -> details.put(name, value) }
        } else {
            put("code", 0)
            put("name", "")
            put("message", error.toString())
        }
        val native = putArray("native")
        generateSequence<Class<*>>(error.javaClass) { it.superclass.takeIf { base -> base != Any::class.java } }
            .forEach { native.add(it.name) }
    }
