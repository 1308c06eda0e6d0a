package dev.levada

import dev.levada.internal.NativeOutcome
import dev.levada.internal.stats
import java.util.concurrent.CompletableFuture
import dev.levada.internal.connect as nativeConnect

/** Where everything begins: connecting to a server. */
public object Levada {
    /**
     * Connects and authenticates; fails after one attempt. Later losses are repaired in the background. What the options leave
     * open is discovered: `LEVADA_SERVER` and `LEVADA_TOKEN_FILE`, then the selected saved context, then the file that a server
     * on this machine leaves for its own user.
     */
    public suspend fun connect(options: ClientOptions = ClientOptions()): Client =
        perform({ queue, token -> nativeConnect(options.fields().native(), queue, token) }) { exchange, outcome ->
            Client((outcome as? NativeOutcome.Client ?: unexpected(outcome)).client, exchange)
        }

    /** [connect] with options set in a block. */
    public suspend fun connect(configure: ClientOptions.() -> Unit): Client = connect(ClientOptions().apply(configure))

    /** [connect], blocking. */
    @JvmStatic
    @JvmOverloads
    public fun connectBlocking(options: ClientOptions = ClientOptions()): Client = blocking { connect(options) }

    /** [connect] as a future. */
    @JvmStatic
    @JvmOverloads
    public fun connectAsync(options: ClientOptions = ClientOptions()): CompletableFuture<Client> = future { connect(options) }

    /** Live handles of this process by kind: clients, producers, consumers, operations, queues. For tests that look for leaks. */
    @JvmStatic
    public fun handles(): Map<String, Long> = Value(stats()).numbers()
}
