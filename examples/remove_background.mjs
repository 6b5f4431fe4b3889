// Remove the background of one video with Node alone (20 or newer): node remove_background.mjs in.mp4 out.webm
//
// Reads ALPHAREEL_API_KEY, ALPHAREEL_BASE_URL (http://127.0.0.1:8080 when unset) and ALPHAREEL_TIMEOUT (seconds to wait
// for the job, 3600 when unset). The format follows from the target's suffix. Ends with 0 when the target is there and
// has the right hash, and with 1 otherwise.
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, createWriteStream, existsSync, openAsBlob } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { basename, extname } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";

const FORMATS = {
  ".webm": "webm", ".mov": "mov", ".mp4": "mp4", ".mkv": "ffv1", ".webp": "webp", ".gif": "gif", ".apng": "apng",
  ".zip": "png_sequence", ".png": "poster",
};
const TRIES = 5;
const key = process.env.ALPHAREEL_API_KEY;
const baseUrl = process.env.ALPHAREEL_BASE_URL || "http://127.0.0.1:8080";
const timeout = Number(process.env.ALPHAREEL_TIMEOUT || 3600);

// Call the service. What can be repeated is: creating carries an Idempotency-Key, so it happens once.
async function call(path, options = {}) {
  for (let attempt = 1; ; attempt += 1) {
    let response;
    try {
      response = await fetch(baseUrl + path, { ...options, headers: { "X-Api-Key": key, ...options.headers } });
    } catch (error) {
      if (attempt === TRIES) throw new Error(`${baseUrl} cannot be reached: ${error.cause?.message ?? error.message}`);
    }
    if (response?.ok) return response.json();
    if (response && (attempt === TRIES || (response.status < 500 && response.status !== 429))) {
      const { error } = await response.json();
      throw new Error(`${error.message} (code ${error.code}, request ${error.request_id})`);
    }
    await sleep(1000 * Math.max(attempt, Number(response?.headers.get("Retry-After") ?? 0)));
  }
}

async function download(url, target, sha256) {
  const part = `${target}.${process.pid}.part`;
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`the result cannot be downloaded: status ${response.status}`);
    await pipeline(Readable.fromWeb(response.body), createWriteStream(part));
    const hash = createHash("sha256");
    await pipeline(createReadStream(part), hash);
    if (hash.digest("hex") !== sha256) throw new Error("the result arrived damaged");
    if (existsSync(target)) throw new Error(`${target} appeared meanwhile`);
    await rename(part, target);
  } finally {
    await rm(part, { force: true });
  }
}

async function main(source, target, ...rest) {
  if (!target || rest.length) throw new Error("usage: node remove_background.mjs VIDEO TARGET");
  if (!key) throw new Error("set ALPHAREEL_API_KEY");
  const format = FORMATS[extname(target).toLowerCase()];
  if (!format) throw new Error(`no format is known for ${target}; use one of ${Object.keys(FORMATS).join(", ")}`);
  if (!existsSync(source)) throw new Error(`there is no file ${source}`);
  if (existsSync(target)) throw new Error(`${target} exists; choose another name or remove it first`);

  const form = new FormData();
  form.append("file", await openAsBlob(source), basename(source));
  const once = { "Idempotency-Key": randomUUID() };
  const upload = await call("/v1/uploads", { method: "POST", headers: once, body: form });

  const wish = { video_url: upload.video_url, model: "human", output_format: format };
  wish.background = { type: "transparent" };
  if (format === "mp4") wish.background = { type: "color", color: "white" }; // MP4 carries no alpha
  const headers = { "Idempotency-Key": randomUUID(), "Content-Type": "application/json" };
  let job = await call("/v1/jobs", { method: "POST", headers, body: JSON.stringify(wish) });

  const deadline = Date.now() + 1000 * timeout;
  for (let pause = 1; job.status !== "completed"; pause = Math.min(pause + 1, 10)) {
    if (job.status === "failed") throw new Error(`job ${job.id} failed: ${job.error_code}: ${job.error}`);
    if (Date.now() + 1000 * pause > deadline) {
      throw new Error(`job ${job.id} is not done after ${timeout} seconds; it goes on`);
    }
    await sleep(1000 * pause);
    job = await call(`/v1/jobs/${job.id}`);
  }
  await download(job.output_url, target, job.output.sha256);
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(`remove_background.mjs: ${error.message}`);
  process.exitCode = 1;
});
