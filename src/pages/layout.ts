/** What all pages have: the frame of the document, and the policy by which a browser loads only what this page has. */
import { attributes, type Html, html } from './html.ts';
import { ICON, pathOf, SCRIPT, STYLE, type StaticFile } from './static-files.ts';
import { type Language, type Texts, texts } from './texts.ts';

/** Who gets the page, and by which address he has reached us. */
export interface PageContext {
  language: Language;
  /** PUBLIC_URL, where it is set; else empty, and addresses begin at the root. */
  base: string;
  /** Scheme and host by which the service was reached. */
  origin: string;
}

export interface Page {
  html: string;
  /** Value of Content-Security-Policy. */
  policy: string;
}

export interface Layout {
  title: string;
  /** Further elements of the head. */
  head?: Html | undefined;
  header?: Html | undefined;
  main: Html;
  footer?: Html | undefined;
  /** Addresses of what the page shows: from them the policy is made. */
  pictures?: readonly string[];
  media?: readonly string[];
  /** Where its form leads. */
  formAction?: string | undefined;
  hasScript?: boolean;
}

export function layout(context: PageContext, parts: Layout): Page {
  const href = (file: StaticFile) => toUrl(context, pathOf(file));
  const { title, head, header, main, footer, hasScript = false } = parts;
  // First strong isolates keep a name of another script from turning what stands beside it, where elements cannot.
  const document = html`<!doctype html>
<html lang="${context.language}">
<head>
<meta charset="utf-8">
<title>&#x2068;${title}&#x2069;</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<meta name="format-detection" content="telephone=no">
<link rel="icon" type="image/svg+xml" href="${href(ICON)}">
<link rel="stylesheet" href="${href(STYLE)}">
${hasScript && html`<script ${attributes({ src: href(SCRIPT), defer: true })}></script>`}
${head}
</head>
<body>
${header && html`<header>${header}</header>`}
<main>${main}</main>
${footer && html`<footer>${footer}</footer>`}
</body>
</html>
`;
  return { html: document.text, policy: policyOf(context, parts) };
}

export function textsOf({ language }: PageContext): Texts {
  return texts[language];
}

/** An address as a page names it. */
export function toUrl({ base }: PageContext, path: string): string {
  return /^https?:/i.test(path) ? path : `${base}${path}`;
}

/** With scheme and host, for programs that do not know where the page comes from. */
export function absolute(context: PageContext, path: string): string {
  return new URL(toUrl(context, path), context.origin).href;
}

function policyOf(context: PageContext, { pictures = [], media = [], formAction, hasScript = false }: Layout): string {
  const own = (file: StaticFile) => absolute(context, pathOf(file));
  const sourcesOf = (paths: readonly string[]) => [...new Set(paths.map((path) => sourceOf(toUrl(context, path))))];
  const directives: [name: string, sources: readonly string[]][] = [
    ['default-src', []],
    ['style-src', [own(STYLE)]],
    ['script-src', hasScript ? [own(SCRIPT)] : []],
    ['img-src', [own(ICON), ...sourcesOf(pictures)]],
    ['media-src', sourcesOf(media)],
    ['form-action', formAction === undefined ? [] : sourcesOf([formAction])],
    ['base-uri', []],
    ['frame-ancestors', []],
  ];
  const written = directives.map(([name, sources]) => `${name} ${sources.length > 0 ? sources.join(' ') : "'none'"}`);
  return [...written, "require-trusted-types-for 'script'"].join('; ');
}

/** `'self'` for an address of this site, and the origin of another. */
function sourceOf(url: string): string {
  return /^https?:/i.test(url) ? new URL(url).origin : "'self'";
}

/** A part of the page that is there only where scripts run, which take `hidden` away. */
export function copyButton(context: PageContext, path: string): Html {
  const { copyLink, copied, copyFailed } = textsOf(context);
  return html`<button type="button" class="button" hidden data-copy="${toUrl(context, path)}" data-done="${copied}" data-failed="${copyFailed}">${copyLink}</button><span class="status" role="status"></span>`;
}
