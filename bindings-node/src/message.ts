/**
 * Messages: those received, which are an index into a batch and convert nothing until it is read, and those to be sent.
 */

import { usage } from "./failures";
import type { NativeBatch, NativeMessage } from "./native";

/** Value of a header: text, bytes, truth, i64 (bigint), u64 (`{ u64: 1n }`) or f64 (number). */
export type HeaderValue = string | Uint8Array | boolean | bigint | number | { u64: bigint };

/** A named value of a message. */
export interface Header {
  name: string;
  value: HeaderValue;
}

/** Headers to send: pairs in order, or an object. */
export type Headers = Iterable<Header | readonly [string, HeaderValue]> | Record<string, HeaderValue>;

/** A message to produce. Text is sent as UTF-8; an absent payload or key differs from an empty one. */
export interface OutgoingMessage {
  /** What it says. */
  payload?: Uint8Array | string | null | undefined;
  /** What it is about: messages of one key keep their order. */
  key?: Uint8Array | string | null | undefined;
  /** Named values, in order; names are unique. */
  headers?: Headers | null | undefined;
  /** When it happened, in microseconds since the Unix epoch; absent: when it is handed over. */
  timestampUs?: bigint | null | undefined;
  /** An identity of the application's own, 16 bytes. */
  id?: Uint8Array | null | undefined;
  /** Partition it must go to; absent: by key, or any. */
  partition?: number | null | undefined;
  /**
   * Its number, for a producer with `externalSequence`: above that of every message before it in its partition, gaps
   * allowed, at most 2n ** 64n - 2n. Such a producer needs one with each message, and others take none.
   */
  sequence?: bigint | null | undefined;
}

const enum Kind {
  String,
  Bytes,
  Bool,
  I64,
  U64,
  F64,
}

function headerValue(name: string, value: HeaderValue): [Kind, unknown] {
  switch (typeof value) {
    case "string":
      return [Kind.String, value];
    case "boolean":
      return [Kind.Bool, value];
    case "bigint":
      return [Kind.I64, value];
    case "number":
      return [Kind.F64, value];
    case "object":
      if (value instanceof Uint8Array) {
        return [Kind.Bytes, value];
      }
      if (value !== null && typeof value.u64 === "bigint") {
        return [Kind.U64, value.u64];
      }
  }
  throw usage("headers", `the value of header ${name} is of no type that a header can have`);
}

function flatHeaders(headers: Headers): unknown[] {
  const flat: unknown[] = [];
  const pairs = Symbol.iterator in headers ? headers : Object.entries(headers);
  for (const pair of pairs as Iterable<Header | readonly [string, HeaderValue]>) {
    const [name, value] = Array.isArray(pair) ? (pair as [string, HeaderValue]) : [(pair as Header).name, (pair as Header).value];
    if (typeof name !== "string") {
      throw usage("headers", "the name of a header is text");
    }
    flat.push(name, ...headerValue(name, value));
  }
  return flat;
}

/** Bytes as they are, text as UTF-8. */
export function bytesOf(argument: string, value: unknown): Uint8Array | null {
  if (value instanceof Uint8Array) {
    return value;
  }
  if (typeof value === "string") {
    return Buffer.from(value);
  }
  if (value === undefined || value === null) {
    return null;
  }
  throw usage(argument, `${argument} is a Uint8Array, a string or null`);
}

/** Whether a message is nothing but its payload. */
export function isPlain(message: unknown): message is Uint8Array | string {
  return typeof message === "string" || message instanceof Uint8Array;
}

/** The number of a partition, which conversion would cut to 32 bits. */
export function partitionOf(value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw usage("partition", "partition is a whole number from 0 to 4294967295");
  }
  return value;
}

function timestampOf(value: unknown): bigint {
  if (typeof value !== "bigint" || BigInt.asIntN(64, value) !== value) {
    throw usage("timestampUs", "timestampUs is a bigint of at most 64 bits");
  }
  return value;
}

function sequenceOf(value: unknown): bigint {
  if (typeof value !== "bigint" || BigInt.asUintN(64, value) !== value) {
    throw usage("sequence", "sequence is a bigint from 0n to 2n ** 64n - 2n");
  }
  return value;
}

