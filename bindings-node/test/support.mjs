// What tests share: a server of their own from the binary that LEVADA_SERVER_BIN names, topics, and scripts run as processes.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { connect } from "../esm/index.mjs";

export const packageRoot = fileURLToPath(new URL("..", import.meta.url));

/** A server that ends with the tests of the file. */
export async function startServer() {
  const binary = process.env.LEVADA_SERVER_BIN;
  if (!binary) throw new Error("LEVADA_SERVER_BIN names the server binary that these tests start");
  const home = mkdtempSync(join(tmpdir(), "levada-node-"));
  const child = spawn(binary, ["--data-dir", join(home, "data"), "--listen", "127.0.0.1:0"], {
    env: { ...process.env, HOME: home, XDG_RUNTIME_DIR: home },
    stdio: ["ignore", "pipe", "ignore"],
  });
  after(async () => {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
    rmSync(home, { recursive: true, force: true });
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const address = /tcp=(\S+)/.exec(line)?.[1];
    if (address) {
      const options = { server: address, tokenFile: join(home, "data", "root.token") };
      return { options, child, connect: (more = {}) => connect({ ...options, ...more }) };
    }
  }
  throw new Error("the server did not start");
}

let made = 0;

/** A topic of its own. */
export async function newTopic(client, options = {}) {
  const topic = `t${process.pid}/t${++made}`;
  await client.admin.createTopic(topic, options);
  return topic;
}

/** Runs a script as a program would be run; resolves with how it ended and what it said. */
export function runScript(file, text, { env = {}, cwd = packageRoot, timeoutMs = 60_000, args = [] } = {}) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...args, ...(file ? [file] : ["--input-type=module", "--eval", text])], {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (data) => (stdout += data));
    child.stderr.on("data", (data) => (stderr += data));
    const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    child.once("exit", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    });
  });
}

/** Asserts on nothing and waits for nothing but what is given: a promise, or its failure as a value. */
export async function failureOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
}
