/**
 * The environment becomes a typed configuration, once, at start. `settings` is the only list of variables there is:
 * each has its schema, its default and one line of meaning. `.env.example` is printed from it and the README's table
 * is tested against it.
 *
 * Faults are collected and told together, by variable name and never by value, because values may be secrets.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { z } from 'zod';
import { placeFaults, placeNames, providerOf } from './storage-providers.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

/** S3 API, "Amazon S3 multipart upload limits": the smallest part that is not the last. */
export const MIN_PART = 5 * MiB;
/** Bytes; S3 API, "Amazon S3 multipart upload limits". */
const MAX_OBJECT = 5 * 1024 ** 4;
/** SigV4: the longest life of a presigned URL, in seconds. */
export const MAX_LINK = 7 * 24 * 60 * 60;
/** Signs of life within a lease, of uploads and of requests with an Idempotency-Key: one that is late ends nothing. */
export const LEASE_RENEWALS = 4;

const units: Record<string, number> = { '': 1, B: 1, KIB: KiB, MIB: MiB, GIB: GiB, TIB: 1024 * GiB };

/** Bytes, as a number or with a unit: `8388608`, `8MiB`, `1 GiB`. */
export const bytes = z.string().transform((text, context) => {
  const match = /^(\d{1,16})\s*([a-z]*)$/i.exec(text);
  const unit = units[(match?.[2] ?? '?').toUpperCase()];
  const value = Number(match?.[1]) * (unit ?? Number.NaN);
  if (Number.isSafeInteger(value)) return value;
  context.addIssue({ code: 'custom', message: 'must be a number of bytes such as 8388608 or 8MiB' });
  return z.NEVER;
});

const durations: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds, written with a unit: `500ms`, `30s`, `15m`, `1h`, `7d`. A bare number means seconds. */
export const duration = z.string().transform((text, context) => {
  const match = /^(\d{1,10})\s*(ms|s|m|h|d)?$/.exec(text);
  if (match) return Number(match[1]) * (durations[match[2] ?? 's'] ?? Number.NaN);
  context.addIssue({ code: 'custom', message: 'must be a duration such as 500ms, 30s, 15m, 1h or 7d' });
  return z.NEVER;
});

/** A whole number. */
export const count = z
  .string()
  .regex(/^\d{1,9}$/, 'must be a whole number')
  .transform(Number);
/** `true` or `false`. */
export const flag = z.enum(['true', 'false'], { error: 'must be true or false' }).transform((text) => text === 'true');
/** Texts separated by commas. */
export const list = z.string().transform((text) =>
  text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== ''),
);
const httpUrl = z
  .url({ protocol: /^https?$/, error: 'must be an http:// or https:// URL' })
  .transform((text) => text.replace(/\/+$/, ''));
/** A path would put what is served there below something else of the same origin. */
const httpOrigin = httpUrl.refine(
  (text) => URL.parse(text)?.origin === text,
  'must be an origin such as https://files.example.net: no path, small letters, a port unless it is the usual one',
);
/** What the trust of Fastify knows (npm proxy-addr): names, addresses and subnets; a flag that trusts everybody is none. */
const proxies = list.refine(
  (entries) =>
    entries.every((entry) => {
      const [address = '', bits = '0', ...more] = entry.split('/');
      if (['loopback', 'linklocal', 'uniquelocal'].includes(entry)) return true;
      return (
        more.length === 0 &&
        isIP(address) !== 0 &&
        /^\d{1,3}$/.test(bits) &&
        Number(bits) <= (isIP(address) === 4 ? 32 : 128)
      );
    }),
  'must be addresses or subnets such as 10.0.0.0/8, or loopback, linklocal, uniquelocal',
);
/** As browsers send it (RFC 6454 section 6.2): compared letter by letter, so anything else would never match. */
const origins = list.superRefine((entries, context) => {
  for (const entry of entries) {
    if (entry === '*' || URL.parse(entry)?.origin === entry) continue;
    context.addIssue({
      code: 'custom',
      message: `has ${JSON.stringify(entry)}, which is no origin such as https://app.example.com: scheme and host in small letters, a port unless it is the usual one, and nothing after it`,
    });
  }
});
/** May be absent. */
export const optional = <Schema extends z.ZodType<unknown, string>>(schema: Schema) => schema.optional();
/** HMAC keys shorter than the digest weaken it (RFC 7518 section 3.2). */
const secret = z.string().refine((text) => Buffer.byteLength(text) >= 32, 'must have at least 32 bytes');

