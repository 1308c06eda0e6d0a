/** The log of the client core, for those who ask for it. */

import { now } from "./calls";
import { native } from "./native";

/** Something the core has to tell. */
export interface LogRecord {
  level: "error" | "warn" | "info" | "debug" | "trace";
  /** Part of the core it comes from. */
  target: string;
  message: string;
  /** In microseconds since the Unix epoch. */
  timestampUs: bigint;
}

/**
 * Calls `listener` for what the core logs from now on in this process, at `level` (default "warn") and above. Does not keep the
 * process alive. Returns how to stop.
 */
export function onLog(listener: (record: LogRecord) => void, options: { level?: LogRecord["level"] } = {}): () => void {
  const logs = now(
    () =>
      new (native().Logs)(options.level ?? "warn", () => {
        const flat = logs.drain();
        for (let at = 0; at < flat.length; at += 4) {
          listener({
            level: flat[at] as LogRecord["level"],
            target: flat[at + 1] as string,
            message: flat[at + 2] as string,
            timestampUs: flat[at + 3] as bigint,
          });
        }
      }),
  );
  return () => logs.close();
}
