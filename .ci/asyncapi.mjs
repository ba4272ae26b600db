// Whether AsyncAPI's own parser takes the documents: `node asyncapi.mjs FILE...`, exit code 1 where it does not.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Parser } = createRequire(`${process.cwd()}/`)("@asyncapi/parser");
let wrong = 0;
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
  const errors = diagnostics.filter((one) => one.severity === 0);
  for (const one of diagnostics) console.log(`${file}: ${["error", "warning", "info", "hint"][one.severity]}: ${one.path.join(".")}: ${one.message}`);
  if (!document || errors.length) wrong += 1;
  else console.log(`${file}: AsyncAPI ${document.version()}, ${document.channels().all().length} channels, ${document.messages().all().length} messages, ${diagnostics.length} remarks`);
}
process.exit(wrong ? 1 : 0);
