// Throughput with batch calls, every payload read, and latency one message at a time; one JSON object on standard output.
//
//   node bench/bench.mjs [--messages 200000] [--size 1024] [--batch 1000] [--in-flight 8] [--singles 2000] [--durability disk]
//
// The server and credentials are discovered as by any client: LEVADA_SERVER and LEVADA_TOKEN_FILE.

import { parseArgs } from "node:util";

import { connect } from "../esm/index.mjs";

const { values } = parseArgs({
  options: {
    messages: { type: "string", default: "200000" },
    size: { type: "string", default: "1024" },
    batch: { type: "string", default: "1000" },
    "in-flight": { type: "string", default: "8" },
    singles: { type: "string", default: "2000" },
    durability: { type: "string", default: "memory" },
  },
});
const [messages, size, batch, inFlight, singles] = ["messages", "size", "batch", "in-flight", "singles"].map((name) =>
  Number(values[name]),
);

const client = await connect();
const topic = `bench/node-${process.pid}`;
await client.admin.createTopic(topic, { durability: values.durability });

const seconds = (from) => (performance.now() - from) / 1000;
const rate = (count, elapsed) => ({
  messages_per_second: Math.round(count / elapsed),
  mib_per_second: Math.round((count * size) / elapsed / 1048576),
});

async function produce() {
  const producer = await client.producer(topic);
  const payloads = Array.from({ length: batch }, (_, n) => Buffer.alloc(size, n));
  const started = performance.now();
  const under = new Set();
  for (let sent = 0; sent < messages; sent += batch) {
    const send = producer.sendBatch(payloads).then(() => under.delete(send));
    under.add(send);
    if (under.size >= inFlight) await Promise.race(under);
  }
  await Promise.all(under);
  const elapsed = seconds(started);
  await producer.close();
  return rate(messages, elapsed);
}

/** `read` makes use of each message of a batch and returns how many bytes it saw. */
async function consume(read) {
  const consumer = await client.consumer(topic, { from: "earliest" });
  let count = 0;
  let bytes = 0;
  const started = performance.now();
  while (count < messages) {
    const received = await consumer.receiveBatch({ maxMessages: 10_000, timeoutMs: 10_000 });
    bytes += read(received);
    count += received.length;
  }
  const elapsed = seconds(started);
  await consumer.close();
  if (bytes !== messages * size) throw new Error(`${bytes} bytes instead of ${messages * size}`);
  return rate(count, elapsed);
}

let touched = 0;

const readers = {
  payloads(received) {
    let bytes = 0;
    for (const message of received) {
      const { payload } = message;
      touched ^= payload[0];
      bytes += payload.length;
    }
    return bytes;
  },
  views(received) {
    let bytes = 0;
    for (let index = 0; index < received.length; index++) {
      const view = received.view(index);
      touched ^= view[0];
      bytes += view.length;
    }
    return bytes;
  },
};

async function iterate() {
  const consumer = await client.consumer(topic, { from: "earliest" });
  let count = 0;
  const started = performance.now();
  for await (const { payload } of consumer) {
    touched ^= payload[0];
    if (++count === messages) break;
  }
  const elapsed = seconds(started);
  await consumer.close();
  return rate(count, elapsed);
}

const quantiles = (times) => {
  times.sort((a, b) => a - b);
  const at = (share) => Math.round(times[Math.min(times.length - 1, Math.floor(times.length * share))] * 1000);
  return { p50_us: at(0.5), p99_us: at(0.99) };
};

async function sendSingles() {
  const producer = await client.producer(topic);
  const payload = Buffer.alloc(size);
  const times = [];
  for (let n = 0; n < singles; n++) {
    const started = performance.now();
    await producer.send(payload);
    times.push(performance.now() - started);
  }
  await producer.close();
  return quantiles(times);
}

const result = { client: "node", runtime: process.version, messages, size, batch, in_flight: inFlight, durability: values.durability };
result.produce = await produce();
result.consume = await consume(readers.payloads);
result.consume_views = await consume(readers.views);
result.iterate = await iterate();
result.send_one = await sendSingles();
result.touched = touched;
await client.admin.deleteTopic(topic);
await client.close();
console.log(JSON.stringify(result));
