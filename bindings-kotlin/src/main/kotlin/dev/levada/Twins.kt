package dev.levada

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.DelicateCoroutinesApi
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.GlobalScope
import kotlinx.coroutines.future.future
import kotlinx.coroutines.runBlocking
import java.util.concurrent.CompletableFuture

/** The blocking twin of a call. An interrupt of the thread gives the call up. */
internal fun <T> blocking(body: suspend CoroutineScope.() -> T): T = runBlocking(block = body)

/** The twin that gives a future. Cancelling the future gives the call up. */
@OptIn(DelicateCoroutinesApi::class)
internal fun <T> future(body: suspend CoroutineScope.() -> T): CompletableFuture<T> =
    GlobalScope.future(Dispatchers.Default, block = body)
