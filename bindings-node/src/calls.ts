/**
 * Calls under way in this environment: each has a token, its event settles it, and together they hold the process.
 *
 * One native queue per environment. Its wake is unref'd, and ref'd exactly while a call, a receive or an unacknowledged message
 * exists: a script ends by itself once nothing is under way, and an idle client does not keep it.
 */

import { failureOf, givenUp, type NativeFailure } from "./failures";
import { native, type NativeOperation, type NativeQueue } from "./native";

/** How a call may be given up by its caller. */
export interface CallOptions {
  /** Gives the call up: it fails with an `AbortError` whose `cause` is the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Gives the call up after that many milliseconds: it fails with CLIENT_TIMEOUT. Absent: no limit of the call's own. */
  timeoutMs?: number | undefined;
}

/** Why a caller gives up. */
export type GiveUp = { kind: "abort"; reason: unknown } | { kind: "timeout"; timeoutMs: number };

/** What is done with an event: exactly one of the arguments is there. */
type Settle = (failure: NativeFailure | undefined, value: unknown) => void;

/** Events handled before other work of the event loop has its turn. */
const DRAIN_MAX = 1024;

const DONE = 0;
const ACKED = 1;

class Environment {
  readonly queue: NativeQueue;
  readonly #waiting = new Map<number, Settle>();
  #next = 1;
  #held = 0;

  constructor() {
    this.queue = new (native().Queue)(() => this.#drain());
  }

  /** Something is under way: the process stays. Returns its token. */
  add(settle: Settle): number {
    const token = this.#next++;
    this.#waiting.set(token, settle);
    if (this.#held++ === 0) {
      this.queue.hold(true);
    }
    return token;
  }

  /** It is under way no more. */
  remove(token: number): boolean {
    if (!this.#waiting.delete(token)) {
      return false;
    }
    if (--this.#held === 0) {
      this.queue.hold(false);
    }
    return true;
  }

  get underWay(): number {
    return this.#held;
  }

  #settle(token: number, failure: NativeFailure | undefined, value: unknown): void {
    const settle = this.#waiting.get(token);
    // A call that was given up before its event came has left.
    if (settle !== undefined) {
      this.remove(token);
      settle(failure, value);
    }
  }

  #drain(): void {
    const events = this.queue.drain(DRAIN_MAX);
    for (let at = 0; at < events.length; at += 4) {
      const failure = events[at + 2] as NativeFailure | undefined;
      const value = events[at + 3];
      if (events[at] === ACKED) {
        const tokens = events[at + 1] as Float64Array;
        for (let index = 0; index < tokens.length; index++) {
          this.#settle(tokens[index] as number, failure, failure ?? { receipt: value, index });
        }
      } else {
        this.#settle(events[at + 1] as number, failure, events[at] === DONE ? value : undefined);
      }
    }
    // The wake comes only for a queue that was empty: what is left behind is fetched without it.
    if (events.length === DRAIN_MAX * 4) {
      setImmediate(() => this.#drain());
    }
  }
}

let made: Environment | undefined;

/** The environment's calls. */
export function environment(): Environment {
  made ??= new Environment();
  return made;
}

/** How many calls are under way. */
export function underWay(): number {
  return made?.underWay ?? 0;
}

/** Who listens to a signal: it has one listener of ours, however many calls share it. */
const listeners = new WeakMap<AbortSignal, Set<() => void>>();

function listen(signal: AbortSignal, onAbort: () => void): void {
  const known = listeners.get(signal);
  if (known !== undefined) {
    known.add(onAbort);
    return;
  }
  const all = new Set([onAbort]);
  listeners.set(signal, all);
  signal.addEventListener("abort", () => {
    for (const each of all) {
      each();
    }
  });
}

/** Calls `giveUp` once, when the signal is aborted or the time has passed; returns how to stop watching. */
export function watch(options: CallOptions, giveUp: (why: GiveUp) => void): (() => void) | undefined {
  const { signal, timeoutMs } = options;
  if (signal === undefined && timeoutMs === undefined) {
    return undefined;
  }
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    stop();
    giveUp({ kind: "abort", reason: signal?.reason });
  };
  const stop = () => {
    if (signal !== undefined) {
      listeners.get(signal)?.delete(onAbort);
    }
    clearTimeout(timer);
  };
  if (signal !== undefined) {
    listen(signal, onAbort);
  }
  if (timeoutMs !== undefined) {
    timer = setTimeout(
      () => {
        stop();
        giveUp({ kind: "timeout", timeoutMs });
      },
      // A longer timer would fire at once.
      Math.min(timeoutMs, 0x7fffffff),
    );
  }
  return stop;
}

/** Fails if the caller has given up before the call. */
export function throwIfAborted(options: CallOptions): void {
  if (options.signal?.aborted) {
    throw givenUp({ kind: "abort", reason: options.signal.reason }, false);
  }
}

const CANCELLED = 60005;

/**
 * Starts an operation and waits for its event. Giving up cancels it, and then its event tells whether it may have been
 * applied; if it has ended already, its own outcome stands.
 */
export function call<T>(
  start: (queue: NativeQueue, token: number) => NativeOperation,
  convert: (value: unknown) => T,
  options: CallOptions = {},
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    throwIfAborted(options);
    const calls = environment();
    let why: GiveUp | undefined;
    let stop: (() => void) | undefined;
    const token = calls.add((failure, value) => {
      // What it was called on must not be collected, and thereby dropped, before the call has ended.
      void start;
      stop?.();
      if (failure === undefined) {
        try {
          resolve(convert(value));
        } catch (error) {
          reject(error);
        }
      } else if (why !== undefined && failure.number === CANCELLED) {
        reject(givenUp(why, failure.maybeApplied));
      } else {
        reject(failureOf(failure));
      }
    });
    try {
      const operation = start(calls.queue, token);
      stop = watch(options, (reason) => {
        why = reason;
        operation.cancel();
      });
    } catch (error) {
      calls.remove(token);
      throw failureOf(error);
    }
  });
}

/** Runs a call that answers at once. */
export function now<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw failureOf(error);
  }
}
