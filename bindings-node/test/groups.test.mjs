// Consumer groups: members share, commit and go on; and what is told without being a member.

import assert from "node:assert/strict";
import { test } from "node:test";

import { AbortError, LevadaError, LevadaNotFoundError, LevadaUsageError, stats } from "../esm/index.mjs";
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

/** Follows a member's changes until it holds that many partitions. */
async function holds(consumer, count) {
  while (consumer.assignments().length !== count) {
    assert.ok(await consumer.nextChange({ timeoutMs: 10_000 }), `it holds ${consumer.assignments().length}, not ${count}`);
  }
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

test("two members share a topic, commit, and the one that stays goes on where the other was", async () => {
  const topic = await newTopic(client, { partitionCount: 4 });
  const producer = await client.producer(topic);
  const send = (text) => producer.sendBatch([0, 1, 2, 3].map((partition) => ({ payload: text, partition })));
  const options = { from: "earliest", autoCommit: false };
  const first = await client.groupConsumer("shared", topic, options);
  const assigned = await first.nextChange({ timeoutMs: 10_000 });
  assert.deepEqual(assigned, { kind: "assigned", partitions: [0, 1, 2, 3].map((partition) => ({ topic, partition })) });
  assert.equal(first.topic, topic);

  const second = await client.groupConsumer("shared", [topic], options);
  const revoked = await first.nextChange({ timeoutMs: 10_000 });
  assert.equal(revoked.kind, "revoked");
  assert.equal(revoked.partitions.length, 2);
  await holds(second, 2);
  assert.deepEqual(second.assignments(), revoked.partitions);
  assert.equal(first.assignments().length, 2);

  assert.equal(await first.committed(topic, 0), null);
  await send("a");
  const both = [...(await receive(first, 2)), ...(await receive(second, 2))];
  assert.deepEqual(both.sort(), ["0:a", "1:a", "2:a", "3:a"]);
  await first.commit();
  await second.commitOffsets(second.assignments().map((each) => ({ ...each, offset: 1 })));
  for (const partition of [0, 1, 2, 3]) assert.equal(await first.committed(topic, partition), 1n);
  const [theirs] = first.assignments();
  const refused = await failureOf(second.commitOffsets([{ ...theirs, offset: 1n }]));
  assert.equal(refused.code, "LEVADA_NOT_ASSIGNED");

  await send("b");
  assert.equal((await receive(second, 2)).length, 2);
  await second.close();
  await holds(first, 4);
  // What the other had received but not committed comes again.
  assert.deepEqual(await receive(first, 4), ["0:b", "1:b", "2:b", "3:b"]);
  await first.close();

  const described = await client.admin.describeGroup("shared");
  assert.deepEqual([described.group.state, described.members.length, described.partitions.length], ["empty", 0, 4]);
  assert.deepEqual(described.partitions.map(({ lag }) => lag), [1n, 1n, 1n, 1n]);
});

test("what was processed is committed by itself", async () => {
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  await producer.sendBatch(["a", "b", "c"]);
  const consumer = await client.groupConsumer("automatic", topic, { from: "earliest", commitMessages: 2, commitIntervalMs: 3_600_000 });
  const seen = [];
  for await (const message of consumer) {
    seen.push(message.text());
    if (seen.length === 2) break;
  }
  assert.deepEqual(seen, ["a", "b"]);
  await consumer.close();
  const stored = await client.admin.groupOffsets("automatic");
  assert.deepEqual(stored.map(({ partition, offset }) => [partition, offset]), [[0, 2n]]);

  const alone = await client.consumer(topic, { group: "automatic", from: "stored", untilEnd: true });
  assert.equal((await alone.receive({ timeoutMs: 10_000 })).text(), "c");
  await alone.commit();
  assert.equal(await alone.committed(topic, 0), 3n);
  await alone.close();
  const [change] = await client.admin.resetOffsets("automatic", [topic], { offset: 1n }, { dryRun: true });
  assert.deepEqual([change.before, change.after], [3n, 1n]);
  await client.admin.deleteGroup("automatic");
  assert.ok((await failureOf(client.admin.describeGroup("automatic"))) instanceof LevadaNotFoundError);
});

test("waiting for a change ends with its time or its signal, loses nothing, and is heard at close", async () => {
  const topic = await newTopic(client);
  const consumer = await client.groupConsumer("waiting", topic);
  assert.equal((await consumer.nextChange({ timeoutMs: 10_000 })).kind, "assigned");
  assert.equal(await consumer.nextChange({ timeoutMs: 20 }), null);
  assert.equal(await consumer.nextChange({ timeoutMs: -1 }), null);
  const controller = new AbortController();
  const waiting = failureOf(consumer.nextChange({ signal: controller.signal }));
  controller.abort("enough");
  assert.ok((await waiting) instanceof AbortError);
  const other = await client.groupConsumer("waiting", topic);
  await other.close();
  const last = failureOf(
    (async () => {
      for (;;) await consumer.nextChange();
    })(),
  );
  await consumer.close();
  const closed = await last;
  assert.ok(closed instanceof LevadaError);
  assert.equal(closed.code, "LEVADA_CLOSED");
  assert.equal(stats().underWay, 0);
});

test("a change is told exactly once, in whatever moment the wait for it is given up", async () => {
  const topic = await newTopic(client);
  for (const heldMs of [0, 0.02, 0.05, 0.1, 0.2, 0.5, 2, 5]) {
    const consumer = await client.groupConsumer(`given-up-${heldMs}`, topic);
    let change = null;
    for (let round = 0; round < 50 && change === null; round++) {
      const controller = new AbortController();
      const waiting = consumer.nextChange({ signal: controller.signal });
      // The event loop is held: the change may land in its queue before the wait is given up, and is found after that.
      for (const until = performance.now() + heldMs; performance.now() < until; );
      controller.abort("enough");
      try {
        change = await waiting;
      } catch (error) {
        assert.ok(error instanceof AbortError, `${error}`);
      }
    }
    change ??= await consumer.nextChange({ timeoutMs: 5000 });
    assert.equal(change?.kind, "assigned", `held for ${heldMs} ms`);
    assert.equal(await consumer.nextChange({ timeoutMs: 0 }), null);
    await consumer.close();
  }
});

test("a member of several topics names them", async () => {
  const one = await newTopic(client);
  const two = await newTopic(client);
  for (const topic of [one, two]) await (await client.producer(topic)).send(topic);
  const consumer = await client.groupConsumer("several", [one, two], { from: "earliest" });
  await holds(consumer, 2);
  assert.deepEqual((await receive(consumer, 2)), [`0:${one}`, `0:${two}`].sort());
  assert.equal(consumer.position(0, two), 1n);
  assert.ok((await run(() => consumer.seek(0, "earliest"))) instanceof LevadaUsageError);
  consumer.seek(0, "earliest", two);
  const message = await consumer.receive({ timeoutMs: 10_000 });
  assert.deepEqual([message.topic, message.text()], [two, two]);
  await consumer.close();
});
