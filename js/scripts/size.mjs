// Fails where a module is larger than it may be.

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const most = { "dist/index.js": 6_000, "dist/worker.js": 6_000 }; // bytes, after gzip

for (const [file, limit] of Object.entries(most)) {
  const size = gzipSync(readFileSync(file), { level: 9 }).length;
  console.log(`${file}: ${size} bytes compressed, of ${limit}`);
  if (size > limit) process.exitCode = 1;
}
