/**
 * A reporter for `node --test` that tells how far a whole run is: a line as soon as a file has ended, and every half minute
 * one about the files that are running. What others report of a file waits until all files before it have ended. At the
 * end it names the files that took longest.
 */
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

/** Milliseconds. */
const QUIET = 30_000;
/** Files that are named at the end. */
const SLOWEST = 10;

interface FileRun {
  tests: number;
  failed: number;
  began: number;
}

const began = performance.now();
const running = new Map<string, FileRun>();
const totals = { files: 0, ended: 0, tests: 0, failed: 0 };
const ended: { file: string; seconds: number }[] = [];

export default async function progressReporter(source: AsyncIterable<TestEvent>): Promise<void> {
  const telling = setInterval(tellRunning, QUIET).unref();
  for await (const event of source) {
    if (event.type === 'test:enqueue' && isFile(event.data)) totals.files++;
    if (event.type === 'test:dequeue' && isFile(event.data))
      running.set(event.data.file ?? '', { tests: 0, failed: 0, began: performance.now() });
    if (event.type === 'test:complete') completed(event);
  }
  clearInterval(telling);
  tellSlowest();
}

function completed({ data }: Extract<TestEvent, { type: 'test:complete' }>): void {
  const { file = '', details } = data;
  const run = running.get(file);
  if (!run) return;
  if (isFile(data)) {
    totals.ended++;
    running.delete(file);
    ended.push({ file, seconds: secondsOf(run) });
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

function tellSlowest(): void {
  const slowest = ended.sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST);
  say(`slowest: ${slowest.map(({ file, seconds }) => `${relative(process.cwd(), file)} ${seconds} s`).join(', ')}`);
}

function told(file: string, run: FileRun): string {
  return `${relative(process.cwd(), file)} ${run.tests} tests${failures(run)} in ${secondsOf(run)} s`;
}

function secondsOf({ began }: FileRun): number {
  return Math.round((performance.now() - began) / 1000);
}

function failures({ failed }: { failed: number }): string {
  return failed === 0 ? '' : `, ${failed} FAILED`;
}

function say(text: string): void {
  const seconds = Math.floor((performance.now() - began) / 1000);
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  process.stdout.write(`[${clock}] ${text}\n`);
}
