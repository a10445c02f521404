/** The page of one file, and the gallery of many: of share links, and of public projects. */
import { addressesOf, factsList, factsOf, image, nameOf, pictureOf, showFile, srcsetOf } from './file-parts.ts';
import { extensionOf, formatTime } from './format.ts';
import { attributes, type Html, html } from './html.ts';
import { copyButton, layout, type Page, type PageContext, textsOf, toUrl } from './layout.ts';
import type { OpenView, PageFile, PageView, SingleView } from './model.ts';
import { previewFields } from './previews.ts';
import { passwordPage, problemPage } from './state-pages.ts';

/** The page of whatever is at an address. */
export function pageOf(context: PageContext, view: PageView, requestId: string): Page {
  if (view.kind === 'unknown') return problemPage(context, { status: 404, requestId });
  if (view.kind === 'locked') return passwordPage(context, view);
  const { of, assets, nextPath: _none, ...about } = view;
  const [file] = assets;
  return of === 'asset' && file ? filePage(context, { ...about, file }, false) : galleryPage(context, view);
}

/** @param inGallery the way back to the others is shown */
export function filePage(context: PageContext, view: SingleView, inGallery = true): Page {
  const texts = textsOf(context);
  const { file, label, path } = view;
  const shown = showFile(context, file, view.isCounted ?? false);
  const facts = factsOf(context, file);
  return layout(context, {
    title: file.name,
    head: view.isProtected
      ? undefined
      : previewFields(context, {
          path: file.pagePath ?? path,
          title: file.name,
          description: [...(label === undefined ? [] : [label]), ...facts].join(' · '),
          picture: pictureOf(file),
          file,
        }),
    header: html`${inGallery && html`<nav aria-label="${texts.gallery}"><a href="${toUrl(context, path)}">${texts.allFiles}</a></nav>`}
${label !== undefined && html`<p class="label"><bdi>${label}</bdi></p>`}
<h1>${nameOf(file)}</h1>
${factsList(facts)}`,
    main: html`${shown.html}
<div class="actions">${fileActions(context, view)}</div>
${file.isArchived && html`<p class="hint">${texts.archivedTitle}. ${texts.archivedHint}</p>`}
${view.allow === 'view' && html`<p class="hint">${texts.viewOnly}</p>`}`,
    footer: footer(context, view),
    pictures: shown.pictures,
    media: shown.media,
    hasScript: true,
  });
}

function fileActions(context: PageContext, { file, path, previousPath, nextPath }: SingleView): Html {
  const texts = textsOf(context);
  const { downloadPath, contentPath, kind } = file;
  const url = (each: string) => toUrl(context, each);
  const own = file.pagePath ?? path;
  // Players are on the page already. A document is saved by either link: its bytes are an attachment (serving.ts).
  const isOpened = contentPath !== undefined && (kind === 'picture' || (kind === 'document' && !downloadPath));
  const links = html`${downloadPath !== undefined && html`<a class="button primary" href="${url(downloadPath)}" download>${texts.download}</a>`}
${isOpened && html`<a class="button" href="${url(contentPath)}">${texts.open}</a>`}`;
  return html`${links}
${copyButton(context, own)}
${previousPath !== undefined && html`<a class="button" rel="prev" href="${url(previousPath)}">${texts.previous}</a>`}
${nextPath !== undefined && html`<a class="button" rel="next" href="${url(nextPath)}">${texts.next}</a>`}`;
}

