/** Programs of the system on hostile files: what they cannot do, and how it is told what became of them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { toolAbilities, toolChecks } from '../../src/processing/tools/available.ts';
import { Confinement, confinementHere, locate } from '../../src/processing/tools/confinement.ts';
import {
  asBytes,
  asText,
  openSandbox,
  ProcessSandbox,
  type ToolError,
  type ToolRun,
} from '../../src/processing/tools/sandbox.ts';
import { killMarked, newMark } from '../../src/processing/tools/stragglers.ts';
import { processesNamed, runs } from '../support/process-tree.ts';
import { waitUntil } from '../support/wait-until.ts';

const MiB = 2 ** 20;
const fixture = (name: string) => new URL(`../fixtures/${name}`, import.meta.url).pathname;

const here = await confinementHere();
const [prlimit, setpriv, unshare] = [locate('prlimit'), locate('setpriv'), locate('unshare')];
/** Where bubblewrap works, there are namespaces; elsewhere nobody says that there are. */
const withoutNamespaces = here.level === 'limits' || here.level === 'time' ? 'there are no namespaces here' : false;
const levels: { confinement: Confinement; skip: string | false }[] = [
  { confinement: here, skip: here.level === 'bubblewrap' ? false : 'bubblewrap does not work here' },
  { confinement: new Confinement({ unshare, prlimit, setpriv }), skip: withoutNamespaces },
  { confinement: new Confinement({ prlimit, setpriv }), skip: prlimit === undefined && 'there is no prlimit' },
  { confinement: new Confinement({}), skip: false },
];