/** Amazon CloudFront Developer Guide, "Create key pairs for your signers": RSA of 2048 bits, in PEM. */
const rsaKeyFile = z.string().transform((file, context): KeyObject => {
  const refuse = (why: string) => {
    context.addIssue({ code: 'custom', message: `is ${JSON.stringify(file)}, ${why}` });
    return z.NEVER;
  };
  let key: KeyObject;
  try {
    key = createPrivateKey(readFileSync(file));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    return refuse(/^E[A-Z]+$/.test(code) ? `which cannot be read (${code})` : 'which holds no private key in PEM');
  }
  const { asymmetricKeyType: type, asymmetricKeyDetails: { modulusLength } = {} } = key;
  if (type === 'rsa' && modulusLength === 2048) return key;
  return refuse('which holds another key than RSA of 2048 bits, the one that CloudFront takes');
});
/** Links add path and query. */
const baseUrl = z.string().transform((text, context) => {
  const url = URL.parse(text);
  const isBase =
    url && /^https?:$/.test(url.protocol) && !url.search && !url.hash && !url.username && !/[?#]/.test(text);
  if (isBase) return url.href.replace(/\/+$/, '');
  const shown = url?.username || url?.password ? 'a URL with a password' : JSON.stringify(text);
  context.addIssue({
    code: 'custom',
    message: `is ${shown}, and must be an http:// or https:// URL without query, such as https://cdn.example.com`,
  });
  return z.NEVER;
});

/** Of a JWT; a claim may be a URL (RFC 7519 section 4.2). */
const claimName = z.string().regex(/^[\x21-\x2b\x2d-\x7e]{1,255}$/, 'must be the name of a claim');
const claimNames = list.pipe(z.array(claimName).min(1, 'must name a claim'));

const asymmetric = ['RS256', 'ES256', 'EdDSA'] as const;

/** A variable of the environment. */
export interface Setting<
  Schema extends z.ZodType<unknown, string | undefined> = z.ZodType<unknown, string | undefined>,
> {
  group: string;
  schema: Schema;
  /** As it would be written in the environment; undefined when the variable may be absent. */
  default?: string;
  meaning: string;
}
/** Variables by name. */
export type Settings = Readonly<Record<string, Setting>>;
/** What variables say, once they are read. */
export type SettingValues<Which extends Settings> = { readonly [Name in keyof Which]: z.output<Which[Name]['schema']> };

/**
 * One variable.
 * @param group under which documents list it
 * @param schema from the text in the environment to what the variable says
 * @param meaning one line for documents
 */
export const setting = <Schema extends z.ZodType<unknown, string | undefined>>(
  group: string,
  schema: Schema,
  defaultValue: string | undefined,
  meaning: string,
): Setting<Schema> => ({ group, schema, meaning, ...(defaultValue !== undefined && { default: defaultValue }) });

/** Every variable but those of single features (`Feature.settings`), in the order in which documents list them. */
export const settings = {
  HOST: setting(
    'Service',
    z.string().min(1),
    '127.0.0.1',
    'Address to listen on; anything but loopback needs configured callers.',
  ),
  PORT: setting(
    'Service',
    count.refine((port) => port <= 65_535, 'must be at most 65535'),
    '3000',
    'Port to listen on; 0 takes a free one.',
  ),
  PUBLIC_URL: setting(
    'Service',
    optional(httpUrl),
    undefined,
    'Where clients reach the service, for links; default http://HOST:PORT.',
  ),
  USERCONTENT_URL: setting(
    'Service',
    optional(httpOrigin),
    undefined,
    'Origin of another host that leads to this service too, from which the bytes of files are linked; the API is not there.',
  ),
  TRUST_PROXY: setting(
    'Service',
    proxies,
    '',
    'Proxies whose X-Forwarded-For, -Proto and -Host are believed: addresses or subnets, separated by commas, or loopback, linklocal, uniquelocal.',
  ),
  DATA_DIR: setting(
    'Service',
    z.string().min(1),
    './data',
    'Where the embedded Postgres and the disk object store keep everything.',
  ),
  LOG_LEVEL: setting(
    'Service',
    z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
      error: 'must be fatal, error, warn, info, debug, trace or silent',
    }),
    'info',
    'Least severe level that is logged.',
  ),
  LOG_FORMAT: setting(
    'Service',
    z.enum(['auto', 'json', 'pretty'], { error: 'must be auto, json or pretty' }),
    'auto',
    'Log lines as json or pretty; auto is pretty on a terminal.',
  ),
  ROLE: setting(
    'Service',
    z.enum(['api', 'worker', 'all'], { error: 'must be api, worker or all' }),
    'all',
    'What the process does: api serves requests, worker runs jobs, all does both.',
  ),
  CORS_ORIGINS: setting(
    'Service',
    origins,
    '',
    'Origins that browsers may call from, separated by commas; * for any; empty for none.',
  ),
  METRICS_TOKEN: setting(
    'Service',
    optional(z.string().min(16, 'must have at least 16 characters')),
    undefined,
    'Bearer token that /metrics asks for; open to all when absent.',
  ),
  DRAIN_DELAY: setting(
    'Service',
    duration,
    '0s',
    'After SIGTERM, how long readiness fails before connections are refused.',
  ),
  DRAIN_TIMEOUT: setting('Service', duration, '30s', 'After SIGTERM, how long running requests may go on.'),

  AUTH_JWT_SECRET: setting('Callers', optional(secret), undefined, 'Secret of HS256 tokens, at least 32 bytes.'),
  AUTH_JWKS_URL: setting('Callers', optional(httpUrl), undefined, 'Key set of RS256, ES256 or EdDSA tokens.'),
  AUTH_ALGORITHMS: setting(
    'Callers',
    list.pipe(
      z
        .array(z.enum(asymmetric, { error: 'must name RS256, ES256 or EdDSA' }))
        .min(1, 'must name RS256, ES256 or EdDSA'),
    ),
    'RS256,ES256,EdDSA',
    'Algorithms accepted with AUTH_JWKS_URL.',
  ),
  AUTH_ISSUER: setting(
    'Callers',
    optional(z.string().min(1)),
    undefined,
    'Required `iss` of tokens; not checked when absent.',
  ),
  AUTH_AUDIENCE: setting(
    'Callers',
    optional(z.string().min(1)),
    undefined,
    'Required `aud` of tokens; needed with AUTH_JWKS_URL, where `any` says that tokens made for other services are taken too.',
  ),
  AUTH_ADMIN_SCOPE: setting(
    'Callers',
    z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,255}$/, 'must be the name of a scope (RFC 6749 section 3.3)'),
    'admin',
    'Scope of administrators in tokens.',
  ),
  AUTH_SCOPE_CLAIMS: setting(
    'Callers',
    claimNames,
    'scope,scp',
    'Claims of tokens that hold scopes, with commas: each a string of names with spaces, or a list.',
  ),
  AUTH_SCOPE_PREFIX: setting(
    'Callers',
    z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]{0,100}$/, 'must be printable ASCII without spaces'),
    '',
    'What issuers write before the scopes `assets:read`, `assets:write`, `assets:delete`, `projects`, `shares`, `keys`, `audit` and `act-for`. A token that names none of them is good for all but the last two.',
  ),
  AUTH_PROJECTS_CLAIM: setting(
    'Callers',
    optional(claimName),
    undefined,
    'Claim of tokens that maps ids of projects to `viewer`, `editor` or `manager`; believed without any member in the database.',
  ),
  AUTH_TIER_CLAIM: setting(
    'Callers',
    optional(claimName),
    undefined,
    'Claim of tokens that names the tier of the caller, one of the file TIERS. A tier that an administrator has given him counts for more.',
  ),
  AUTH_CLOCK_SKEW: setting(
    'Callers',
    duration.refine((ms) => ms <= 60_000, 'must be at most 60s'),
    '5s',
    'How far the clock of the issuer may be off, at most 60s.',
  ),

  DATABASE_URL: setting(
    'Database',
    optional(z.url({ protocol: /^postgres(ql)?$/, error: 'must be a postgres:// URL' })),
    undefined,
    'Postgres 15 or newer; the embedded one when absent.',
  ),
  DATABASE_POOL: setting(
    'Database',
    count.refine((n) => n >= 2, 'must be at least 2'),
    '10',
    'Connections to Postgres per process.',
  ),
  DATABASE_TIMEOUT: setting(
    'Database',
    duration.refine((ms) => ms >= 100, 'must be at least 100ms'),
    '5s',
    'Longest wait for a connection or a statement.',
  ),
  DATABASE_PREPARE: setting(
    'Database',
    flag,
    'true',
    'Prepare the statements of every request once per connection; false for a pooler that cannot have that.',
  ),

  S3_BUCKET: setting(
    'Object store',
    optional(z.string().min(1)),
    undefined,
    'Bucket of the assets; the disk under DATA_DIR when absent.',
  ),
  S3_ENDPOINT: setting('Object store', optional(httpUrl), undefined, 'URL of an S3 server that is not AWS.'),
  S3_PUBLIC_ENDPOINT: setting(
    'Object store',
    optional(httpUrl),
    undefined,
    'URL of the same server as clients reach it, for links.',
  ),
  S3_REGION: setting(
    'Object store',
    z.string().min(1),
    'us-east-1',
    'Region of the bucket; where it is absent, that which S3_ENDPOINT names, of a provider that is known.',
  ),
  S3_ACCESS_KEY_ID: setting(
    'Object store',
    optional(z.string().min(1)),
    undefined,
    'Access key; the default credential chain of the AWS SDK when absent.',
  ),
  S3_SECRET_ACCESS_KEY: setting('Object store', optional(z.string().min(1)), undefined, 'Secret of the access key.'),
  S3_FORCE_PATH_STYLE: setting(
    'Object store',
    flag,
    'false',
    'Bucket in the path instead of the host name (Ceph, SeaweedFS, Garage).',
  ),
  S3_SIGN_NO_COPY: setting(
    'Object store',
    flag,
    'false',
    'Links to parts forbid x-amz-copy-source; for servers that act on it although it is not signed (Ceph 16), not for AWS.',
  ),
  S3_KEY_PREFIX: setting(
    'Object store',
    z
      .string()
      .regex(/^([A-Za-z0-9_-]+\/)*$/, 'must be empty or segments of A-Z, a-z, 0-9, _ and - that each end with a slash')
      .max(128),
    '',
    'Put before every object key, for example files/.',
  ),
  S3_STORAGE_CLASS: setting(
    'Object store',
    optional(z.string().regex(/^[A-Z0-9_]+$/, 'must be a storage class such as STANDARD_IA')),
    undefined,
    'Storage class of new objects.',
  ),
  S3_SSE: setting(
    'Object store',
    z.enum(['none', 'AES256', 'aws:kms'], { error: 'must be none, AES256 or aws:kms' }),
    'none',
    'Encryption at rest asked for with every object: none, AES256 or aws:kms.',
  ),
  S3_SSE_KMS_KEY_ID: setting(
    'Object store',
    optional(z.string().min(1)),
    undefined,
    'Key of aws:kms; the default key of the account when absent.',
  ),
  S3_CHECKSUM: setting(
    'Object store',
    z.enum(['crc32', 'sha256', 'sdk'], { error: 'must be crc32, sha256 or sdk' }),
    'crc32',
    'Integrity of parts: crc32 (header), sha256 (signed payload, every server verifies it), sdk (WHEN_SUPPORTED).',
  ),
  S3_CONNECT_TIMEOUT: setting(
    'Object store',
    duration.refine((ms) => ms >= 100, 'must be at least 100ms'),
    '3s',
    'Longest wait for a connection to S3.',
  ),
  S3_REQUEST_TIMEOUT: setting(
    'Object store',
    duration.refine((ms) => ms >= 100, 'must be at least 100ms'),
    '15s',
    'Longest wait for the answer to one request to S3, a part included.',
  ),
  S3_DEADLINE: setting(
    'Object store',
    duration.refine((ms) => ms >= 100, 'must be at least 100ms'),
    '40s',
    'Longest time for one call with its retries.',
  ),

  DEFAULT_QUOTA: setting('Limits', bytes, '1GiB', 'Quota of an owner for whom no other was set.'),
  TIERS: setting(
    'Limits',
    optional(z.string().min(1)),
    undefined,
    'JSON file with tiers: limits by name, which are for a caller what the settings are for all; `default` is for whoever has no other.',
  ),
  MAX_FILE_SIZE: setting(
    'Limits',
    bytes.refine((n) => n > 0, 'must be more than 0'),
    '5GiB',
    'Largest file whatever its upload policy says.',
  ),
  UPLOAD_POLICIES: setting(
    'Limits',
    optional(z.string().min(1)),
    undefined,
    'JSON file with upload policies that are added to the default ones or replace them.',
  ),
  UPLOAD_MEMORY: setting('Limits', bytes, '256MiB', 'Budget of all part buffers of the process.'),
  PART_SIZE: setting(
    'Limits',
    bytes.refine((n) => n >= MIN_PART, 'must be at least 5MiB, the smallest part of S3'),
    '8MiB',
    'Size of one part buffer and of one part in S3.',
  ),
  PARTS_IN_FLIGHT: setting(
    'Limits',
    count.refine((n) => n >= 1 && n <= 64, 'must be 1 to 64'),
    '4',
    'Parts of one upload on their way to S3 at once.',
  ),
  UPLOAD_WAIT: setting(
    'Limits',
    duration,
    '30s',
    'How long an upload waits for a place or a buffer before it is refused.',
  ),
  UPLOADS_AT_ONCE: setting(
    'Limits',
    count.refine((n) => n >= 1, 'must be at least 1'),
    '64',
    'Uploads in progress in the process.',
  ),
  UPLOADS_PER_CALLER: setting(
    'Limits',
    count.refine((n) => n >= 1, 'must be at least 1'),
    '16',
    'Uploads in progress of one caller, who takes no more when fewer places than that are left.',
  ),
  DOWNLOADS_AT_ONCE: setting(
    'Limits',
    count.refine((n) => n >= 1, 'must be at least 1'),
    '128',
    'Downloads through the process in progress.',
  ),
  DOWNLOADS_PER_CALLER: setting(
    'Limits',
    count.refine((n) => n >= 1, 'must be at least 1'),
    '32',
    'Downloads through the process in progress of one caller.',
  ),
  UPLOADS_PER_HOUR: setting(
    'Limits',
    count,
    '1000',
    'Uploads that a caller may begin in an hour, over all instances; 0 for no limit.',
  ),
  IDEMPOTENCY_KEYS_PER_HOUR: setting(
    'Limits',
    count,
    '10000',
    'Requests with an Idempotency-Key that a caller may send in an hour, over all instances; 0 for no limit.',
  ),
  REQUESTS_PER_MINUTE: setting(
    'Limits',
    count,
    '1200',
    'Requests that a caller may make in a minute, per instance; 0 for no limit.',
  ),
  REFUSALS_PER_MINUTE: setting(
    'Limits',
    count,
    '600',
    'Requests of one address without a valid token that are refused in a minute, per instance; 0 for no limit.',
  ),
  PUBLIC_REQUESTS_PER_MINUTE: setting(
    'Limits',
    count,
    '3000',
    'Requests without a token for what is public that one address may make in a minute, per instance; 0 for no limit.',
  ),
  MIN_DOWNLOAD_RATE: setting(
    'Limits',
    bytes,
    '8KiB',
    'Bytes per second below which the reader of an answer is cut off; 0 for no limit.',
  ),
  READ_TIMEOUT: setting(
    'Limits',
    duration.refine((ms) => ms >= 1000, 'must be at least 1s'),
    '60s',
    'Grace before MIN_DOWNLOAD_RATE counts: the longest time for which nothing of an answer is read.',
  ),
  MIN_UPLOAD_RATE: setting('Limits', bytes, '1KiB', 'Bytes per second below which an upload is ended; 0 for no limit.'),
  BODY_TIMEOUT: setting(
    'Limits',
    duration.refine((ms) => ms >= 1000, 'must be at least 1s'),
    '10s',
    'Grace before MIN_UPLOAD_RATE counts, and longest time for headers or a JSON body.',
  ),

  UPLOAD_LEASE: setting(
    'Lifecycle',
    duration.refine((ms) => ms >= 1000, 'must be at least 1s'),
    '2m',
    'An upload that gives no sign of life for this long is abandoned, and settled by the reaper.',
  ),
  UPLOAD_LOOK_AGAIN: setting(
    'Lifecycle',
    duration.refine((ms) => ms >= 1000 && ms <= 3_600_000, 'must be 1s to 1h'),
    '1m',
    'When the store did not answer a call of an upload, its key is looked at again after this time, and, while something is found there, after ten and sixty times as long.',
  ),
  RESUMABLE_EXPIRY: setting(
    'Lifecycle',
    duration.refine((ms) => ms >= 60_000 && ms <= 30 * 24 * 3_600_000, 'must be 1m to 30d'),
    '24h',
    'How long a resumable upload is kept after its last request, with its reservation of quota.',
  ),
  TRASH_RETENTION_DAYS: setting('Lifecycle', count, '30', 'Days after which the trash is deleted for good.'),
  RECONCILE_GRACE: setting(
    'Lifecycle',
    duration,
    '24h',
    'Age at which an object without a record, or an unfinished multipart upload, counts as left behind.',
  ),

  LINK_TTL: setting(
    'Links',
    duration.refine((ms) => ms >= 1000 && ms <= MAX_LINK * 1000, 'must be 1s to 7d'),
    '1h',
    'Life of a download link when the caller names none, at most 7d.',
  ),
  LINK_SECRET: setting(
    'Links',
    optional(secret),
    undefined,
    'Signs the links of the disk object store; made and kept in DATA_DIR when absent.',
  ),
  CDN_URL: setting(
    'Links',
    optional(baseUrl),
    undefined,
    'Where clients find the CDN that download links lead to; it needs a key pair of CloudFront or CDN_HMAC_KEY. See docs/delivery.md.',
  ),
  CDN_KEY_PAIR_ID: setting(
    'Links',
    optional(
      z.string().regex(/^[A-Z0-9]{8,32}$/, 'must be the id of a public key in CloudFront, such as K2JCJMDEHXQW5F'),
    ),
    undefined,
    'Id of the public key in CloudFront by which signed URLs are verified; its origin is the bucket.',
  ),
  CDN_PRIVATE_KEY_FILE: setting(
    'Links',
    optional(rsaKeyFile),
    undefined,
    'File with the private key to CDN_KEY_PAIR_ID: RSA of 2048 bits, PEM.',
  ),
  CDN_HMAC_KEY: setting(
    'Links',
    optional(secret),
    undefined,
    'Signs links to a CDN whose origin is the service, at least 32 bytes; the edge may verify them with the same key.',
  ),
  PUBLIC_MAX_AGE: setting(
    'Links',
    duration.refine((ms) => ms >= 1000 && ms <= 365 * 24 * 3_600_000, 'must be 1s to 365d'),
    '1h',
    'How long browsers and caches may keep the bytes of a public asset without asking again, also when it is not public any more.',
  ),
} as const;

