#!/usr/bin/env node
// Conformance adapter of the npm package levada: conformance/adapter-protocol.md. `--module cjs` loads it with require.

import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const useRequire = process.argv.includes("cjs");
const packagePath = "../../../bindings-node/";
const levada = useRequire ? require(`${packagePath}dist/index.js`) : await import(`${packagePath}esm/index.mjs`);
const { version } = require(`${packagePath}package.json`);

const FEATURES = [
  "core", "admin", "lifecycle", "names", "sequences", "users", "access", "produce", "enqueue", "send_batch", "consume", "seek", "pause", "groups", "cancel",
  "lz4", "zstd", "idempotent", "reconnect", "password", "tls", "discovery", "retry",
];

// ---------------------------------------------------------------- values

const toCamel = (name) => name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase());
const toSnake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const base64 = (bytes) => (bytes === null ? null : Buffer.from(bytes).toString("base64"));

/** A record of the client as the protocol writes it. */
function snake(value) {
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Uint8Array) return base64(value);
  if (Array.isArray(value)) return value.map(snake);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [toSnake(name), snake(inner)]));
}

const MASK = (1n << 64n) - 1n;

function* words({ gen, seed, index }, by) {
  const first = BigInt(index ?? 0) + BigInt(by);
  let state = (BigInt(seed ?? 0) + first * 0xd1b54a32d192ed03n) & MASK;
  for (let k = 0n; ; k++) {
    if (gen === "zeros") yield 0n;
    else if (gen === "seq") yield (first + k) & MASK;
    else {
      state = (state + 0x9e3779b97f4a7c15n) & MASK;
      let z = state;
      z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
      z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
      yield z ^ (z >> 31n);
    }
  }
}

/** Bytes of an argument; `by` is added to the index of a generator. */
function bytes(value, by = 0) {
  if (value === null || value === undefined) return null;
  if (typeof value === "string") return Buffer.from(value, "base64");
  if (!["zeros", "seq", "random"].includes(value.gen)) throw new Fault(`no generator ${value.gen}`);
  const made = Buffer.alloc(Math.ceil(value.size / 8) * 8);
  if (value.gen !== "zeros") {
    const source = words(value, by);
    for (let at = 0; at < made.length; at += 8) made.writeBigUInt64LE(source.next().value, at);
  }
  return made.subarray(0, value.size);
}

const bits = new DataView(new ArrayBuffer(8));

function headerIn({ name, type, value }, by) {
  switch (type) {
    case "string": case "bool": return { name, value };
    case "bytes": return { name, value: bytes(value, by) };
    case "i64": return { name, value: BigInt(value) };
    case "u64": return { name, value: { u64: BigInt(value) } };
    case "f64":
      bits.setBigUint64(0, BigInt(`0x${value}`));
      return { name, value: bits.getFloat64(0) };
    default: throw new Fault(`no header type ${type}`);
  }
}

function headerOut({ name, value }) {
  switch (typeof value) {
    case "string": return { name, type: "string", value };
    case "boolean": return { name, type: "bool", value };
    case "bigint": return { name, type: "i64", value: value.toString() };
    case "number":
      bits.setFloat64(0, value);
      return { name, type: "f64", value: bits.getBigUint64(0).toString(16).padStart(16, "0") };
    default:
      if (value instanceof Uint8Array) return { name, type: "bytes", value: base64(value) };
      return { name, type: "u64", value: value.u64.toString() };
  }
}

function messageIn(message, by = 0) {
  return {
    payload: bytes(message.payload, by),
    key: bytes(message.key, by),
    headers: (message.headers ?? []).map((header) => headerIn(header, by)),
    timestampUs: message.timestamp_us == null ? null : BigInt(message.timestamp_us),
    id: bytes(message.id, by),
    partition: message.partition,
    sequence: message.sequence == null ? null : BigInt(message.sequence),
  };
}

function messagesIn(list) {
  return list.flatMap((message) => Array.from({ length: message.count ?? 1 }, (_, by) => messageIn(message, by)));
}

function payloadOut(payload) {
  if (payload === null) return null;
  const sha256 = createHash("sha256").update(payload).digest("hex");
  return { length: payload.length, sha256, first: base64(payload.subarray(0, 64)) };
}

