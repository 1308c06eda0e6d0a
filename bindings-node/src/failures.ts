/** Errors: from what the native module tells to instances of the generated classes. */

import type { GiveUp } from "./calls";
import { LevadaError, errorOf, LevadaCancelledError } from "./generated";

/** An error as the native module tells it. */
export interface NativeFailure {
  number: number;
  name: string;
  class: string;
  retriable: boolean;
  maybeApplied: boolean;
  retryAfterMs: number;
  message: string;
  details: Record<string, string>;
}

/** The call was given up through its `AbortSignal`; `cause` is the signal's reason. */
export class AbortError extends LevadaCancelledError {
  constructor(reason: unknown, maybeApplied: boolean) {
    super({
      number: 60005,
      name: "CANCELLED",
      class: "cancelled",
      retriable: false,
      maybeApplied,
      retryAfterMs: 0,
      message: "the call was aborted",
      details: {},
    });
    this.cause = reason;
  }

  override get name(): string {
    return "AbortError";
  }
}

function isFailure(error: unknown): error is NativeFailure {
  return typeof error === "object" && error !== null && !(error instanceof Error) && "number" in error;
}

/** The error for a caller, whatever was thrown. */
export function failureOf(error: unknown): Error {
  if (isFailure(error)) {
    return errorOf(error);
  }
  if (error instanceof LevadaError) {
    return error;
  }
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "GenericFailure") {
    // A panic that was caught at the boundary.
    return Object.assign(internal(message), { cause: error });
  }
  if (typeof code === "string" && code.endsWith("Expected") || code === "InvalidArg") {
    return Object.assign(usage("", message), { cause: error });
  }
  return error instanceof Error ? error : internal(message);
}

/** The error of a call that was given up. */
export function givenUp(why: GiveUp, maybeApplied: boolean): Error {
  if (why.kind === "abort") {
    return new AbortError(why.reason, maybeApplied);
  }
  return errorOf({
    number: 60003,
    name: "CLIENT_TIMEOUT",
    class: "timeout",
    retriable: true,
    maybeApplied,
    retryAfterMs: 0,
    message: `no answer within ${why.timeoutMs} ms`,
    details: {},
  });
}

/** A wrong argument, found before it could be handed to the core. */
export function usage(argument: string, message: string): Error {
  return errorOf({
    number: 60000,
    name: "CLIENT_USAGE",
    class: "usage",
    retriable: false,
    maybeApplied: false,
    retryAfterMs: 0,
    message,
    details: argument === "" ? {} : { argument },
  });
}

/** A receive while another is under way on the same consumer. */
export function concurrent(): Error {
  return errorOf({
    number: 60011,
    name: "CONCURRENT_CALL",
    class: "conflict",
    retriable: false,
    maybeApplied: false,
    retryAfterMs: 0,
    message: "another receive is under way on this consumer",
    details: {},
  });
}

function internal(message: string): Error {
  return errorOf({
    number: 60012,
    name: "CLIENT_INTERNAL",
    class: "internal",
    retriable: false,
    maybeApplied: true,
    retryAfterMs: 0,
    message,
    details: {},
  });
}
