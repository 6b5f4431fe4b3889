// The exact requests behind what was just done, as curl, Python and Node.
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const indent = (text, by) => text.replaceAll("\n", `\n${by}`);

function python(value, by = "") {
  const next = `${by}    `;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map((item) => python(item, next)).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${python(item, next)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/** `filename`: of the upload, or null when `fields.video_url` is the caller's own URL. */
export function jobSamples(server, filename, fields) {
  const { video_url: url, ...rest } = fields;
  const name = filename ?? "input.mp4";
  const suffix = { png_sequence: "zip", poster: "png", thumbnail: "png", stacked_mp4: "mp4", matte: "mp4", prores_hq: "mov", hevc_mov: "mov", apng: "png", ffv1: "mkv" }[rest.output_format] ?? rest.output_format ?? "webm";
  const result = `${name.replace(/\.[^.]*$/, "")}-transparent.${suffix}`;
  const body = JSON.stringify(rest, null, 2);
  const curlUpload = filename
    ? `VIDEO_URL=$(curl -sS --fail "$ALPHAREEL_BASE_URL/v1/uploads" -H "X-Api-Key: $ALPHAREEL_API_KEY" \\\n  -F ${quoted(`file=@${name}`)} | jq -r .video_url)`
    : `VIDEO_URL=${quoted(url)}`;
  const args = Object.entries(rest).map(([field, value]) => `    ${field}=${python(value)},`).join("\n");
  return {
    curl: `export ALPHAREEL_BASE_URL=${server}
export ALPHAREEL_API_KEY=...
${curlUpload}
JOB=$(jq -n --arg url "$VIDEO_URL" ${quoted(`${body} + {video_url: $url}`)} |
  curl -sS --fail "$ALPHAREEL_BASE_URL/v1/jobs" -H "X-Api-Key: $ALPHAREEL_API_KEY" -H "Content-Type: application/json" -d @- | jq -r .id)
until curl -sS --fail "$ALPHAREEL_BASE_URL/v1/jobs/$JOB" -H "X-Api-Key: $ALPHAREEL_API_KEY" -o job.json &&
  jq -e '.status == "completed" or .status == "failed"' job.json >/dev/null; do sleep 2; done
jq -e '.status == "completed"' job.json >/dev/null || { jq -r .error job.json >&2; exit 1; }
curl -sS --fail "$(jq -r .output_url job.json)" -o ${quoted(result)}`,
    Python: `# Needs the package alphareel-client, and ALPHAREEL_BASE_URL and ALPHAREEL_API_KEY in the environment
from alphareel_client import Client

client = Client()
${filename ? `video_url = client.upload(${JSON.stringify(name)})["video_url"]` : `video_url = ${JSON.stringify(url)}`}
job = client.create_job(
    video_url,
${args}
)
job = client.wait_for_completion(job["id"])
client.download(job, ${JSON.stringify(result)})`,
    Node: `// Node 20 or newer; needs ALPHAREEL_BASE_URL and ALPHAREEL_API_KEY in the environment
import { openAsBlob } from "node:fs";
import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

async function call(path, options = {}) {
  const response = await fetch(process.env.ALPHAREEL_BASE_URL + path, {
    ...options, headers: { "X-Api-Key": process.env.ALPHAREEL_API_KEY, ...options.headers },
  });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error.message);
  return body;
}
${filename ? `
const form = new FormData();
form.append("file", await openAsBlob(${JSON.stringify(name)}), ${JSON.stringify(name)});
const { video_url } = await call("/v1/uploads", { method: "POST", body: form });` : `
const video_url = ${JSON.stringify(url)};`}
let job = await call("/v1/jobs", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ video_url, ...${indent(body, "  ")} }),
});
while (job.status !== "completed" && job.status !== "failed") {
  await sleep(2000);
  job = await call(\`/v1/jobs/\${job.id}\`);
}
if (job.status === "failed") throw new Error(job.error);
await writeFile(${JSON.stringify(result)}, Buffer.from(await (await fetch(job.output_url)).arrayBuffer()));`,
  };
}
