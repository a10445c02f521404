import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { and, eq, sql } from 'drizzle-orm';
import fc from 'fast-check';
import { assetColumns } from '../../src/assets/asset.ts';
import {
  build,
  compile,
  excluded,
  inSeconds,
  isAnyOf,
  jsonObject,
  nowhere,
  type Parameter,
  typed,
  unnested,
  writtenOut,
} from '../../src/database/statements.ts';
import { assets, inState } from '../../src/database/tables/assets.ts';
import { auditRows } from '../../src/database/tables/audit.ts';
import { quotas } from '../../src/database/tables/quotas.ts';

const unnamed = { named: false };
/** What a row of this one column is read as. */
const read = <Column extends (typeof assetColumns)[keyof typeof assetColumns]>(column: Column, sent: unknown) =>
  compile('read', () => build.select({ value: column }).from(assets), unnamed).decode([sent]).value;

describe('a compiled statement', () => {
  test('has its text once and for all, and its values in the order of the parameters', () => {
    const statement = compile('rename', (p: Parameter<'id' | 'name'>) =>
      build
        .update(assets)
        .set({ name: typed(p('name'), assets.name) })
        .where(and(eq(assets.id, p('id')), inState('ready', 'lost'))),
    );
    assert.equal(
      statement.text,
      `update "assets" set "name" = $1::text where ("assets"."id" = $2 and "assets"."state" in ('ready', 'lost'))`,
    );
    assert.equal(statement.name, 'rename');
    assert.deepEqual(statement.bind({ name: 'a', id: 'b' }), ['a', 'b']);
    assert.deepEqual(statement.bind({ id: 'd', name: 'c' }), ['c', 'd']);
  });

  test('wants a value for each parameter, and null is one', () => {
    const statement = compile(
      'nullable',
      (p: Parameter<'cutoff' | 'project'>) =>
        build
          .select({ id: assets.id })
          .from(assets)
          .where(and(eq(assets.trashedAt, p('cutoff')), eq(assets.projectId, p('project')))),
      unnamed,
    );
    assert.deepEqual(statement.bind({ cutoff: null, project: null }), [null, null]);
    assert.throws(() => statement.bind({ cutoff: null, project: undefined }), /the parameter project has no value/);
    // @ts-expect-error a parameter is missing
    assert.throws(() => statement.bind({ cutoff: null }), /the parameter project has no value/);
  });

  test('writes values as their columns want them', () => {
    const statement = compile(
      'write',
      (p: Parameter<'at' | 'metadata' | 'sha256' | 'size' | 'bare'>) =>
        build
          .update(assets)
          .set({
            metadata: typed(p('metadata'), assets.metadata),
            sha256: typed(p('sha256'), assets.sha256),
            size: typed(p('size'), assets.size),
          })
          .where(and(eq(assets.createdAt, p('at')), sql`${p('bare')}`)),
      unnamed,
    );
    const sha256 = Buffer.from('ab');
    const at = new Date('2026-11-21T16:25:43.661Z');
    assert.deepEqual(statement.bind({ at, metadata: { album: 'summer' }, sha256, size: 3, bare: [1, 2] }), [
      3,
      sha256,
      '{"album":"summer"}',
      // Compared, not written: `pg` makes text of it.
      at,
      [1, 2],
    ]);
    assert.match(statement.text, /"size" = \$1::bigint, "sha256" = \$2::bytea, "metadata" = \$3::jsonb/);
  });

  test('binds constants beside the values', () => {
    const statement = compile(
      'constants',
      (p: Parameter<'owner'>) =>
        build
          .update(assets)
          .set({ state: 'lost', trashedAt: null })
          .where(and(eq(assets.ownerId, p('owner')), eq(assets.version, 7))),
      unnamed,
    );
    assert.deepEqual(statement.bind({ owner: 'o' }), ['lost', null, 'o', 7]);
  });

  test('has no name where the plan is to depend on the values', () => {
    assert.equal(compile('plan', () => build.select().from(quotas), unnamed).name, undefined);
  });

  test('has a name of its own', () => {
    compile('taken', () => build.select().from(quotas));
    assert.throws(() => compile('taken', () => build.select().from(assets)), /two statements with the name taken/);
    // One without a name is not prepared.
    compile('taken', () => build.select().from(assets), unnamed);
  });

  test('is refused when it was not built to be compiled', () => {
    assert.throws(() => compile('foreign', () => ({ prepare: () => ({}) }) as never, unnamed), /built with `build`/);
  });

  test('is not run by the builder', async () => {
    await assert.rejects(async () => build.select().from(quotas), /run by an Executor/);
  });
});