export function galleryPage(context: PageContext, view: OpenView): Page {
  const texts = textsOf(context);
  const { assets, label, count, archivePath, path } = view;
  const number = count === undefined ? undefined : texts.files(count);
  const title = label ?? number ?? texts.gallery;
  const cover = assets.map(pictureOf).find((picture) => picture !== undefined);
  return layout(context, {
    title,
    head: view.isProtected
      ? undefined
      : previewFields(context, { path, title, description: number ?? texts.gallery, picture: cover }),
    header: html`<h1><bdi>${title}</bdi></h1>
${number !== undefined && label !== undefined && factsList([number])}
<div class="actions">${archivePath !== undefined && html`<a class="button primary" href="${toUrl(context, archivePath)}" download>${texts.downloadAll}</a>`}
${copyButton(context, path)}</div>`,
    main: html`${
      assets.length === 0
        ? html`<p class="note">${texts.empty}</p>`
        : html`<ul class="gallery">${assets.map((file) => galleryItem(context, file))}</ul>`
    }
${pagesNavigation(context, view)}
${viewer(context)}`,
    footer: footer(context, view),
    pictures: assets.flatMap(picturesOf),
    hasScript: true,
  });
}

/** The small one stands in the gallery, the large ones in the viewer. */
function picturesOf(file: PageFile): string[] {
  const large = pictureOf(file);
  return [...(file.thumbnailPath === undefined ? [] : [file.thumbnailPath]), ...(large ? addressesOf(large) : [])];
}

function galleryItem(context: PageContext, file: PageFile): Html {
  const texts = textsOf(context);
  const { picture, thumbnailPath, downloadPath } = file;
  const small = thumbnailPath === undefined ? pictureOf(file) : { src: thumbnailPath };
  const frame = small
    ? image(context, small, { alt: '', sizes: '(max-width: 40rem) 50vw, 18rem', loading: 'lazy' })
    : html`<span class="extension" aria-hidden="true">${extensionOf(file.name) ?? '–'}</span>`;
  const [kind, size] = factsOf(context, file);
  const to = file.pagePath ?? file.contentPath ?? picture?.src;
  const inside = html`<span class="frame">${frame}</span><span class="name">${nameOf(file)}</span>`;
  const all = attributes({
    class: 'item',
    href: to !== undefined && toUrl(context, to),
    'data-large': picture && toUrl(context, picture.src),
    'data-srcset': srcsetOf(context, picture?.srcset),
    'data-name': picture && file.name,
  });
  return html`<li>${to === undefined ? html`<span class="item">${inside}</span>` : html`<a ${all}>${inside}</a>`}
<span class="detail"><span>${`${kind} \u00b7 ${size}`}</span>${
    downloadPath !== undefined &&
    html`<a class="get" href="${toUrl(context, downloadPath)}" download aria-label="${texts.downloadNamed(file.name)}">${arrow}</a>`
  }</span></li>`;
}

const arrow = html`<svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" focusable="false"><path d="M12 4v11m-5-5 5 5 5-5M5 20h14" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></svg>`;

function pagesNavigation(context: PageContext, { path, nextPath, isContinued }: OpenView): Html | undefined {
  const texts = textsOf(context);
  if (nextPath === undefined && !isContinued) return undefined;
  return html`<nav class="pages" aria-label="${texts.pages}">
${isContinued && html`<a class="button" href="${toUrl(context, path)}">${texts.firstPage}</a>`}
${nextPath !== undefined && html`<a class="button" rel="next" href="${toUrl(context, nextPath)}">${texts.nextPage}</a>`}
</nav>`;
}

/** Filled and opened by the script; without it the links lead to the files. */
function viewer(context: PageContext): Html {
  const { viewer, previous, next, close, open } = textsOf(context);
  return html`<dialog id="viewer" aria-label="${viewer}">
<div class="picture"></div>
<p class="name" aria-live="polite"><bdi></bdi></p>
<div class="actions"><button type="button" class="button" data-step="-1">${previous}</button>
<button type="button" class="button" data-step="1">${next}</button>
<a class="button" href="#">${open}</a>
<button type="button" class="button" data-close autofocus>${close}</button></div>
</dialog>`;
}

function footer(context: PageContext, { expiresAt }: Pick<OpenView, 'expiresAt'>): Html | undefined {
  if (expiresAt === undefined) return undefined;
  const text = textsOf(context).availableUntil(formatTime(expiresAt, context.language));
  return html`<p>${text}</p>`;
}
