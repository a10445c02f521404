/** Films and sound that mean harm: each costs what would have been made of it, and nothing else. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import type { MediaFacts } from '../../src/processing/media/facts.ts';
import type { MediaFile } from '../../src/processing/media/input.ts';
import { poster } from '../../src/processing/media/poster.ts';
import { probe } from '../../src/processing/media/probe.ts';
import { waveform } from '../../src/processing/media/waveform.ts';
import { ChildPool } from '../../src/processing/tools/child-pool.ts';
import { openSandbox, type Sandbox, ToolError } from '../../src/processing/tools/sandbox.ts';
import { fixture } from '../support/corpus.ts';
import { H264, hostileMedia, lavfi, MediaFolder, playlists } from '../support/media.ts';
import { programSkip } from '../support/programs.ts';

const skip = programSkip('ffmpeg');
const folder = new MediaFolder();
let sandbox: Sandbox;
let pool: ChildPool;

before(async () => {
  sandbox = await openSandbox();
  pool = new ChildPool({
    ...{ size: 1, memory: 640 * 2 ** 20, cpuSeconds: 120, recycleAfter: 1000 },
    scratch: folder.path,
  });
});
after(async () => {
  await pool.close();
  folder.close();
});

/** Does all that is done with a film or sound; what the tools refuse is the answer. */
async function processed(file: MediaFile): Promise<Record<string, unknown>> {
  const refusal = (error: unknown) => {
    assert.ok(error instanceof ToolError, String(error));
    assert.match(error.message, /^[\x20-\x7e]{1,300}$/);
    assert.doesNotMatch(error.message, /stowage-media|\/tmp/);
    return error.fault;
  };
  const facts = await probe(sandbox, file).catch(refusal);
  const headers = await pool
    .run<MediaFacts>({ module: 'sound', input: file, file: file.path }, { seconds: 20 })
    .catch(refusal);
  for (const found of [facts, headers]) if (typeof found !== 'string') assertSound(found);
  if (typeof facts === 'string') return { facts, headers };
  const picture = facts.video && (await poster(sandbox, file, facts).catch(refusal));
  const sound = facts.audio && (await waveform(sandbox, file, facts).catch(refusal));
  return { facts, headers, picture, sound };
}

/** All numbers are finite and positive, and names are names. */
function assertSound({ duration, bitRate, container, video, audio }: MediaFacts): void {
  const numbers = [
    duration,
    bitRate,
    video?.width,
    video?.height,
    video?.framesPerSecond,
    audio?.channels,
    audio?.sampleRate,
  ];
  for (const number of numbers) if (number !== undefined) assert.ok(number > 0 && number < 1e12, `${number}`);
  for (const name of [container, video?.codec, audio?.codec])
    if (name !== undefined) assert.match(name, /^[a-z0-9_-]{1,32}$/);
}

describe('hostile media', { skip }, () => {
  const refused = /atom|samples-without|descriptions-without|empty|cut-moov-last|disguise|text/;
  for (const [name, bytes] of hostileMedia())
    test(`${name} is ${refused.test(name) ? 'refused' : 'read as far as it goes'}`, async () => {
      const { facts } = await processed(folder.write(name, bytes));
      if (refused.test(name)) assert.equal(facts, 'refused');
    });

  test('a film of a hundred streams gives its facts', async () => {
    folder.fixture('moov-last.mp4');
    const maps = Array.from({ length: 100 }, () => ['-map', '0:0']).flat();
    const file = folder.make('streams.mp4', '-i', `${folder.path}/moov-last.mp4`, ...maps, '-c', 'copy');
    const { facts } = await processed(file);
    assert.ok(facts instanceof Object);
  });

  test('no playlist makes a tool ask anybody, or open another file', async () => {
    let connections = 0;
    const server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert.ok(address instanceof Object);
    try {
      for (const [name, text] of playlists(`http://127.0.0.1:${address.port}`)) {
        const { facts, headers } = await processed(folder.write(name, text));
        assert.equal(facts, 'refused', name);
        assert.equal(typeof headers, 'string', name);
      }
    } finally {
      server.close();
    }
    assert.equal(connections, 0);
  });

  test('sound that a few bytes unfold to half a day gets no waveform, in bounded time and memory', async () => {
    const silence = [...lavfi('anullsrc=r=1000:cl=mono'), '-t', String(12 * 3600 + 60), '-c:a', 'flac'];
    const file = folder.make('silence.flac', ...silence, '-frame_size', '65535');
    assert.ok(file.size < 2 ** 18);
    const { facts, sound } = await processed(file);
    assert.ok(facts instanceof Object);
    assert.equal(sound, 'refused');
  });

  test('bytes that are changed anywhere end in an answer or a refusal', async () => {
    const clip = folder.make('clip.mp4', ...lavfi('testsrc2=s=64x48:r=10:d=1.5'), ...lavfi('sine=d=1.5'), ...H264);
    const originals = new Map([
      ['clip.mp4', folder.read('clip.mp4')],
      ...['clip.webm', 'sound.mp3', 'vorbis.ogg', 'sound.flac', 'sound.wav'].map((name): [string, Buffer] => [
        name,
        fixture(name),
      ]),
    ]);
    assert.ok(clip.size > 0);
    let count = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...originals.keys()),
        fc.array(fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(255)), {
          minLength: 1,
          maxLength: 12,
        }),
        async (name, changes) => {
          const bytes = Buffer.from(originals.get(name) ?? '');
          for (const [at, value] of changes) bytes[Math.floor(at * bytes.length)] = value;
          await processed(folder.write(`changed-${++count}-${name}`, bytes));
        },
      ),
      { numRuns: Number(process.env['MEDIA_MUTATIONS'] ?? 15) },
    );
  });
});
