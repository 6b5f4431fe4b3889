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
/** Sent to the window when the user signs out: what runs ends. */
export const SIGNED_OUT = "alphareel:signed-out";
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

/** `used`: the key that the request was sent with, which may not be that of the tab any more. */
function refused(error, url, used) {
  if (error.code !== "invalid_api_key" || url.includes("/v1/admin/") || !used || apiKey.get() !== used) return;
  apiKey.set("");
  dispatchEvent(new Event(KEY_REFUSED));
}

async function failure(response, used) {
  const body = await response.json().catch(() => null);
  const error = body?.error ?? { code: "unreadable_response", message: `The server answered ${response.status} without a readable error.` };
  refused(error, response.url, used);
  return new ApiError(response.status, error, Number(response.headers.get("Retry-After")) || null);
}

async function send(method, path, body, signal, fields) {
  try {
    return await fetch(address(path), {
      method, signal, headers: fields, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) { throw lost(error); }
}

const lost = (error) => (error.name === "AbortError" ? error : new ApiError(0, UNREACHABLE));

/** Wait. When `signal` is aborted, the wait ends at once with an AbortError. */
export const pause = (seconds, signal) => new Promise((resolve, reject) => {
  signal?.throwIfAborted();
  const timer = setTimeout(() => { signal?.removeEventListener("abort", stop); resolve(); }, seconds * 1000);
  const stop = () => { clearTimeout(timer); reject(signal.reason); };
  signal?.addEventListener("abort", stop, { once: true });
});
const MAX_PAUSE = 16; // seconds, whatever a server asks for

/** Call the API; the JSON of the response. GET requests that hit the rate limit are repeated when the server allows it. */
export async function call(method, path, body, signal, more = {}) {
  const fields = headers(path, body === undefined ? more : { "Content-Type": "application/json", ...more });
  for (let attempt = 0; ; attempt += 1) {
    const response = await send(method, path, body, signal, fields);
    if (response.ok) return response.status === 204 ? null : response.json().catch((error) => { throw lost(error); });
    const error = await failure(response, fields["X-Api-Key"]);
    if (method !== "GET" || error.status !== 429 || attempt === 3) throw error;
    await pause(Math.min(error.retryAfter ?? 2, MAX_PAUSE), signal);
  }
}
export const get = (path, signal) => call("GET", path, undefined, signal);
const AWAY = new Set([0, 502, 503, 504]); // statuses of a server that starts again, or of a proxy before it
const ANSWERS = new Set(["queue_full", "storage_full", "storage_failed"]); // codes of a 503 by a server that is there
const MAX_AWAY = 120; // seconds
export const AWAY_TEXT = "The server cannot be reached.";
export const isAway = (error) => AWAY.has(error.status) && !ANSWERS.has(error.code);

/**
 * Repeat a request that may be repeated, for up to `seconds` while the server is away, and until the rate limit allows it.
 * `onAway` is called at each failure.
 */
export async function patiently(request, signal, onAway = () => {}, seconds = MAX_AWAY) {
  for (let waited = 0; ;) {
    let next = 2;
    try { return await request(); } catch (error) {
      const isPassing = isAway(error) || ["rate_limited", "idempotency_in_progress"].includes(error.code);
      if (!isPassing || waited >= seconds) throw error;
      if (isAway(error)) onAway();
      else next = Math.min(error.retryAfter ?? next, MAX_PAUSE);
    }
    await pause(next, signal);
    waited += next;
  }
}

/** Like `get`, for what goes on at the server meanwhile: waits up to two minutes for a server that is away. */
export const poll = (path, signal, onAway) => patiently(() => get(path, signal), signal, onAway);

const unanswered = new Map(); // idempotency keys of requests whose response was lost, by path and body

/** What a POST sends beside its body: the same again while its response is missing, so that it is not done twice. */
export function once(path, body) {
  const request = `${path} ${JSON.stringify(body)}`;
  const key = unanswered.get(request) ?? [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  unanswered.set(request, key);
  return { ...headers(path), "Idempotency-Key": key };
}

/** Repeating a request whose response was lost does not do it twice. With `onAway` it is repeated here, as by `patiently`. */
export async function post(path, body = {}, { signal, onAway } = {}) {
  const more = once(path, body);
  const ask = () => call("POST", path, body, signal, more);
  const forget = () => unanswered.delete(`${path} ${JSON.stringify(body)}`);
  try {
    const answer = await (onAway ? patiently(ask, signal, onAway) : ask());
    forget();
    return answer;
  } catch (error) {
    if (!isAway(error) && error.code !== "idempotency_in_progress") forget();
    throw error;
  }
}
export const remove = (path) => call("DELETE", path);

const RESUMABLE = 16 * 2 ** 20; // bytes from which a file is sent in a way that survives a broken connection
const MAX_FAILURES = 10; // in a row, without a byte that arrived
const TUS = { "Tus-Resumable": "1.0.0" };

/**
 * Upload a file. `onProgress(share, wait)`: the share that was sent, 0 to 1; while an interrupted upload waits, why it does,
 * else undefined. Abort with `signal`.
 */
export function upload(file, onProgress, signal) {
  if (file.size >= RESUMABLE) return resumableUpload(file, onProgress, signal);
  const form = new FormData();
  form.append("file", file, file.name);
  return transmit("POST", "/v1/uploads", form, headers("/v1/uploads"), onProgress, signal);
}

/** The path of an upload of this file that was not finished: sending it again goes on there, also after a reload. */
function interrupted(file) {
  const name = `alphareel.upload ${file.lastModified} ${file.size} ${file.type} ${file.name}`;
  return { get: () => sessionStorage.getItem(name), set: (path) => sessionStorage.setItem(name, path), forget: () => sessionStorage.removeItem(name) };
}

async function resumableUpload(file, onProgress, signal) {
  const fields = headers("", TUS), known = interrupted(file);
  let path = known.get();
  const gone = (error) => { if (error.status === 404) return null; throw error; };
  let state = path ? await get(path, signal).catch(gone) : null;
  if (!state) {
    path = await beginUpload(file, fields, signal);
    state = { offset: 0 };
  }
  known.set(path);
  try {
    const sent = await sendRest(path, state, file, fields, onProgress, signal);
    known.forget();
    return sent;
  } catch (error) {
    if (!canGoOn(error)) known.forget();
    if (signal?.aborted) patiently(() => call("DELETE", path, undefined, undefined, fields)).catch(() => {});
    throw error;
  }
}

/** Whether a part of an upload may be sent again after this error. */
const canGoOn = (error) => error.status === 0 || error.status >= 500 || [409, 423, 429].includes(error.status);

/** By the tus protocol: asks how much arrived and goes on there. */
async function sendRest(path, state, file, fields, onProgress, signal) {
  for (let failures = 0, share = 0; ; ) {
    if (state.status === "failed") throw new ApiError(400, { code: state.error_code, message: state.error });
    if (state.status === "completed") return state.upload;
    const { offset } = state;
    if (!state.isOld) share = offset / file.size;
    const sent = (part) => { share = (offset + part * (file.size - offset)) / file.size; onProgress(share); };
    try {
      const place = { "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
      await transmit("PATCH", path, file.slice(offset), { ...fields, ...place }, sent, signal);
    } catch (error) {
      if (!canGoOn(error)) throw error;
      if (failures === MAX_FAILURES) throw new ApiError(error.status, { code: error.code, message: `${isAway(error) ? AWAY_TEXT : error.message} Try again: the upload goes on where it stopped.` });
      onProgress(share, isAway(error) ? AWAY_TEXT : error.message);
      await pause(error.retryAfter ?? Math.min(2 ** failures, MAX_PAUSE), signal);
      failures += 1;
    }
    state = await get(path, signal).catch((error) => { if (isAway(error)) return { offset, isOld: true }; throw error; });
    if (state.offset > offset) failures = 0;
  }
}

async function beginUpload(file, fields, signal) {
  const encode = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
  const metadata = [`filename ${encode(file.name)}`, ...(file.type ? [`filetype ${encode(file.type)}`] : [])].join();
  const more = { "Upload-Length": String(file.size), "Upload-Metadata": metadata };
  const response = await fetch(address("/v1/uploads/tus"), { method: "POST", signal, headers: { ...fields, ...more } }).catch((error) => { throw error.name === "AbortError" ? error : connectionLost(); });
  if (!response.ok) throw await failure(response, fields["X-Api-Key"]);
  return `/v1/uploads/tus/${response.headers.get("Location").split("/").pop()}`;
}

const connectionLost = () => new ApiError(0, { code: "connection_lost", message: "The connection was lost during the upload. Try again." });

function uploadError(path, used, status, error, retryAfter) {
  refused(error, path, used);
  return new ApiError(status, error, retryAfter);
}

/** Send a body and report how much of it was sent, which fetch cannot. The JSON of the response, null if it has none. */
function transmit(method, path, body, fields, onProgress, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = new XMLHttpRequest();
    request.open(method, address(path));
    for (const [name, value] of Object.entries(fields)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      let parsed = null;
      try { parsed = JSON.parse(request.responseText); } catch { /* reported below */ }
      if (request.status === 204 || (request.status === 200 && parsed)) resolve(parsed);
      else reject(uploadError(path, fields["X-Api-Key"], request.status, parsed?.error ?? { code: "unreadable_response", message: "The upload failed without a readable error." }, Number(request.getResponseHeader("Retry-After")) || null));
    };
    request.onerror = () => reject(connectionLost());
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
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
    await pause(1, signal);
  }
  throw new DOMException("aborted", "AbortError");
}

async function* events(path, lastId, signal) {
  const fields = headers(path, lastId === null ? {} : { "Last-Event-ID": lastId });
  const response = await fetch(address(path), { headers: fields, signal }); // EventSource cannot send a key
  if (!response.ok) throw await failure(response, fields["X-Api-Key"]);
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
