/**
 * A picture whose thumbnail is made before its upload is answered: the service is killed with SIGKILL at each of the moments
 * that this adds to an upload, and each call that it adds fails, or has its answer lost. Whatever the moment, who sends
 * the picture again has it once, with one thumbnail, and nothing lies in the store that no record names.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { launch, type Running } from '../support/processes.ts';
import { s3Skip } from '../support/s3.ts';
import { waitUntil } from '../support/wait-until.ts';
import { kill } from './crash-matrix.ts';
import { Rig, type Scenario } from './rig.ts';
import type { S3Call } from './s3-proxy.ts';

const isClaim = (statement: string) => /insert\s+into\s+"derivatives"/.test(statement);
const isSettling = (statement: string) => /update\s+"derivatives"\s+set[\s\S]*from\s+"settled"/.test(statement);
const isThumbnail = ({ operation, url }: S3Call) => operation === 'PutObject' && !/\/original(\?|$)/.test(url);

type Strike = () => Promise<void>;
/** By what a service is killed; each is told how. */
const moments: Record<string, (rig: Rig, strike: Strike) => void> = {
  'before the name of the thumbnail is claimed': (rig, strike) => {
    rig.postgres.before = async (statement) => void (isClaim(statement) && (await strike()));
  },
  'after the name is claimed': (rig, strike) => {
    rig.postgres.after = async (statement) => void (isClaim(statement) && (await strike()));
  },
  'after the thumbnail is stored': (rig, strike) => {
    rig.s3.after = async (call) => void (isThumbnail(call) && (await strike()));
  },
  'after the statement that makes it an asset': (rig, strike) => {
    rig.postgres.after = async (statement) => void (isSettling(statement) && (await strike()));
  },
  'after the commit': (rig, strike) => {
    let isSettled = false;
    rig.postgres.after = async (statement) => {
      if (isSettled && statement === 'commit') await strike();
      isSettled ||= isSettling(statement);
    };
  },
};

/** What goes wrong beside the service, once. */
const faults: Record<string, (rig: Rig, struck: () => void) => void> = {
  'the claim is never delivered': (rig, struck) => {
    rig.postgres.before = (statement) => lost(isClaim(statement), struck);
  },
  'the answer to the claim is lost': (rig, struck) => {
    rig.postgres.after = (statement) => lost(isClaim(statement), struck);
  },
  'the thumbnail cannot be stored': (rig, struck) => {
    rig.s3.faultFor = (call) => {
      if (!isThumbnail(call)) return undefined;
      struck();
      return 'unavailable';
    };
  },
  'the thumbnail is stored, and no answer comes': (rig, struck) => {
    rig.s3.faultFor = (call) => {
      if (!isThumbnail(call)) return undefined;
      struck();
      return 'stall after';
    };
  },
  'the answer to the statement that makes it an asset is lost': (rig, struck) => {
    rig.postgres.after = (statement) => lost(isSettling(statement), struck);
  },
  'the answer to the commit is lost': (rig, struck) => {
    let isSettled = false;
    rig.postgres.after = (statement) => {
      lost(isSettled && statement === 'commit', struck);
      isSettled ||= isSettling(statement);
    };
  },
};

function lost(isIt: boolean, struck: () => void): void {
  if (!isIt) return;
  struck();
  throw new Error('lost');
}

describe('a picture whose thumbnail is made before the answer', { skip: s3Skip() }, () => {
  let rig: Rig;
  const left: { scenario: Scenario; prepared: undefined }[] = [];
  before(async () => {
    rig = await Rig.open({ DERIVATIVES: 'true' });
  });
  after(() => rig.close());

  /** A service that has processes which read pictures: until there are some, files go by jobs. */
  async function begin(): Promise<Running> {
    const service = await launch({ ...rig.environment, ROLE: 'api' });
    const client = new Client(service.url, 'early');
    await waitUntil(async () => {
      const { body } = await client.raw(png(2000, 3), { name: 'p.png' });
      return body.processing?.derive?.state === 'done';
    });
    return service;
  }

  async function withoutRow(): Promise<string[]> {
    const { query, store } = rig.survivor;
    const rows = await query<{ key: string }>(
      'select object_key as key from assets union select object_key from derivatives',
    );
    const named = new Set(rows.map(({ key }) => key));
    const keys: string[] = [];
    for await (const page of store.list('', {})) keys.push(...page.map(({ key }) => key));
    return keys.filter((key) => !named.has(key));
  }

  function next(): Scenario {
    const scenario = rig.scenario('an upload by one request')();
    left.push({ scenario, prepared: undefined });
    return scenario;
  }

  test('the service is killed', async (context) => {
    for (const [name, arm] of Object.entries(moments))
      await context.test(name, async () => {
        const service = await begin();
        let struck = false;
        arm(rig, async () => {
          struck = true;
          service.child.kill('SIGKILL');
          await service.exit;
          throw new Error('killed');
        });
        const outcome = await next()
          .act(service.url, undefined)
          .catch((error: unknown) => error);
        await kill(rig, service);
        assert.ok(struck, `the service was never killed: ${outcome ?? 'done'}`);
        assert.deepEqual(await withoutRow(), [], 'an object is in the store that no row names');
      });
  });

  test('a call fails: the upload does not', async (context) => {
    const service = await begin();
    for (const [name, arm] of Object.entries(faults))
      await context.test(name, async () => {
        let struck = false;
        arm(rig, () => {
          struck = true;
          // The next try of a statement goes through.
          rig.postgres.heal();
        });
        try {
          await next().act(service.url, undefined);
          assert.ok(struck, 'there was no fault');
        } finally {
          rig.heal();
        }
      });
    await kill(rig, service);
  });

  test('each is there once, with one thumbnail, and nothing is left behind', async () => {
    await rig.survivor.query(
      "update derivatives set lease_expires_at = now() - interval '1 hour' where state = 'making'",
    );
    await rig.settle(left);
    const without = await rig.survivor.query(
      `select id from assets where not exists
         (select from derivatives where asset_id = assets.id and name = 'thumbnail' and state = 'ready')`,
    );
    assert.deepEqual(without, []);
  });
});
