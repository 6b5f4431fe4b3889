// The API reference, rendered from this server's own OpenAPI document, with requests that can be sent from the page.
import { address, apiKey, adminToken } from "./api.js";
import { CopyButton, Failure, html, useLoad, useState } from "./ui.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

export function ReferencePage() {
  const [document_, error] = useLoad((signal) => fetch(address("/openapi.json"), { signal }).then((response) => response.json()));
  const [filter, setFilter] = useState("");
  const groups = new Map();
  for (const [path, operations] of Object.entries(document_?.paths ?? {})) {
    for (const method of METHODS) {
      const operation = operations[method];
      const text = `${method} ${path} ${operation?.summary ?? ""} ${operation?.description ?? ""}`.toLowerCase();
      if (!operation || !text.includes(filter.toLowerCase())) continue;
      const tag = operation.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), { path, method, operation, shared: operations.parameters ?? [] }]);
    }
  }
  return html`<h1>API reference</h1><p class="lead">Every route of this server, from <a href="openapi.json">its OpenAPI document</a>. Requests below are real: they use the key you signed in with.</p>
    <${Failure} error=${error} />
    ${!document_ && !error && html`<p class="hint">Loading…</p>`}
    <div class="field"><label for="search">Find a route</label><input id="search" type="search" value=${filter} onInput=${(event) => setFilter(event.target.value)} /></div>
    ${[...groups].map(([tag, list]) => html`<section aria-label=${tag}><h2 style=${{ marginTop: "22px" }}>${tag}</h2>${list.map((entry) => html`<${Operation} key=${entry.method + entry.path} ...${entry} schema=${document_} />`)}</section>`)}`;
}

function Operation({ path, method, operation, shared, schema }) {
  const [open, setOpen] = useState(false);
  return html`<details class="operation" onToggle=${(event) => setOpen(event.target.open)}>
    <summary><span class=${`method ${method}`}>${method.toUpperCase()}</span><code>${path}</code><span class="hint">${operation.summary}</span></summary>
    ${open && html`<${Request} path=${path} method=${method} operation=${operation} parameters=${[...shared, ...(operation.parameters ?? [])]} schema=${schema} />`}
  </details>`;
}