/** A message for the native module. */
export function nativeMessage(message: OutgoingMessage | Uint8Array | string): NativeMessage {
  if (isPlain(message)) {
    return [bytesOf("payload", message), null, null, null, null, null, null];
  }
  if (typeof message !== "object" || message === null) {
    throw usage("message", "a message is an object, a Uint8Array or a string");
  }
  const { payload, key, headers, timestampUs, id, partition, sequence } = message;
  if (id != null && !(id instanceof Uint8Array && id.length === 16)) {
    throw usage("id", "an id is a Uint8Array of 16 bytes");
  }
  return [
    bytesOf("payload", payload),
    bytesOf("key", key),
    headers == null ? null : flatHeaders(headers),
    timestampUs == null ? null : timestampOf(timestampUs),
    id ?? null,
    partition == null ? null : partitionOf(partition),
    sequence == null ? null : sequenceOf(sequence),
  ];
}

/** Payloads smaller than this are copied when they are read, so that one that is kept does not keep its batch. */
const COPY_BELOW_BYTES = 4096;
/** Payloads read one after the other are copied this much at a time: it is what one that is kept keeps. */
const CHUNK_BYTES = 32 * 1024;

const ENTRY_BYTES = 40;
const NULL_PAYLOAD = 1;
const HAS_KEY = 2;
const HAS_ID = 4;

/** A batch as it crossed the boundary: its body, and a table that says what lies where. */
export class Batch {
  readonly partition: number;
  readonly appendTimeUs: bigint;
  readonly length: number;
  readonly #native: NativeBatch;
  readonly #base: bigint;
  readonly #table: DataView;
  readonly #body: Buffer;
  #topic: string | undefined;
  /** A copied part of the body, where it begins there, and the message whose payload is expected to be read next. */
  #chunk: Buffer | undefined;
  #chunkStart = 0;
  #nextIndex = 0;

  constructor(native: NativeBatch) {
    this.#native = native;
    this.partition = native.partition;
    this.appendTimeUs = native.appendTimeUs;
    this.#base = native.baseOffset;
    this.#table = new DataView(native.table());
    this.#body = Buffer.from(native.body());
    this.length = this.#table.byteLength / ENTRY_BYTES;
  }

  get topic(): string {
    return (this.#topic ??= this.#native.topic);
  }

  #u32(index: number, field: number): number {
    return this.#table.getUint32(index * ENTRY_BYTES + field, true);
  }

  #has(index: number, flag: number): boolean {
    return (this.#u32(index, 28) & flag) !== 0;
  }

  /** The payload where it lies. */
  view(index: number): Uint8Array | null {
    if (this.#has(index, NULL_PAYLOAD)) {
      return null;
    }
    const start = this.#u32(index, 0);
    return this.#body.subarray(start, start + this.#u32(index, 4));
  }

  /** The payload, copied if it is small. */
  payload(index: number): Uint8Array | null {
    const at = index * ENTRY_BYTES;
    const table = this.#table;
    if ((table.getUint32(at + 28, true) & NULL_PAYLOAD) !== 0) {
      return null;
    }
    const start = table.getUint32(at, true);
    const length = table.getUint32(at + 4, true);
    if (length >= COPY_BELOW_BYTES) {
      return this.#body.subarray(start, start + length);
    }
    if (index !== this.#nextIndex) {
      this.#nextIndex = index + 1;
      return this.#copy(start, length);
    }
    this.#nextIndex = index + 1;
    return this.#copyAhead(start, length);
  }

  #copyAhead(start: number, length: number): Uint8Array {
    const chunk = this.#chunk;
    const from = start - this.#chunkStart;
    if (chunk === undefined || from < 0 || from + length > chunk.length) {
      const size = Math.min(Math.max(CHUNK_BYTES, length), this.#body.length - start);
      const fresh = Buffer.allocUnsafeSlow(size);
      this.#body.copy(fresh, 0, start, start + size);
      this.#chunk = fresh;
      this.#chunkStart = start;
      return fresh.subarray(0, length);
    }
    return chunk.subarray(from, from + length);
  }

