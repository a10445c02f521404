/** Labels of assets in requests: the folder that an asset lies in, and its tags. */
import { z } from 'zod';
import { checkFolderPath, MAX_DEPTH, MAX_PATH } from './folder-path.ts';
import { findInvisible } from './invisible.ts';

export const MAX_TAGS = 50;
/** Characters. */
const MAX_TAG = 64;
/** Of all tags together, as JSON: a page of 200 records must not become large by them. */
export const MAX_TAGS_BYTES = 2048;

export const folderPath = z
  .string()
  // NFC shortens by a factor of 4 at most.
  .max(4 * MAX_PATH, `must have at most ${MAX_PATH} bytes of UTF-8`)
  .transform((text, context) => {
    const checked = checkFolderPath(text);
    if (checked.ok) return checked.path;
    context.addIssue({ code: 'custom', message: checked.detail });
    return z.NEVER;
  })
  .meta({
    override: { type: 'string', maxLength: MAX_PATH },
    description: `Folder: at most ${MAX_DEPTH} names with \`/\` between them, ${MAX_PATH} bytes together; empty for the top. The \`/\` at the end may be left out`,
    example: 'photos/2026/',
  });

/** In lower case and NFC, with one space between words. A comma divides tags where there is no JSON. */
export const tag = z
  .string({ error: 'must be text' })
  .max(4 * MAX_TAG, `must have at most ${MAX_TAG} characters`)
  .transform((text) => text.normalize('NFC').trim().replace(/\s+/gu, ' ').toLowerCase().normalize('NFC'))
  .refine((text) => text.length > 0 && [...text].length <= MAX_TAG, `must have 1 to ${MAX_TAG} characters`)
  .refine(
    (text) => !/[\p{Cc}\p{Surrogate}\p{Noncharacter_Code_Point},]/u.test(text) && findInvisible(text) === undefined,
    'must be visible text without commas',
  );

const tooMany = `must have at most ${MAX_TAGS} tags`;
const asSet = (tags: readonly string[]) => [...new Set(tags)].sort();

export const tags = z
  .array(tag, { error: 'must be a list of tags' })
  .max(4 * MAX_TAGS, tooMany)
  .transform(asSet)
  .refine((all) => all.length <= MAX_TAGS, tooMany)
  .refine(
    (all) => Buffer.byteLength(JSON.stringify(all)) <= MAX_TAGS_BYTES,
    `must have at most ${MAX_TAGS_BYTES} bytes`,
  )
  .meta({
    override: { type: 'array', items: { type: 'string', maxLength: MAX_TAG }, maxItems: MAX_TAGS },
    description: `At most ${MAX_TAGS} tags of at most ${MAX_TAG} characters, ${MAX_TAGS_BYTES} bytes together as JSON. They are kept in lower case, each once, in order`,
    example: ['beach', 'summer'],
  });

/** Tags where there is no JSON: in forms, queries and header fields. */
export const tagsText = z
  .string()
  .transform((text) => text.split(',').filter((part) => part.trim() !== ''))
  .pipe(tags)
  .meta({
    override: { type: 'string' },
    description: 'Tags with commas between them',
    example: 'beach,summer',
  });
