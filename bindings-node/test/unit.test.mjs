// What needs no server.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

import * as levada from "../esm/index.mjs";
import { failureOf } from "./support.mjs";

const require = createRequire(import.meta.url);
const { connect, LevadaConnectionError, LevadaError, LevadaUsageError } = levada;

test("every class of errors is exported, and derives from the base", () => {
  const generated = require("../dist/generated.js");
  const classes = Object.keys(generated).filter((name) => /^(Levada|Admin)/.test(name));
  assert.ok(classes.length > 10);
  for (const name of classes) {
    assert.equal(levada[name], generated[name], name);
    if (name !== "Admin") assert.ok(generated[name] === LevadaError || generated[name].prototype instanceof LevadaError);
  }
});

test("an error of a class newer than this package is the base, with its number", () => {
  const { errorOf } = require("../dist/generated.js");
  const failure = { number: 4242, name: "UNKNOWN", class: "novel", retriable: true, maybeApplied: true, retryAfterMs: 7, message: "new", details: {} };
  const error = errorOf(failure);
  assert.equal(error.constructor, LevadaError);
  assert.deepEqual([error.code, error.errno, error.retriable, error.maybeApplied, error.retryAfterMs], ["LEVADA_UNKNOWN", 4242, true, true, 7]);
});

test("a server that is not there is told as such", async () => {
  const error = await failureOf(connect({ server: "127.0.0.1:1", anonymous: true, connectTimeoutMs: 2000 }));
  assert.ok(error instanceof LevadaConnectionError);
  assert.equal(error.retriable, true);
});

test("options that are wrong are told before anything is done", async () => {
  for (const options of [
    { server: 5 }, { server: "levada://h:port" }, { nonsense: true }, { token_file: "x" }, { connectTimeoutMs: "1" },
    { connectTimeoutMs: 0 }, { connectTimeoutMs: NaN }, { user: "u" }, { anonymous: 1 }, { server: ["x"] }, { server: () => {} },
    { token: "a", anonymous: true }, { server: 2n ** 70n },
  ]) {
    const error = await failureOf(connect({ anonymous: true, ...options }));
    assert.ok(error instanceof LevadaUsageError, `${Object.keys(options)}: ${error}`);
    assert.equal(error.errno, 60000);
  }
  const deep = {};
  deep.deep = deep;
  assert.ok((await failureOf(connect({ context: deep }))) instanceof LevadaUsageError);
});

test("the names of both ways of loading are the same", () => {
  assert.deepEqual(Object.keys(require("../dist/index.js")).sort(), Object.keys(levada).sort());
});

test("live handles are counted", () => {
  const counted = levada.stats();
  assert.deepEqual(Object.keys(counted).sort(), ["clients", "consumers", "operations", "producers", "queues", "underWay"]);
  assert.equal(counted.clients, 0);
});