describe('a row', () => {
  test('is read as its columns say, and null is null', () => {
    const statement = compile('row', () => build.select(assetColumns).from(assets), unnamed);
    const sha256 = Buffer.alloc(32, 1);
    const sent = {
      id: '019aa1b2-7c3d-7e4f-8a5b-6c7d8e9fa0b1',
      ownerId: 'o',
      projectId: null,
      name: 'a.png',
      state: 'ready',
      assetType: 'image',
      mediaType: 'image/png',
      size: '9007199254740991',
      sha256,
      reason: null,
      metadata: { album: 'summer' },
      objectKey: 'k',
      cacheControl: null,
      version: 1,
      createdAt: '2026-11-21 16:25:43.661+00',
      updatedAt: '2026-11-21 18:25:43+02',
      trashedAt: null,
      verifiedBytes: null,
      scan: null,
      facts: { width: 4 },
      original: null,
      thumbHash: 'aGFzaA==',
      processing: { derive: { state: 'waiting' } },
      contentVersion: 1,
      contentAt: null,
      versionBytes: '0',
      publishedIn: null,
      publishedAt: null,
      unpublishedAt: null,
      path: 'photos/',
      tags: ['beach'],
      holds: null,
      retainUntil: null,
      retentionMode: null,
      temporaryUntil: null,
      tier: null,
      archivedAt: null,
      restore: null,
      restoredUntil: null,
    };
    assert.deepEqual(Object.keys(sent), Object.keys(assetColumns));
    assert.deepEqual(statement.decode(Object.values(sent)), {
      ...sent,
      size: Number.MAX_SAFE_INTEGER,
      versionBytes: 0,
      createdAt: new Date('2026-11-21T16:25:43.661Z'),
      updatedAt: new Date('2026-11-21T16:25:43Z'),
    });
  });

  test('has bigint where the column holds more than a number can', () => {
    const statement = compile('big', () => build.select({ used: quotas.usedBytes }).from(quotas), unnamed);
    assert.deepEqual(statement.decode(['9223372036854775807']), { used: 9223372036854775807n });
  });

  test('has expressions as they came, or as they are said to be read', () => {
    const statement = compile(
      'expressions',
      () =>
        build
          .select({
            bare: sql<string>`${assets.size}::text`.as('bare'),
            sum: sql`sum(${assets.size})`.mapWith(Number),
            latest: sql`max(${assets.createdAt})`.mapWith(assets.createdAt).as('latest'),
          })
          .from(assets),
      unnamed,
    );
    const latest = new Date('2026-11-21T16:25:43.600Z');
    assert.deepEqual(statement.decode(['1', '2', '2026-11-21 16:25:43.6+00']), { bare: '1', sum: 2, latest });
    assert.deepEqual(statement.decode([null, null, null]), { bare: null, sum: null, latest: null });
  });

  test('has timestamps exactly, however Postgres writes them', () => {
    const moment = fc.date({
      min: new Date('0000-01-01T00:00:00Z'),
      max: new Date('9999-12-31T23:59:59.999Z'),
      noInvalidDate: true,
    });
    const sentAs = (date: Date) =>
      `${date
        .toISOString()
        .replace('T', ' ')
        .replace(/\.?0*Z$/, '')}+00`;
    fc.assert(
      fc.property(moment, (date) => {
        const sent = sentAs(date);
        const expected = date.getUTCFullYear() < 100 ? new Date(sent) : date;
        assert.deepEqual(read(assets.createdAt, sent), expected, sent);
      }),
      { numRuns: 2000 },
    );
    for (const [sent, expected] of [
      ['2026-11-21 16:25:43.6+00', '2026-11-21T16:25:43.600Z'],
      ['2026-11-21 16:25:43.66+00', '2026-11-21T16:25:43.660Z'],
      ['2026-11-21 16:25:43.661234+00', '2026-11-21T16:25:43.661Z'],
      ['2026-11-21 16:25:43.661+02', '2026-11-21T14:25:43.661Z'],
      ['2026-11-21 16:25:43-05:30', '2026-11-21T21:55:43.000Z'],
      ['2024-02-29 23:59:59.999+00', '2024-02-29T23:59:59.999Z'],
    ])
      assert.equal((read(assets.createdAt, sent) as Date).toISOString(), expected);
  });

  test('is not read of a statement that selects nothing', () => {
    const statement = compile('nothing', () => build.delete(assets), unnamed);
    assert.throws(() => statement.decode([]), /selects nothing/);
    assert.throws(() => compile('bare', () => sql`truncate ${assets}`, unnamed).decode([]), /selects nothing/);
  });

  test('has one name for each column', () => {
    assert.throws(
      () => compile('nested', () => build.select({ asset: { id: assets.id } }).from(assets), unnamed),
      /one name each/,
    );
  });
});

