/**
 * A reporter for `node --test` that tells how far a whole run is: a line as soon as a file has ended, and every half minute
 * one about the files that are running. What others report of a file waits until all files before it have ended.
 */
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

/** Milliseconds. */
const QUIET = 30_000;

interface FileRun {
  tests: number;
  failed: number;
  began: number;
}

const began = performance.now();
const running = new Map<string, FileRun>();
const totals = { files: 0, ended: 0, tests: 0, failed: 0 };

export default async function progressReporter(source: AsyncIterable<TestEvent>): Promise<void> {
  const telling = setInterval(tellRunning, QUIET).unref();
  for await (const event of source) {
    if (event.type === 'test:enqueue' && isFile(event.data)) totals.files++;
    if (event.type === 'test:dequeue' && isFile(event.data))
      running.set(event.data.file ?? '', { tests: 0, failed: 0, began: performance.now() });
    if (event.type === 'test:complete') completed(event);
  }
  clearInterval(telling);
}

function completed({ data }: Extract<TestEvent, { type: 'test:complete' }>): void {
  const { file = '', details } = data;
  const run = running.get(file);
  if (!run) return;
  if (isFile(data)) {
    totals.ended++;
    running.delete(file);
    say(`${totals.ended} of ${totals.files} files, ${totals.tests} tests${failures(totals)}: ${told(file, run)}`);
  } else if (details.type !== 'suite') {
    for (const count of [run, totals]) {
      count.tests++;
      if (!details.passed) count.failed++;
    }
  }
}

/** A file is a test too, which bears its name. */
function isFile({ name, file = '', nesting }: { name: string; file?: string; nesting: number }): boolean {
  return nesting === 0 && file.endsWith(name) && /\.test\.\w+$/.test(name);
}

function tellRunning(): void {
  if (running.size > 0) say(`running: ${[...running].map(([file, run]) => told(file, run)).join('; ')}`);
}

function told(file: string, run: FileRun): string {
  const seconds = Math.round((performance.now() - run.began) / 1000);
  return `${relative(process.cwd(), file)} ${run.tests} tests${failures(run)} in ${seconds} s`;
}

function failures({ failed }: { failed: number }): string {
  return failed === 0 ? '' : `, ${failed} FAILED`;
}

function say(text: string): void {
  const seconds = Math.floor((performance.now() - began) / 1000);
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  process.stdout.write(`[${clock}] ${text}\n`);
}
