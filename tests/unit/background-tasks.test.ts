import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BackgroundTasks } from '../../src/background-tasks.ts';
import { waitUntil } from '../support/wait-until.ts';

describe('background tasks', () => {
  test('are tried until they work; each fault is told by the name of the task', async () => {
    const told: string[] = [];
    const tasks = new BackgroundTasks((message) => told.push(message));
    let tries = 0;
    tasks.persist(async () => {
      tries += 1;
      if (tries === 1) throw new Error('away');
    }, 'mending');
    await waitUntil(() => tries === 2);
    await tasks.close(10_000);
    assert.equal(tries, 2);
    assert.deepEqual(told, ['mending failed and is tried again']);
  });

  test('closing waits for what is under way', async () => {
    const tasks = new BackgroundTasks(() => {});
    const [begun, may] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let isDone = false;
    tasks.persist(async () => {
      begun.resolve();
      await may.promise;
      isDone = true;
    }, 'mending');
    await begun.promise;
    const closed = tasks.close(60_000);
    may.resolve();
    await closed;
    assert.ok(isDone);
  });

  test('closing gives up what cannot be done, and tells', async () => {
    const told: string[] = [];
    const tasks = new BackgroundTasks((message) => told.push(message));
    let tries = 0;
    tasks.persist(async () => {
      tries += 1;
      throw new Error('away');
    }, 'mending');
    await waitUntil(() => tries === 1);
    await tasks.close(0);
    await waitUntil(() => told.includes('mending was given up'));
    assert.equal(tries, 1);
  });
});