function messageOut(message) {
  const { topic, partition, offset, timestampUs, appendTimeUs, payload, key, headers, id } = message;
  const times = { offset: `${offset}`, timestamp_us: `${timestampUs}`, append_time_us: `${appendTimeUs}` };
  const parts = { payload: payloadOut(payload), key: base64(key), headers: headers.map(headerOut), id: base64(id) };
  return { topic, partition, ...times, ...parts };
}

/** `offset(5)` as this language writes it. */
function position(text) {
  const [, kind, value] = /^(offset|timestamp|last)\((\d+)\)$/.exec(text) ?? [];
  return kind === undefined ? text : { [kind === "timestamp" ? "timestampUs" : kind]: BigInt(value) };
}

function optionValue(name, value) {
  if (name === "from") return position(value);
  if (name === "partition_from") return Object.fromEntries(Object.entries(value).map(([n, from]) => [n, position(from)]));
  return typeof value === "string" && /^-?\d+$/.test(value) && !TEXTS.has(name) ? BigInt(value) : value;
}

/** Options whose text may consist of digits. */
const TEXTS = new Set([
  "server", "user", "password", "token", "token_file", "context", "tls_server_name", "client_name", "group", "instance",
]);

function options(given) {
  const set = Object.entries(given ?? {}).filter(([, value]) => value !== null);
  return Object.fromEntries(set.map(([name, value]) => [toCamel(name), optionValue(name, value)]));
}

/** The adapter's own fault, not the client's. */
class Fault extends Error {}

function names(error) {
  const list = [];
  for (let type = error.constructor; type?.name; type = Object.getPrototypeOf(type)) list.push(type.name);
  return list;
}

function failure(error) {
  if (!(error instanceof levada.LevadaError)) {
    return { code: 0, name: "", class: "", message: String(error.message), native: names(error) };
  }
  return {
    code: error.errno,
    name: error.code.replace(/^LEVADA_/, ""),
    class: error.class,
    retriable: error.retriable,
    maybe_applied: error.maybeApplied,
    message: error.message,
    details: error.details,
    native: names(error),
  };
}

// ---------------------------------------------------------------- operations

const handles = new Map();
const running = new Map();

function handle(name, type) {
  const found = handles.get(name);
  if (!(found instanceof type)) throw new Fault(`${name} is no ${type.name}`);
  return found;
}

const timeout = ({ timeout_ms: timeoutMs }) => (timeoutMs == null ? {} : { timeoutMs });
const value = (value) => ({ value: snake(value) });
const items = (list) => ({ items: snake(list) });
const nothing = () => ({});
const { Client, Consumer, Delivery, Producer } = levada;

