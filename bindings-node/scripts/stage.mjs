// Writes the packages as they are published into a folder: `levada`, and `native-PLATFORM` for the platform of this machine.
//
//   node scripts/stage.mjs FOLDER

import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const { PLATFORMS, platform } = createRequire(import.meta.url)("../dist/platforms.js");
const folder = process.argv[2];
if (!folder) throw new Error("where to? node scripts/stage.mjs FOLDER");

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const write = (path, value) => writeFileSync(path, `${JSON.stringify(value, undefined, 2)}\n`);

const main = join(folder, "levada");
mkdirSync(main, { recursive: true });
for (const part of ["dist", "esm", "README.md"]) cpSync(join(root, part), join(main, part), { recursive: true });
copyFileSync(join(root, "..", "LICENSE"), join(main, "LICENSE"));
const { private: _, scripts: __, devDependencies: ___, ...published } = manifest;
const names = Object.values(PLATFORMS).map((suffix) => `@levada/native-${suffix}`);
const optionalDependencies = Object.fromEntries(names.sort().map((name) => [name, manifest.version]));
write(join(main, "package.json"), { ...published, optionalDependencies });

const here = platform();
const suffix = PLATFORMS[here];
if (suffix === undefined) throw new Error(`no package for ${here}`);
const [os, cpu, libc] = here.split(" ");
const native = join(folder, `native-${suffix}`);
mkdirSync(native, { recursive: true });
copyFileSync(join(root, "build", "levada.node"), join(native, "levada.node"));
copyFileSync(join(root, "..", "LICENSE"), join(native, "LICENSE"));
write(join(native, "package.json"), {
  name: `@levada/native-${suffix}`,
  version: manifest.version,
  description: `Native module of levada for ${here}`,
  license: manifest.license,
  repository: manifest.repository,
  main: "levada.node",
  files: ["levada.node"],
  os: [os],
  cpu: [cpu],
  ...(libc && { libc: [libc] }),
});
writeFileSync(join(native, "README.md"), `The native module of [levada](https://www.npmjs.com/package/levada) for ${here}.\n`);
