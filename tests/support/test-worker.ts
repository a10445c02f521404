/** A worker for tests of the pool: it does what hostile files make a library do. */
import { readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
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
  | { do: 'output' };

serve(async (task: TestTask, directory) => {
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
    case 'output':
      writeFileSync(join(directory, 'plain'), 'plain');
      return symlinkSync('/etc/passwd', join(directory, 'link'));
  }
});

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
