/** Clients: connecting, and what is made from them. */

import { call, type CallOptions, now, throwIfAborted } from "./calls";
import { Consumer } from "./consumer";
import {
  Admin,
  type ClientOptions,
  type ConsumerOptions,
  type GroupConsumerOptions,
  type ProducerOptions,
  type ServerInfo,
  serverInfoOf,
} from "./generated";
import type { NativeClient, NativeConsumer, NativeProducer } from "./native";
import { CLOSE_TIMEOUT_MS, Producer } from "./producer";
import { options as named } from "./values";

/**
 * Connects and authenticates; fails after one attempt. Later losses are repaired in the background. What the options leave open is
 * discovered: the environment, a saved context, a server on this machine.
 */
export async function connect(options: ClientOptions = {}, callOptions: CallOptions = {}): Promise<Client> {
  throwIfAborted(callOptions);
  const given = named(options);
  return call(
    (queue, token) => queue.connect(given, token),
    (native) => new Client(native as NativeClient),
    callOptions,
  );
}

/** A connection to a server, kept up by itself. */
export class Client {
  readonly #native: NativeClient;
  /** Streams, topics, users, tokens and consumer groups. */
  readonly admin: Admin;

  /** @internal */
  constructor(native: NativeClient) {
    this.#native = native;
    this.admin = new Admin((operation, args, options) => this.#call(operation, args, options));
  }

  async #call(operation: string, args: Record<string, unknown>, options: CallOptions = {}): Promise<unknown> {
    throwIfAborted(options);
    return call((_, token) => this.#native.call(operation, named(args), token), (value) => value, options);
  }

  /** Asks for a sign of life; gives the time it took, in milliseconds. */
  async ping(options: CallOptions = {}): Promise<number> {
    const microseconds = await this.#call("ping", {}, options);
    return Number(microseconds) / 1000;
  }

  /** What the server told at the last handshake. */
  serverInfo(): ServerInfo | null {
    const info = now(() => this.#native.serverInfo());
    return info === null ? null : serverInfoOf(info);
  }

  /** A producer to `stream/topic`. */
  async producer(topic: string, options: ProducerOptions = {}, callOptions: CallOptions = {}): Promise<Producer> {
    throwIfAborted(callOptions);
    const given = named(options);
    return call(
      (_, token) => this.#native.producer(topic, given, token),
      (native) => new Producer(native as NativeProducer),
      callOptions,
    );
  }

  /** A consumer of `stream/topic`, or of one partition with `stream/topic:partition`. */
  async consumer(topic: string, options: ConsumerOptions = {}, callOptions: CallOptions = {}): Promise<Consumer> {
    throwIfAborted(callOptions);
    const given = named(options);
    return call(
      (_, token) => this.#native.consumer(topic, given, token),
      (native) => new Consumer(native as NativeConsumer),
      callOptions,
    );
  }

  /**
   * A consumer that is a member of a group and reads its share of `topics`: `stream/topic`, with `*` for any run of characters
   * but `/`. One whose joining is given up may be a member until its session runs out.
   */
  async groupConsumer(
    group: string,
    topics: string | readonly string[],
    options: GroupConsumerOptions = {},
    callOptions: CallOptions = {},
  ): Promise<Consumer> {
    throwIfAborted(callOptions);
    const given = named(options);
    const all = typeof topics === "string" ? [topics] : topics;
    return call(
      (_, token) => this.#native.groupConsumer(group, all, given, token),
      (native) => new Consumer(native as NativeConsumer),
      callOptions,
    );
  }

  /** Lets every producer settle what it has taken, at most `timeoutMs` (default 5000), then ends everything made from this client. */
  close(options: { timeoutMs?: number } = {}): Promise<void> {
    return call((_, token) => this.#native.close(options.timeoutMs ?? CLOSE_TIMEOUT_MS, token), () => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
