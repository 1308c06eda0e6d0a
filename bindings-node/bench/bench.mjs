// What the binding costs: 1 KiB messages in batch calls with every payload read, and one message at a time.
//
//   node bench/bench.mjs --topic STREAM/TOPIC [--messages 500000] [--singles 2000] [--repeats 3]
//
// Prints one JSON object. The same phases in Rust are sdk-rust/examples/baseline.rs; run both against one server, one after the
// other, each on an empty topic. Server and credentials are discovered, as by any client.

import { parseArgs } from "node:util";

import { connect } from "../esm/index.mjs";

const { values } = parseArgs({
  options: {
    topic: { type: "string" },
    messages: { type: "string", default: "500000" },
    singles: { type: "string", default: "2000" },
    repeats: { type: "string", default: "3" },
  },
});
if (values.topic === undefined) throw new Error("--topic names an empty topic");
const [total, singles, repeats] = [values.messages, values.singles, values.repeats].map(Number);

const PAYLOAD = Buffer.from(Uint8Array.from({ length: 1024 }, (_, at) => at));
const BATCH = 1000;

const client = await connect();

function rate(count, milliseconds) {
  const perSecond = count / (milliseconds / 1000);
  const mib = (perSecond * PAYLOAD.length) / 2 ** 20;
  return { messages_per_s: Math.round(perSecond), mib_per_s: Number(mib.toFixed(1)), seconds: Number((milliseconds / 1000).toFixed(3)) };
}

async function timed(count, run) {
  const started = performance.now();
  const counted = await run();
  return rate(counted ?? count, performance.now() - started);
}

async function produce(result) {
  const producer = await client.producer(values.topic);
  const batch = Array(BATCH).fill(PAYLOAD);
  await producer.sendBatch(batch);
  result.send_batch = await timed(total, async () => {
    for (let sent = 0; sent < total; sent += BATCH) await producer.sendBatch(batch);
  });
  result.enqueue = await timed(total, async () => {
    for (let sent = 0; sent < total; sent++) await producer.enqueue(PAYLOAD);
    await producer.flush();
  });
  const samples = [];
  for (let n = 0; n < singles; n++) {
    const started = performance.now();
    await producer.send(PAYLOAD);
    samples.push(performance.now() - started);
  }
  samples.sort((a, b) => a - b);
  const share = (percent) => Number((samples[Math.floor((samples.length * percent) / 100)] * 1000).toFixed(1));
  result.send_one = { p50_us: share(50), p90_us: share(90), p99_us: share(99) };
  await producer.close();
}

/** Reads the topic to its end; the fastest of some times. */
async function consume(read) {
  let best;
  for (let n = 0; n < repeats; n++) {
    const consumer = await client.consumer(values.topic, { from: "earliest", untilEnd: true });
    const measured = await timed(undefined, () => read(consumer));
    await consumer.close();
    if (best === undefined || measured.seconds < best.seconds) best = measured;
  }
  return best;
}

async function batches(consumer, sizes) {
  let count = 0;
  let bytes = 0;
  for (;;) {
    const messages = await consumer.receiveBatch({ maxMessages: BATCH, timeoutMs: 10_000 });
    count += messages.length;
    bytes += sizes(messages);
    if (messages.finished) break;
  }
  if (bytes !== count * PAYLOAD.length) throw new Error(`${bytes} bytes in ${count} messages`);
  return count;
}

/** Every payload as a message gives it: a copy, at this size. */
function payloads(messages) {
  let bytes = 0;
  for (const { payload } of messages) bytes += payload.length;
  return bytes;
}

/** Every payload where it lies. */
function views(messages) {
  let bytes = 0;
  for (let index = 0; index < messages.length; index++) bytes += messages.view(index).length;
  return bytes;
}

async function iterate(consumer) {
  let count = 0;
  for await (const { payload } of consumer) count += payload === null ? 0 : 1;
  return count;
}

const result = { client: "node" };
await produce(result);
result.receive_batch = await consume((consumer) => batches(consumer, payloads));
result.receive_batch_views = await consume((consumer) => batches(consumer, views));
result.iterate = await consume(iterate);
await client.close();
console.log(JSON.stringify(result));