for (const { confinement, skip } of levels)
  describe(`the sandbox by ${confinement.level}`, { skip }, () => {
    const place = mkdtempSync(join(tmpdir(), 'stowage-test-sandbox-'));
    const input = join(place, 'input');
    const outputDirectory = join(place, 'output');
    const isLimited = confinement.level !== 'time';
    const isIsolated = confinement.level === 'bubblewrap';
    const sandbox = new ProcessSandbox(confinement, () => '/bin/bash');
    /** What a shell does in the place of a tool. */
    const shell = (script: string, more: Partial<ToolRun> = {}) =>
      sandbox.run({ program: 'ffmpeg', args: ['-c', script], input, ...more }, asText);
    const fault = async (run: Promise<unknown>) => {
      const error = await run.then(
        () => assert.fail('it ended well'),
        (thrown: ToolError) => thrown,
      );
      assert.equal(error.name, 'ToolError', error.stack);
      return error;
    };
    const faultOf = async (run: Promise<unknown>) => (await fault(run)).fault;

    before(() => {
      writeFileSync(input, 'input');
      writeFileSync(join(place, 'other'), 'secret');
      mkdirSync(outputDirectory);
    });
    after(() => rmSync(place, { recursive: true }));

    test('gives a program its input, its directory and nothing of our environment', async () => {
      process.env['S3_SECRET_ACCESS_KEY'] = 'secret';
      const text = await shell(`cat ${input}; echo; echo made > ${outputDirectory}/made; env`, { outputDirectory });
      delete process.env['S3_SECRET_ACCESS_KEY'];
      assert.match(text, /^input/);
      assert.equal(readFileSync(join(outputDirectory, 'made'), 'utf8'), 'made\n');
      const names = [...text.matchAll(/(\w+)=/g)].map(([, name]) => name);
      // The last one is handed on by Node itself, where the coverage of tests is measured.
      const usual = ['PATH', 'LC_ALL', 'PWD', 'SHLVL', '_', 'STOWAGE_RUN', 'NODE_V8_COVERAGE'];
      assert.deepEqual(
        names.filter((name) => !usual.includes(name ?? '')),
        [],
      );
    });

    test('lets nothing be read or written beside that, and reaches no network', { skip: !isIsolated }, async () => {
      const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
      await new Promise((resolve) => server.once('listening', resolve));
      const address = server.address();
      const port = address instanceof Object ? address.port : 0;
      const tries = [
        `cat ${place}/other`,
        `echo x > ${input}`,
        `echo x > ${place}/new`,
        'echo x > /tmp/new',
        'echo x > /dev/shm/new',
        `exec 3<>/dev/tcp/127.0.0.1/${port}`,
        'grep -q node /proc/[0-9]*/comm',
      ];
      const text = await shell(
        `${tries.map((one) => `(${one}) 2>/dev/null && echo "succeeded: ${one}"`).join('; ')}; true`,
      );
      server.close();
      assert.equal(text, '');
      assert.equal(readFileSync(input, 'utf8'), 'input');
    });

    test('ends what a program has started and hidden, and keeps it from the network and other processes', {
      skip: !confinement.endsAll,
    }, async () => {
      const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
      await new Promise((resolve) => server.once('listening', resolve));
      const address = server.address();
      const port = address instanceof Object ? address.port : 0;
      const marker = `5${String(Date.now()).slice(-6)}`;
      const hidden = `env -i setsid bash -c "sleep ${marker} & sleep ${marker} & exit"`;
      const tries = [`exec 3<>/dev/tcp/127.0.0.1/${port}`, 'grep -q node /proc/[0-9]*/comm'];
      const tried = tries.map((one) => `(${one}) 2>/dev/null && echo "succeeded: ${one}"`);
      assert.equal(await shell(`${tried.join('; ')}; true`), '');
      await shell(`${hidden}; while ! grep -q ${marker} /proc/[0-9]*/cmdline; do :; done`);
      await waitUntil(() => processesNamed(`sleep ${marker}`).length === 0);
      server.close();
    });

    test('tells what a program refuses from what it dies of', async () => {
      const error = await fault(shell(`echo "${place}/input: this is no film" >&2; exit 3`));
      assert.equal(error.fault, 'refused');
      assert.match(error.message, /this is no film/);
      assert.doesNotMatch(error.message, /stowage-test/);
      assert.equal(await faultOf(shell('kill -SEGV $$')), 'crashed');
      assert.equal(await faultOf(shell('kill -KILL $$')), 'crashed');
      const missing = new ProcessSandbox(confinement, () => undefined);
      assert.equal(missing.has('ffmpeg'), false);
      assert.equal(await faultOf(missing.run({ program: 'ffmpeg', args: [], input }, asText)), 'not-installed');
    });

    test('bounds memory, processor time and the size of files', { skip: !isLimited }, async () => {
      const limits = { memory: 64 * MiB, cpuSeconds: 1, fileSize: MiB };
      assert.equal(await faultOf(shell('x=$(head -c 100M /dev/zero | tr "\\0" a)', { limits })), 'out-of-memory');
      assert.equal(await faultOf(shell('while :; do :; done', { limits })), 'timed-out');
      const write = `exec head -c 2M /dev/zero > ${outputDirectory}/large`;
      assert.equal(await faultOf(shell(write, { limits, outputDirectory })), 'output-too-large');
    });

    test('bounds what a program says', async () => {
      assert.equal(await faultOf(shell('yes', { limits: { output: MiB } })), 'output-too-large');
      const error = await fault(shell('yes | head -c 50M >&2; echo end >&2; exit 1'));
      assert.match(error.message, /end$/);
    });

    test('kills a program and what it started when it takes too long, or nobody waits for it', async () => {
      const marker = `3${String(Date.now()).slice(-6)}`;
      // The one in a session of its own has left the group, and its child has no parent any more.
      const started = `sleep ${marker} & setsid bash -c "sleep ${marker} & sleep ${marker} & exit" & setsid sleep ${marker} & wait`;
      assert.equal(await faultOf(shell(started, { limits: { seconds: 0.5 } })), 'timed-out');
      const abort = new AbortController();
      const run = shell(`${started}`, { signal: abort.signal });
      await waitUntil(() => processesNamed(`sleep ${marker}`).length >= 4);
      abort.abort();
      assert.equal(await faultOf(run), 'aborted');
      await waitUntil(() => processesNamed(`sleep ${marker}`).length === 0);
      assert.equal(await faultOf(shell('true', { signal: abort.signal })), 'aborted');
    });

    test('leaves no program behind when the service is killed', {
      skip: !isLimited || setpriv === undefined,
    }, async () => {
      const module = new URL('../../src/processing/tools/', import.meta.url).href;
      const marker = `4${String(Date.now()).slice(-6)}`;
      const helpers = JSON.stringify({
        prlimit,
        setpriv,
        ...(isIsolated && { bwrap: locate('bwrap') }),
        ...(confinement.level === 'namespaces' && { unshare }),
      });
      const script = `const { Confinement } = await import('${module}confinement.ts');
        const { ProcessSandbox } = await import('${module}sandbox.ts');
        const sandbox = new ProcessSandbox(new Confinement(${helpers}), () => '/bin/sleep');
        await sandbox.run({ program: 'ffmpeg', args: ['${marker}'], input: '${input}' }, async (out) => { for await (const _ of out); });`;
      const service = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
      await waitUntil(() => runs(`/bin/sleep ${marker}`));
      service.kill('SIGKILL');
      await waitUntil(() => processesNamed(`sleep ${marker}`).length === 0);
    });

    test('ends a program whose output nobody reads to the end', async () => {
      const first = await sandbox.run({ program: 'ffmpeg', args: ['-c', 'yes'], input }, async (stdout) => {
        for await (const chunk of stdout) return chunk.toString('latin1', 0, 1);
        return '';
      });
      assert.equal(first, 'y');
      const own = new Error('the reader gives up');
      const run = sandbox.run({ program: 'ffmpeg', args: ['-c', 'yes'], input }, () => Promise.reject(own));
      await assert.rejects(run, own);
    });

    test('takes no link for an output', async () => {
      const directory = join(place, randomUUID());
      mkdirSync(directory);
      const run = shell(`ln -s /etc/passwd ${directory}/link`, { outputDirectory: directory });
      assert.equal(await faultOf(run), 'refused');
    });
  });

