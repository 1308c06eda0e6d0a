/**
 * Consumers. A receive waits for readiness, which carries nothing, and takes in its own continuation: a receive that is given
 * up has taken nothing, so nothing is lost.
 */

import { call, type CallOptions, environment, now, throwIfAborted, watch } from "./calls";
import { concurrent, failureOf, givenUp } from "./failures";
import type { AssignmentChange, AssignmentKind, PartitionOffset, Position, TopicPartition } from "./generated";
import { Batch, Message, Messages, partitionOf } from "./message";
import type { NativeBatch, NativeConsumer, NativeTaken } from "./native";
import { CLOSE_TIMEOUT_MS } from "./producer";
import { position } from "./values";

/** How much a receive may bring, and how long it waits. */
export interface ReceiveBatchOptions extends CallOptions {
  /** Messages at most. Default 1000. */
  maxMessages?: number | undefined;
  /** About how many bytes at most, but at least one batch. Default 4 MiB. */
  maxBytes?: number | undefined;
  /** How long to wait for the first message; then the result is empty. Default 1000. */
  timeoutMs?: number | undefined;
}

const MAX_MESSAGES = 1000;
const MAX_BYTES = 4 * 1024 * 1024;
const TIMEOUT_MS = 1000;

const FINISHED = -2;
const NEW_BATCH = 2 ** 30;

/** How long receives may find something at once before the event loop has a turn: timers and signals must be heard. */
const TURN_MS = 5;
/** How many receives go between looks at the clock; one of a batch counts for many. */
const LOOK_AFTER = 64;
const BATCH_WEIGHT = 8;
let turnAt = 0;

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(() => {
      turnAt = performance.now();
      resolve();
    });
  });
}

/** An offset to be committed: how far a partition is done. */
export type OffsetToCommit = Omit<PartitionOffset, "offset"> & { readonly offset: bigint | number };

/** Receives messages of a topic, or of what a group assigns. Made by `client.consumer()` and `client.groupConsumer()`. */
export class Consumer implements AsyncIterable<Message> {
  readonly #native: NativeConsumer;
  #current: Batch | undefined;
  #isReceiving = false;
  #sinceLook = 0;

  /** @internal */
  constructor(native: NativeConsumer) {
    this.#native = native;
  }

  /** Name of the topic, `stream/topic`; of a member of a group, its topics and patterns. */
  get topic(): string {
    return this.#native.topic;
  }

  /** Numbers of the partitions it reads; `assignments()` tells their topics too. */
  get partitions(): number[] {
    return this.#native.partitions;
  }

  /** The next message if there is one now; null at the end. */
  #take(): Message | null | undefined {
    const taken = this.#native.takeMessage();
    if (taken < 0) {
      return taken === FINISHED ? null : undefined;
    }
    if (taken >= NEW_BATCH) {
      this.#current = new Batch(this.#native.current() as NativeBatch);
      return new Message(this.#current, taken - NEW_BATCH);
    }
    return new Message(this.#current as Batch, taken);
  }

  /** Two receives at once have no order. */
  #checkFree(): void {
    if (this.#isReceiving) {
      throw concurrent();
    }
  }

