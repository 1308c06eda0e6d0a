// Closing with work in flight: it is bounded, settles everything, and nobody waits for ever.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";

import { stats } from "../esm/index.mjs";
import { failureOf, newTopic, startServer } from "./support.mjs";

const server = await startServer();

test("closing a client settles what its producers have taken", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic, { lingerMs: 50 });
  const sends = Array.from({ length: 1000 }, (_, n) => producer.send(`${n}`));
  await client.close();
  const receipts = await Promise.all(sends);
  assert.deepEqual(receipts.map(({ offset }) => offset), receipts.map((_, n) => BigInt(n)));
});

test("a receive under way hears that its consumer, or its client, is closed", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const one = await client.consumer(topic);
  const other = await client.consumer(topic);
  const waiting = [failureOf(one.receive()), failureOf(other.receiveBatch({ timeoutMs: 60_000 }))];
  await one.close();
  assert.equal((await waiting[0]).code, "LEVADA_CLOSED");
  await client.close();
  assert.equal((await waiting[1]).code, "LEVADA_CLOSED");
});

test("messages that wait for space when their producer closes are refused, and say that they were not sent", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic, { maxBufferedBytes: 3000 });
  const sends = Array.from({ length: 50 }, (_, n) => producer.send(Buffer.from(`${n}`.padEnd(1000))));
  const outcomes = Promise.allSettled(sends);
  await producer.close();
  for (const { status, reason } of await outcomes) {
    if (status === "rejected") {
      assert.equal(reason.code, "LEVADA_CLOSED");
      assert.equal(reason.maybeApplied, false);
    }
  }
  const consumer = await client.consumer(topic, { from: "earliest", untilEnd: true });
  let next = 0;
  for await (const message of consumer) assert.equal(message.text().trim(), `${next++}`);
  const acknowledged = (await outcomes).filter(({ status }) => status === "fulfilled").length;
  assert.equal(next, acknowledged);
  await client.close();
});

test("closing twice, and closing what a closed client made, does no harm", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  const consumer = await client.consumer(topic);
  await Promise.all([client.close(), client.close()]);
  await client.close();
  await producer.close();
  await consumer.close();
  assert.equal(stats().underWay, 0);
});

test("a closed client keeps no descriptor, whoever holds it", async () => {
  const held = [];
  const open = async () => {
    const client = await server.connect();
    const topic = await newTopic(client);
    held.push(client, await client.producer(topic), await client.consumer(topic));
    await held.at(-2).send("x");
    await client.close();
  };
  const descriptors = () => readdirSync("/proc/self/fd").length;
  await open();
  const before = descriptors();
  for (let n = 0; n < 30; n++) await open();
  // Threads of the core end a little after the call does.
  for (let n = 0; n < 100 && descriptors() > before; n++) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(descriptors() <= before + 4, `${before} descriptors before, ${descriptors()} after 30 clients`);
  assert.equal(held.length, 93);
});

test("a second receive on a consumer is refused while one waits", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const consumer = await client.consumer(topic, { from: "earliest" });
  const first = consumer.receive();
  for (const second of [consumer.receive(), consumer.receiveBatch()]) {
    assert.equal((await failureOf(second)).code, "LEVADA_CONCURRENT_CALL");
  }
  const producer = await client.producer(topic);
  await producer.send("x");
  assert.equal((await first).text(), "x");
  await client.close();
});

test("closing while the server is gone is bounded, and tells what is unsettled", async () => {
  const client = await server.connect({ backoffFloorMs: 10 });
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  await producer.send("x");
  server.child.kill("SIGSTOP");
  try {
    const send = producer.send("y").then(() => undefined, (error) => error);
    const started = performance.now();
    const outcome = await client.close({ timeoutMs: 200 }).then(() => undefined, (error) => error);
    assert.ok(performance.now() - started < 5000);
    assert.equal(outcome?.code, "LEVADA_CLIENT_TIMEOUT");
    const lost = await send;
    assert.equal(lost?.maybeApplied, true);
  } finally {
    server.child.kill("SIGCONT");
  }
});