test('the pieces that statements share', () => {
  const statement = compile(
    'pieces',
    (p: Parameter<'keys' | 'ids' | 'seconds'>) =>
      build
        .select({
          key: unnested(p('keys'), assets.objectKey).as('key'),
          detail: jsonObject({ name: sql`'a'`, size: sql`1` }).as('detail'),
          until: inSeconds(p('seconds')).as('until'),
        })
        .from(nowhere)
        .where(and(isAnyOf(assets.id, p('ids')), sql`${excluded(quotas.usedBytes)}`))
        .limit(writtenOut(51)),
    unnamed,
  );
  assert.equal(
    statement.text,
    `select unnest($1::text[]) as "key", jsonb_build_object('name', 'a', 'size', 1) as "detail", now() + make_interval(secs => $2) as "until" ` +
      `from (select) as nowhere where ("assets"."id" = any($3::uuid[]) and excluded."used_bytes") limit 51`,
  );
  assert.throws(() => writtenOut(Number.NaN), /is no limit/);
});

test('what the tables do not have does not pass the type checker', () => {
  const mistakes = [
    // @ts-expect-error no such column
    () => build.select({ title: assets.title }).from(assets),
    // @ts-expect-error no such column
    () => build.update(assets).set({ title: 'a' }),
    // @ts-expect-error a column of another type
    () => build.update(assets).set({ size: 'large' }),
    // @ts-expect-error no such state
    () => inState('new'),
    // @ts-expect-error a column that must be there is missing
    () => build.insert(auditRows).values({ ownerId: 'o' }),
    // @ts-expect-error a parameter that is not declared
    (p: Parameter<'id'>) => p('ids'),
  ];
  assert.equal(mistakes.length, 6);
  const statement = compile(
    'typed',
    (p: Parameter<'id'>) =>
      build
        .select({ size: assets.size })
        .from(assets)
        .where(eq(assets.id, p('id'))),
    unnamed,
  );
  const { size }: { size: number | null } = statement.decode(['1']);
  assert.equal(size, 1);
  // @ts-expect-error the column may be null
  const never: { size: number } = statement.decode([null]);
  assert.equal(never.size, null);
  // @ts-expect-error no such column is selected
  assert.equal(statement.decode(['1']).name, undefined);
});
