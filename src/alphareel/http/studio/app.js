// The frame around every page: navigation, sign-in, theme, routes.
import { ApiError, address, apiKey, get, KEY_REFUSED, SIGNED_OUT, UNREACHABLE } from "./api.js";
import { Failure, html, useEffect, useState } from "./ui.js";
import { render } from "./vendor/htm-preact.js";

const PAGES = [["#/", "Try"], ["#/jobs", "Jobs"], ["#/compose", "Compose"], ["#/operate", "Operate"], ["#/guides", "Guides"], ["#/reference", "API"]];
const TITLES = { try: "Try", jobs: "Jobs", fix: "Fix", compose: "Compose", operate: "Operate", guides: "Guides", reference: "API" };
const ENDED = { code: "invalid_api_key", message: "The server no longer accepts the key of this tab. Sign in with another one, or open a new link: alphareel studio." };
const navigate = (hash) => { location.hash = hash; };
// Each page is loaded when it is first opened, so that the first page stays small.
const load = {
  try: () => import("./try.js").then((module) => module.TryPage),
  jobs: () => import("./jobs.js").then((module) => module.JobsPage),
  job: () => import("./jobs.js").then((module) => module.JobPage),
  fix: () => import("./fix.js").then((module) => module.FixPage),
  compose: () => import("./compose.js").then((module) => module.ComposePage),
  operate: () => import("./operate.js").then((module) => module.OperatePage),
  guides: () => import("./guides.js").then((module) => module.GuidesPage),
  reference: () => import("./reference.js").then((module) => module.ReferencePage),
};

function route(hash) {
  if (!hash && location.pathname.endsWith("/docs")) return { page: "reference" };
  const [, page = "", id, action] = hash.split("/");
  if (page === "jobs" && id && action === "fix") return { page: "fix", id };
  if (page === "guides") return { page, id, anchor: action };
  if (page === "jobs" && id) return { page: "job", id };
  return { page: page in load ? page : "try" };
}

function App({ startError }) {
  const [hash, setHash] = useState(location.hash);
  const [signedIn, setSignedIn] = useState(Boolean(apiKey.get()));
  const [notice, setNotice] = useState(startError);
  const [loaded, setLoaded] = useState({});
  const { page, id, anchor } = route(hash);
  const Page = loaded.page === page && loaded.component;
  useEffect(() => {
    const change = async () => {
      const used = await useCode();
      if (used) { setNotice(used.error); if (!used.error) setSignedIn(true); }
      setHash(location.hash);
      window.scrollTo(0, 0);
    };
    addEventListener("hashchange", change);
    if (location.hash !== hash) change(); // since the first rendering
    return () => removeEventListener("hashchange", change);
  }, []);
  useEffect(() => {
    const end = () => { setNotice(new ApiError(401, ENDED)); setSignedIn(false); };
    addEventListener(KEY_REFUSED, end);
    return () => removeEventListener(KEY_REFUSED, end);
  }, []);
  useEffect(() => {
    let current = true;
    document.title = `${TITLES[page] ?? "Job"} – alphareel studio`;
    load[page]().then((component) => current && setLoaded({ page, component }), () => current && setLoaded({ page, error: new ApiError(0, UNREACHABLE) }));
    return () => { current = false; };
  }, [page]);
  const needsKey = !["operate", "reference", "guides"].includes(page);
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>Skip to the content</a>
    <header class="bar">
      <a class="brand" href="#/"><img src="studio/icon.svg" alt="" />alphareel</a>
      <nav aria-label="Pages">${PAGES.map(([href, title]) => html`<a href=${href} aria-current=${isCurrent(href, hash) ? "page" : undefined}>${title}</a>`)}</nav>
      <${Theme} />
      ${signedIn && html`<button type="button" class="small quiet" onClick=${() => { dispatchEvent(new Event(SIGNED_OUT)); apiKey.set(""); setSignedIn(false); }}>Sign out</button>`}
    </header>
    <main id="main" tabindex="-1">
      ${needsKey && !signedIn ? html`<${SignIn} notice=${notice} onDone=${() => { setNotice(null); setSignedIn(true); }} />`
        : loaded.error && loaded.page === page ? html`<${Failure} error=${loaded.error} /><button type="button" onClick=${() => location.reload()}>Reload the page</button>`
        : !Page ? html`<p class="hint">Loading…</p>` : html`<${Page} key=${page === "guides" ? page : page + (id ?? "")} id=${id} anchor=${anchor} navigate=${navigate} />`}
    </main>`;
}

const isCurrent = (href, hash) => {
  const { page } = route(hash);
  return href === `#/${{ try: "", job: "jobs", fix: "jobs" }[page] ?? page}`;
};

function SignIn({ notice, onDone }) {
  const [key, setKey] = useState("");
  const [error, setError] = useState(notice);
  useEffect(() => setError(notice), [notice]);
  const submit = async (event) => {
    event.preventDefault();
    apiKey.set(key.trim());
    try { await get("/v1/jobs?limit=1"); onDone(); } catch (failure) { apiKey.set(""); setError(failure); }
  };
  return html`<h1>Sign in</h1><p class="lead">The studio is a client of this server's HTTP API. It needs an API key, like every client.</p>
    <form class="card" style=${{ maxWidth: "460px" }} onSubmit=${submit}>
      <${Failure} error=${error} />
      <div class="field"><label for="key">API key</label><input id="key" type="password" autocomplete="off" required value=${key} onInput=${(event) => setKey(event.target.value)} />
        <span class="hint">The server showed it at its first start. Another one: <code>alphareel keys create</code>. It stays in this tab.</span></div>
      <button class="primary">Sign in</button>
    </form>`;
}

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme);
  const toggle = () => {
    const next = theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("alphareel.theme", next);
    setTheme(next);
  };
  return html`<button type="button" class="small quiet" onClick=${toggle}>${theme === "dark" ? "Light" : "Dark"}</button>`;
}

/** A one-time link has its code behind the #, which browsers do not send. Exchange it for a key, and forget it. `{error}` if there was one. */
async function useCode() {
  const code = /^#code=([\w-]+)$/.exec(location.hash)?.[1];
  if (!code) return null;
  history.replaceState(null, "", location.pathname);
  try {
    const response = await fetch(address("/studio/sign-in"), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }) });
    const body = await response.json();
    if (!response.ok) return { error: new ApiError(response.status, body.error) };
    apiKey.set(body.api_key);
    return { error: null };
  } catch { return { error: new ApiError(0, UNREACHABLE) }; }
}

// A file that misses its place must not replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());

document.documentElement.dataset.theme = localStorage.getItem("alphareel.theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
const used = await useCode();
render(html`<${App} startError=${used?.error ?? null} />`, document.getElementById("app"));