test('what a program left behind is found although it was becoming another program at the first look', async () => {
  const mark = newMark();
  const left = spawn('/bin/sleep', ['300'], { stdio: 'ignore', env: mark });
  const exit = once(left, 'exit');
  let looks = 0;
  await killMarked(mark, async (pid) => {
    if (pid !== left.pid) return '';
    return looks++ === 0
      ? undefined
      : Object.entries(mark)
          .map((pair) => pair.join('='))
          .join('\0');
  });
  left.kill('SIGTERM');
  assert.deepEqual(await exit, [null, 'SIGKILL']);
});

describe('the programs of this machine', () => {
  test('run in the sandbox', { skip: locate('ffmpeg') === undefined && 'there is no ffmpeg' }, async () => {
    const sandbox = await openSandbox();
    const input = fixture('clip.webm');
    const args = [
      '-nostdin',
      '-v',
      'error',
      '-i',
      `file:${input}`,
      '-frames:v',
      '1',
      '-f',
      'image2pipe',
      '-c:v',
      'png',
      'pipe:1',
    ];
    const picture = await sandbox.run({ program: 'ffmpeg', args, input }, asBytes);
    assert.equal(picture.toString('latin1', 1, 4), 'PNG');
  });

  test('are told to be confined no better than they are', async () => {
    const told = async (confinement: Confinement) =>
      (await toolAbilities(confinement)).find(({ name }) => name === 'bwrap')?.lost ?? '';
    assert.match(await told(new Confinement({ unshare, prlimit: '/prlimit' })), /what they start ends with them/);
    assert.match(
      await told(new Confinement({ prlimit: '/prlimit' })),
      /network.*hide outlives them; their limits hold/,
    );
    assert.match(await told(new Confinement({})), /can do what the account.*hide outlives them$/);
    assert.equal(await told(new Confinement({ bwrap: '/bwrap', prlimit: '/prlimit' })), '');
  });

  test('that are missing are told with what is lost and how to get it', async () => {
    const path = process.env['PATH'];
    process.env['PATH'] = '/nowhere';
    try {
      const ffmpeg = (await toolAbilities()).find(({ name }) => name === 'ffmpeg');
      assert.deepEqual(ffmpeg, {
        name: 'ffmpeg',
        works: false,
        lost: 'no posters and thumbnails of videos, no waveforms, no transcodes',
        remedy: 'apt-get install ffmpeg',
      });
      const check = toolChecks().find(({ name }) => name === 'pdftoppm');
      assert.equal(check?.needed, false);
      await assert.rejects(async () => check?.run(), /apt-get install poppler-utils/);
    } finally {
      process.env['PATH'] = path;
    }
    for (const { name, run } of toolChecks()) if (locate(name)) assert.match(String(await run()), /^\d/, name);
  });
});
