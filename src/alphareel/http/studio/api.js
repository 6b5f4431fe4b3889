// The public HTTP API, as every other client uses it. The key stays in this tab's session storage and in headers.
const root = new URL("./", document.baseURI);

export class ApiError extends Error {
  constructor(status, error, retryAfter) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.requestId = error.request_id;
    this.details = error.details ?? [];
    this.retryAfter = retryAfter;
  }
}

const secret = (name) => ({
  get: () => sessionStorage.getItem(`alphareel.${name}`) ?? "",
  set: (value) => (value ? sessionStorage.setItem(`alphareel.${name}`, value) : sessionStorage.removeItem(`alphareel.${name}`)),
});
export const apiKey = secret("api_key");
export const adminToken = secret("admin_token");

/** Sent to the window when the server refuses the key of this tab, which is forgotten then. */
export const KEY_REFUSED = "alphareel:key-refused";
export const UNREACHABLE = { code: "connection_lost", message: "The server cannot be reached. Check that it runs, then try again." };

/** Absolute address of a path of this server, also behind a path prefix. */
export const address = (path) => new URL(path.replace(/^\//, ""), root).href;

/** A signed link of this server as an address of this page's origin, which the page's security policy allows. */
export function local(link) {
  if (!link) return null;
  const { pathname, search } = new URL(link, root);
  const files = pathname.indexOf("/files/");
  return files < 0 ? link : address(pathname.slice(files) + search);
}

function headers(path, more = {}) {
  const credentials = path.startsWith("/v1/admin") ? { "X-Admin-Token": adminToken.get() } : { "X-Api-Key": apiKey.get() };
  return { ...credentials, ...more };
}

function refused(error, url) {
  if (error.code !== "invalid_api_key" || url.includes("/v1/admin/") || !apiKey.get()) return;
  apiKey.set("");
  dispatchEvent(new Event(KEY_REFUSED));
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  const error = body?.error ?? { code: "unreadable_response", message: `The server answered ${response.status} without a readable error.` };
  refused(error, response.url);
  return new ApiError(response.status, error, Number(response.headers.get("Retry-After")) || null);
}

async function send(method, path, body, signal, more = {}) {
  const json = body === undefined ? more : { "Content-Type": "application/json", ...more };
  try {
    return await fetch(address(path), {
      method, signal, headers: headers(path, json), body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, UNREACHABLE);
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** Call the API; the JSON of the response. GET requests that hit the rate limit are repeated when the server allows it. */
export async function call(method, path, body, signal, more) {
  for (let attempt = 0; ; attempt += 1) {
    const response = await send(method, path, body, signal, more);
    if (response.ok) return response.status === 204 ? null : response.json();
    const error = await failure(response);
    if (method !== "GET" || error.status !== 429 || attempt === 3) throw error;
    await pause(Math.min(error.retryAfter ?? 2, 16));
  }
}
export const get = (path, signal) => call("GET", path, undefined, signal);
const AWAY = new Set([0, 502, 503, 504]); // statuses of a server that starts again, or of a proxy before it
const MAX_AWAY = 120; // seconds

/**
 * Like `get`, for what goes on at the server meanwhile: waits up to two minutes for a server that is away, and calls
 * `onAway` at each failure.
 */
export async function poll(path, signal, onAway = () => {}) {
  for (let waited = 0; ; waited += 2) {
    try { return await get(path, signal); } catch (error) {
      if (!AWAY.has(error.status) || waited >= MAX_AWAY) throw error;
    }
    onAway();
    await pause(2);
  }
}
const unanswered = new Map(); // idempotency keys of requests whose response was lost, by path and body

/** Repeating a request whose response was lost does not do it twice. */
export async function post(path, body = {}) {
  const request = `${path} ${JSON.stringify(body)}`;
  const key = unanswered.get(request) ?? [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  unanswered.set(request, key);
  try {
    const answer = await call("POST", path, body, undefined, { "Idempotency-Key": key });
    unanswered.delete(request);
    return answer;
  } catch (error) {
    if (!AWAY.has(error.status) && error.code !== "idempotency_in_progress") unanswered.delete(request);
    throw error;
  }
}
export const remove = (path) => call("DELETE", path);

const RESUMABLE = 16 * 2 ** 20; // bytes from which a file is sent in a way that survives a broken connection
const MAX_FAILURES = 10; // in a row, without a byte that arrived
const TUS = { "Tus-Resumable": "1.0.0" };

/** Upload a file. `onProgress` gets the share that was sent, 0 to 1. Abort with `signal`. */
export function upload(file, onProgress, signal) {
  if (file.size >= RESUMABLE) return resumableUpload(file, onProgress, signal);
  const form = new FormData();
  form.append("file", file, file.name);
  return transmit("POST", "/v1/uploads", form, {}, onProgress, signal);
}

/** By the tus protocol: asks how much arrived and goes on there. */
async function resumableUpload(file, onProgress, signal) {
  const path = await beginUpload(file, signal);
  let offset = 0;
  for (let failures = 0; ; ) {
    try {
      const fields = { ...TUS, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
      await transmit("PATCH", path, file.slice(offset), fields, (share) => onProgress((offset + share * (file.size - offset)) / file.size), signal);
    } catch (error) {
      if (signal?.aborted) fetch(address(path), { method: "DELETE", headers: headers(path, TUS) }).catch(() => {});
      const passes = error.status === 0 || error.status >= 500 || [409, 423, 429].includes(error.status);
      if (!passes || failures === MAX_FAILURES) throw error;
      await pause(error.retryAfter ?? Math.min(2 ** failures, 16));
      failures += 1;
    }
    const state = await get(path, signal).catch((error) => { if (AWAY.has(error.status)) return { offset }; throw error; });
    if (state.status === "failed") throw new ApiError(400, { code: state.error_code, message: state.error });
    if (state.status === "completed") return state.upload;
    if (state.offset > offset) failures = 0;
    offset = state.offset;
  }
}

async function beginUpload(file, signal) {
  const encode = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
  const metadata = [`filename ${encode(file.name)}`, ...(file.type ? [`filetype ${encode(file.type)}`] : [])].join();
  const fields = { ...TUS, "Upload-Length": String(file.size), "Upload-Metadata": metadata };
  const response = await fetch(address("/v1/uploads/tus"), { method: "POST", signal, headers: headers("", fields) }).catch((error) => { throw error.name === "AbortError" ? error : connectionLost(); });
  if (!response.ok) throw await failure(response);
  return `/v1/uploads/tus/${response.headers.get("Location").split("/").pop()}`;
}

const connectionLost = () => new ApiError(0, { code: "connection_lost", message: "The connection was lost during the upload. Try again." });

function uploadError(path, status, error, retryAfter) {
  refused(error, path);
  return new ApiError(status, error, retryAfter);
}

/** Send a body and report how much of it was sent, which fetch cannot. The JSON of the response, null if it has none. */
function transmit(method, path, body, fields, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, address(path));
    for (const [name, value] of Object.entries(headers(path, fields))) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      let parsed = null;
      try { parsed = JSON.parse(request.responseText); } catch { /* reported below */ }
      if (request.status === 204 || (request.status === 200 && parsed)) resolve(parsed);
      else reject(uploadError(path, request.status, parsed?.error ?? { code: "unreadable_response", message: "The upload failed without a readable error." }, Number(request.getResponseHeader("Retry-After")) || null));
    };
    request.onerror = () => reject(connectionLost());
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

/**
 * Follow a job by its event stream, which reconnects, until it ends. `onEvent(name, data)`: beside the events of the server
 * "lost" when the server cannot be reached, and "open" when it can. Resolves to the final job.
 */
export async function follow(jobId, onEvent, signal) {
  let lastId = null;
  while (!signal.aborted) {
    try {
      for await (const event of events(`/v1/jobs/${jobId}/events`, lastId, signal)) {
        lastId = event.id ?? lastId;
        onEvent(event.name, event.data);
        if (event.name === "end" || event.name === "deleted") return get(`/v1/jobs/${jobId}`, signal);
      }
      const job = await get(`/v1/jobs/${jobId}`, signal);
      if (["completed", "failed", "created"].includes(job.status)) return job;
    } catch (error) {
      if (signal.aborted || error.status === 401 || error.status === 404) throw error;
      onEvent("lost");
    }
    await pause(1);
  }
  throw new DOMException("aborted", "AbortError");
}

async function* events(path, lastId, signal) {
  const resume = lastId === null ? {} : { "Last-Event-ID": lastId };
  const response = await fetch(address(path), { headers: headers(path, resume), signal }); // EventSource cannot send a key
  if (!response.ok) throw await failure(response);
  yield { name: "open" };
  if (response.status === 204) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value.replaceAll("\r\n", "\n");
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const event = parse(buffer.slice(0, end));
      buffer = buffer.slice(end + 2);
      if (event.data !== undefined) yield event;
    }
  }
}

function parse(block) {
  const event = { name: "message" };
  const data = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([a-z]*): ?(.*)$/.exec(line) ?? [];
    if (field === "event") event.name = value;
    if (field === "id") event.id = value;
    if (field === "data") data.push(value);
  }
  if (data.length) event.data = JSON.parse(data.join("\n"));
  return event;
}
