// Builds the package where it lies: the native module with cargo into build/, the JavaScript into dist/ and esm/.
//
//   node scripts/build.mjs [--native PATH]     PATH: a library that has been built already

import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const run = (program, args, options = {}) => execFileSync(program, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], ...options });
const npm = (args) => run("npm", args, { shell: process.platform === "win32" });

const { values } = parseArgs({ options: { native: { type: "string" } } });

function builtLibrary() {
  run("cargo", ["build", "--quiet", "--profile", "ci", "--locked", "-p", "levada-node"]);
  const metadata = run("cargo", ["metadata", "--format-version", "1", "--no-deps", "--locked"], {
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 1 << 28,
  });
  const names = { darwin: "liblevada_node.dylib", win32: "levada_node.dll" };
  return join(JSON.parse(metadata).target_directory, "ci", names[process.platform] ?? "liblevada_node.so");
}

mkdirSync(join(root, "build"), { recursive: true });
// Put in place whole, so that a process that has the old one loaded is not hurt.
const place = join(root, "build", "levada.node");
copyFileSync(values.native ?? builtLibrary(), `${place}.new`);
renameSync(`${place}.new`, place);
if (!existsSync(join(root, "node_modules", "typescript"))) {
  npm(["ci", "--no-audit", "--no-fund", "--prefer-offline"]);
}
npm(["run", "--silent", "build"]);
