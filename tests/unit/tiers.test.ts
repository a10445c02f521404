/** Tiers: what their file may say, who gives one, and how often the database is asked. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseTiers, TierError } from '../../src/access/tier-file.ts';
import { linkLifeOf, type TierLimits, Tiers } from '../../src/access/tiers.ts';
import type { Executor } from '../../src/database/client.ts';

const settings: TierLimits = {
  quota: 1000,
  maxFileSize: 500,
  uploadsPerHour: 10,
  requestsPerMinute: 20,
  maxLinkTtl: 3600,
  variantsPerMinute: 5,
  transcodes: 3,
  membersPerProject: 7,
};
const parse = (content: unknown) => parseTiers(JSON.stringify(content), settings);

describe('the file of tiers', () => {
  test('has limits by name, as numbers or with units, and the settings where it says nothing', () => {
    const tiers = parse({ free: { quota: 0 }, pro: { quota: '2 KiB', maxFileSize: '400B', maxLinkTtl: '15m' } });
    assert.deepEqual([...tiers.keys()], ['free', 'pro', 'default']);
    assert.deepEqual(tiers.get('free'), { ...settings, quota: 0 });
    assert.deepEqual(tiers.get('pro'), { ...settings, quota: 2048, maxFileSize: 400, maxLinkTtl: 900 });
    assert.deepEqual(tiers.get('default'), settings);
    assert.equal(parse({ default: { transcodes: 0 } }).get('default')?.transcodes, 0);
  });

  const faults: [content: unknown, told: RegExp][] = [
    [{ free: { uploadsPerHours: 1 } }, /^TIERS: free\.uploadsPerHours: there is no such limit\. There are quota, /],
    [{ free: { quota: -1 } }, /^TIERS: free\.quota: must be at least 0$/],
    [{ free: { quota: '1 GB' } }, /^TIERS: free\.quota: must be a number/],
    [{ free: { quota: null } }, /^TIERS: free\.quota: must be a number/],
    [{ free: { maxFileSize: 501 } }, /^TIERS: free\.maxFileSize is more than MAX_FILE_SIZE allows/],
    [{ free: { maxLinkTtl: '8d' } }, /^TIERS: free\.maxLinkTtl: must be at most 604800$/],
    [{ free: { maxLinkTtl: '500ms' } }, /^TIERS: free\.maxLinkTtl: must be a whole number$/],
    [{ free: { uploadsPerHour: 1.5 } }, /^TIERS: free\.uploadsPerHour: must be a whole number$/],
    [{ free: { requestsPerMinute: '5' } }, /^TIERS: free\.requestsPerMinute: must be a number/],
    [{ free: { membersPerProject: 0 } }, /^TIERS: free\.membersPerProject: must be at least 1$/],
    [{ free: { variantsPerMinute: 0 }, pro: [] }, /^TIERS: free\.variantsPerMinute: .*\nTIERS: pro: /],
    [{ 'The Best': {} }, /^TIERS: "The Best": names of tiers are lower-case/],
    [[], /^TIERS: the file: /],
  ];
  for (const [content, told] of faults)
    test(`that is ${JSON.stringify(content)} is refused, and the field named`, () => {
      assert.throws(
        () => parse(content),
        (error) => error instanceof TierError && told.test(error.message),
      );
    });

  test('that is no JSON is refused', () => {
    assert.throws(() => parseTiers('{', settings), /^TierError: TIERS: the file is no JSON/);
  });
});

function rig(content: object | undefined = { free: {}, pro: { quota: 5 } }) {
  let time = 0;
  let asked = 0;
  let given: string | null = null;
  let isAway = false;
  const told: string[] = [];
  const database = {
    run: async () => {
      asked += 1;
      if (isAway) throw new Error('away');
      const tier = given;
      // The answer takes longer than what it says is good for.
      time += 300;
      return { rows: [{ tier }], rowCount: 1 };
    },
  } as unknown as Executor;
  const limits = content && parse(content);
  const onError = (message: string) => told.push(message);
  return {
    tiers: new Tiers({ limits, database, onError, clock: () => time }),
    asked: () => asked,
    told,
    pass: (milliseconds: number) => {
      time += milliseconds;
    },
    give: (tier: string | null) => {
      given = tier;
    },
    leave: () => {
      isAway = true;
    },
  };
}

describe('tiers', () => {
  test('are nobody’s where there is no file, and nothing is asked', async () => {
    const { tiers, asked } = rig();
    const none = new Tiers({ database: { run: () => assert.fail() } as unknown as Executor, onError: () => {} });
    assert.equal(await none.of({ id: 'a', claimedTier: 'pro' }), undefined);
    assert.deepEqual([none.names, none.quotas], [[], undefined]);
    assert.deepEqual(tiers.names, ['free', 'pro', 'default']);
    assert.equal(asked(), 0);
  });

  test('are what the administrator says, else the token, else the default', async () => {
    const { tiers, pass, give } = rig();
    const of = async (claimedTier?: string) => {
      const tier = await tiers.of({ id: 'a', ...(claimedTier !== undefined && { claimedTier }) });
      return [tier?.name, tier?.givenBy];
    };
    assert.deepEqual(await of(), ['default', 'default']);
    assert.deepEqual(await of('pro'), ['pro', 'token']);
    give('free');
    pass(1000);
    assert.deepEqual(await of('pro'), ['free', 'administrator']);
    assert.equal((await tiers.ofOwner('a'))?.name, 'free');
  });

  test('of an owner who asks himself are what he has by his token', async () => {
    const { tiers } = rig();
    const tier = await tiers.of({ id: 'a', claimedTier: 'pro' });
    assert.ok(tier);
    assert.equal((await tiers.ofOwner('a', { id: 'a', tier }))?.name, 'pro');
    assert.equal((await tiers.ofOwner('b', { id: 'a', tier }))?.name, 'default');
  });

  test('are remembered for half a second from when the database was asked, however many requests there are', async () => {
    const { tiers, asked, pass, give } = rig();
    const names = await Promise.all(Array.from({ length: 50 }, async () => (await tiers.of({ id: 'a' }))?.name));
    assert.deepEqual([new Set(names), asked()], [new Set(['default']), 1]);
    give('pro');
    pass(199);
    assert.equal((await tiers.of({ id: 'a' }))?.name, 'default');
    pass(1);
    assert.equal((await tiers.of({ id: 'a' }))?.name, 'pro');
    assert.equal(asked(), 2);
  });

  test('that nobody knows say nothing, and are told once', async () => {
    const { tiers, told, give } = rig();
    for (let round = 0; round < 3; round++)
      assert.equal((await tiers.of({ id: 'a', claimedTier: 'gold' }))?.name, 'default');
    assert.deepEqual(told, ['a token names the tier "gold", which is not in the file TIERS']);
    give('silver');
    assert.equal((await tiers.of({ id: 'b', claimedTier: 'pro' }))?.name, 'pro');
    assert.match(told[1] ?? '', /an owner was given the tier "silver"/);
    for (let number = 0; number < 300; number++) await tiers.of({ id: 'a', claimedTier: `made-up-${number}` });
    assert.equal(told.length, 100);
  });

  test('stay what they were while the database is away', async () => {
    const { tiers, told, pass, give, leave } = rig();
    give('pro');
    assert.equal((await tiers.of({ id: 'a' }))?.name, 'pro');
    leave();
    pass(1000);
    assert.equal((await tiers.of({ id: 'a' }))?.name, 'pro');
    assert.equal((await tiers.of({ id: 'b' }))?.name, 'default');
    assert.match(told[0] ?? '', /could not be looked up/);
  });

  test('bound the life of links, and shorten that of those whose life nobody names', async () => {
    const { tiers } = rig({ free: { maxLinkTtl: 60 } });
    const tier = await tiers.of({ id: 'a', claimedTier: 'free' });
    assert.ok(tier);
    assert.equal(linkLifeOf({ tier }, undefined, 3600), 60);
    assert.equal(linkLifeOf({ tier }, 60, 3600), 60);
    assert.throws(() => linkLifeOf({ tier }, 61, 3600), {
      type: 'invalid-parameter',
      options: {
        detail: 'expiresIn must be at most 60. That is the limit of the tier free.',
        errors: [{ parameter: 'expiresIn', detail: 'must be at most 60' }],
        limit: 'maxLinkTtl',
        tier: 'free',
      },
    });
    assert.equal(linkLifeOf({}, 604_800, 3600), 604_800);
  });
});
