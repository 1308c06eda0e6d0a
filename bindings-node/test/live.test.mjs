// Producing, receiving and managing against a live server.

import assert from "node:assert/strict";
import { test } from "node:test";

import { LevadaError, LevadaNotFoundError, LevadaTimeoutError, LevadaUsageError, Message, stats } from "../esm/index.mjs";
import { failureOf, newTopic, startServer } from "./support.mjs";

const server = await startServer();

test("a message comes back with all its parts", async () => {
  const client = await server.connect();
  const topic = await newTopic(client, { partitionCount: 2 });
  const producer = await client.producer(topic);
  const sent = {
    payload: new Uint8Array([0, 255, 7]),
    key: "key",
    headers: [
      { name: "text", value: "é" },
      { name: "bytes", value: new Uint8Array([1]) },
      ["bool", true],
      ["i64", -(2n ** 63n)],
      ["u64", { u64: 2n ** 64n - 1n }],
      ["f64", 0.1],
    ],
    timestampUs: -1n,
    id: new Uint8Array(16).fill(9),
    partition: 1,
  };
  const receipt = await producer.send(sent);
  assert.equal(receipt.partition, 1);
  assert.equal(receipt.offset, 0n);
  assert.equal(receipt.durability, "disk");
  assert.equal(typeof receipt.appendTimeUs, "bigint");

  const consumer = await client.consumer(topic, { from: "earliest" });
  const message = await consumer.receive();
  assert.ok(message instanceof Message);
  assert.deepEqual([...message.payload], [0, 255, 7]);
  assert.equal(Buffer.from(message.key).toString(), "key");
  assert.deepEqual([...message.id], Array(16).fill(9));
  assert.equal(message.timestampUs, -1n);
  assert.equal(message.appendTimeUs, receipt.appendTimeUs);
  assert.equal(message.partition, 1);
  assert.equal(message.offset, 0n);
  const headers = message.headers.map(({ name, value }) => [name, value instanceof Uint8Array ? [...value] : value]);
  assert.deepEqual(headers, [
    ["text", "é"],
    ["bytes", [1]],
    ["bool", true],
    ["i64", -(2n ** 63n)],
    ["u64", { u64: 2n ** 64n - 1n }],
    ["f64", 0.1],
  ]);
  await client.close();
});

test("an absent payload or key differs from an empty one", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  await producer.sendBatch([{ payload: null }, { payload: "", key: "" }, { payload: new Uint8Array(0), key: null }]);
  const consumer = await client.consumer(topic, { from: "earliest" });
  const messages = (await consumer.receiveBatch()).toArray();
  assert.deepEqual(messages.map(({ payload }) => payload && payload.length), [null, 0, 0]);
  assert.deepEqual(messages.map(({ key }) => key && key.length), [null, 0, null]);
  assert.deepEqual(messages.map((message) => message.text()), [null, "", ""]);
  await client.close();
});

test("payloads of every size around the bound of copying are whole, and views lie in one memory", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  const sizes = [0, 1, 4095, 4096, 4097, 70_000, 1_000_000];
  const payloads = sizes.map((size) => Buffer.from(Uint8Array.from({ length: size }, (_, at) => at * 31)));
  await producer.sendBatch(payloads);
  const consumer = await client.consumer(topic, { from: "earliest" });
  const received = [];
  while (received.length < sizes.length) {
    const messages = await consumer.receiveBatch();
    for (let index = 0; index < messages.length; index++) {
      const { payload } = messages.at(index);
      assert.ok(payloads[received.length].equals(payload));
      assert.ok(payloads[received.length].equals(messages.view(index)));
      received.push(payload);
    }
    assert.equal(messages.at(messages.length), undefined);
    assert.equal(messages.view(-1), undefined);
  }
  const [, , small, large] = received;
  assert.ok(small.buffer.byteLength < 100_000);
  assert.ok(large.buffer.byteLength >= large.byteLength);
  await client.close();
});

test("what is enqueued settles in order, and flush waits for it", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic, { lingerMs: 1 });
  const deliveries = [];
  for (let n = 0; n < 1000; n++) deliveries.push(await producer.enqueue(`${n}`));
  await producer.flush();
  assert.ok(deliveries.every((delivery) => delivery.settled));
  const offsets = await Promise.all(deliveries.map(async (delivery) => (await delivery.wait()).offset));
  assert.deepEqual(offsets, offsets.map((_, index) => BigInt(index)));
  await client.close();
});