/** Each is one call: the type it is called on, how, and what its result looks like. */
const OPERATIONS = {
  connect: [null, (_, a, o) => levada.connect(options(a.options), o), keep],
  close: [Client, (c, a) => c.close(timeout(a)), nothing],
  ping: [Client, (c, _, o) => c.ping(o), (ms) => ({ value: Math.round(ms * 1000) })],
  server_info: [Client, (c) => c.serverInfo(), snake],
  "stream.create": [Client, (c, a, o) => c.admin.createStream(a.stream, o), snake],
  "stream.delete": [Client, (c, a, o) => c.admin.deleteStream(a.stream, { topics: a.topics ?? false }, o), value],
  "stream.list": [Client, (c, _, o) => c.admin.listStreams(o), items],
  "stream.describe": [Client, (c, a, o) => c.admin.describeStream(a.stream, o), snake],
  "topic.create": [Client, (c, a, o) => c.admin.createTopic(a.topic, options(a.options), o), snake],
  "topic.alter": [Client, (c, a, o) => c.admin.alterTopic(a.topic, options(a.changes), o), snake],
  "topic.delete": [Client, (c, a, o) => c.admin.deleteTopic(a.topic, o), nothing],
  "topic.purge": [Client, (c, a, o) => c.admin.purgeTopic(a.topic, o), nothing],
  "topic.list": [Client, (c, a, o) => c.admin.listTopics({ stream: a.stream }, o), items],
  "topic.describe": [Client, (c, a, o) => c.admin.describeTopic(a.topic, o), snake],
  "topic.trim": [Client, (c, a, o) => c.admin.deleteMessages(a.partition, position(a.before), o), snake],
  "topic.set_segment_age": [Client, (c, a, o) => c.admin.setSegmentAge(a.topic, { segmentAgeUs: a.segment_age_us == null ? null : BigInt(a.segment_age_us) }, o), nothing],
  "topic.set_dedup_messages": [Client, (c, a, o) => c.admin.setDedupMessages(a.topic, { dedupMessages: a.dedup_messages ?? null }, o), nothing],
  "topic.producer_progress": [Client, (c, a, o) => c.admin.producerProgress(a.name, a.partition, o), snake],
  "position.resolve": [Client, (c, a, o) => c.admin.resolvePosition(a.partition, position(a.position), o), snake],
  "user.create": [Client, (c, a, o) => c.admin.createUser(a.user, a.password, a.role, { grants: a.grants ?? undefined }, o), snake],
  "user.alter": [Client, (c, a, o) => c.admin.alterUser(a.user, { password: a.password, role: a.role }, o), snake],
  "user.delete": [Client, (c, a, o) => c.admin.deleteUser(a.user, o), nothing],
  "user.list": [Client, (c, _, o) => c.admin.listUsers(o), items],
  "user.describe": [Client, (c, a, o) => c.admin.describeUser(a.user, o), snake],
  "token.create": [Client, (c, a, o) => c.admin.createToken(a.name, { user: a.user, expiresAtUs: a.expires_at_us == null ? null : BigInt(a.expires_at_us), scope: a.scope }, o), snake],
  "token.delete": [Client, (c, a, o) => c.admin.deleteToken(a.name, { user: a.user }, o), nothing],
  "token.list": [Client, (c, a, o) => c.admin.listTokens({ user: a.user }, o), items],
  "access.set": [Client, (c, a, o) => c.admin.setAccess(a.user, { roles: a.roles ?? undefined, grants: a.grants ?? undefined }, o), nothing],
  "access.describe": [Client, (c, a, o) => c.admin.describeAccess({ user: a.user }, o), snake],
  "role.set": [Client, (c, a, o) => c.admin.setRole(a.role, a.grants, o), nothing],
  "role.delete": [Client, (c, a, o) => c.admin.deleteRole(a.role, o), nothing],
  "role.list": [Client, (c, _, o) => c.admin.listRoles(o), items],
  "quota.set": [Client, (c, a, o) => c.admin.setQuota(a.user, options(a.quota), o), nothing],
  "quota.describe": [Client, (c, a, o) => c.admin.describeQuota({ user: a.user }, o), snake],
  status: [Client, (c, _, o) => c.admin.status(o), snake],
  "group.list": [Client, (c, _, o) => c.admin.listGroups(o), items],
  "group.describe": [Client, (c, a, o) => c.admin.describeGroup(a.group, o), snake],
  "group.delete": [Client, (c, a, o) => c.admin.deleteGroup(a.group, o), nothing],
  "group.offsets": [Client, (c, a, o) => c.admin.groupOffsets(a.group, { topics: a.topics }, o), items],
  "group.reset_offsets": [
    Client,
    (c, a, o) => c.admin.resetOffsets(a.group, a.topics, position(a.position), { partition: a.partition, dryRun: a.dry_run ?? false }, o),
    items,
  ],
  "producer.open": [Client, (c, a, o) => c.producer(a.topic, options(a.options), o), keep],
  "producer.send": [Producer, (p, a, o) => p.send(messageIn(a.message), o), snake],
  "producer.enqueue": [Producer, (p, a, o) => p.enqueue(messageIn(a.message), o), keep],
  "delivery.wait": [Delivery, (d, _, o) => d.wait(o), snake],
  "producer.send_batch": [Producer, (p, a, o) => p.sendBatch(messagesIn(a.messages), o), (r) => ({ receipts: snake(r) })],
  "producer.flush": [Producer, (p, _, o) => p.flush(o), nothing],
  "producer.close": [Producer, (p, a) => p.close(timeout(a)), nothing],
  "consumer.open": [Client, (c, a, o) => c.consumer(a.topic, options(a.options), o), keep],
  "group.open": [Client, (c, a, o) => c.groupConsumer(a.group, a.topics, options(a.options), o), keep],
  "consumer.receive": [
    Consumer,
    (k, a, o) => k.receive({ ...timeout(a), ...o }),
    (message) => (message === null ? { message: null, finished: true } : { message: messageOut(message) }),
  ],
  "consumer.receive_batch": [
    Consumer,
    (k, a, o) => k.receiveBatch({ maxMessages: size(a.max_messages), maxBytes: size(a.max_bytes), ...timeout(a), ...o }),
    (messages) => ({ messages: [...messages].map(messageOut), finished: messages.finished }),
  ],
  "consumer.seek": [Consumer, (k, a) => k.seek(a.partition, position(a.position), a.topic), nothing],
  "consumer.position": [Consumer, (k, a) => k.position(a.partition, a.topic), value],
  "consumer.pause": [Consumer, (k, a) => k.pause(a.partition, a.topic), nothing],
  "consumer.resume": [Consumer, (k, a) => k.resume(a.partition, a.topic), nothing],
  "consumer.commit": [Consumer, (k, _, o) => k.commit(o), nothing],
  "consumer.commit_offsets": [Consumer, (k, a, o) => k.commitOffsets(a.offsets.map(offsetIn), o), nothing],
  "consumer.committed": [Consumer, (k, a, o) => k.committed(a.topic, a.partition, o), value],
  "consumer.assignments": [Consumer, (k) => k.assignments(), items],
  "consumer.next_change": [Consumer, (k, a, o) => k.nextChange({ ...timeout(a), ...o }), (change) => ({ change: snake(change) })],
  "consumer.close": [Consumer, (k, a) => k.close(timeout(a)), nothing],
};

