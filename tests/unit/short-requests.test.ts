import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Problem } from '../../src/problems.ts';
import { ShortRequests } from '../../src/uploads/short-requests.ts';
import { ShortTurns } from '../../src/uploads/short-turns.ts';

const isRefusal = (error: unknown) => error instanceof Problem && error.type === 'too-many-requests';
const { signal } = new AbortController();

/** A clock that the test moves, and what was waited for. */
function limitOf(perMinute: number) {
  const waits: number[] = [];
  const clock = { now: 0 };
  const limit = new ShortRequests(perMinute, {
    now: () => clock.now,
    sleep: async (milliseconds) => {
      waits.push(milliseconds);
    },
  });
  return { limit, waits, clock, admit: (callerId = 'a') => limit.admit(callerId, signal) };
}

test('a caller may send what a second has at once, then waits in order of arrival; who would wait long is refused', async () => {
  const { waits, clock, admit } = limitOf(6000);
  for (let index = 0; index < 100; index++) await admit();
  assert.deepEqual(waits, []);
  for (let index = 0; index < 500; index++) await admit();
  assert.deepEqual(
    waits,
    Array.from({ length: 500 }, (_, index) => (index + 1) * 10),
  );
  await assert.rejects(
    admit(),
    (error) => isRefusal(error) && error instanceof Problem && error.headers['retry-after'] === '1',
  );
  await admit('b');
  assert.equal(waits.length, 500, 'somebody else does not wait');
  clock.now += 1000;
  for (let index = 0; index < 100; index++) await admit();
  await assert.rejects(admit(), isRefusal);
});

test('fifty may come at once, whatever a second has', async () => {
  const { waits, admit } = limitOf(1200);
  for (let index = 0; index < 50; index++) await admit();
  assert.deepEqual(waits, []);
  await admit();
  assert.deepEqual(waits, [50]);
});

test('what brought enough is taken back, and a penalty is worked off', async () => {
  const { limit, waits, clock, admit } = limitOf(60);
  for (let index = 0; index < 1000; index++) (await admit())();
  await admit();
  limit.penalize('a');
  limit.penalize('a');
  await assert.rejects(admit(), isRefusal);
  clock.now += 40_000;
  await assert.rejects(admit(), isRefusal);
  clock.now += 12_000;
  await admit();
  assert.equal(waits.length, 0);
});

test('who has gone before takes no turn', async () => {
  const waits: number[] = [];
  const limit = new ShortRequests(50, {
    now: () => 0,
    sleep: async (milliseconds) => {
      waits.push(milliseconds);
    },
  });
  for (let index = 0; index < 51; index++) await limit.admit('a', signal);
  await assert.rejects(limit.admit('a', AbortSignal.abort(new Error('gone before'))), { message: 'gone before' });
  await limit.admit('a', signal);
  assert.deepEqual(waits, [1200, 2400]);
});

test('who goes in the middle of its wait makes room', async () => {
  const gone = new AbortController();
  const limit = new ShortRequests(50, { now: () => 0 });
  for (let index = 0; index < 50; index++) await limit.admit('a', signal);
  const waiting = [1, 2, 3, 4].map(() => limit.admit('a', gone.signal));
  await assert.rejects(limit.admit('a', signal), isRefusal, 'the fifth would wait for six seconds');
  gone.abort(new Error('gone'));
  for (const each of waiting) await assert.rejects(each, { message: 'gone' });
  const last = new AbortController();
  const next = limit.admit('a', last.signal);
  last.abort(new Error('not refused'));
  await assert.rejects(next, { message: 'not refused' });
});

test('few a minute may all come at once, and 0 is no limit', async () => {
  const few = limitOf(3);
  for (let index = 0; index < 3; index++) await few.admit();
  await assert.rejects(few.admit(), isRefusal);
  const none = limitOf(0);
  for (let index = 0; index < 5000; index++) await none.admit();
  none.limit.penalize('a');
  await none.admit();
  assert.deepEqual(none.waits, []);
});

/** Turns whose rests and waits the test ends, and work that it ends as well. */
function turnsOf(context: TestContext) {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const clock = { now: 0 };
  const turns = new ShortTurns(() => clock.now);
  const began: string[] = [];
  const pass = async (milliseconds: number) => {
    clock.now += milliseconds;
    context.mock.timers.tick(milliseconds);
    for (let index = 0; index < 10; index++) await Promise.resolve();
  };
  const run = (callerId: string) => {
    const { promise: work, resolve: end } = Promise.withResolvers<void>();
    const done = turns.run(callerId, () => {
      began.push(callerId);
      return work;
    });
    return { done, end };
  };
  return { began, pass, run };
}

test('two have a turn at once, and a place rests four times as long as the turn took', async (context) => {
  const { began, pass, run } = turnsOf(context);
  const first = run('a');
  run('b');
  run('c');
  await pass(0);
  assert.deepEqual(began, ['a', 'b']);
  await pass(10);
  first.end();
  await first.done;
  await pass(39);
  assert.deepEqual(began, ['a', 'b']);
  await pass(1);
  assert.deepEqual(began, ['a', 'b', 'c']);
});

test('callers take turns, whoever has more that wait', async (context) => {
  const { began, pass, run } = turnsOf(context);
  const runs = ['a', 'a', 'a', 'a', 'a', 'b', 'c', 'b'].map(run);
  for (const each of runs) each.end();
  for (let index = 0; index < 8; index++) await pass(0);
  assert.deepEqual(began, ['a', 'a', 'a', 'b', 'c', 'a', 'b', 'a']);
});

test('who would wait for ten seconds is refused, and takes no turn', async (context) => {
  const { began, pass, run } = turnsOf(context);
  const runs = [run('a'), run('b')];
  const late = run('c').done.catch((error: unknown) => error);
  await pass(10_000);
  const refusal = await late;
  assert.ok(refusal instanceof Problem);
  assert.equal(refusal.type, 'overloaded');
  assert.ok(refusal.headers['retry-after']);
  for (const each of runs) each.end();
  await pass(0);
  await pass(100);
  run('d');
  await pass(0);
  assert.deepEqual(began, ['a', 'b', 'd']);
});
