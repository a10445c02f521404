/** A public gallery as people see it: what its page and the pages of its files are made of. */
import { isAtHand } from '../assets/archived.ts';
import type { Asset } from '../assets/asset.ts';
import { fileKindOf } from '../pages/file-kind.ts';
import type { OpenView, PageFile, PagePicture } from '../pages/model.ts';
import { DEFAULTS } from '../variants/options.ts';
import { srcsetOf, stepsOf } from '../variants/srcset.ts';
import { publicAddress, type Wanted } from './address.ts';
import type { Gallery } from './repository.ts';

/** Pixels: the largest of the ladder of variants. */
const LARGEST_PICTURE = 2048;

/** What the addresses of a view depend on. */
export interface GalleryPlaces {
  /** USERCONTENT_URL: where bytes are, if they have a host of their own. */
  contentUrl: string | undefined;
  /** What is made of a file by its policy. */
  derivativesOf: (asset: Asset) => ReadonlySet<string>;
}

/** @param next where the page after this one is */
export function galleryView(
  { id, name }: Gallery,
  assets: readonly Asset[],
  places: GalleryPlaces,
  { next, isContinued }: { next?: string | undefined; isContinued: boolean },
): OpenView {
  return {
    kind: 'open',
    path: galleryPath(id),
    label: name,
    allow: 'download',
    isProtected: false,
    of: 'project',
    assets: assets.map((asset) => galleryFile(id, asset, places)),
    isContinued,
    ...(next !== undefined && { nextPath: `${galleryPath(id)}?${next}` }),
  };
}

function galleryPath(projectId: string): string {
  return `/g/${encodeURIComponent(projectId)}`;
}

function galleryFile(projectId: string, asset: Asset, { contentUrl = '', derivativesOf }: GalleryPlaces): PageFile {
  const { id, name, mediaType, size, facts = {} } = asset;
  const at = (wanted: Wanted) => contentUrl + publicAddress(asset, wanted);
  const kind = fileKindOf(mediaType);
  const made = derivativesOf(asset);
  const derived = (wanted: string) => (made.has(wanted) ? at({ kind: 'derivative', name: wanted }) : undefined);
  const file = at({ kind: 'file' });
  return {
    ...{ name, mediaType, size, kind },
    ...present({
      duration: facts.duration,
      pages: facts.pages,
      contentPath: isAtHand(asset) ? file : undefined,
      downloadPath: isAtHand(asset) ? file : undefined,
      isArchived: isAtHand(asset) ? undefined : (true as const),
      picture: kind === 'picture' ? pictureOf(asset, at) : undefined,
      thumbnailPath: kind === 'picture' ? undefined : derived('thumbnail'),
      posterPath: derived('poster'),
      waveformPicturePath: derived('waveform-picture'),
      pagePath: `${galleryPath(projectId)}/assets/${id}`,
    }),
  };
}

/** By variants alone, which are there for everybody who asks; of the ladder, so that caches keep few of them. */
function pictureOf({ facts = {} }: Asset, at: (wanted: Wanted) => string): PagePicture {
  const steps = stepsOf({ ...DEFAULTS, width: LARGEST_PICTURE, format: 'webp' }, facts).map(({ options, width }) => ({
    url: at({ kind: 'variant', options }),
    width,
  }));
  const { width, height } = facts;
  const largest = { ...DEFAULTS, width: LARGEST_PICTURE, format: 'webp' as const };
  return {
    src: steps.at(-1)?.url ?? at({ kind: 'variant', options: largest }),
    ...present({ srcset: steps.length > 1 ? srcsetOf(steps) : undefined, width, height }),
  };
}

type Present<T> = { [Name in keyof T]?: Exclude<T[Name], undefined> };

function present<T extends object>(members: T): Present<T> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Present<T>;
}
