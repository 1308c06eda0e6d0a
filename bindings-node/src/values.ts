/** Values on their way to the core: names are camelCase here and snake_case there. */

import { usage } from "./failures";
import type { Position } from "./generated";

const toSnake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** A position as the core reads it. */
export function position(value: Position): unknown {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  const [[kind, at] = ["", undefined], ...others] = Object.entries(value);
  if (others.length === 0) {
    switch (kind) {
      case "offset":
      case "last":
        return { kind, value: at };
      case "timestampUs":
        return { kind: "timestamp", value: at };
      case "timestamp":
        if (at instanceof Date) {
          return { kind, value: BigInt(at.getTime()) * 1000n };
        }
    }
  }
  throw usage(
    "position",
    'a position is "earliest", "latest", "stored", { offset }, { last }, { timestampUs } or { timestamp: Date }',
  );
}

function option(name: string, value: unknown): unknown {
  if (value === undefined) {
    return undefined;
  }
  switch (name) {
    case "from":
    case "before":
    case "position":
      return position(value as Position);
    case "partitionFrom":
      return Object.fromEntries(
        Object.entries(value as object).map(([partition, from]) => [partition, position(from as Position)]),
      );
    case "options":
    case "changes":
    case "quota":
      return options(value as object);
    default:
      return value;
  }
}

/** Options or arguments under the names the core knows. One in snake_case is passed on under a name it does not know. */
export function options(given: object | undefined): Record<string, unknown> {
  const named: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given ?? {})) {
    named[name.includes("_") ? `${name} (names are camelCase)` : toSnake(name)] = option(name, value);
  }
  return named;
}
