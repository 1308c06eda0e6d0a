// The packages as a user gets them: packed, installed together into an empty directory outside the repository, and used from
// ESM, CommonJS and TypeScript; and what is said where the platform's package is missing.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { packageRoot, runScript, startServer } from "./support.mjs";

const server = await startServer();
const home = mkdtempSync(join(tmpdir(), "levada-npm-"));
after(() => rmSync(home, { recursive: true, force: true }));

const npm = (args, cwd) =>
  execFileSync("npm", [...args, "--offline", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
    shell: process.platform === "win32",
  });

execFileSync(process.execPath, [join(packageRoot, "scripts", "stage.mjs"), join(home, "staged")]);
for (const name of readdirSync(join(home, "staged"))) {
  npm(["pack", join(home, "staged", name), "--pack-destination", home], home);
}
const tarballs = readdirSync(home).filter((name) => name.endsWith(".tgz"));
const rootTarball = tarballs.find((name) => name.startsWith("levada-0") || /^levada-\d/.test(name));

function project(name, packages, type) {
  const folder = join(home, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name, private: true, version: "1.0.0", ...(type && { type }) }));
  // The packages of other platforms are in no registry here, and would be left out in any case.
  npm(["install", "--omit=optional", ...packages.map((tarball) => join(home, tarball))], folder);
  return folder;
}

const env = { LEVADA_SERVER: server.options.server, LEVADA_TOKEN_FILE: server.options.tokenFile };
const installed = project("installed", tarballs);
const ended = ({ code, stderr }) => assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });

test("two packages are packed, with nothing but what is needed", () => {
  assert.equal(tarballs.length, 2);
  const listing = JSON.parse(npm(["pack", join(home, "staged", "levada"), "--dry-run", "--json"], home));
  const [{ files }] = Array.isArray(listing) ? listing : Object.values(listing);
  const paths = files.map(({ path }) => path);
  assert.ok(paths.includes("README.md") && paths.includes("LICENSE") && paths.includes("dist/index.d.ts"));
  assert.ok(paths.every((path) => /^(dist|esm)\/|^(README\.md|LICENSE|package\.json)$/.test(path)), paths.join(" "));
});

for (const [kind, file, load] of [
  ["ESM", "program.mjs", 'import { connect, LevadaError } from "levada"; import { createRequire } from "node:module"; const other = createRequire(import.meta.url)("levada");'],
  ["CommonJS", "program.cjs", 'const { connect, LevadaError } = require("levada"); const loaded = import("levada");'],
]) {
  test(`a program in ${kind} works, and both ways of loading give the same classes`, async () => {
    writeFileSync(
      join(installed, file),
      `${load}
      (async () => {
        const client = await connect();
        await client.admin.createTopic("npm/${kind}");
        const producer = await client.producer("npm/${kind}");
        await producer.send("hello");
        const consumer = await client.consumer("npm/${kind}", { from: "earliest", untilEnd: true });
        for await (const message of consumer) console.log(message.offset, message.text());
        const both = ${kind === "ESM" ? "other" : "await loaded"};
        console.log(both.LevadaError === LevadaError);
        await client.close();
      })();`,
    );
    const run = await runScript(file, undefined, { cwd: installed, env });
    ended(run);
    assert.equal(run.stdout, "0n hello\ntrue\n");
  });
}

