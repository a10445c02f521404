/** What may be asked for, and what is said to whoever asks for more. */
import { z } from 'zod';
import { count, setting } from '../config.ts';
import type { Facts } from '../database/tables/processing-record.ts';
import { defineProblem, Problem, type ProblemType } from '../problems.ts';
import { isFilmFormat, nameOf, type Target, TRANSCODE_FORMATS } from '../processing/media/formats.ts';
import { isFilm, isMedia } from '../processing/media/input.ts';
import type { UploadPolicy } from '../validation/upload-policies.ts';

export const transcodeNotAllowed: ProblemType = defineProblem('transcode-not-allowed', {
  status: 403,
  title: 'The upload policy does not allow this transcode',
});
export const tooManyTranscodes: ProblemType = defineProblem('too-many-transcodes', {
  status: 409,
  title: 'The asset has as many transcodes as it may have',
});
export const transcodeImpossible: ProblemType = defineProblem('transcode-impossible', {
  status: 422,
  title: 'The file cannot be turned into this',
});
export const transcodesWaiting: ProblemType = defineProblem('transcodes-waiting', {
  status: 429,
  title: 'Too many transcodes are waiting',
});

export const transcodeSettings = {
  TRANSCODES_PER_OWNER: setting(
    'Processing',
    count.refine((n) => n >= 1, 'must be at least 1'),
    '20',
    'Transcodes of one owner that wait or are being made.',
  ),
};

/** Seconds of the longest that is transcoded, and how many an asset has, where the policy says nothing. */
const MAX_DURATION = 2 * 3600;
const MAX_COUNT = 8;

export interface TranscodeLimits {
  formats: readonly string[];
  maxDuration: number;
  maxCount: number;
}

export function limitsOf(policy: UploadPolicy | undefined): TranscodeLimits {
  const { formats = TRANSCODE_FORMATS, maxDuration = MAX_DURATION, maxCount = MAX_COUNT } = policy?.transcodes ?? {};
  return { formats, maxDuration, maxCount };
}

export interface AskedAsset {
  mediaType: string;
  assetType: string;
  facts?: Facts | undefined;
}

/** @throws Problem transcode-not-allowed, transcode-impossible */
export function checkAllowed(
  target: Target,
  asset: AskedAsset,
  { formats, maxDuration, maxCount }: TranscodeLimits,
): void {
  const { mediaType, assetType, facts } = asset;
  if (!isMedia(mediaType)) throw impossible(`${mediaType} is neither sound nor film. Ask for it of an asset that is.`);
  if (maxCount === 0)
    throw new Problem(transcodeNotAllowed, {
      detail: `Of assets of the type ${assetType} nothing is transcoded. Download the asset as it is.`,
    });
  if (!formats.includes(target.format))
    throw new Problem(transcodeNotAllowed, {
      detail: `Assets of the type ${assetType} are turned into ${formats.join(', ')} only, not into ${target.format}.`,
    });
  if (isFilmFormat(target.format) && !isFilm(mediaType))
    throw impossible(`There is no film in ${mediaType}. Ask for a format of sound.`);
  if (!facts) return;
  if (isFilmFormat(target.format) && facts.width === undefined)
    throw impossible('There is no film in the file. Ask for a format of sound.');
  if (!isFilmFormat(target.format) && facts.channels === undefined)
    throw impossible(`There is no sound in the file.${facts.width === undefined ? '' : ' Ask for mp4.'}`);
  if (facts.duration !== undefined && facts.duration > maxDuration)
    throw impossible(
      `The file lasts ${Math.ceil(facts.duration)} seconds; files of up to ${maxDuration} seconds are transcoded. Upload it in parts.`,
    );
}

function impossible(detail: string): Problem {
  return new Problem(transcodeImpossible, { detail });
}

export function tooMany(target: Target, { maxCount }: TranscodeLimits): Problem {
  return new Problem(tooManyTranscodes, {
    detail: `The asset has ${maxCount} transcodes already. Delete one to have ${nameOf(target)} made.`,
  });
}

/** What the options of a row say, which we wrote ourselves. */
export const targetOptions = z.object({
  format: z.enum(TRANSCODE_FORMATS),
  bitrate: z.number().exactOptional(),
  height: z.number().exactOptional(),
});