function offsetIn({ topic, partition, offset }) {
  return { topic, partition, offset: BigInt(offset) };
}

function size(count) {
  return count == null ? undefined : Number(count);
}

function keep(made, as) {
  if (typeof as !== "string") throw new Fault("this makes a handle: `as` names it");
  handles.set(as, made);
  return {};
}

async function operate({ id, op, on, as, args = {}, announce }) {
  const [type, run, show] = OPERATIONS[op] ?? [];
  if (run === undefined) {
    reply({ id, unsupported: op });
    return;
  }
  const controller = new AbortController();
  const done = Promise.withResolvers?.() ?? withResolvers();
  running.set(id, { controller, done: done.promise });
  try {
    const target = type === null ? undefined : handle(on, type);
    const result = Promise.resolve(run(target, args, { signal: controller.signal }));
    if (announce) setImmediate(() => reply({ id, started: true }));
    const [outcome] = await Promise.all([result, announce && new Promise(setImmediate)]);
    reply({ id, ok: show(outcome, as) ?? {} });
  } catch (error) {
    if (announce) await new Promise(setImmediate);
    if (error instanceof Fault) reply({ id, adapter_error: error.message });
    else if (error.name === "AbortError") reply({ id, cancelled: true, err: failure(error) });
    else reply({ id, err: failure(error) });
  } finally {
    running.delete(id);
    done.resolve();
  }
}

function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve) => (made.resolve = resolve));
  return made;
}

async function reset() {
  const all = [...running.values()];
  for (const { controller } of all) controller.abort();
  await Promise.all(all.map(({ done }) => done));
  const clients = [...handles.values()].filter((made) => made instanceof Client);
  handles.clear();
  await Promise.all(clients.map((client) => client.close({ timeoutMs: 2000 }).catch(() => {})));
}

function stats() {
  const count = (type) => [...handles.values()].filter((made) => made instanceof type).length;
  const counts = { clients: count(Client), producers: count(Producer), consumers: count(Consumer), deliveries: count(Delivery) };
  return { handles: counts, in_flight: running.size };
}

async function command(line) {
  const { id, op, args, ...rest } = JSON.parse(line);
  switch (op) {
    case "hello": {
      const api = useRequire ? "cjs" : "esm";
      const runtime = `Node ${process.versions.node}`;
      const about = { client: "levada-node", client_version: version, language: "node", runtime, api };
      return reply({ id, ok: { adapter_protocol: [1], ...about, features: FEATURES, wire_versions: [1, 2], pid: process.pid } });
    }
    case "cancel":
      running.get(args.target)?.controller.abort();
      return reply({ id, ok: {} });
    case "stats":
      return reply({ id, ok: stats() });
    case "reset":
      await reset();
      return reply({ id, ok: {} });
    case "shutdown":
      await reset();
      reply({ id, ok: {} });
      return input.close();
    default:
      return operate({ id, op, args: args ?? {}, ...rest });
  }
}

function reply(object) {
  process.stdout.write(`${JSON.stringify(object)}\n`);
}

const input = createInterface({ input: process.stdin, crlfDelay: Infinity });
input.on("line", (line) => {
  command(line).catch((error) => process.stderr.write(`${error.stack}\n`));
});
// Nothing else is left to do: a process that does not end now is the client's fault.
input.on("close", () => {
  process.stdin.destroy();
  void reset();
});
