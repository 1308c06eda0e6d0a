/** Live handles, for those who look for leaks. */

import { now, underWay } from "./calls";
import { native } from "./native";

/** Live handles of the core in this process, and calls under way in this environment. */
export interface Stats {
  clients: number;
  producers: number;
  consumers: number;
  operations: number;
  queues: number;
  underWay: number;
}

/** See {@link Stats}. */
export function stats(): Stats {
  const counted = now(() => native().stats()) as Record<string, bigint>;
  const numbers = Object.fromEntries(Object.entries(counted).map(([name, count]) => [name, Number(count)]));
  return { ...numbers, underWay: underWay() } as Stats;
}
