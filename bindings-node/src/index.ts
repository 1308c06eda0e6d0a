/** Levada for Node: durable message streams. */

export type { CallOptions } from "./calls";
export { Client, connect } from "./client";
export { Consumer, type OffsetToCommit, type ReceiveBatchOptions } from "./consumer";
export { AbortError } from "./failures";
export {
  Admin,
  LevadaAuthError,
  LevadaCancelledError,
  LevadaClosedError,
  LevadaConflictError,
  LevadaConnectionError,
  LevadaCorruptError,
  LevadaError,
  LevadaFencedError,
  LevadaForkedError,
  LevadaInternalError,
  LevadaNotFoundError,
  LevadaProtocolError,
  LevadaQuotaError,
  LevadaTimeoutError,
  LevadaUnavailableError,
  LevadaUnsupportedError,
  LevadaUsageError,
} from "./generated";
export type * from "./generated";
export { onLog, type LogRecord } from "./logs";
export { Message, Messages, type Header, type Headers, type HeaderValue, type OutgoingMessage } from "./message";
export { Delivery, Producer, type Sendable } from "./producer";
export { stats, type Stats } from "./stats";
