import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { Admission, type AdmissionLimits } from '../../src/http/admission.ts';
import { Problem, type ProblemType } from '../../src/problems.ts';

/** Whoever waits still when all is over is sent home, so that no timer keeps the process. */
const closing = new AbortController();
const never = closing.signal;
after(() => closing.abort());
const WAIT = 30_000;

/** Who has got a place, in order, and how each can leave it. */
class Visitors {
  readonly admission: Admission;
  readonly inside: string[] = [];
  readonly refused: string[] = [];
  readonly #leave = new Map<string, () => void>();

  constructor(limits: Partial<AdmissionLimits>) {
    this.admission = new Admission({ total: 2, perCaller: 2, wait: WAIT, ...limits });
  }

  /** @param name of the visit; what comes before its dot is the caller */
  async come(name: string, signal: AbortSignal = never): Promise<void> {
    const [caller = ''] = name.split('.');
    this.admission.enter(caller, signal).then(
      (leave) => {
        this.inside.push(name);
        this.#leave.set(name, leave);
      },
      () => this.refused.push(name),
    );
    await settled();
  }

  async go(name: string): Promise<void> {
    this.inside.splice(this.inside.indexOf(name), 1);
    this.#leave.get(name)?.();
    await settled();
  }
}

/** For `assert.rejects`. */
const refusal = (type: ProblemType) => (error: unknown) => {
  assert.ok(error instanceof Problem);
  assert.equal(error.type, type);
  assert.equal(error.options.retryAfter, WAIT / 1000);
  return true;
};

