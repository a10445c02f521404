/** How a file is shown: what it is, and its picture or player. */
import { formatDuration, formatSize, kindOf } from './format.ts';
import { type AttributeValue, attributes, type Html, html } from './html.ts';
import { type PageContext, textsOf, toUrl } from './layout.ts';
import type { PageFile, PagePicture } from './model.ts';

/** The name is of any script; it does not turn what stands beside it. */
export function nameOf({ name }: Pick<PageFile, 'name'>): Html {
  return html`<bdi>${name}</bdi>`;
}

/** Kind, size, and what else is known of it. */
export function factsOf(context: PageContext, file: PageFile): [kind: string, size: string, ...more: string[]] {
  const texts = textsOf(context);
  const { picture, duration, pages } = file;
  return [
    kindOf(file, context.language),
    formatSize(file.size, context.language),
    ...(picture?.width !== undefined && picture.height !== undefined
      ? [texts.pixels(picture.width, picture.height)]
      : []),
    ...(duration === undefined ? [] : [texts.duration(formatDuration(duration))]),
    ...(pages === undefined ? [] : [texts.pageCount(pages)]),
  ];
}

export function factsList(facts: readonly string[]): Html {
  return html`<ul class="facts">${facts.map((fact) => html`<li>${fact}</li>`)}</ul>`;
}

/** The file as a picture: itself, its still, its first page, its small picture. */
export function pictureOf(file: PageFile): PagePicture | undefined {
  if (file.picture) return file.picture;
  const src = file.posterPath ?? file.thumbnailPath;
  return src === undefined ? undefined : { src };
}

export interface Shown {
  html: Html;
  pictures: string[];
  media: string[];
}

/** The picture or player of a file, and a word where there is none. */
export function showFile(context: PageContext, file: PageFile, isCounted: boolean): Shown {
  const texts = textsOf(context);
  if (file.kind === 'video' && file.contentPath !== undefined)
    return film(context, file, playerOf(context, file, file.contentPath, isCounted));
  if (file.kind === 'sound' && file.contentPath !== undefined)
    return sound(context, file, playerOf(context, file, file.contentPath, isCounted));
  const picture = pictureOf(file);
  if (!picture) return note(html`<p>${texts.noPreview}</p>`);
  const alt = file.kind === 'picture' ? file.name : texts.previewOf(file.name);
  const img = image(context, picture, { alt, sizes: '(max-width: 82rem) 100vw, 80rem' });
  return { html: html`<div class="stage">${img}</div>`, pictures: addressesOf(picture), media: [] };
}

function note(text: Html): Shown {
  return { html: html`<div class="note">${text}</div>`, pictures: [], media: [] };
}

/** Every address of a picture that a browser may take. */
export function addressesOf({ src, srcset }: PagePicture): string[] {
  return [src, ...candidatesOf(srcset).map(([path]) => path)];
}

/** With addresses as the page needs them. */
export function srcsetOf(context: PageContext, srcset: string | undefined): string | undefined {
  const candidates = candidatesOf(srcset).map(([path, width]) => `${toUrl(context, path)} ${width}`);
  return candidates.length === 0 ? undefined : candidates.join(', ');
}

function candidatesOf(srcset = ''): [path: string, width: string][] {
  return srcset.split(', ').flatMap((candidate): [string, string][] => {
    const [path = '', width = '1x'] = candidate.split(' ');
    return path === '' ? [] : [[path, width]];
  });
}

export function image(
  context: PageContext,
  { src, srcset, width, height }: PagePicture,
  more: { alt: string; sizes: string; loading?: 'lazy' },
): Html {
  const { sizes, ...others } = more;
  const isSized = width !== undefined && height !== undefined;
  const all = attributes({
    src: toUrl(context, src),
    srcset: srcsetOf(context, srcset),
    sizes: srcset !== undefined && sizes,
    width: isSized && width,
    height: isSized && height,
    decoding: 'async',
    ...others,
  });
  return html`<img ${all}>`;
}

interface Player {
  content: string;
  attributes: Record<string, AttributeValue>;
}

function playerOf(context: PageContext, file: PageFile, content: string, isCounted: boolean): Player {
  return {
    content,
    attributes: {
      controls: true,
      preload: isCounted ? 'none' : 'metadata',
      src: toUrl(context, content),
      'aria-label': file.name,
    },
  };
}

function film(context: PageContext, file: PageFile, player: Player): Shown {
  const poster = file.posterPath ?? file.thumbnailPath;
  const all = { ...player.attributes, playsinline: true, poster: poster !== undefined && toUrl(context, poster) };
  return {
    html: html`<div class="stage"><video ${attributes(all)}></video></div>`,
    pictures: poster === undefined ? [] : [poster],
    media: [player.content],
  };
}

function sound(context: PageContext, file: PageFile, player: Player): Shown {
  const { waveformPicturePath: waveform } = file;
  const alt = textsOf(context).waveformOf(file.name);
  const src = waveform !== undefined && toUrl(context, waveform);
  const wave = attributes({ class: 'waveform', src, width: 800, height: 120, alt });
  const audio = html`<audio ${attributes(player.attributes)}></audio>`;
  return {
    html: html`<div class="sound">${waveform !== undefined && html`<img ${wave}>`}${audio}</div>`,
    pictures: waveform === undefined ? [] : [waveform],
    media: [player.content],
  };
}