  #copy(start: number, length: number): Uint8Array {
    const copy = Buffer.allocUnsafe(length);
    this.#body.copy(copy, 0, start, start + length);
    return copy;
  }

  key(index: number): Uint8Array | null {
    return this.#has(index, HAS_KEY) ? this.#copy(this.#u32(index, 8), this.#u32(index, 12)) : null;
  }

  id(index: number): Uint8Array | null {
    return this.#has(index, HAS_ID) ? this.#copy(this.#u32(index, 8) - 16, 16) : null;
  }

  offset(index: number): bigint {
    return this.#base + BigInt(this.#u32(index, 24));
  }

  timestampUs(index: number): bigint {
    return this.#table.getBigInt64(index * ENTRY_BYTES + 32, true);
  }

  headers(index: number): Header[] {
    if (this.#u32(index, 20) === 0) {
      return [];
    }
    const flat = this.#native.headers(index);
    const headers: Header[] = [];
    for (let at = 0; at < flat.length; at += 3) {
      headers.push({ name: flat[at] as string, value: readHeader(flat[at + 1] as Kind, flat[at + 2]) });
    }
    return headers;
  }
}

function readHeader(kind: Kind, value: unknown): HeaderValue {
  switch (kind) {
    case Kind.U64:
      return { u64: value as bigint };
    case Kind.Bytes:
      return Buffer.from((value as Uint8Array).buffer as ArrayBuffer);
    default:
      return value as HeaderValue;
  }
}

/** A message received. What is read of it is converted then, and not before. */
export class Message {
  readonly #batch: Batch;
  readonly #index: number;
  #payload: Uint8Array | null | undefined;

  /** @internal */
  constructor(batch: Batch, index: number) {
    this.#batch = batch;
    this.#index = index;
  }

  /** Its topic, `stream/topic`. */
  get topic(): string {
    return this.#batch.topic;
  }

  /** Number of its partition. */
  get partition(): number {
    return this.#batch.partition;
  }

  /** Its offset in the partition. */
  get offset(): bigint {
    return this.#batch.offset(this.#index);
  }

  /** When it happened, in microseconds since the Unix epoch. */
  get timestampUs(): bigint {
    return this.#batch.timestampUs(this.#index);
  }

  /** When it happened, to the millisecond. */
  get timestamp(): Date {
    return new Date(Number(this.timestampUs / 1000n));
  }

  /** When it was appended, in microseconds since the Unix epoch. */
  get appendTimeUs(): bigint {
    return this.#batch.appendTimeUs;
  }

  /**
   * What it says, as a `Buffer`; null is not the same as empty. A payload of 4 KiB and more is a view of the whole batch's memory,
   * which is kept as long as it is; a smaller one is a copy.
   */
  get payload(): Uint8Array | null {
    return (this.#payload ??= this.#batch.payload(this.#index));
  }

  /** The payload, read as UTF-8. */
  text(): string | null {
    const payload = this.#batch.view(this.#index);
    return payload === null ? null : (payload as Buffer).toString();
  }

  /** What it is about; null is not the same as empty. */
  get key(): Uint8Array | null {
    return this.#batch.key(this.#index);
  }

  /** The application's own identity of it, 16 bytes. */
  get id(): Uint8Array | null {
    return this.#batch.id(this.#index);
  }

  /** Its headers, in order. An i64 is a bigint, a u64 is `{ u64: bigint }`, an f64 is a number. */
  get headers(): Header[] {
    return this.#batch.headers(this.#index);
  }
}

/** Messages received together, in the order of their partitions. */
export class Messages implements Iterable<Message> {
  /** How many. */
  readonly length: number;
  /** Whether the end that `untilEnd` asked for is reached: no more will come. */
  readonly finished: boolean;
  readonly #batches: readonly Batch[];

  /** @internal */
  constructor(batches: readonly Batch[], finished: boolean) {
    this.#batches = batches;
    this.finished = finished;
    let length = 0;
    for (const batch of batches) {
      length += batch.length;
    }
    this.length = length;
  }

  #find(index: number): [Batch, number] | undefined {
    for (const batch of this.#batches) {
      if (index < batch.length) {
        return index < 0 ? undefined : [batch, index];
      }
      index -= batch.length;
    }
    return undefined;
  }

  /** A message by its place. */
  at(index: number): Message | undefined {
    const found = this.#find(index);
    return found === undefined ? undefined : new Message(...found);
  }

  /** The payload of a message where it lies, whatever its size: it keeps the whole batch's memory. */
  view(index: number): Uint8Array | null | undefined {
    const found = this.#find(index);
    return found === undefined ? undefined : found[0].view(found[1]);
  }

  *[Symbol.iterator](): IterableIterator<Message> {
    for (const batch of this.#batches) {
      for (let index = 0; index < batch.length; index++) {
        yield new Message(batch, index);
      }
    }
  }

  /** All of them as an array. */
  toArray(): Message[] {
    return [...this];
  }
}
