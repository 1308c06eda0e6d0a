// A script ends by itself: after close, and with a client that is idle; and not before its work is done.

import assert from "node:assert/strict";
import { test } from "node:test";

import { newTopic, runScript, startServer } from "./support.mjs";

const server = await startServer();
const client = await server.connect();
const topic = await newTopic(client);
await client.close();

/** Runs a body with a client `c`, a producer `p` and a consumer `k`. */
function script(body) {
  const text = `
    import { connect, onLog } from "./esm/index.mjs";
    const c = await connect(${JSON.stringify(server.options)});
    const p = await c.producer("${topic}");
    const k = await c.consumer("${topic}", { from: "latest" });
    ${body}
  `;
  return runScript(undefined, text, { timeoutMs: 20_000 });
}

const ended = ({ code, signal, stderr }) => assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: "" });

test("after close", async () => ended(await script('await p.send("x"); await c.close();')));

test("with an idle client", async () => ended(await script('await p.send("x");')));

test("with an idle client whose receive was given up", async () => {
  ended(await script("await k.receive({ timeoutMs: 10 }).catch(() => {});"));
});

test("with a listener to the log", async () => ended(await script('onLog(() => {}, { level: "trace" });')));

test("not before a message is acknowledged", async () => {
  const run = await script('p.send("x").then(({ offset }) => console.log(typeof offset));');
  ended(run);
  assert.equal(run.stdout, "bigint\n");
});

test("not before an enqueued message is acknowledged, though nobody waits for it", async () => {
  const counting = await server.connect();
  const before = (await counting.admin.describeTopic(topic)).partitions[0].visibleEndOffset;
  ended(await script('for (let n = 0; n < 100; n++) await p.enqueue("x");'));
  const now = (await counting.admin.describeTopic(topic)).partitions[0].visibleEndOffset;
  assert.equal(now - before, 100n);
  await counting.close();
});

test("not before messages are acknowledged whose producer and client nobody holds any more", async () => {
  const run = await runScript(
    undefined,
    `import { connect } from "./esm/index.mjs";
     void (async () => {
       const client = await connect(${JSON.stringify(server.options)});
       const producer = await client.producer("${topic}", { lingerMs: 300 });
       const consumer = await client.consumer("${topic}", { from: "latest" });
       const receive = consumer.receive();
       return Promise.all([producer.send("x"), receive, client.ping()]);
     })().then(([receipt, message]) => console.log(typeof receipt.offset, message.text()));
     setInterval(() => gc(), 10).unref();`,
    { timeoutMs: 20_000, args: ["--expose-gc"] },
  );
  ended(run);
  assert.equal(run.stdout, "bigint x\n");
});

test("not while a receive waits", async () => {
  const run = await script(`
    k.receive().then((message) => console.log(message.text()));
    setTimeout(() => p.send("late"), 200).unref();
  `);
  // The timer is not what keeps it: without the receive nothing would.
  ended(run);
  assert.equal(run.stdout, "late\n");
});

test("process.exit ends it at once with work under way", async () => {
  const run = await script('p.send("x"); k.receive(); process.exit(3);');
  assert.equal(run.code, 3);
});

test("an error that nobody catches ends it as always", async () => {
  const run = await script('await c.producer("no/such");');
  assert.equal(run.code, 1);
  assert.match(run.stderr, /LEVADA_STREAM_NOT_FOUND/);
});
