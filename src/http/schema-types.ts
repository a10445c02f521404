/** Building blocks of the route schemas. `override` keeps zod's long patterns and limits out of the OpenAPI document. */
import { z } from 'zod';

/** Bytes: an integer that JavaScript holds exactly. */
const WHOLE_BYTES = 'must be a whole number of bytes';
export const bytesCount = z
  .number({ error: WHOLE_BYTES })
  .int({ error: WHOLE_BYTES })
  .min(0, { error: WHOLE_BYTES })
  .max(Number.MAX_SAFE_INTEGER, { error: WHOLE_BYTES })
  .meta({
    override: { type: 'integer', format: 'int64', minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
    description: 'Bytes',
  });

/** RFC 3339 in UTC with milliseconds. */
export const timestamp = z
  .string()
  .meta({ override: { type: 'string', format: 'date-time' }, example: '2026-11-20T12:00:00.000Z' });

export const binaryDigest = z
  .string()
  .regex(/^[0-9a-f]{64}$/i, 'must be the 64 hexadecimal digits of a SHA-256')
  .meta({
    override: { type: 'string', pattern: '^[0-9a-fA-F]{64}$' },
    description: 'SHA-256 of the bytes, hexadecimal',
    example: 'b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9',
  });

export const assetId = z.uuid({ error: 'must be a UUID' }).meta({ override: { type: 'string', format: 'uuid' } });

const PROJECT_ID =
  'must be 1 to 128 of A-Z, a-z, 0-9, dot, underscore, tilde and hyphen, and begin with a letter or digit';

/** No project. Both words for it mean the same: clients in Go and Java leave out null by default, but send empty text. */
export const projectIdOrNone = z
  .string()
  .regex(/^([A-Za-z0-9][A-Za-z0-9._~-]{0,127})?$/, PROJECT_ID)
  .nullable()
  .transform((text) => text || null);

/** Projects are labels of the application: safe in URLs as they are. */
export const projectId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$/, PROJECT_ID)
  .meta({ description: 'Label by which the application groups its assets', example: 'website' });

export const assetType = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,63}$/, 'must be the name of an upload policy')
  .meta({ description: 'Name of an upload policy', example: 'image' });

/** What Postgres cannot keep in jsonb (NUL), and what is no text (lone surrogates). */
const storable = (text: string) => !text.includes('\0') && text.isWellFormed();

const METADATA_ENTRIES = 50;
const METADATA_KEY = 64;
const METADATA_VALUE = 1024;
/** Bytes of its JSON as it is stored: a page of 200 records must not become large by what is kept with them. */
const METADATA_BYTES = 8 * 1024;

/** Postgres writes jsonb with a space after each colon and comma (PostgreSQL documentation, JSON Types). */
export function metadataBytes(entries: Readonly<Record<string, string>>): number {
  const count = Object.keys(entries).length;
  return Buffer.byteLength(JSON.stringify(entries)) + count + Math.max(0, count - 1);
}

/** A record leaves out what would become the prototype of an object, and nothing may be left out silently. */
const withoutPrototype = z.unknown().superRefine((value, context) => {
  if (value instanceof Object && Object.hasOwn(value, '__proto__'))
    context.addIssue({ code: 'custom', path: ['__proto__'], message: 'is a name that cannot be kept' });
});

const entryName = z
  .string()
  .min(1, 'names must not be empty')
  .max(METADATA_KEY, `names must have at most ${METADATA_KEY} characters`)
  .refine(storable, 'names must be text without NUL');
const entryValue = z
  .string({ error: 'values must be strings' })
  .max(METADATA_VALUE, `values must have at most ${METADATA_VALUE} characters`)
  .refine(storable, 'values must be text without NUL');

/** One of them: its name, and its value. */
export const metadataEntry = z.tuple([entryName, entryValue]);

const entries = z
  .record(entryName, entryValue, {
    error: 'must be an object of strings',
  })
  .refine((values) => Object.keys(values).length <= METADATA_ENTRIES, `must have at most ${METADATA_ENTRIES} entries`)
  .refine((values) => metadataBytes(values) <= METADATA_BYTES, `must have at most ${METADATA_BYTES} bytes as JSON`);

/** Text the application keeps with an asset. */
export const metadata = withoutPrototype.pipe(entries).meta({
  override: {
    type: 'object',
    additionalProperties: { type: 'string', maxLength: METADATA_VALUE },
    maxProperties: METADATA_ENTRIES,
  },
  description: `Up to ${METADATA_ENTRIES} strings by name, of at most ${METADATA_BYTES} bytes together as JSON`,
  example: { album: 'summer' },
});

/**
 * Names of the API's own in answers, of which a later version may add some: a client that was generated before must not
 * refuse them, so they are no `enum` there.
 */
export function openEnum<const Values extends readonly [string, ...string[]]>(
  id: string,
  values: Values,
  text: string,
) {
  return z.enum(values).meta({
    id,
    description: `${text} One of ${values.map((value) => `\`${value}\``).join(', ')}; more may be added.`,
    override: ({ jsonSchema }) => {
      delete jsonSchema.enum;
      Object.assign(jsonSchema, { 'x-extensible-enum': [...values] });
    },
  });
}

const repeatable = new WeakSet<object>();

/**
 * A parameter that may be there several times in a query: the values of all, or nothing. In the document it is an array,
 * `form` and exploded (OpenAPI 3.1, Style Values), which generators know best.
 */
export function repeated<Value extends z.ZodType>(
  value: Value,
  most: number,
  tooMany: string,
  about: { description: string; example: string[] },
) {
  // What comes once comes as itself.
  const schema = z
    .preprocess((given) => (typeof given === 'string' ? [given] : given), z.array(value).max(most, tooMany))
    .optional()
    .meta({ override: { type: 'array', items: { type: 'string' }, maxItems: most }, ...about });
  repeatable.add(schema);
  return schema;
}

/** Whether a query may have the parameter of this schema several times. */
export function mayRepeat(schema: unknown): boolean {
  return schema instanceof Object && repeatable.has(schema);
}

export const binary = z.string().meta({ override: { type: 'string', format: 'binary' } });

/**
 * `true` or `false` in a query; Python writes them with a capital, and so do clients that are generated for it. Not an enum,
 * because in the document it is a boolean.
 */
export const flag = z
  .string()
  .regex(/^([Tt]rue|[Ff]alse)$/, 'must be true or false')
  .transform((text) => text === 'true' || text === 'True')
  .default(false)
  .meta({ override: { type: 'boolean', default: false } });