/** Durations in milliseconds, sizes in bytes; one property per variable, named after it. */
export type Config = SettingValues<typeof settings> & {
  /** No keys are configured: everybody is trusted, on loopback only. */
  developmentMode: boolean;
};

/** All that is wrong with the environment, in one message of one line per fault. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  readonly faults: string[];
  constructor(faults: string[]) {
    super(
      `The configuration has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n${faults.map((fault) => `  ${fault}`).join('\n')}`,
    );
    this.faults = faults;
  }
}

/**
 * Reads the configuration. An empty variable counts as absent.
 * @param more settings of features; `settingsIn` gives their values
 * @throws ConfigError that lists every fault by variable name
 */
export function loadConfig(environment: Record<string, string | undefined>, more: Settings = {}): Config {
  const faults: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, { schema, default: defaultValue }] of Object.entries<Setting>(withMore(more))) {
    const text = environment[name]?.trim() || defaultValue;
    const result = schema.safeParse(text);
    if (result.success) values[name] = result.data;
    else faults.push(`${name} ${result.error.issues[0]?.message ?? 'is not valid'}`);
  }
  if (!environment['S3_REGION']?.trim())
    values['S3_REGION'] = regionOfEndpoint(values['S3_ENDPOINT']) ?? values['S3_REGION'];
  // Contradictions are looked for among the values that are sound by themselves.
  const config = {
    ...values,
    developmentMode: !environment['AUTH_JWT_SECRET']?.trim() && !environment['AUTH_JWKS_URL']?.trim(),
  } as Config;
  faults.push(...contradictions(config), ...storeFaults(config, environment['S3_REGION']?.trim()));
  if (config.developmentMode) faults.push(...notInDevelopment(config, environment['NODE_ENV']));
  if (faults.length > 0) throw new ConfigError(faults);
  return config;
}