const typed = `
  import { connect, LevadaNotFoundError, type Client, type Message, type Receipt, type ConsumerOptions } from "levada";
  import type { AssignmentChange, GroupConsumerOptions, PartitionOffset, TopicPartition } from "levada";

  const options: ConsumerOptions = { from: { offset: 0n }, untilEnd: true };
  async function main(): Promise<void> {
    await using client = await connect({ requestTimeoutMs: 5000 });
    await client.admin.createTopic("npm/ts", { partitionCount: 1 });
    await using producer = await client.producer("npm/ts");
    const receipt: Receipt = await producer.send({ payload: new Uint8Array([104, 105]), headers: { n: 1, u: { u64: 1n } } });
    const offset: bigint | null = receipt.offset;
    const consumer = await client.consumer("npm/ts", options);
    const seen: Message[] = [];
    for await (const message of consumer) seen.push(message);
    const payload: Uint8Array | null | undefined = seen[0]?.payload;
    console.log(offset, payload?.length, seen[0]?.text());
    try {
      await client.producer("npm/none");
    } catch (error) {
      if (error instanceof LevadaNotFoundError) console.log(error.code, error.details["topic"]);
    }
  }
  const terms: GroupConsumerOptions = { from: "earliest", autoCommit: false, strategy: "round_robin" };
  async function share(client: Client): Promise<void> {
    await using member = await client.groupConsumer("group", ["npm/*"], terms, { timeoutMs: 5000 });
    const change: AssignmentChange | null = await member.nextChange({ timeoutMs: 1000 });
    const mine: TopicPartition[] = change?.partitions ?? member.assignments();
    const done: PartitionOffset[] = mine.map((each) => ({ ...each, offset: member.position(each.partition, each.topic) ?? 0n }));
    await member.commitOffsets(done);
    const stored: bigint | null = await member.committed("npm/ts", 0);
    void stored;
    await client.consumer("npm/ts", { group: "group", from: "stored" });
  }
  void share;
  // @ts-expect-error an option that there is not
  void (() => connect({ nonsense: true }));
  // @ts-expect-error offsets are bigint or number
  const wrong: ConsumerOptions = { from: { offset: "5" } };
  void wrong;
  void main();
`;

for (const [module, file, type] of [
  ["nodenext", "program.mts", "module"],
  ["nodenext", "program.cts", "commonjs"],
  ["esnext", "bundled.ts", "module"],
]) {
  test(`a program in TypeScript (${module}, ${file}) is checked and works`, async () => {
    const folder = join(installed, `ts-${file}`);
    mkdirSync(folder);
    writeFileSync(join(folder, "package.json"), JSON.stringify({ type }));
    writeFileSync(join(folder, file), typed.replaceAll("npm/ts", `npm/ts-${file}`).replaceAll("npm/none", "npm/none"));
    const compilerOptions = {
      module,
      moduleResolution: module === "nodenext" ? "nodenext" : "bundler",
      target: "es2022",
      lib: ["es2023", "esnext.disposable"],
      types: ["node"],
      typeRoots: [join(packageRoot, "node_modules", "@types")],
      strict: true,
      exactOptionalPropertyTypes: true,
      // Our declarations are checked once against everything they name; that takes its time.
      skipLibCheck: file !== "program.mts",
      outDir: "out",
      rootDir: ".",
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [file] }));
    const tsc = await runScript(join(packageRoot, "node_modules", "typescript", "bin", "tsc"), undefined, {
      cwd: folder,
      args: [],
    });
    assert.equal(tsc.stdout, "");
    assert.equal(tsc.code, 0);
    const run = await runScript(join("out", file.replace("ts", "js")), undefined, { cwd: folder, env });
    ended(run);
    assert.equal(run.stdout, "0n 2 hi\nLEVADA_TOPIC_NOT_FOUND npm/none\n");
  });
}

test("where the platform's package is missing, the error names it, the platform and what to do", async () => {
  const folder = project("without", [rootTarball]);
  const run = await runScript(undefined, 'import { connect } from "levada"; await connect().catch((error) => console.log(error.code, error.message));', {
    cwd: folder,
    env,
  });
  ended(run);
  const { platform, PLATFORMS } = await import("../dist/platforms.js").then((module) => module.default);
  const name = `@levada/native-${PLATFORMS[platform()]}`;
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8"));
  assert.match(run.stdout, /^LEVADA_NATIVE_MISSING /);
  for (const part of [name, process.arch, process.platform, `npm install ${name}@${version}`, "--omit=optional"]) {
    assert.ok(run.stdout.includes(part), `${part}: ${run.stdout}`);
  }
  if (process.platform === "linux") assert.match(run.stdout, /glibc|musl/);
});

test("what the README's quick start says works as written", async () => {
  const page = readFileSync(join(packageRoot, "README.md"), "utf8");
  const [, program] = /```js\n(\/\/ quickstart\.mjs\n[\s\S]*?)```/.exec(page);
  writeFileSync(join(installed, "quickstart.mjs"), program);
  const run = await runScript("quickstart.mjs", undefined, { cwd: installed, env });
  ended(run);
  const [, output] = /```text\n([\s\S]*?)```/.exec(page);
  assert.equal(run.stdout, output);
});
