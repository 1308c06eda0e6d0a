// Until `cargo xtask codegen` writes this file. Others use of it: the option and record types, LevadaError and its classes,
// errorOf(NativeFailure), Admin (constructed with how to call), Position.

import type { CallOptions } from "./calls";
import type { NativeFailure } from "./failures";

export type Durability = "memory" | "disk" | "quorum";
export type Position = "earliest" | "latest" | { offset: bigint | number } | { last: bigint | number } | { timestampUs: bigint } | { timestamp: Date };
export interface ClientOptions { [name: string]: unknown }
export interface ProducerOptions { [name: string]: unknown }
export interface ConsumerOptions { [name: string]: unknown }
export interface ServerInfo { serverVersion: string }
export interface Receipt { partition: number; offset: bigint | null; appendTimeUs: bigint; durability: Durability; duplicate: boolean; serverEncoded: boolean }
export interface BatchReceipt { partition: number; baseOffset: bigint | null; messageCount: number; appendTimeUs: bigint; durability: Durability; duplicate: boolean; serverEncoded: boolean }

export class LevadaError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly class: string;
  readonly retriable: boolean;
  readonly maybeApplied: boolean;
  readonly retryAfterMs: number;
  readonly details: Readonly<Record<string, string>>;
  constructor(failure: NativeFailure) {
    super(failure.message);
    this.code = `LEVADA_${failure.name}`;
    this.errno = failure.number;
    this.class = failure.class;
    this.retriable = failure.retriable;
    this.maybeApplied = failure.maybeApplied;
    this.retryAfterMs = failure.retryAfterMs;
    this.details = failure.details;
  }
  override get name(): string { return this.constructor.name; }
}
export class LevadaUsageError extends LevadaError {}
export class LevadaNotFoundError extends LevadaError {}
export class LevadaTimeoutError extends LevadaError {}
export class LevadaCancelledError extends LevadaError {}
export class LevadaClosedError extends LevadaError {}
export class LevadaConflictError extends LevadaError {}
const classes: Record<string, typeof LevadaError> = { usage: LevadaUsageError, not_found: LevadaNotFoundError, timeout: LevadaTimeoutError, cancelled: LevadaCancelledError, closed: LevadaClosedError, conflict: LevadaConflictError };
export function errorOf(failure: NativeFailure): LevadaError { return new (classes[failure.class] ?? LevadaError)(failure); }

export class Admin {
  readonly #call: (operation: string, args: Record<string, unknown>, options?: CallOptions) => Promise<unknown>;
  constructor(call: (operation: string, args: Record<string, unknown>, options?: CallOptions) => Promise<unknown>) { this.#call = call; }
  createTopic(topic: string, options: Record<string, unknown> = {}, callOptions?: CallOptions): Promise<unknown> {
    return this.#call("create_topic", { topic, options: Object.fromEntries(Object.entries(options).map(([k, v]) => [k.replace(/[A-Z]/g, (l) => `_${l.toLowerCase()}`), v])) }, callOptions);
  }
  deleteTopic(topic: string, callOptions?: CallOptions): Promise<unknown> { return this.#call("delete_topic", { topic }, callOptions); }
  createStream(stream: string, callOptions?: CallOptions): Promise<unknown> { return this.#call("create_stream", { stream }, callOptions); }
  listStreams(callOptions?: CallOptions): Promise<unknown> { return this.#call("list_streams", {}, callOptions); }
  describeTopic(topic: string, callOptions?: CallOptions): Promise<unknown> { return this.#call("describe_topic", { topic }, callOptions); }
}
