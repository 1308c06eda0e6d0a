// Giving up, at every point, loses nothing: what was not handed out comes next, what was handed over is delivered.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";

import { AbortError, connect, LevadaCancelledError, LevadaTimeoutError } from "../esm/index.mjs";
import { failureOf, newTopic, startServer } from "./support.mjs";

const server = await startServer();
const client = await server.connect();
test.after(() => client.close());

/** Ways to let some work go on before a call is given up. */
const POINTS = [
  ["at once", () => {}],
  ["after a microtask", () => Promise.resolve()],
  ["after a turn of the event loop", () => turn()],
  ["after two turns", async () => { await turn(); await turn(); }],
  ["after a millisecond", () => sleep(1)],
  ["after five", () => sleep(5)],
];

test("a receive that is given up has taken nothing", async () => {
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  const consumer = await client.consumer(topic, { from: "earliest" });
  let sent = 0;
  const seen = [];
  for (let round = 0; round < 60; round++) {
    const [, point] = POINTS[round % POINTS.length];
    const controller = new AbortController();
    const batch = round % 2 === 1;
    const receive = batch
      ? consumer.receiveBatch({ maxMessages: 3, timeoutMs: 10_000, signal: controller.signal })
      : consumer.receive({ signal: controller.signal });
    const settled = receive.then(
      (got) => (batch ? got.toArray() : [got]).forEach((message) => seen.push(message.offset)),
      (error) => assert.ok(error instanceof AbortError, String(error)),
    );
    for (let n = 0; n < 2; n++) void producer.send(`${sent++}`);
    await point();
    controller.abort("enough");
    await settled;
  }
  await producer.flush();
  while (seen.length < sent) {
    for (const message of await consumer.receiveBatch({ timeoutMs: 10_000 })) seen.push(message.offset);
  }
  assert.deepEqual(seen, Array.from({ length: sent }, (_, n) => BigInt(n)));
});

test("a time limit on a receive takes nothing either", async () => {
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  const consumer = await client.consumer(topic, { from: "earliest" });
  const seen = [];
  for (let n = 0; n < 40; n++) {
    void producer.send(`${n}`);
    try {
      seen.push((await consumer.receive({ timeoutMs: n % 5 })).offset);
    } catch (error) {
      assert.ok(error instanceof LevadaTimeoutError, String(error));
    }
  }
  while (seen.length < 40) seen.push((await consumer.receive({ timeoutMs: 10_000 })).offset);
  assert.deepEqual(seen, Array.from({ length: 40 }, (_, n) => BigInt(n)));
});

test("a send that is given up is delivered exactly once if it was handed over, and says so", async () => {
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  const maybe = new Set();
  const certain = new Set();
  for (let n = 0; n < 60; n++) {
    const [, point] = POINTS[n % POINTS.length];
    const controller = new AbortController();
    const send = producer.send(`${n}`, { signal: controller.signal });
    const settled = send.then(
      () => certain.add(`${n}`),
      (error) => {
        assert.ok(error instanceof AbortError && error instanceof LevadaCancelledError);
        assert.equal(error.cause, "enough");
        assert.equal(error.code, "LEVADA_CANCELLED");
        if (error.maybeApplied) maybe.add(`${n}`);
      },
    );
    await point();
    controller.abort("enough");
    await settled;
  }
  await producer.flush();
  const consumer = await client.consumer(topic, { from: "earliest", untilEnd: true });
  const seen = [];
  for await (const message of consumer) seen.push(message.text());
  assert.equal(new Set(seen).size, seen.length);
  for (const payload of certain) assert.ok(seen.includes(payload));
  for (const payload of seen) assert.ok(certain.has(payload) || maybe.has(payload));
});

test("a message that waits for space and is given up is not sent", async () => {
  const topic = await newTopic(client);
  const producer = await client.producer(topic, { maxBufferedBytes: 4000 });
  const controller = new AbortController();
  const sends = [];
  for (let n = 0; n < 20; n++) sends.push(producer.send(Buffer.from(`${n}`.padEnd(1500)), { signal: controller.signal }));
  controller.abort();
  const outcomes = await Promise.allSettled(sends);
  const definitelyNot = outcomes.filter(({ reason }) => reason?.maybeApplied === false).length;
  assert.ok(definitelyNot >= 15);
  await producer.flush();
  const consumer = await client.consumer(topic, { from: "earliest", untilEnd: true });
  let count = 0;
  for await (const _ of consumer) count++;
  assert.ok(count <= 20 - definitelyNot);
  assert.equal((await producer.send("after")).offset, BigInt(count));
});

test("a delivery that nobody waits for any more is delivered all the same", async () => {
  const topic = await newTopic(client);
  const producer = await client.producer(topic, { lingerMs: 20 });
  const delivery = await producer.enqueue("x");
  const error = await failureOf(delivery.wait({ signal: AbortSignal.abort(new Error("no")) }));
  assert.ok(error instanceof AbortError);
  assert.equal(error.cause.message, "no");
  assert.ok((await failureOf(delivery.wait({ timeoutMs: 1 }))) instanceof LevadaTimeoutError);
  assert.equal((await delivery.wait()).offset, 0n);
});

test("a signal that is aborted before the call lets nothing happen", async () => {
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  const consumer = await client.consumer(topic, { from: "earliest" });
  const signal = AbortSignal.abort();
  for (const call of [
    () => connect(server.options, { signal }),
    () => client.producer(topic, {}, { signal }),
    () => client.consumer(topic, {}, { signal }),
    () => client.ping({ signal }),
    () => producer.send("x", { signal }),
    () => producer.enqueue("x", { signal }),
    () => producer.sendBatch(["x"], { signal }),
    () => producer.flush({ signal }),
    () => consumer.receive({ signal }),
    () => consumer.receiveBatch({ signal }),
  ]) {
    const error = await failureOf(call());
    assert.equal(error.name, "AbortError");
    assert.equal(error.maybeApplied, false);
  }
  assert.equal((await producer.send("y")).offset, 0n);
});

test("control calls and connecting can be given up while they run", async () => {
  for (const [, point] of POINTS) {
    for (const call of [(o) => connect(server.options, o), (o) => client.producer("a/b", {}, o), (o) => client.ping(o)]) {
      const controller = new AbortController();
      const pending = call({ signal: controller.signal }).then(
        (made) => made?.close?.(),
        (error) => assert.ok(error instanceof AbortError || error.code === "LEVADA_STREAM_NOT_FOUND", String(error)),
      );
      await point();
      controller.abort();
      await pending;
    }
  }
  assert.ok((await client.ping()) > 0);
});

test("timers and signals are heard however much there is to receive", async () => {
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  await producer.sendBatch(Array.from({ length: 100_000 }, () => "x"));
  for (const open of [
    (signal) => client.consumer(topic, { from: "earliest" }).then((consumer) => async () => {
      for await (const _ of consumer.messages({ signal })) consumer.position(0) === 100_000n && consumer.seek(0, "earliest");
    }),
    (signal) => client.consumer(topic, { from: "earliest" }).then((consumer) => async () => {
      for (;;) {
        await consumer.receiveBatch({ signal, maxMessages: 100 });
        if (consumer.position(0) === 100_000n) consumer.seek(0, "earliest");
      }
    }),
  ]) {
    const controller = new AbortController();
    const run = await open(controller.signal);
    setTimeout(() => controller.abort(), 50);
    assert.equal((await failureOf(run())).name, "AbortError");
  }
});
