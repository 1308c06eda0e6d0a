/** Producers: messages are copied into the core when they are handed over; what comes back are receipts. */

import { call, type CallOptions, environment, type GiveUp, throwIfAborted, watch } from "./calls";
import { failureOf, givenUp, usage } from "./failures";
import type { BatchReceipt, Receipt } from "./generated";
import { bytesOf, isPlain, nativeMessage, type OutgoingMessage } from "./message";
import type { NativeDelivery, NativeMessage, NativeOperation, NativeProducer } from "./native";

/** What can be sent: a message, or its payload alone. */
export type Sendable = OutgoingMessage | Uint8Array | string;

/** The acknowledgement to come of a message that was enqueued. */
export class Delivery {
  #receipt: Receipt | undefined;
  #failure: Error | undefined;
  /** Made by the first who waits: most deliveries have nobody. */
  #waiters: Set<() => void> | undefined;

  /** @internal */
  settle(failure: Error | undefined, receipt: Receipt | undefined): void {
    this.#failure = failure;
    this.#receipt = receipt;
    const waiters = this.#waiters;
    if (waiters !== undefined) {
      this.#waiters = undefined;
      for (const waiter of waiters) {
        waiter();
      }
    }
  }

  /** Whether it is settled. */
  get settled(): boolean {
    return this.#receipt !== undefined || this.#failure !== undefined;
  }

