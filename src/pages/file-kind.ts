/** What stands in the place of a file, by its media type. */
import { Pictures } from '../processing/pictures/pictures.ts';
import type { PageFile } from './model.ts';

/** @param mediaType as it was detected */
export function fileKindOf(mediaType: string): PageFile['kind'] {
  if (Pictures.canRead(mediaType)) return 'picture';
  if (mediaType.startsWith('audio/')) return 'sound';
  if (mediaType.startsWith('video/')) return 'video';
  if (mediaType === 'application/pdf') return 'document';
  return mediaType.startsWith('model/') ? 'model' : 'file';
}
