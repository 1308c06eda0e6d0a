// Consumer groups: what is told without being a member.

import assert from "node:assert/strict";
import { test } from "node:test";

import { AbortError, LevadaNotFoundError, LevadaUsageError } from "../esm/index.mjs";
import { failureOf, newTopic, startServer } from "./support.mjs";

const server = await startServer();
const client = await server.connect();
test.after(() => client.close());

const run = (call) => failureOf(Promise.resolve().then(call));

/** Receives that many messages, as `partition:text` in order. */
async function receive(consumer, count) {
  const seen = [];
  while (seen.length < count) {
    const messages = await consumer.receiveBatch({ timeoutMs: 10_000 });
    assert.notEqual(messages.length, 0, `only ${seen} came`);
    for (const message of messages) seen.push(`${message.partition}:${message.text()}`);
  }
  return seen.sort();
}

test("a consumer without a group says what it reads, by topic, and cannot commit", async () => {
  const topic = await newTopic(client, { partitionCount: 2 });
  const producer = await client.producer(topic);
  await producer.sendBatch([{ payload: "a", partition: 0 }, { payload: "b", partition: 1 }]);
  const consumer = await client.consumer(topic, { from: "earliest" });
  assert.deepEqual(consumer.assignments(), [{ topic, partition: 0 }, { topic, partition: 1 }]);
  assert.deepEqual(await receive(consumer, 2), ["0:a", "1:b"]);
  consumer.seek(1, "earliest", topic);
  const message = await consumer.receive({ timeoutMs: 5000 });
  assert.deepEqual([message.topic, message.partition, message.text()], [topic, 1, "b"]);
  assert.equal(consumer.position(1, topic), 1n);
  consumer.pause(0, topic);
  consumer.resume(0, topic);
  for (const name of ["seek", "pause", "resume"]) {
    const args = name === "seek" ? [0, "earliest"] : [0];
    assert.ok((await run(() => consumer[name](...args, "no/such"))) instanceof LevadaNotFoundError, name);
    assert.ok((await run(() => consumer[name](...args, 5))) instanceof LevadaUsageError, name);
  }
  for (const call of [
    () => consumer.commit(),
    () => consumer.commitOffsets([{ topic, partition: 0, offset: 1n }]),
    () => consumer.committed(topic, 0),
    () => consumer.nextChange({ timeoutMs: 0 }),
    () => client.consumer(topic, { from: "stored" }),
  ]) {
    const error = await run(call);
    assert.ok(error instanceof LevadaUsageError, `${call}: ${error}`);
  }
  await consumer.close();
});

test("arguments that are wrong are told before anything is done", async () => {
  const topic = await newTopic(client);
  for (const [topics, options] of [
    [[]], [undefined], [null], [5], [[5]], [{}], [topic, { nonsense: 1 }], [topic, { auto_commit: true }], [topic, { autoCommit: 1 }],
    [topic, { sessionTimeoutMs: 99 }], [topic, { commitMessages: 0 }], [topic, { strategy: "fair" }], [topic, { from: { nowhere: 1 } }],
    [topic, { from: "stored" }],
  ]) {
    const error = await run(() => client.groupConsumer("wrong", topics, options));
    assert.ok(error instanceof LevadaUsageError, `${JSON.stringify([topics, options])}: ${error}`);
  }
  assert.ok((await run(() => client.groupConsumer(5, topic))) instanceof LevadaUsageError);
  const consumer = await client.consumer(topic, { group: "wrong" });
  for (const offsets of [
    5, undefined, {}, [5], [{ topic, partition: 0 }], [{ topic, partition: 0, offset: "1" }], [{ topic, partition: 0, offset: -1 }],
    [{ topic, partition: 0.5, offset: 1 }], [{ topic: 5, partition: 0, offset: 1 }],
    [{ topic, partition: 0, offset: 1 }, { topic, partition: 0, offset: 2 }],
  ]) {
    const error = await run(() => consumer.commitOffsets(offsets));
    assert.ok(error instanceof LevadaUsageError, `${JSON.stringify(offsets)}: ${error}`);
  }
  assert.ok((await run(() => consumer.committed(topic, "0"))) instanceof LevadaUsageError);
  assert.ok((await run(() => consumer.committed(5, 0))) instanceof LevadaUsageError);
  await consumer.close();
});

test("calls that were given up before are not made", async () => {
  const topic = await newTopic(client);
  const consumer = await client.consumer(topic);
  const options = { signal: AbortSignal.abort("enough") };
  for (const call of [
    () => client.groupConsumer("aborted", topic, {}, options),
    () => consumer.commit(options),
    () => consumer.commitOffsets([], options),
    () => consumer.committed(topic, 0, options),
    () => consumer.nextChange(options),
  ]) {
    const error = await run(call);
    assert.ok(error instanceof AbortError, `${call}: ${error}`);
    assert.deepEqual([error.cause, error.maybeApplied], ["enough", false]);
  }
  await consumer.close();
});
