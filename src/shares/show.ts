/** Makes of the records of a share what a stranger sees of it. */
import type { Asset } from '../assets/asset.ts';
import { fileKindOf } from '../pages/file-kind.ts';
import { DEFAULTS, type VariantOptions } from '../variants/options.ts';
import { srcsetOf, stepsOf } from '../variants/srcset.ts';
import type { FoundShare, SharedRow } from './reach.ts';
import type { OpenShareView, SharedAsset, SharedPicture } from './view.ts';

/** Pixels: the largest of the ladder of variants. */
const LARGEST_PICTURE = 2048;

/** Whether the bytes themselves are needed to show it: a picture is shown by variants, which are not the file. */
export function isShownByBytes(mediaType: string): boolean {
  return ['sound', 'video', 'document', 'model'].includes(fileKindOf(mediaType));
}

/**
 * @param path of the share
 * @param next cursor of the page after this one
 * @param bytesAt where bytes are, if they have a host of their own
 */
export function openView(
  share: FoundShare,
  path: string,
  rows: readonly SharedRow[],
  { next, limit, bytesAt = '' }: { next?: string | undefined; limit: number; bytesAt?: string | undefined },
): OpenShareView {
  const isGallery = share.target !== 'asset';
  return {
    kind: 'open',
    path,
    ...(share.label !== null && { label: share.label }),
    allow: share.allow,
    isProtected: share.password !== null,
    ...(share.expiresAt && { expiresAt: share.expiresAt.toISOString() }),
    of: share.target,
    assets: rows.map((row) => sharedAsset(share, path, bytesAt, row)),
    ...(next !== undefined && {
      nextCursor: next,
      nextPath: `${path}?${new URLSearchParams({ limit: String(limit), cursor: next })}`,
    }),
    ...(isGallery && share.allow === 'download' && { archivePath: `${bytesAt}${path}/archive` }),
  };
}

function sharedAsset(share: FoundShare, path: string, bytesAt: string, { asset, derivatives }: SharedRow): SharedAsset {
  const { id, name, mediaType, size, createdAt, facts = {}, thumbHash } = asset;
  const kind = fileKindOf(mediaType);
  const page = `${path}/assets/${id}`;
  const itself = `${bytesAt}${page}`;
  // The stable one, for feeds, where there is one file.
  const content = share.target === 'asset' ? `${bytesAt}${path}/content` : `${itself}/content`;
  const mayHave = share.allow === 'download';
  const derived = (wanted: string) => (derivatives.includes(wanted) ? `${itself}/derivatives/${wanted}` : undefined);
  return {
    ...{ id, name, mediaType, size, createdAt: createdAt.toISOString(), kind },
    ...withoutAbsent({
      duration: facts.duration,
      pages: facts.pages,
      thumbHash,
      contentPath: mayHave || isShownByBytes(mediaType) ? content : undefined,
      downloadPath: mayHave ? `${content}?disposition=attachment` : undefined,
      picture: kind === 'picture' ? pictureOf(asset, itself) : undefined,
      thumbnailPath: derived('thumbnail'),
      posterPath: derived('poster'),
      waveformPicturePath: derived('waveform-picture'),
      waveformPath: derived('waveform'),
      pagePath: share.target === 'asset' ? undefined : page,
    }),
  };
}

function pictureOf({ facts = {} }: Asset, itself: string): SharedPicture {
  const largest: VariantOptions = { ...DEFAULTS, width: LARGEST_PICTURE, format: 'webp' };
  const steps = stepsOf(largest, facts).map(({ options, width }) => ({
    url: `${itself}/image?width=${options.width}`,
    width,
  }));
  const { width, height } = facts;
  return {
    src: steps.at(-1)?.url ?? `${itself}/image?width=${LARGEST_PICTURE}`,
    ...withoutAbsent({ srcset: steps.length > 1 ? srcsetOf(steps) : undefined, width, height }),
  };
}

type Present<T> = { [Name in keyof T]?: Exclude<T[Name], undefined> };

function withoutAbsent<T extends object>(members: T): Present<T> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Present<T>;
}