test("a full buffer makes calls wait, and keeps their order", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic, { maxBufferedBytes: 20_000 });
  const sent = [];
  for (let n = 0; n < 500; n++) sent.push(producer.send(Buffer.from(`${n}`.padEnd(1000))));
  const receipts = await Promise.all(sent);
  assert.deepEqual(receipts.map(({ offset }) => offset), receipts.map((_, index) => BigInt(index)));
  const consumer = await client.consumer(topic, { from: "earliest", untilEnd: true });
  let next = 0;
  for await (const message of consumer) assert.equal(message.text().trim(), `${next++}`);
  assert.equal(next, 500);
  await client.close();
});

test("iteration goes to the end asked for, and breaking off leaves the consumer usable", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  await producer.sendBatch(Array.from({ length: 300 }, (_, n) => `${n}`));
  const consumer = await client.consumer(topic, { from: { offset: 100n }, untilEnd: true });
  const seen = [];
  for await (const message of consumer) {
    seen.push(message.text());
    if (seen.length === 50) break;
  }
  for await (const message of consumer) seen.push(message.text());
  assert.deepEqual(seen, Array.from({ length: 200 }, (_, n) => `${n + 100}`));
  assert.equal(await consumer.receive(), null);
  assert.equal((await consumer.receiveBatch()).finished, true);
  await client.close();
});

test("positions: seek, position, pause and resume", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  const [receipt] = await producer.sendBatch(["a", "b", "c", "d"]);
  const consumer = await client.consumer(topic, { partitionFrom: { 0: { last: 1 } } });
  assert.deepEqual(consumer.partitions, [0]);
  assert.equal(consumer.topic, topic);
  assert.equal((await consumer.receive()).text(), "d");
  assert.equal(consumer.position(0), 4n);
  for (const [to, text] of [
    ["earliest", "a"],
    [{ offset: 1 }, "b"],
    [{ last: 2n }, "c"],
    [{ timestampUs: receipt.appendTimeUs }, "a"],
    [{ timestamp: new Date(0) }, "a"],
  ]) {
    consumer.seek(0, to);
    assert.equal((await consumer.receive({ timeoutMs: 5000 })).text(), text);
  }
  consumer.pause(0);
  assert.equal((await consumer.receiveBatch({ timeoutMs: 50 })).length, 0);
  consumer.resume(0);
  assert.equal((await consumer.receive({ timeoutMs: 5000 })).text(), "b");
  const missing = await failureOf(Promise.resolve().then(() => consumer.seek(7, "latest")));
  assert.ok(missing instanceof LevadaNotFoundError);
  await client.close();
});

test("errors have a class, a code, a number and details", async () => {
  const client = await server.connect();
  const error = await failureOf(client.producer("no/such"));
  assert.ok(error instanceof LevadaNotFoundError && error instanceof LevadaError && error instanceof Error);
  assert.equal(error.code, "LEVADA_STREAM_NOT_FOUND");
  assert.equal(error.errno, 300);
  assert.equal(error.retriable, false);
  assert.equal(error.maybeApplied, false);
  assert.deepEqual(error.details, { stream: "no" });
  assert.equal(error.name, "LevadaNotFoundError");
  const topic = await newTopic(client);
  for (const options of [{ lingerMs: -1 }, { nonsense: 1 }, { linger_ms: 1 }, { compression: "rar" }]) {
    const wrong = await failureOf(client.producer(topic, options));
    assert.ok(wrong instanceof LevadaUsageError, `${JSON.stringify(options)}: ${wrong}`);
  }
  const consumer = await client.consumer(topic);
  const late = await failureOf(consumer.receive({ timeoutMs: 20 }));
  assert.ok(late instanceof LevadaTimeoutError);
  assert.equal(late.code, "LEVADA_CLIENT_TIMEOUT");
  await client.close();
});

