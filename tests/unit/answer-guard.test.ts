/** Answers that nobody reads hold a bounded amount of memory, per caller first. */
import assert from 'node:assert/strict';
import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { afterEach, beforeEach, test } from 'node:test';
import { AnswerGuard } from '../../src/http/answer-guard.ts';
import { Problem } from '../../src/problems.ts';

const MiB = 1024 * 1024;
const overloaded = (error: unknown) => error instanceof Problem && error.type === 'overloaded';

let guard: AnswerGuard;
beforeEach(() => {
  guard = new AnswerGuard({ minimumRate: 0, grace: 60_000 });
});
afterEach(() => guard.close());

function answering(): ServerResponse {
  const response = new ServerResponse(new IncomingMessage(new Socket()));
  guard.watch(response);
  return response;
}

test('a caller may leave 16 MiB unread, and others are not held up by it', () => {
  const first = answering();
  guard.keep(first, 'alice', 10 * MiB);
  assert.throws(() => guard.keep(answering(), 'alice', 7 * MiB), overloaded);
  guard.keep(answering(), 'bob', 10 * MiB);
  guard.keep(answering(), 'alice', 6 * MiB);
  first.emit('close');
  guard.keep(answering(), 'alice', 10 * MiB);
});

test('all callers together may leave 64 MiB unread', () => {
  const answers = ['a', 'b', 'c', 'd'].map((caller) => {
    const response = answering();
    guard.keep(response, caller, 16 * MiB);
    return response;
  });
  assert.throws(() => guard.keep(answering(), 'e', MiB), overloaded);
  answers[0]?.emit('close');
  guard.keep(answering(), 'e', MiB);
});