  /** Whether the event loop has not had a turn for long. */
  #isTurnDue(weight: number): boolean {
    this.#sinceLook += weight;
    if (this.#sinceLook < LOOK_AFTER) {
      return false;
    }
    this.#sinceLook = 0;
    return performance.now() - turnAt > TURN_MS;
  }

  /** Waits until there is something to take; false if the time has passed before. */
  #ready(options: CallOptions): Promise<boolean> {
    return new Promise((resolve, reject) => {
      throwIfAborted(options);
      const calls = environment();
      const token = calls.add(() => {
        stop?.();
        turnAt = performance.now();
        resolve(true);
      });
      try {
        this.#native.arm(token);
      } catch (error) {
        calls.remove(token);
        throw failureOf(error);
      }
      const stop = watch(options, (why) => {
        calls.remove(token);
        this.#native.disarm();
        if (why.kind === "timeout") {
          resolve(false);
        } else {
          reject(givenUp(why, false));
        }
      });
    });
  }

  /** What can be answered at once is, without the cost of waiting. */
  #atOnce(options: CallOptions): Message | null | undefined {
    throwIfAborted(options);
    this.#checkFree();
    return this.#isTurnDue(1) ? undefined : now(() => this.#take());
  }

  async #receive(options: CallOptions): Promise<Message | null> {
    const { signal, timeoutMs } = options;
    const deadline = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
    this.#isReceiving = true;
    try {
      if (performance.now() - turnAt > TURN_MS && this.#sinceLook === 0) {
        await nextTurn();
      }
      for (;;) {
        throwIfAborted(options);
        const message = now(() => this.#take());
        if (message !== undefined) {
          return message;
        }
        const left = deadline === undefined ? undefined : Math.max(0, deadline - performance.now());
        if (!(await this.#ready({ signal, timeoutMs: left }))) {
          throw givenUp({ kind: "timeout", timeoutMs: timeoutMs as number }, false);
        }
      }
    } finally {
      this.#isReceiving = false;
    }
  }

  /**
   * The next message; null at the end that `untilEnd` asks for. `timeoutMs` passing fails with CLIENT_TIMEOUT. Given up, it loses
   * nothing.
   */
  receive(options: CallOptions = {}): Promise<Message | null> {
    try {
      const message = this.#atOnce(options);
      return message === undefined ? this.#receive(options) : Promise.resolve(message);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * The next messages, at most `maxMessages` and about `maxBytes` but at least one batch; none when the time has passed or the
   * end is reached. Given up, it loses nothing.
   */
  async receiveBatch(options: ReceiveBatchOptions = {}): Promise<Messages> {
    throwIfAborted(options);
    this.#checkFree();
    const { maxMessages = MAX_MESSAGES, maxBytes = MAX_BYTES, timeoutMs = TIMEOUT_MS, signal } = options;
    const deadline = performance.now() + timeoutMs;
    this.#isReceiving = true;
    try {
      if (this.#isTurnDue(BATCH_WEIGHT)) {
        await nextTurn();
      }
      for (;;) {
        throwIfAborted(options);
        const taken = now(() => this.#native.take(maxMessages, maxBytes));
        if (taken.count > 0 || taken.finished) {
          return messagesOf(taken);
        }
        const left = deadline - performance.now();
        if (left <= 0 || !(await this.#ready({ signal, timeoutMs: left }))) {
          return new Messages([], false);
        }
      }
    } finally {
      this.#isReceiving = false;
    }
  }

  /** Every message from here on, until the end that `untilEnd` asks for. Leaving the loop leaves the consumer open. */
  messages(options: { signal?: AbortSignal } = {}): AsyncIterableIterator<Message> {
    const result = (message: Message | null): IteratorResult<Message, undefined> =>
      message === null ? { value: undefined, done: true } : { value: message, done: false };
    const next = (): Promise<IteratorResult<Message, undefined>> => {
      try {
        const message = this.#atOnce(options);
        return message === undefined ? this.#receive(options).then(result) : Promise.resolve(result(message));
      } catch (error) {
        return Promise.reject(error);
      }
    };
    const iterator: AsyncIterableIterator<Message> = {
      next,
      return: () => Promise.resolve({ value: undefined, done: true }),
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Message> {
    return this.messages();
  }

  /**
   * Moves to another position in one partition, of `topic` where it reads several. What was handed out is not taken back.
   */
  seek(partition: number, to: Position, topic?: string): void {
    now(() => this.#native.seek(topic, partitionOf(partition), position(to)));
  }

  /** Stops handing out messages of a partition. */
  pause(partition: number, topic?: string): void {
    now(() => this.#native.pause(topic, partitionOf(partition)));
  }

  /** Goes on with a paused partition. */
  resume(partition: number, topic?: string): void {
    now(() => this.#native.resume(topic, partitionOf(partition)));
  }

  /** Offset of the next message of a partition; null until the server has told what the start came to. */
  position(partition: number, topic?: string): bigint | null {
    return now(() => this.#native.position(topic, partitionOf(partition)));
  }

  /**
   * Stores how far the group is: everything handed out so far counts as done. Completes when it is durable. Partitions that went
   * to another member meanwhile are left out.
   */
  async commit(options: CallOptions = {}): Promise<void> {
    throwIfAborted(options);
    return call((_, token) => this.#native.commit(token), () => undefined, options);
  }

  /**
   * Stores offsets of the caller's choice, all or none: NOT_ASSIGNED if one is another member's. They may go back only after a
   * seek.
   */
  async commitOffsets(offsets: readonly OffsetToCommit[], options: CallOptions = {}): Promise<void> {
    throwIfAborted(options);
    return call((_, token) => this.#native.commitOffsets(offsets, token), () => undefined, options);
  }

  /** The offset the group has stored for a partition, asked of the server; null if there is none. */
  async committed(topic: string, partition: number, options: CallOptions = {}): Promise<bigint | null> {
    throwIfAborted(options);
    const number = partitionOf(partition);
    return call(
      (_, token) => this.#native.committed(topic, number, token),
      (offset) => (offset ?? null) as bigint | null,
      options,
    );
  }

  /** The partitions it reads now, by topic and number. */
  assignments(): TopicPartition[] {
    return now(() => partitionsOf(this.#native.assignments()));
  }

  /**
   * The next change of what a member of a group reads, beginning with what it was assigned first; null when `timeoutMs` has
   * passed. Changes wait until they are asked for; where too many wait, they are told as one step from what was told last.
   * Given up at any point, it loses nothing: a change that has come by then is its result all the same, and one that comes
   * later is the next call's.
   */
  async nextChange(options: CallOptions = {}): Promise<AssignmentChange | null> {
    throwIfAborted(options);
    const { signal, timeoutMs } = options;
    const limit = timeoutMs === undefined ? undefined : Math.max(0, timeoutMs);
    return call((_, token) => this.#native.nextChange(limit, token), changeOf, { signal });
  }

  /**
   * Ends the subscriptions, by default within 5 s; a receive under way fails with CLOSED. A member of a group first commits what it
   * handed out, if it commits by itself, and leaves the group, unless it is static.
   */
  close(options: { timeoutMs?: number } = {}): Promise<void> {
    return call((_, token) => this.#native.close(options.timeoutMs ?? CLOSE_TIMEOUT_MS, token), () => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function messagesOf(taken: NativeTaken): Messages {
  const batches: Batch[] = [];
  for (let index = 0; index < taken.count; index++) {
    batches.push(new Batch(taken.batch(index) as NativeBatch));
  }
  return new Messages(batches, taken.finished);
}

function partitionsOf(native: unknown): TopicPartition[] {
  const records = native as { topic: string; partition: bigint }[];
  return records.map(({ topic, partition }) => ({ topic, partition: Number(partition) }));
}

function changeOf(native: unknown): AssignmentChange | null {
  if (native === undefined) {
    return null;
  }
  const { kind, partitions } = native as { kind: AssignmentKind; partitions: unknown };
  return { kind, partitions: partitionsOf(partitions) };
}