function Request({ path, method, operation, parameters, schema }) {
  const content = operation.requestBody?.content ?? {};
  const json = content["application/json"];
  const form = content["multipart/form-data"];
  const fields = properties(json?.schema, schema);
  const [values, setValues] = useState({});
  const [body, setBody] = useState(() => (json ? JSON.stringify(example(json.schema, schema), null, 2) : ""));
  const [file, setFile] = useState(null);
  const [answer, setAnswer] = useState(null);
  const usable = parameters.filter((parameter) => parameter.in === "path" || parameter.in === "query");
  const target = () => {
    const filled = path.replace(/\{([^}]+)\}/g, (_, name) => (name === "blob" ? values[name] ?? "" : encodeURIComponent(values[name] ?? "")));
    const query = new URLSearchParams(usable.filter((p) => p.in === "query" && values[p.name]).map((p) => [p.name, values[p.name]]));
    return filled + (query.size ? `?${query}` : "");
  };
  const send = async (event) => {
    event.preventDefault();
    const headers = path.startsWith("/v1/admin") ? { "X-Admin-Token": adminToken.get() } : apiKey.get() ? { "X-Api-Key": apiKey.get() } : {};
    let data;
    if (json && body.trim()) { headers["Content-Type"] = "application/json"; data = body; }
    if (form && file) { data = new FormData(); data.append("file", file, file.name); }
    setAnswer({ status: "…" });
    try {
      const response = await fetch(address(target()), { method: method.toUpperCase(), headers, body: data, signal: AbortSignal.timeout(20000) });
      const type = response.headers.get("Content-Type") ?? "";
      const text = /json|text/.test(type) ? await response.text() : `${response.headers.get("Content-Length") ?? "some"} bytes of ${type}`;
      setAnswer({ status: response.status, text: type.includes("json") ? JSON.stringify(JSON.parse(text), null, 2) : text, id: response.headers.get("X-Request-Id") });
    } catch (error) { setAnswer({ status: "no answer", text: error.name === "TimeoutError" ? "No complete answer after 20 s." : "The server cannot be reached." }); }
  };
  const curl = `curl -sS${method === "get" ? "" : ` -X ${method.toUpperCase()}`} "$ALPHAREEL_BASE_URL${target()}"${path.startsWith("/v1/admin") ? ' -H "X-Admin-Token: $ALPHAREEL_ADMIN_TOKEN"' : ' -H "X-Api-Key: $ALPHAREEL_API_KEY"'}${json && body.trim() ? ` -H "Content-Type: application/json" -d '${body.replaceAll("'", "'\\''")}'` : ""}${form ? ' -F "file=@input.mp4"' : ""}`;
  return html`<div><p>${operation.description ?? ""}</p>
    <form onSubmit=${send}>
      ${usable.map((parameter) => html`<div class="field"><label for=${operation.operationId + parameter.name}>${parameter.name}${parameter.required ? "" : " (optional)"}</label>
        <input id=${operation.operationId + parameter.name} required=${parameter.required} value=${values[parameter.name] ?? ""} onInput=${(event) => setValues({ ...values, [parameter.name]: event.target.value })} />
        <span class="hint">${[parameter.in, typeName(parameter.schema, schema), parameter.description].filter(Boolean).join(" · ")}</span></div>`)}
      ${form && html`<div class="field"><label for=${`${operation.operationId}-file`}>File</label><input id=${`${operation.operationId}-file`} type="file" onChange=${(event) => setFile(event.target.files[0])} /></div>`}
      ${json && html`<div class="field"><label for=${`${operation.operationId}-body`}>JSON body</label><textarea id=${`${operation.operationId}-body`} class="mono" spellcheck="false" value=${body} onInput=${(event) => setBody(event.target.value)}></textarea></div>`}
      <div class="row"><button class="primary small">Send</button><${CopyButton} text=${curl} label="Copy as curl" /></div>
    </form>
    ${answer && html`<div style=${{ marginTop: "12px" }} aria-live="polite"><p><strong>${answer.status}</strong> <span class="hint">${answer.id ?? ""}</span></p>${answer.text && html`<pre tabindex="0" aria-label="Response">${answer.text}</pre>`}</div>`}
    ${fields.length > 0 && html`<h3 style=${{ marginTop: "16px" }}>Fields</h3><div class="scroll"><table><tbody>${fields.map(([name, field]) => html`<tr><td class="mono">${name}</td><td>${typeName(field, schema)}</td><td>${field.description ?? ""}${field.default !== undefined && field.default !== null ? ` Default: ${JSON.stringify(field.default)}.` : ""}</td></tr>`)}</tbody></table></div>`}
    <h3 style=${{ marginTop: "16px" }}>Responses</h3><dl>${Object.entries(operation.responses ?? {}).map(([status, response]) => html`<dt class="mono">${status}</dt><dd>${response.description}</dd>`)}</dl>
  </div>`;
}

function resolve(node, schema) {
  if (!node?.$ref) return node ?? {};
  return node.$ref.split("/").slice(1).reduce((value, step) => value[step], schema);
}

function properties(node, schema) {
  return Object.entries(resolve(node, schema).properties ?? {});
}

function typeName(node, schema) {
  const known = resolve(node, schema);
  if (known.enum) return known.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (known.const !== undefined) return JSON.stringify(known.const);
  const options = known.anyOf ?? known.oneOf;
  if (options) return [...new Set(options.map((option) => typeName(option, schema)).filter((name) => name !== "null"))].join(" | ");
  if (known.type === "array") return `list of ${typeName(known.items, schema)}`;
  return node?.$ref ? known.title ?? "object" : known.type ?? "any";
}

/** A body with the required fields; with the first field if none is required. */
function example(node, schema, depth = 0) {
  const known = resolve(node, schema);
  if (known.examples?.length) return known.examples[0];
  if (known.default !== undefined && known.default !== null) return known.default;
  const option = (known.anyOf ?? known.oneOf)?.find((candidate) => candidate.type !== "null");
  if (option) return example(option, schema, depth);
  if (known.enum) return known.enum[0];
  if (known.type === "object" || known.properties) {
    if (depth > 3) return {};
    return Object.fromEntries((known.required ?? []).map((name) => [name, example(known.properties[name], schema, depth + 1)]));
  }
  if (known.type === "array") return [];
  return { integer: 0, number: 0, boolean: false, string: known.pattern?.includes("https") ? "https://example.com/clip.mp4" : "" }[known.type] ?? null;
}
