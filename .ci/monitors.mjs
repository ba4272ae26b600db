// Whether the Prometheus Operator's own types take the objects in the YAML files given that are meant for it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const here = createRequire(`${process.cwd()}/`);
const { parseAllDocuments } = here("yaml");
const known = await import(pathToFileURL(`${process.cwd()}/node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/index.js`));
const seen = {};
for (const file of process.argv.slice(2)) {
  for (const one of parseAllDocuments(readFileSync(file, "utf8")).map((document) => document.toJS())) {
    if (one?.apiVersion !== "monitoring.coreos.com/v1") continue;
    new known[one.kind](one).validate();
    seen[one.kind] = (seen[one.kind] ?? 0) + 1;
  }
}
console.log(seen);
process.exit(Object.keys(seen).length === 3 ? 0 : 1); // ServiceMonitor, PodMonitor, PrometheusRule