/** @throws Error when a feature has a setting of a name that is taken */
function withMore(more: Settings): Settings {
  for (const name of Object.keys(more)) if (name in settings) throw new Error(`there is a setting ${name} already`);
  return { ...settings, ...more };
}

/**
 * What a feature's own settings say.
 * @throws Error when the configuration was read without them
 */
export function settingsIn<Own extends Settings>(config: Config, own: Own): SettingValues<Own> {
  for (const name of Object.keys(own)) if (!(name in config)) throw new Error(`the setting ${name} was not read`);
  return config as Config & SettingValues<Own>;
}

function contradictions(config: Partial<Config>): string[] {
  const faults: string[] = [];
  const {
    PART_SIZE,
    UPLOAD_MEMORY,
    MAX_FILE_SIZE,
    UPLOADS_PER_CALLER,
    UPLOADS_AT_ONCE,
    S3_REQUEST_TIMEOUT,
    S3_DEADLINE,
  } = config;
  if (PART_SIZE && UPLOAD_MEMORY && UPLOAD_MEMORY < PART_SIZE)
    faults.push('UPLOAD_MEMORY must hold at least one part of PART_SIZE');
  if (MAX_FILE_SIZE && MAX_FILE_SIZE > MAX_OBJECT)
    faults.push('MAX_FILE_SIZE must be at most 5TiB, the largest object of S3');
  const { DOWNLOADS_PER_CALLER, DOWNLOADS_AT_ONCE } = config;
  if (DOWNLOADS_PER_CALLER && DOWNLOADS_AT_ONCE && DOWNLOADS_PER_CALLER > DOWNLOADS_AT_ONCE)
    faults.push('DOWNLOADS_PER_CALLER must be at most DOWNLOADS_AT_ONCE');
  if (UPLOADS_PER_CALLER && UPLOADS_AT_ONCE && UPLOADS_PER_CALLER > UPLOADS_AT_ONCE)
    faults.push('UPLOADS_PER_CALLER must be at most UPLOADS_AT_ONCE');
  if (S3_REQUEST_TIMEOUT && S3_DEADLINE && S3_REQUEST_TIMEOUT > S3_DEADLINE)
    faults.push('S3_REQUEST_TIMEOUT must be at most S3_DEADLINE');
  if (config.AUTH_JWT_SECRET && config.AUTH_JWKS_URL)
    faults.push('AUTH_JWT_SECRET and AUTH_JWKS_URL exclude each other: name one');
  // An issuer makes tokens for many services; whoever gets one could call this one with it.
  if (config.AUTH_JWKS_URL && !config.AUTH_AUDIENCE)
    faults.push(
      'AUTH_AUDIENCE is missing: name the audience of tokens for this service, or any if each token of the issuer may be used',
    );
  if (!config.S3_BUCKET && (config.S3_ENDPOINT || config.S3_ACCESS_KEY_ID))
    faults.push('S3_BUCKET is missing although other S3 settings are there');
  if (Boolean(config.S3_ACCESS_KEY_ID) !== Boolean(config.S3_SECRET_ACCESS_KEY)) {
    faults.push('S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY belong together: name both or none');
  }
  if (config.ROLE && config.ROLE !== 'all' && !config.DATABASE_URL)
    faults.push('ROLE other than all needs DATABASE_URL: the embedded Postgres belongs to one process');
  faults.push(...cdnContradictions(config));
  if (config.USERCONTENT_URL && hostOf(config.USERCONTENT_URL) === hostOf(config.PUBLIC_URL))
    faults.push('USERCONTENT_URL must name another host than PUBLIC_URL, with a port or without');
  if (config.S3_SSE_KMS_KEY_ID && config.S3_SSE !== 'aws:kms') faults.push('S3_SSE_KMS_KEY_ID needs S3_SSE=aws:kms');
  return faults;
}