test("messages bring their own numbers", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const name = topic.replace("/", "-");
  const producer = await client.producer(topic, { name, externalSequence: true });
  for (const sequence of [5, "5", -1n, 2n ** 64n, 2n ** 64n - 1n, undefined]) {
    const wrong = await failureOf(producer.send({ payload: "x", partition: 0, sequence }));
    assert.deepEqual([wrong.constructor, wrong.details.argument], [LevadaUsageError, "sequence"], `${sequence}: ${wrong}`);
  }
  assert.equal((await producer.send({ payload: "a", partition: 0, sequence: 2n ** 53n + 1n })).offset, 0n);
  assert.equal((await client.admin.producerProgress(name, `${topic}:0`)).nextSequence, 2n ** 53n + 2n);
  await client.close();
});

test("wrong arguments are told and change nothing", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  const wrong = [
    5, null, undefined, true, Symbol("s"), { payload: 5 }, { key: {} }, { payload: "", headers: { a: null } }, { headers: [[5, "x"]] },
    { headers: { a: 2n ** 63n } }, { headers: { a: { u64: -1n } } }, { headers: { a: { u64: 2n ** 64n } } }, { id: new Uint8Array(15) },
    { timestampUs: 5 }, { timestampUs: 2n ** 63n }, { partition: -1 }, { partition: 1.5 }, { partition: "0" }, { partition: 2 ** 32 },
  ];
  for (const message of wrong) {
    assert.ok((await failureOf(producer.send(message))) instanceof LevadaUsageError);
    assert.ok((await failureOf(producer.enqueue(message))) instanceof LevadaUsageError);
    assert.ok((await failureOf(producer.sendBatch([message]))) instanceof LevadaUsageError);
  }
  assert.ok((await failureOf(producer.sendBatch(5))) instanceof LevadaUsageError);
  const consumer = await client.consumer(topic, { from: "earliest" });
  const call = (run) => failureOf(Promise.resolve().then(run));
  for (const partition of ["0", -1, undefined, 1.5]) {
    assert.ok((await call(() => consumer.pause(partition))) instanceof LevadaError);
  }
  for (const position of ["nowhere", { offset: -1n }, { offset: 1n, last: 1n }, {}, null, 5, { timestamp: 5 }]) {
    assert.ok((await call(() => consumer.seek(0, position))) instanceof LevadaUsageError, String(position));
  }
  assert.ok((await failureOf(client.producer(5))) instanceof LevadaUsageError);
  assert.ok((await failureOf(client.consumer(topic, { from: { nowhere: 1 } }))) instanceof LevadaUsageError);
  assert.equal((await consumer.receiveBatch({ timeoutMs: 20 })).length, 0);
  await client.close();
});

test("streams, topics, users and tokens are managed", async () => {
  const client = await server.connect();
  const { admin } = client;
  await admin.createStream("managed");
  const topic = await admin.createTopic("managed/one", { partitionCount: 3, retentionAgeMs: 3_600_000 });
  assert.equal(topic.stream, "managed");
  assert.equal(topic.options.partitionCount, 3);
  const described = await admin.describeTopic("managed/one");
  assert.equal(described.partitions.length, 3);
  assert.equal(described.partitions[0].visibleEndOffset, 0n);
  assert.ok((await admin.listStreams()).some(({ stream }) => stream === "managed"));
  const info = client.serverInfo();
  assert.equal(info.user, "root");
  assert.ok(info.maxPayloadBytes > 1024);
  assert.ok((await client.ping()) > 0);
  const refused = await failureOf(admin.createStream("managed"));
  assert.equal(refused.code, "LEVADA_ALREADY_EXISTS");
  await client.close();
});

test("a client leaves no handle behind", async () => {
  const before = stats();
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  const consumer = await client.consumer(topic, { from: "earliest" });
  await producer.send("x");
  assert.equal((await consumer.receive()).text(), "x");
  assert.equal(stats().underWay, 0);
  for (const handle of [consumer, producer, client]) await handle[Symbol.asyncDispose]();
  assert.equal(stats().underWay, 0);
  assert.equal((await failureOf(producer.send("y"))).code, "LEVADA_CLOSED");
  assert.equal((await failureOf(consumer.receive())).code, "LEVADA_CLOSED");
  assert.equal((await failureOf(client.ping())).code, "LEVADA_CLOSED");
  await client.close();
  assert.ok(before.clients <= stats().clients);
});
