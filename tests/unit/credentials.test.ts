/** How long a credential is believed without asking the database. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { makeSecret } from '../../src/access/credential-secret.ts';
import { Credentials } from '../../src/access/credentials.ts';
import type { Executor } from '../../src/database/client.ts';

function rig() {
  let time = 0;
  let asked = 0;
  let isGood = true;
  const row = { id: 'k', ownerId: 'alice', scopes: ['assets:read'], projects: null, isUnused: false };
  const database = {
    run: async () => {
      asked += 1;
      const found = isGood ? [row] : [];
      // The answer takes longer than what it says is good for.
      time += 300;
      return { rows: found, rowCount: found.length };
    },
  } as unknown as Executor;
  return {
    credentials: new Credentials({ database, onError: () => {}, clock: () => time }),
    asked: () => asked,
    pass: (milliseconds: number) => {
      time += milliseconds;
    },
    revoke: () => {
      isGood = false;
    },
  };
}

describe('credentials', () => {
  test('are believed for half a second from when the database was asked, so a second after a revocation nobody does', async () => {
    const { credentials, asked, pass, revoke } = rig();
    const { text } = makeSecret('key');
    assert.equal((await credentials.find(text))?.id, 'alice');
    revoke();
    pass(199);
    assert.equal(credentials.recall(text)?.id, 'alice');
    pass(1);
    assert.equal(credentials.recall(text), undefined);
    assert.ok(credentials.wasGood(text));
    assert.equal(await credentials.find(text), undefined);
    assert.ok(!credentials.wasGood(text));
    assert.equal(asked(), 2);
  });

  test('many requests with one ask once', async () => {
    const { credentials, asked } = rig();
    const { text } = makeSecret('key');
    const found = await Promise.all(Array.from({ length: 50 }, () => credentials.find(text)));
    assert.ok(found.every((caller) => caller?.id === 'alice'));
    assert.equal(asked(), 1);
  });

  test('that there is none is asked once, and of a damaged one never', async () => {
    const { credentials, asked, pass, revoke } = rig();
    revoke();
    const { text } = makeSecret('ticket');
    for (let n = 0; n < 3; n++) {
      assert.equal(await credentials.find(text), undefined);
      pass(5000);
    }
    assert.equal(asked(), 1);
    assert.equal(await credentials.find(`${text.slice(0, -1)}_`), undefined);
    assert.equal(asked(), 1);
  });
});
