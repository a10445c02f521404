/** A gallery as a page for people shows it. */
import type { OpenView, PageFile, PagePicture } from '../pages/model.ts';
import { Pictures } from '../processing/pictures/pictures.ts';
import { DEFAULTS, LADDER } from '../variants/options.ts';
import { srcsetOf, stepsOf } from '../variants/srcset.ts';
import { queryOf } from './address.ts';
import type { GalleryDocument } from './gallery.ts';

type Item = GalleryDocument['data'][number];

/** @param isContinued it is not the first page */
export function galleryView({ project, data, page }: GalleryDocument, limit: number, isContinued: boolean): OpenView {
  const path = `/g/${project.id}`;
  const { nextCursor: cursor } = page;
  return {
    kind: 'open',
    path,
    label: project.name,
    allow: 'download',
    isProtected: false,
    of: 'project',
    assets: data.map(fileOf),
    ...(cursor !== undefined && { nextPath: `${path}?${new URLSearchParams({ limit: String(limit), cursor })}` }),
    isContinued,
  };
}

function fileOf(item: Item): PageFile {
  const { name, mediaType, size, duration, url, thumbnailUrl } = item;
  const picture = Pictures.canRead(mediaType) ? pictureOf(item) : undefined;
  return {
    name,
    mediaType,
    size,
    kind: kindOf(mediaType, picture !== undefined),
    contentPath: url,
    downloadPath: url,
    ...(duration !== undefined && { duration }),
    ...(picture && { picture }),
    ...(thumbnailUrl !== undefined && { thumbnailPath: thumbnailUrl }),
  };
}

/** At the widths that the ladder has below that of the original. */
function pictureOf({ url, width, height }: Item): PagePicture | undefined {
  const largest = { ...DEFAULTS, width: LADDER.at(-1) ?? 0, format: 'webp' as const };
  const steps = stepsOf(largest, { width, height }).map((step) => ({
    url: url + queryOf({ kind: 'variant', options: step.options }),
    width: step.width,
  }));
  const last = steps.at(-1);
  if (!last) return undefined;
  const srcset = steps.length > 1 && { srcset: srcsetOf(steps) };
  return { src: last.url, ...srcset, ...(width !== undefined && { width }), ...(height !== undefined && { height }) };
}

function kindOf(mediaType: string, isPicture: boolean): PageFile['kind'] {
  if (isPicture) return 'picture';
  const [family] = mediaType.split('/', 1);
  if (family === 'audio') return 'sound';
  if (family === 'video' || family === 'model') return family;
  return mediaType === 'application/pdf' ? 'document' : 'file';
}
