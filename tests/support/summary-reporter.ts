/**
 * A reporter for `node --test` beside `spec`. It ends the output with `N passed, N failed, N skipped`, and puts a box
 * before it when tests were skipped because there was no S3 server.
 *
 * Counted are leaf tests: neither suites nor tests that only hold others. A file that crashed is one failed test, a
 * skipped suite one skipped test (what is in it is never looked at), a todo counts as skipped.
 */
import type { TestEvent } from 'node:test/reporters';
import { S3_SKIP_PREFIX } from './s3.ts';

type Result = Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>;

const counts = { passed: 0, failed: 0, skipped: 0, withoutS3: 0 };

// Reporters write independently of each other, and spec keeps failures and coverage to its very end. Only here is all said.
process.once('exit', () => process.stdout.write(summary()));

export default async function summaryReporter(source: AsyncIterable<TestEvent>): Promise<void> {
  const previousNesting = new Map<string, number>();
  for await (const event of source) {
    if (event.type !== 'test:pass' && event.type !== 'test:fail') continue;
    const { file = '', nesting } = event.data;
    // Results come in depth-first order: whatever follows something deeper in its file is what held it.
    const isParent = (previousNesting.get(file) ?? 0) > nesting;
    previousNesting.set(file, nesting);
    count(event, isParent);
  }
}

function count(event: Result, isParent: boolean): void {
  const { skip, todo } = event.data;
  const isLeaf = !isParent && event.data.details.type !== 'suite';
  if (skip !== undefined && skip !== false) {
    counts.skipped++;
    if (typeof skip === 'string' && skip.startsWith(S3_SKIP_PREFIX)) counts.withoutS3++;
  } else if (todo !== undefined && todo !== false) {
    if (isLeaf) counts.skipped++;
  } else if (event.type === 'test:fail') {
    if (isLeaf || !failedByChildrenAlone(event)) counts.failed++;
  } else if (isLeaf) {
    counts.passed++;
  }
}

/** Such a failure was counted where it happened; a hook that threw, or the parent's own assertion, was not. */
function failedByChildrenAlone(event: Extract<TestEvent, { type: 'test:fail' }>): boolean {
  const { error } = event.data.details;
  return 'failureType' in error && error.failureType === 'subtestsFailed';
}

function summary(): string {
  const { passed, failed, skipped, withoutS3 } = counts;
  const line = `${passed} passed, ${failed} failed, ${skipped} skipped\n`;
  return withoutS3 === 0
    ? line
    : `${box([`${withoutS3} TESTS WERE SKIPPED: THERE WAS NO S3 SERVER`, ...advice])}${line}`;
}

const advice = ['Name one by TEST_S3_ENDPOINT, or run as root where Debian packages can be installed.'];

function box(lines: string[]): string {
  const width = Math.max(...lines.map((line) => line.length)) + 4;
  const edge = '#'.repeat(width + 2);
  const middle = lines.map((line) => `#  ${line.padEnd(width - 4)}  #`);
  return `\n${[edge, ...middle, edge].join('\n')}\n\n`;
}