/** The region that an endpoint names, where the provider is known. */
function regionOfEndpoint(endpoint: unknown): string | undefined {
  return typeof endpoint === 'string' ? providerOf(endpoint)?.region : undefined;
}

/** @param region as it was written */
function storeFaults(config: Partial<Config>, region: string | undefined): string[] {
  const { S3_BUCKET, S3_ENDPOINT, S3_STORAGE_CLASS, S3_SSE } = config;
  if (S3_BUCKET === undefined) return [];
  const place = { bucket: S3_BUCKET, endpoint: S3_ENDPOINT, storageClass: S3_STORAGE_CLASS };
  const encrypts = S3_SSE !== undefined && S3_SSE !== 'none';
  return placeFaults({ ...place, encrypts, region: region || undefined }, placeNames(''));
}

function cdnContradictions(config: Partial<Config>): string[] {
  const { CDN_URL, CDN_KEY_PAIR_ID, CDN_PRIVATE_KEY_FILE, CDN_HMAC_KEY } = config;
  const faults: string[] = [];
  const hasKeyPair = CDN_KEY_PAIR_ID !== undefined || CDN_PRIVATE_KEY_FILE !== undefined;
  if (CDN_URL === undefined && (hasKeyPair || CDN_HMAC_KEY !== undefined))
    faults.push('CDN_URL is missing although a key of a CDN is there');
  if (CDN_URL !== undefined && !hasKeyPair && CDN_HMAC_KEY === undefined)
    faults.push(`CDN_URL ${CDN_URL} needs CDN_KEY_PAIR_ID and CDN_PRIVATE_KEY_FILE (CloudFront), or CDN_HMAC_KEY`);
  if (hasKeyPair && CDN_HMAC_KEY !== undefined)
    faults.push('CDN_HMAC_KEY and the key pair of CloudFront exclude each other: name one');
  if ((CDN_KEY_PAIR_ID === undefined) !== (CDN_PRIVATE_KEY_FILE === undefined))
    faults.push('CDN_KEY_PAIR_ID and CDN_PRIVATE_KEY_FILE belong together: name both or none');
  if (hasKeyPair && config.S3_BUCKET === undefined)
    faults.push(
      'CDN_KEY_PAIR_ID needs S3_BUCKET: the origin of CloudFront is the bucket; for the disk take CDN_HMAC_KEY',
    );
  return faults;
}

