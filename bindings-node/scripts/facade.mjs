// Writes the ESM face of the package: names only. State lives once, in the CommonJS build, however the package is loaded.

import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const root = new URL("..", import.meta.url);
const names = Object.keys(require("../dist/index.js")).sort();

mkdirSync(new URL("esm/", root), { recursive: true });
writeFileSync(
  new URL("esm/index.mjs", root),
  `import levada from "../dist/index.js";\n\nexport const {\n${names.map((name) => `  ${name},\n`).join("")}} = levada;\n`,
);
writeFileSync(new URL("esm/index.d.mts", root), 'export * from "../dist/index.js";\n');