/** All that is resolved by now has been heard of. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('admission', () => {
  test('gives so many places, and counts who has one', async () => {
    const visitors = new Visitors({ total: 2 });
    for (const name of ['a', 'b', 'c']) await visitors.come(name);
    assert.deepEqual(visitors.inside, ['a', 'b']);
    assert.equal(visitors.admission.active, 2);
    for (const name of ['a', 'b', 'c']) await visitors.go(name);
    assert.equal(visitors.admission.active, 0);
  });

  test('gives a caller no more than its own places, though others are free', async () => {
    const visitors = new Visitors({ total: 4, perCaller: 1 });
    for (const name of ['a.1', 'a.2', 'b.1']) await visitors.come(name);
    assert.deepEqual(visitors.inside, ['a.1', 'b.1']);
    await visitors.go('a.1');
    assert.deepEqual(visitors.inside, ['b.1', 'a.2']);
  });

  test('serves who waits in the order of arrival', async () => {
    const visitors = new Visitors({ total: 1 });
    const names = ['a', 'b', 'c.1', 'd', 'c.2', 'e'];
    for (const name of names) await visitors.come(name);
    for (const name of names) {
      assert.deepEqual(visitors.inside, [name]);
      await visitors.go(name);
    }
  });

  test('passes over who waits while the places of its caller are taken, and does not forget it', async () => {
    const visitors = new Visitors({ total: 2, perCaller: 1 });
    for (const name of ['a.1', 'b.1', 'a.2', 'c.1', 'd.1']) await visitors.come(name);
    await visitors.go('b.1');
    assert.deepEqual(visitors.inside, ['a.1', 'c.1']);
    await visitors.go('a.1');
    assert.deepEqual(visitors.inside, ['c.1', 'a.2']);
    await visitors.go('c.1');
    assert.deepEqual(visitors.inside, ['a.2', 'd.1']);
  });

  test('refuses at once who finds sixteen waiting for each place, and takes the next when one has left', async () => {
    const visitors = new Visitors({ total: 2, perCaller: 2 });
    for (let index = 0; index < 2 + 32; index++) await visitors.come(`caller-${index}`);
    await assert.rejects(visitors.admission.enter('late', never), refusal('overloaded'));
    assert.deepEqual(visitors.refused, []);
    await visitors.go('caller-0');
    await visitors.come('next');
    assert.deepEqual(visitors.refused, []);
    await assert.rejects(visitors.admission.enter('late', never), refusal('overloaded'));
  });

  test('tells whose bound it was when the wait is over, with Retry-After', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const admission = new Admission({ total: 2, perCaller: 1, wait: WAIT });
    await admission.enter('a', never);
    const own = assert.rejects(admission.enter('a', never), refusal('too-many-uploads'));
    await admission.enter('b', never);
    const common = assert.rejects(admission.enter('c', never), refusal('overloaded'));
    context.mock.timers.tick(WAIT - 1);
    await settled();
    assert.equal(admission.active, 2);
    context.mock.timers.tick(1);
    await Promise.all([own, common]);
  });

  test('gives nothing to who has waited too long', async (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const visitors = new Visitors({ total: 1 });
    await visitors.come('a');
    await visitors.come('impatient');
    context.mock.timers.tick(WAIT - 1);
    await visitors.come('b');
    context.mock.timers.tick(1);
    await settled();
    assert.deepEqual(visitors.refused, ['impatient']);
    await visitors.go('a');
    assert.deepEqual(visitors.inside, ['b']);
    // Who was served is not refused later.
    context.mock.timers.tick(WAIT);
    await visitors.come('c');
    await visitors.go('b');
    assert.deepEqual(visitors.inside, ['c']);
    assert.deepEqual(visitors.refused, ['impatient']);
  });

  test('ends a wait that is aborted, with the reason, and its turn is that of the next', async () => {
    const visitors = new Visitors({ total: 1 });
    const [gone, reason] = [new AbortController(), new Error('the client has gone')];
    await visitors.come('a');
    const aborted = visitors.admission.enter('b', gone.signal);
    await visitors.come('c');
    gone.abort(reason);
    await assert.rejects(aborted, reason);
    await visitors.go('a');
    assert.deepEqual(visitors.inside, ['c']);
    assert.equal(visitors.admission.active, 1);
  });

  test('lets nobody in who is gone already, and leaves those alone who go when they are in', async () => {
    const visitors = new Visitors({ total: 1 });
    const reason = new Error('the client has gone');
    await assert.rejects(visitors.admission.enter('a', AbortSignal.abort(reason)), reason);
    assert.equal(visitors.admission.active, 0);
    const [first, second] = [new AbortController(), new AbortController()];
    const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
    const before = timers();
    await visitors.come('a', first.signal);
    await visitors.come('b', second.signal);
    assert.equal(timers(), before + 1);
    await visitors.go('a');
    // A wait that is over leaves nothing behind.
    assert.equal(timers(), before);
    assert.equal(getEventListeners(second.signal, 'abort').length, 0);
    second.abort(reason);
    await settled();
    assert.deepEqual(visitors.inside, ['b']);
    assert.equal(visitors.admission.active, 1);
  });

  test('whoever comes and goes: no bound is passed, and nobody waits beside a place that is free for it', async () => {
    const step = fc.record({ caller: fc.constantFrom('a', 'b', 'c'), goes: fc.boolean(), which: fc.nat() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 3 }),
        async (steps, total, perCaller) => {
          const visitors = new Visitors({ total, perCaller });
          const waiting = new Set<string>();
          for (const [index, { caller, goes, which }] of steps.entries()) {
            const { inside } = visitors;
            if (goes && inside.length > 0) await visitors.go(inside[which % inside.length] ?? '');
            else {
              waiting.add(`${caller}.${index}`);
              await visitors.come(`${caller}.${index}`);
            }
            for (const name of [...visitors.inside, ...visitors.refused]) waiting.delete(name);
            const ofCaller = (name: string) => visitors.inside.filter((each) => each[0] === name).length;
            assert.equal(visitors.admission.active, visitors.inside.length);
            assert.ok(visitors.inside.length <= total);
            for (const each of ['a', 'b', 'c']) assert.ok(ofCaller(each) <= perCaller);
            const left = total - visitors.inside.length;
            for (const name of waiting) {
              const has = ofCaller(name[0] ?? '');
              assert.ok(left === 0 || has === perCaller || has > left, `${name} waits for nothing`);
            }
          }
          for (let name = visitors.inside[0]; name !== undefined; name = visitors.inside[0]) await visitors.go(name);
          assert.equal(visitors.admission.active, 0);
        },
      ),
    );
  });
});