  /** Waits for the acknowledgement. Giving up only stops waiting: the message is delivered all the same. */
  wait(options: CallOptions = {}): Promise<Receipt> {
    return new Promise<Receipt>((resolve, reject) => {
      const finish = () => {
        if (this.#failure !== undefined) {
          reject(this.#failure);
        } else {
          resolve(this.#receipt as Receipt);
        }
      };
      if (this.settled) {
        finish();
        return;
      }
      throwIfAborted(options);
      const waiter = () => {
        stop?.();
        finish();
      };
      (this.#waiters ??= new Set()).add(waiter);
      const stop = watch(options, (why) => {
        this.#waiters?.delete(waiter);
        reject(givenUp(why, true));
      });
    });
  }
}

/** A message that waits for space. */
interface Waiting {
  readonly message: NativeMessage;
  /** The core has it, or never will. */
  readonly placed: (outcome: Error | NativeDelivery | undefined) => void;
  readonly delivery: Delivery;
  operation: NativeOperation | undefined;
}

function receiptOf(value: unknown): Receipt {
  const { receipt, index } = value as { receipt: BatchReceipt; index: number };
  const { partition, baseOffset, appendTimeUs, durability, duplicate, serverEncoded } = receipt;
  const offset = baseOffset === null ? null : baseOffset + BigInt(index);
  return { partition, offset, appendTimeUs, durability, duplicate, serverEncoded };
}

/** Sends messages to a topic. Made by `client.producer()`. */
export class Producer {
  readonly #native: NativeProducer;
  /** Messages that found the buffer full, in order; the first is with the core already. */
  readonly #waiting: Waiting[] = [];
  readonly #drained = new Set<() => void>();

  /** @internal */
  constructor(native: NativeProducer) {
    this.#native = native;
  }

  /** Name of the topic, `stream/topic`. */
  get topic(): string {
    return this.#native.topic;
  }

  /** How many partitions the topic had when the producer was made. */
  get partitionCount(): number {
    return this.#native.partitionCount;
  }

  /** Sends one message and waits for its acknowledgement. Given up after it was handed over, it is still delivered. */
  async send(message: Sendable, options: CallOptions = {}): Promise<Receipt> {
    throwIfAborted(options);
    const delivery = new Delivery();
    let taken = false;
    const leave = this.#place(message, delivery, () => {
      taken = true;
    });
    if (options.signal === undefined && options.timeoutMs === undefined) {
      return delivery.wait();
    }
    return new Promise((resolve, reject) => {
      const stop = watch(options, (why) => {
        if (taken) {
          reject(givenUp(why, true));
        } else {
          leave(why);
        }
      });
      delivery.wait().then(resolve, reject).finally(() => stop?.());
    });
  }

  /** Copies one message into the open batch and gives its acknowledgement to come; waits only while the buffer is full. */
  enqueue(message: Sendable, options: CallOptions = {}): Promise<Delivery> {
    return new Promise((resolve, reject) => {
      throwIfAborted(options);
      const delivery = new Delivery();
      if (this.#waiting.length === 0 && this.#tryPlace(message, delivery)) {
        resolve(delivery);
        return;
      }
      let stop: (() => void) | undefined;
      let settled = false;
      const leave = this.#place(message, delivery, (failure) => {
        settled = true;
        stop?.();
        if (failure === undefined) {
          resolve(delivery);
        } else {
          reject(failure);
        }
      });
      if (!settled) {
        stop = watch(options, leave);
      }
    });
  }

  /** Hands a message to the core, now or when there is space; returns how to give up while it waits for that. */
  #place(message: Sendable, delivery: Delivery, placed: (failure: Error | undefined) => void): (why: GiveUp) => void {
    if (this.#waiting.length === 0 && this.#tryPlace(message, delivery)) {
      placed(undefined);
      return () => {};
    }
    let why: GiveUp | undefined;
    // Copied now: what the caller does to its memory while the message waits does not change it.
    const copy = nativeMessage(message).map((part) => (part instanceof Uint8Array ? Uint8Array.from(part) : part));
    const waiting: Waiting = {
      message: copy as NativeMessage,
      delivery,
      operation: undefined,
      placed: (outcome) => {
        if (outcome instanceof Error) {
          const failure = why === undefined ? outcome : givenUp(why, false);
          delivery.settle(failure, undefined);
          placed(failure);
        } else {
          placed(undefined);
        }
      },
    };
    this.#waiting.push(waiting);
    if (this.#waiting.length === 1) {
      this.#placeFirst();
    }
    return (reason) => {
      why = reason;
      if (waiting.operation !== undefined) {
        waiting.operation.cancel();
        return;
      }
      const at = this.#waiting.indexOf(waiting);
      if (at >= 0) {
        this.#waiting.splice(at, 1);
        waiting.placed(givenUp(reason, false));
      }
    };
  }

  #tryPlace(message: Sendable | NativeMessage, delivery: Delivery): boolean {
    const calls = environment();
    const token = calls.add((failure, value) => {
      // A producer must not be collected, and thereby dropped with what it has taken, while something is unacknowledged.
      void this.#native;
      if (failure === undefined) {
        delivery.settle(undefined, receiptOf(value));
      } else {
        delivery.settle(failureOf(failure), undefined);
      }
    });
    try {
      const taken = isPlain(message)
        ? this.#native.trySendPayload(bytesOf("payload", message) as Uint8Array, token)
        : this.#native.trySend(Array.isArray(message) ? (message as NativeMessage) : nativeMessage(message), token);
      if (!taken) {
        calls.remove(token);
      }
      return taken;
    } catch (error) {
      calls.remove(token);
      throw failureOf(error);
    }
  }

  /** Waits for space for the first of the waiting messages. */
  #placeFirst(): void {
    const first = this.#waiting[0];
    if (first === undefined) {
      for (const waiter of this.#drained) {
        waiter();
      }
      this.#drained.clear();
      return;
    }
    const placed = call(
      (_, token) => (first.operation = this.#native.enqueue(first.message, token)),
      (value) => value as NativeDelivery,
    );
    placed.then(
      (delivery) => {
        call(
          (_, token) => delivery.wait(token),
          (value) => {
            void this.#native;
            return value as Receipt;
          },
        ).then(
          (receipt) => first.delivery.settle(undefined, receipt),
          (error: Error) => first.delivery.settle(error, undefined),
        );
        this.#leave(first, undefined);
      },
      (error: Error) => this.#leave(first, error),
    );
  }

  #leave(first: Waiting, failure: Error | undefined): void {
    this.#waiting.shift();
    first.placed(failure);
    // There may be space for more than one by now.
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      try {
        if (!this.#tryPlace(next.message as never, next.delivery)) {
          break;
        }
        this.#waiting.shift();
        next.placed(undefined);
      } catch (error) {
        this.#waiting.shift();
        next.placed(error as Error);
      }
    }
    this.#placeFirst();
  }

  /** Sends many messages and waits for their acknowledgements: one receipt for each batch they went in. */
  async sendBatch(messages: Iterable<Sendable>, options: CallOptions = {}): Promise<BatchReceipt[]> {
    throwIfAborted(options);
    const list = listOf(messages);
    const receipts = (value: unknown) => value as BatchReceipt[];
    if (list.every(isPlain)) {
      const [payloads, lengths] = pack(list);
      return call((_, token) => this.#native.sendPacked(payloads, lengths, token), receipts, options);
    }
    const copies = list.map(nativeMessage);
    return call((_, token) => this.#native.sendBatch(copies, token), receipts, options);
  }

  /** Waits until everything handed over before is settled. */
  async flush(options: CallOptions = {}): Promise<void> {
    throwIfAborted(options);
    if (this.#waiting.length > 0) {
      await new Promise<void>((resolve, reject) => {
        const waiter = () => {
          stop?.();
          resolve();
        };
        this.#drained.add(waiter);
        const stop = watch(options, (why) => {
          this.#drained.delete(waiter);
          reject(givenUp(why, false));
        });
      });
    }
    return call((_, token) => this.#native.flush(token), () => undefined, options);
  }

  /** Takes no more messages and waits until those taken are settled, at most `timeoutMs` (default 5000). */
  close(options: { timeoutMs?: number } = {}): Promise<void> {
    return call((_, token) => this.#native.close(options.timeoutMs ?? CLOSE_TIMEOUT_MS, token), () => undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function listOf(messages: Iterable<Sendable>): Sendable[] {
  if (Array.isArray(messages)) {
    return messages as Sendable[];
  }
  if (typeof messages !== "object" || messages === null || !(Symbol.iterator in messages)) {
    throw usage("messages", "messages is an iterable of messages");
  }
  return [...messages];
}

/** How long `close` waits unless told otherwise. */
export const CLOSE_TIMEOUT_MS = 5000;

/** Memory that payloads are packed in before they are copied into the core: fresh memory costs more than the copy. */
let scratch = Buffer.alloc(0);
const MAX_SCRATCH_BYTES = 4 * 1024 * 1024;

function packingBuffer(bytes: number): Buffer {
  if (bytes > MAX_SCRATCH_BYTES) {
    return Buffer.allocUnsafeSlow(bytes);
  }
  if (scratch.length < bytes) {
    scratch = Buffer.allocUnsafeSlow(Math.min(MAX_SCRATCH_BYTES, Math.max(bytes, 2 * scratch.length)));
  }
  return scratch;
}

/** Payloads one after the other, with their lengths: to be copied before anything else is packed. */
function pack(list: (Uint8Array | string)[]): [Uint8Array, Uint32Array] {
  const lengths = new Uint32Array(list.length);
  let total = 0;
  for (let index = 0; index < list.length; index++) {
    const item = list[index] as Uint8Array | string;
    total += lengths[index] = typeof item === "string" ? Buffer.byteLength(item) : item.length;
  }
  const packed = packingBuffer(total);
  let at = 0;
  for (let index = 0; index < list.length; index++) {
    const item = list[index] as Uint8Array | string;
    if (typeof item === "string") {
      packed.write(item, at);
    } else {
      packed.set(item, at);
    }
    at += lengths[index] as number;
  }
  return [packed.subarray(0, total), lengths];
}
