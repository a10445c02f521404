/** A worker for tests of the pool: it does what hostile files make a library do. */
import { spawn } from 'node:child_process';
import { appendFileSync, chmodSync, readdirSync, readFileSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { serve } from '../../src/processing/tools/workers/serve.ts';

export type TestTask =
  | { do: 'answer'; value?: unknown }
  | { do: 'tell' }
  | { do: 'wait'; milliseconds: number }
  | { do: 'burn' }
  | { do: 'allocate' }
  | { do: 'fill-the-heap' }
  | { do: 'crash' }
  | { do: 'refuse'; reason: string }
  | { do: 'connect'; port: number }
  | { do: 'list'; directory: string }
  | { do: 'write'; path: string }
  | { do: 'read'; path?: string }
  | { do: 'read-and-damage' }
  | { do: 'leave-behind'; seconds: string }
  | { do: 'output' };

serve(async (task: TestTask, { file, directory }) => {
  switch (task.do) {
    case 'answer':
      return task.value;
    case 'tell':
      return { environment: process.env, limits: readFileSync('/proc/self/limits', 'utf8') };
    case 'wait':
      return delay(task.milliseconds);
    case 'burn':
      for (;;);
    case 'allocate':
      return allocate();
    case 'fill-the-heap':
      return fillTheHeap();
    case 'crash':
      return process.abort();
    case 'refuse':
      throw new Error(task.reason);
    case 'connect':
      return connectTo(task.port);
    case 'list':
      return readdirSync(task.directory);
    case 'write':
      return writeFileSync(task.path, 'written');
    case 'read':
      return readFileSync(task.path ?? file, 'utf8');
    case 'read-and-damage':
      return damage(file);
    case 'leave-behind':
      spawn('/bin/sh', ['-c', `sleep ${task.seconds} & exit`], { detached: true, stdio: 'ignore' }).unref();
      return undefined;
    case 'output':
      writeFileSync(join(directory, 'plain'), 'plain');
      return symlinkSync('/etc/passwd', join(directory, 'link'));
  }
});

/** What it says, after all that can be done to it. */
function damage(file: string): string {
  for (const act of [() => chmodSync(file, 0o666), () => appendFileSync(file, 'damaged'), () => unlinkSync(file)])
    try {
      act();
    } catch {
      // As it should be.
    }
  return readFileSync(file, 'utf8');
}

async function allocate(): Promise<never> {
  for (const kept: Buffer[] = []; ; ) {
    kept.push(Buffer.alloc(4 * 2 ** 20, 1));
    // So that whoever watches from outside sees it grow.
    await delay(1);
  }
}

function fillTheHeap(): never {
  for (const kept: object[] = []; ; ) kept.push({ value: [kept.length, kept.length] });
}

function connectTo(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve('connected'));
    socket.once('error', ({ message }) => resolve(message));
  });
}
