// The guides of docs/, rendered by this server, so that they fit its version and need no network.
import { address } from "./api.js";
import { Failure, html, useEffect, useLoad } from "./ui.js";

export function GuidesPage({ id = "quickstart", anchor }) {
  const [contents, error] = useLoad((signal) => fetch(address("/studio/guides"), { signal }).then((response) => response.json()));
  const known = contents?.guides.some((guide) => guide.name === id);
  const [text, failure] = useLoad((signal) => (known ? fetch(address(`/studio/guides/${id}`), { signal }).then((response) => response.text()) : Promise.resolve("")), [id, known]);
  useEffect(() => {
    const heading = text && anchor && document.getElementById(`${id}/${anchor}`);
    if (heading) heading.scrollIntoView();
  }, [text, id, anchor]);
  const groups = [...new Set(contents?.guides.map((guide) => guide.group) ?? [])];
  return html`<div class="guides">
    <nav aria-label="Guides">${groups.map((group) => html`<h2>${group}</h2><ul>${contents.guides.filter((guide) => guide.group === group).map((guide) => html`<li><a href=${`#/guides/${guide.name}`} aria-current=${guide.name === id ? "page" : undefined}>${guide.title}</a></li>`)}</ul>`)}</nav>
    <article aria-busy=${!text}>
      <${Failure} error=${error ?? failure} />
      ${contents && !known && html`<h1>Guides</h1><p class="lead">There is no guide of this name.</p>`}
      ${text && html`<div dangerouslySetInnerHTML=${{ __html: text }}></div>`}
    </article>
  </div>`;
}