/** Without the port: cookies do not tell ports apart (RFC 6265 section 8.5). */
function hostOf(url: string | undefined): string | undefined {
  return url === undefined ? undefined : URL.parse(url)?.hostname;
}

/** Whoever sets one of these does not mean the mode in which everybody is trusted. */
function notInDevelopment(config: Partial<Config>, nodeEnv: string | undefined): string[] {
  const faults: string[] = [];
  if (config.HOST && !isLoopback(config.HOST)) faults.push('HOST must be a loopback address');
  if (config.PUBLIC_URL !== undefined) faults.push('PUBLIC_URL cannot be set');
  if (config.TRUST_PROXY && config.TRUST_PROXY.length > 0) faults.push('TRUST_PROXY cannot be set');
  if (nodeEnv?.trim() === 'production') faults.push('NODE_ENV cannot be production');
  return faults.map((fault) => `${fault} while neither AUTH_JWT_SECRET nor AUTH_JWKS_URL is set`);
}

/** 127.0.0.0/8, ::1 and localhost (RFC 6890, RFC 6761). */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/** Settings by group, in the order in which documents list them. @param more settings of features */
export function settingsByGroup(more: Settings = {}): Map<string, [name: string, setting: Setting][]> {
  return Map.groupBy(Object.entries<Setting>(withMore(more)), ([, { group }]) => group);
}

/** The text of `.env.example`: every variable with its default and its meaning. @param more settings of features */
export function environmentExample(more: Settings = {}): string {
  const lines = [
    '# Every variable of Stowage with its default. Copy to .env and change what you need; `npm start` reads .env.',
  ];
  for (const [group, entries] of settingsByGroup(more)) {
    lines.push('', `## ${group}`);
    for (const [name, { default: defaultValue, meaning }] of entries)
      lines.push(`# ${meaning}`, defaultValue === undefined ? `# ${name}=` : `${name}=${defaultValue}`);
  }
  return `${lines.join('\n')}\n`;
}
