/**
 * Proves promises 1 to 4, and 10, by comparing three things that know nothing of each other: a client's journal, the
 * database and the bucket. It uses neither the service nor its code for reading them. Run it when nothing is under way:
 *
 *   node tests/faults/checker.ts JOURNAL DATABASE_URL BUCKET     (with S3_ENDPOINT, S3_REGION and the keys of the AWS SDK)
 */
import { createHash } from 'node:crypto';
import { GetObjectCommand, ListMultipartUploadsCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3';
import { Client } from 'pg';
import { type Expectation, readJournal } from './journal.ts';

export interface Checked {
  journal: string;
  databaseUrl: string;
  bucket: string;
  client: S3Client;
}

interface DerivativeRow {
  id: string;
  asset_id: string;
  state: string;
  object_key: string;
  size: string | null;
}

interface VersionRow {
  asset_id: string;
  number: number;
  object_key: string;
  size: string;
}

interface Row {
  id: string;
  owner_id: string;
  state: string;
  size: string | null;
  sha256: Buffer | null;
  object_key: string;
  trashed_at: Date | null;
  reserved_bytes: string;
  content_version: number;
  version_bytes: string;
}

const counted = new Set(['processing', 'ready', 'rejected', 'lost']);

/** @returns every promise that is broken, in words; empty when all hold */
export async function check({ journal, databaseUrl, bucket, client }: Checked): Promise<string[]> {
  const expected = readJournal(journal);
  const database = new Client({ connectionString: databaseUrl });
  await database.connect();
  try {
    const rows = (await database.query<Row>('select * from assets')).rows;
    const derivatives = (await database.query<DerivativeRow>('select * from derivatives')).rows;
    const versions = (await database.query<VersionRow>('select * from asset_versions')).rows;
    const objects = await listObjects(client, bucket);
    const uploads = (await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads ?? [];
    return [
      ...(await acknowledged(expected, rows, client, bucket)),
      ...recordsAndBytes(rows, derivatives, versions, objects),
      ...ofVersions(rows, versions, objects),
      ...uploads.map(({ Key }) => `promise 2: a multipart upload is open: ${Key}`),
      ...(await quotas(database, rows)),
      ...(await audit(database, expected, rows)),
    ];
  } finally {
    await database.end();
  }
}

/** Promise 1, and with it 4: whatever was undone, it was nothing that somebody was told is safe. */
async function acknowledged(
  expected: Map<string, Expectation>,
  rows: Row[],
  client: S3Client,
  bucket: string,
): Promise<string[]> {
  const byId = new Map(rows.map((row) => [row.id, row]));
  const faults: string[] = [];
  for (const [id, { gone, or, ...sent }] of expected) {
    const row = byId.get(id);
    const isThere = row !== undefined && row.state === 'ready';
    if (gone === 'must' && row) faults.push(`a deleted asset has a record in state ${row.state}: ${id}`);
    if (gone === 'no' && !isThere) faults.push(`promise 1: an acknowledged asset is ${row?.state ?? 'gone'}: ${id}`);
    if (!isThere) continue;
    const { sha256, size } = or && or.sha256 === row.sha256?.toString('hex') ? or : sent;
    if (row.sha256?.toString('hex') !== sha256 || Number(row.size) !== size)
      faults.push(`promise 1: the record of an acknowledged asset tells other bytes: ${id}`);
    const found = await digestOf(client, bucket, row.object_key);
    if (found !== sha256) faults.push(`promise 1: the bytes of an acknowledged asset are ${found ?? 'gone'}: ${id}`);
  }
  return faults;
}

/** Of former contents that are kept: their bytes are there, and counted. */
function ofVersions(rows: Row[], versions: VersionRow[], objects: Map<string, number>): string[] {
  const faults = versions
    .filter(({ object_key, size }) => objects.get(object_key) !== Number(size))
    .map(({ asset_id, number }) => `promise 2: the version ${number} of ${asset_id} is without its bytes`);
  for (const { id, version_bytes } of rows) {
    const sum = versions.filter((each) => each.asset_id === id).reduce((total, { size }) => total + Number(size), 0);
    if (Number(version_bytes) !== sum) faults.push(`promise 3: ${version_bytes} bytes of versions, not ${sum}: ${id}`);
  }
  return faults;
}

function recordsAndBytes(
  rows: Row[],
  derivatives: DerivativeRow[],
  versions: VersionRow[],
  objects: Map<string, number>,
): string[] {
  const faults: string[] = [];
  const keys = new Set([...rows, ...derivatives, ...versions].map((row) => row.object_key));
  const ids = new Set(rows.map(({ id }) => id));
  for (const { id, asset_id, state, object_key, size } of derivatives) {
    if (state === 'ready' && objects.get(object_key) !== Number(size))
      faults.push(`promise 2: a ready derivative without its bytes: ${id}`);
    if (state === 'making' || state === 'discarded')
      faults.push(`promise 5: a derivative was left in state ${state}: ${id}`);
    if (!ids.has(asset_id)) faults.push(`promise 5: a derivative was left of nobody: ${id}`);
  }
  for (const row of rows) {
    if (row.state === 'ready' && objects.get(row.object_key) !== Number(row.size))
      faults.push(`promise 2: a ready record without its bytes: ${row.id}`);
    if (row.state === 'uploading' || row.state === 'deleting')
      faults.push(`promise 5: a record was left in state ${row.state}: ${row.id}`);
  }
  for (const key of objects.keys()) if (!keys.has(key)) faults.push(`promise 2: bytes without a record: ${key}`);
  return faults;
}

async function quotas(database: Client, rows: Row[]): Promise<string[]> {
  const faults: string[] = [];
  const { rows: found } = await database.query<{
    owner_id: string;
    limit_bytes: string | null;
    used_bytes: string;
    reserved_bytes: string;
    file_count: string;
  }>('select * from quotas');
  for (const quota of found) {
    const own = rows.filter((row) => row.owner_id === quota.owner_id);
    const visible = own.filter(({ state }) => counted.has(state));
    const sum = (some: Row[], of: (row: Row) => number) => some.reduce((total, row) => total + of(row), 0);
    const used = sum(visible, ({ size, version_bytes }) => Number(size) + Number(version_bytes));
    const reserved = sum(own, (row) => Number(row.reserved_bytes));
    if (Number(quota.used_bytes) !== used)
      faults.push(`promise 3: used is ${quota.used_bytes} and should be ${used}: ${quota.owner_id}`);
    if (Number(quota.reserved_bytes) !== reserved)
      faults.push(`promise 3: reserved is ${quota.reserved_bytes} and should be ${reserved}: ${quota.owner_id}`);
    if (Number(quota.file_count) !== visible.length)
      faults.push(`promise 3: ${quota.file_count} files are counted instead of ${visible.length}: ${quota.owner_id}`);
    if (quota.limit_bytes !== null && used + reserved > Number(quota.limit_bytes))
      faults.push(`promise 3: the limit is passed: ${quota.owner_id}`);
  }
  return faults;
}

/** Promise 10: one row for the upload of each asset there is or was, and one for its deletion. */
async function audit(database: Client, expected: Map<string, Expectation>, rows: Row[]): Promise<string[]> {
  const { rows: events } = await database.query<{ asset_id: string; action: string; count: string }>(`
    select asset_id, action, count(*) as count from audit_events
    where action in ('asset.uploaded', 'asset.deleted', 'asset.replaced', 'asset.version-restored') group by asset_id, action`);
  const count = (id: string, action: string) =>
    Number(events.find((event) => event.asset_id === id && event.action === action)?.count ?? 0);
  const faults: string[] = [];
  const there = rows.filter(({ state }) => state === 'ready').map(({ id }) => id);
  for (const id of new Set([...there, ...expected.keys()]))
    if (count(id, 'asset.uploaded') !== 1)
      faults.push(`promise 10: ${count(id, 'asset.uploaded')} audit rows for the upload of ${id}`);
  for (const { id, state, content_version } of rows) {
    const changes = count(id, 'asset.replaced') + count(id, 'asset.version-restored');
    if (state === 'ready' && changes !== content_version - 1)
      faults.push(`promise 10: ${changes} audit rows for the ${content_version - 1} replacements of ${id}`);
  }
  for (const [id, { gone }] of expected)
    if (gone === 'must' && count(id, 'asset.deleted') !== 1)
      faults.push(`promise 10: ${count(id, 'asset.deleted')} audit rows for the deletion of ${id}`);
  return faults;
}

async function listObjects(client: S3Client, bucket: string): Promise<Map<string, number>> {
  const objects = new Map<string, number>();
  for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket: bucket }))
    for (const { Key, Size } of Contents) if (Key !== undefined) objects.set(Key, Size ?? 0);
  return objects;
}

async function digestOf(client: S3Client, bucket: string, key: string): Promise<string | undefined> {
  try {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
    const hash = createHash('sha256');
    for await (const chunk of Body as AsyncIterable<Buffer>) hash.update(chunk);
    return hash.digest('hex');
  } catch (error) {
    if (error instanceof Error && error.name === 'NoSuchKey') return undefined;
    throw error;
  }
}

if (import.meta.main) {
  const [journal = '', databaseUrl = '', bucket = ''] = process.argv.slice(2);
  const endpoint = process.env['S3_ENDPOINT'];
  const client = new S3Client({
    region: process.env['S3_REGION'] ?? 'us-east-1',
    ...(endpoint && { endpoint, forcePathStyle: true }),
  });
  const faults = await check({ journal, databaseUrl, bucket, client });
  for (const fault of faults) console.log(fault);
  console.log(faults.length === 0 ? 'All promises hold.' : `${faults.length} faults.`);
  process.exitCode = faults.length === 0 ? 0 : 1;
}
