// Worker threads: each loads the module, works and goes, at whatever moment, and takes nothing of the others with it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";

import { stats } from "../esm/index.mjs";
import { newTopic, runScript, startServer } from "./support.mjs";

const server = await startServer();

const text = `
  import { parentPort, workerData } from "node:worker_threads";
  const { connect } = await import(workerData.module);
  const client = await connect(workerData.options);
  const producer = await client.producer(workerData.topic);
  const consumer = await client.consumer(workerData.topic, { from: "earliest" });
  await producer.send("from a worker");
  await consumer.receive();
  parentPort.postMessage("ready");
  if (workerData.end === "close") await client.close();
  if (workerData.end === "busy") {
    for (;;) { void producer.send("x").catch(() => {}); await consumer.receiveBatch(); }
  }
  if (workerData.end === "wait") { consumer.pause(0); await consumer.receive(); }
`;

function start(topic, end) {
  const module = new URL("../esm/index.mjs", import.meta.url).href;
  const url = new URL(`data:text/javascript,${encodeURIComponent(text)}`);
  const worker = new Worker(url, { workerData: { module, topic, end, options: server.options } });
  const ready = new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  const gone = new Promise((resolve) => worker.once("exit", resolve));
  return { worker, ready, gone };
}

test("workers come and go while the main thread works", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  const producer = await client.producer(topic);
  let going = true;
  const work = (async () => {
    let count = 0;
    while (going) {
      await producer.send("from the main thread");
      count++;
    }
    return count;
  })();
  for (let round = 0; round < 12; round++) {
    const workers = ["close", "idle", "busy", "wait"].map((end) => [end, start(topic, end)]);
    await Promise.all(workers.map(([, { ready }]) => ready));
    await Promise.all(
      workers.map(async ([end, { worker, gone }]) => {
        if (end === "busy" || end === "wait") await worker.terminate();
        assert.equal(await gone, end === "busy" || end === "wait" ? 1 : 0, end);
      }),
    );
  }
  going = false;
  assert.ok((await work) > 0);
  assert.equal((await producer.send("still here")).partition, 0);
  // What the workers had made has gone with them, whether they closed it or not.
  const { clients, producers, consumers, queues } = stats();
  assert.deepEqual({ clients, producers, consumers, queues }, { clients: 1, producers: 1, consumers: 0, queues: 1 });
  await client.close();
  assert.equal(stats().underWay, 0);
});

test("a worker that is ended while it loads or connects takes nobody with it", async () => {
  const client = await server.connect();
  const topic = await newTopic(client);
  for (let delay = 0; delay < 30; delay++) {
    const { worker, ready, gone } = start(topic, "busy");
    ready.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, delay * 3));
    await worker.terminate();
    await gone;
  }
  assert.ok((await client.ping()) > 0);
  await client.close();
});

test("a worker that is ended with messages unsettled does not hold the process", async () => {
  const module = JSON.stringify(new URL("../esm/index.mjs", import.meta.url).href);
  const run = await runScript(
    undefined,
    `import { Worker } from "node:worker_threads";
     const text = \`
       import("node:worker_threads").then(async ({ parentPort }) => {
         const { connect } = await import(${module});
         const client = await connect(${JSON.stringify(server.options)});
         const producer = await client.producer("unsettled/t", { lingerMs: 60000 });
         await producer.enqueue("x");
         parentPort.postMessage("taken");
       });
     \`;
     const { connect } = await import(${module});
     const client = await connect(${JSON.stringify(server.options)});
     await client.admin.createTopic("unsettled/t");
     await client.close();
     const worker = new Worker(text, { eval: true });
     worker.once("message", async () => console.log("ended", await worker.terminate()));`,
    { timeoutMs: 20_000 },
  );
  assert.equal(run.stderr, "");
  assert.equal(run.stdout, "ended 1\n");
  assert.equal(run.code, 0);
});
