/** The fields that programs read to show a preview of a link: Open Graph (ogp.me), and the card of Twitter. */
import { type Html, html } from './html.ts';
import { absolute, type PageContext } from './layout.ts';
import type { PageFile, PagePicture } from './model.ts';

export interface Preview {
  path: string;
  title: string;
  description: string;
  picture: PagePicture | undefined;
  /** Whose sound or film may be played by whoever shows the preview. */
  file?: PageFile;
}

export function previewFields(context: PageContext, { path, title, description, picture, file }: Preview): Html {
  const url = (address: string) => absolute(context, address);
  const fields: [property: string, content: string | number | undefined][] = [
    ['og:type', 'website'],
    ['og:url', url(path)],
    ['og:title', title],
    ['og:description', description],
    ['og:locale', context.language === 'de' ? 'de_DE' : 'en_US'],
  ];
  if (picture) fields.push(['og:image', url(picture.src)], ['og:image:alt', title]);
  if (file?.contentPath !== undefined && (file.kind === 'video' || file.kind === 'sound')) {
    const kind = file.kind === 'video' ? 'og:video' : 'og:audio';
    fields.push([kind, url(file.contentPath)], [`${kind}:type`, file.mediaType]);
  }
  return html`${fields.map(
    ([property, content]) => content !== undefined && html`<meta property="${property}" content="${content}">\n`,
  )}<meta name="twitter:card" content="${picture ? 'summary_large_image' : 'summary'}">
<meta name="description" content="${description}">`;
}
