/**
 * The native module: its shape, and how it is found. It is loaded by the first call that needs it, once per environment.
 *
 * Nothing outside `src/` sees these types.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";

import { PLATFORMS, platform } from "./platforms";

export interface NativeOperation {
  cancel(): void;
}

export interface NativeQueue {
  hold(hold: boolean): void;
  drain(max: number): unknown[];
  connect(options: object, token: number): NativeOperation;
}

export interface NativeClient {
  call(operation: string, args: object, token: number): NativeOperation;
  serverInfo(): unknown;
  producer(topic: string, options: object, token: number): NativeOperation;
  consumer(topic: string, options: object, token: number): NativeOperation;
  groupConsumer(group: string, topics: readonly string[], options: object, token: number): NativeOperation;
  close(timeoutMs: number, token: number): NativeOperation;
}

/** payload, key, headers as name, kind and value, timestamp, id, partition, sequence. */
export type NativeMessage = [
  Uint8Array | null,
  Uint8Array | null,
  unknown[] | null,
  bigint | null,
  Uint8Array | null,
  number | null,
  bigint | null,
];

export interface NativeDelivery {
  wait(token: number): NativeOperation;
}

export interface NativeProducer {
  readonly topic: string;
  readonly partitionCount: number;
  trySendPayload(payload: Uint8Array, token: number): boolean;
  trySend(message: NativeMessage, token: number): boolean;
  enqueue(message: NativeMessage, token: number): NativeOperation;
  sendBatch(messages: NativeMessage[], token: number): NativeOperation;
  sendPacked(payloads: Uint8Array, lengths: Uint32Array, token: number): NativeOperation;
  flush(token: number): NativeOperation;
  close(timeoutMs: number, token: number): NativeOperation;
}

export interface NativeBatch {
  readonly topic: string;
  readonly partition: number;
  readonly baseOffset: bigint;
  readonly appendTimeUs: bigint;
  body(): ArrayBuffer;
  table(): ArrayBuffer;
  headers(index: number): unknown[];
}

export interface NativeTaken {
  readonly count: number;
  readonly more: boolean;
  readonly finished: boolean;
  batch(index: number): NativeBatch | null;
}

export interface NativeConsumer {
  readonly topic: string;
  readonly partitions: number[];
  arm(token: number): void;
  disarm(): void;
  take(maxMessages: number, maxBytes: number): NativeTaken;
  takeMessage(): number;
  current(): NativeBatch | null;
  seek(topic: string | undefined, partition: number, position: unknown): void;
  pause(topic: string | undefined, partition: number): void;
  resume(topic: string | undefined, partition: number): void;
  position(topic: string | undefined, partition: number): bigint | null;
  commit(token: number): NativeOperation;
  commitOffsets(offsets: unknown, token: number): NativeOperation;
  committed(topic: string, partition: number, token: number): NativeOperation;
  assignments(): unknown;
  nextChange(timeoutMs: number | undefined, token: number): NativeOperation;
  close(timeoutMs: number, token: number): NativeOperation;
}

export interface NativeLogs {
  drain(): unknown[];
  close(): void;
}

export interface NativeModule {
  version(): string;
  stats(): unknown;
  Queue: new (wake: () => void) => NativeQueue;
  Logs: new (level: string, wake: () => void) => NativeLogs;
}

const manifest = require("../package.json") as { name: string; version: string };

/** Says which package is missing on what, and what to do about it. */
function missing(here: string, name: string | undefined, cause: unknown): Error {
  const text =
    name === undefined
      ? `levada has no native module for ${here}. There are modules for: ${Object.keys(PLATFORMS).join(", ")}.`
      : `levada cannot load its native module for ${here}: the package ${name} (version ${manifest.version}) is not ` +
        "installed, or does not load. It is an optional dependency of levada. If the installation left optional " +
        "dependencies out (--omit=optional, --no-optional), or node_modules was made on another platform, remove " +
        `node_modules and the lock file and install again; or install it by name: npm install ${name}@${manifest.version}`;
  return Object.assign(new Error(text, { cause }), { code: "LEVADA_NATIVE_MISSING" });
}

function find(): NativeModule {
  // A repository's own build, which is in no package.
  const own = join(__dirname, "..", "build", "levada.node");
  if (existsSync(own)) {
    return require(own) as NativeModule;
  }
  const here = platform();
  const suffix = PLATFORMS[here];
  const name = suffix === undefined ? undefined : `@levada/native-${suffix}`;
  if (name === undefined) {
    throw missing(here, name, undefined);
  }
  try {
    return require(name) as NativeModule;
  } catch (cause) {
    throw missing(here, name, cause);
  }
}

let loaded: NativeModule | undefined;

/** The native module, of the same version as this package. */
export function native(): NativeModule {
  if (loaded === undefined) {
    const found = find();
    if (found.version() !== manifest.version) {
      throw new Error(
        `levada ${manifest.version} has found a native module of version ${found.version()}: install both anew, so ` +
          "that they are of one version",
      );
    }
    loaded = found;
  }
  return loaded;
}
