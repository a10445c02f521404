/** Forms as they are parsed, with bodies that come in any pieces. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import multipart from '@fastify/multipart';
import Fastify, { type FastifyRequest } from 'fastify';
import { z } from 'zod';
import { Problem } from '../../src/problems.ts';
import { FormReader } from '../../src/uploads/form-reader.ts';

const KiB = 1024;
const BOUNDARY = 'XX';
const schema = z.strictObject({ projectId: z.string().optional(), metadata: z.string().optional() });
const options = { fileField: 'file', maxFiles: 2, tooManyFiles: 'too many', schema, maxBytes: 16 * KiB * KiB };
const part = (headers: string, content: Buffer | string) =>
  Buffer.concat([Buffer.from(`--${BOUNDARY}\r\n${headers}\r\n\r\n`), Buffer.from(content), Buffer.from('\r\n')]);
const file = (content: Buffer | string, name = 'filename="a.bin"') =>
  part(`Content-Disposition: form-data; name="file"; ${name}\r\nContent-Type: image/png`, content);
const field = (name: string, value: string) => part(`Content-Disposition: form-data; name="${name}"`, value);
const end = Buffer.from(`--${BOUNDARY}--\r\n`);

describe('a form', () => {
  const app = Fastify();
  let request: FastifyRequest;
  before(async () => {
    await app.register(multipart);
    app.get('/', async (received) => {
      request = received;
      return '';
    });
    await app.inject('/');
  });
  after(() => app.close());

  const reader = (body: AsyncIterable<Buffer>, { maxFiles = options.maxFiles } = {}) =>
    new FormReader(request, body, BOUNDARY, { ...options, maxFiles });

  /** All of it. */
  async function read(body: AsyncIterable<Buffer>) {
    const form = reader(body);
    const files: { name: string; type: string | undefined; bytes: Buffer }[] = [];
    try {
      for (let next = await form.nextFile(); next; next = await form.nextFile()) {
        const chunks: Buffer[] = [];
        for await (const chunk of form.bytes()) chunks.push(Buffer.from(chunk));
        files.push({ name: next.fileName, type: next.contentType, bytes: Buffer.concat(chunks) });
      }
      return { files, fields: form.fields() };
    } finally {
      form.close();
    }
  }

  test('is the same in whatever pieces it comes, also where its bytes look like a boundary', async () => {
    const hostile = Buffer.from(`\r\n--X\r\n--Y\r\r\n-\r\n--${'\r\n--X'.repeat(9)}\r`);
    const whole = Buffer.concat([
      Buffer.from('preamble\r\n'),
      file(hostile),
      field('projectId', 'grün'),
      file(''),
      field('metadata', '{}'),
      end,
      Buffer.from('epilogue'),
    ]);
    for (const size of [1, 2, 3, 5, 7, 11, 13, 64, 1000]) {
      const { files, fields } = await read(pieces(whole, size));
      assert.deepEqual(
        files.map(({ bytes }) => bytes.toString()),
        [hostile.toString(), ''],
        `pieces of ${size}`,
      );
      assert.deepEqual(fields, { projectId: 'grün', metadata: '{}' });
    }
  });

  test('gives every byte of a large file, though its chunks are freed behind the reader', async () => {
    const content = randomBytes(3 * KiB * KiB);
    for (let at = 0; at < 400; at++) content.write('\r\n--XY', Math.floor((at * content.length) / 400));
    const { files } = await read(pieces(Buffer.concat([file(content), file(content), end]), 64 * KiB));
    assert.deepEqual(
      files.map(({ bytes }) => bytes.equals(content)),
      [true, true],
    );
  });

  test('asks for no more than two chunks ahead of its reader, and frees those that were read', async () => {
    const size = 64 * KiB;
    const made: Buffer[] = [];
    async function* body() {
      yield Buffer.concat([file('').subarray(0, -2)]);
      for (let index = 0; index < 64; index++) {
        const chunk = Buffer.allocUnsafeSlow(size).fill(index);
        made.push(chunk);
        yield chunk;
      }
      yield Buffer.concat([Buffer.from('\r\n'), end]);
    }
    const form = reader(body());
    await form.nextFile();
    let received = 0;
    for await (const chunk of form.bytes()) {
      received += chunk.length;
      for (let turn = 0; turn < 5; turn++) await nextTurn();
      assert.ok(
        made.length * size - received <= 2 * size,
        `${made.length} chunks were asked for, ${received} bytes read`,
      );
      const held = made.filter((each) => each.length > 0).length;
      assert.ok(held <= 3, `${held} chunks are held`);
    }
    assert.equal(received, 64 * size);
    assert.equal(await form.nextFile(), undefined);
    form.close();
  });

  test('that is refused half-way asks for nothing more, and its body is ended', async () => {
    let asked = 0;
    let ended = false;
    async function* body() {
      try {
        yield file(randomBytes(100)).subarray(0, -2);
        for (;;) {
          asked += 1;
          yield Buffer.allocUnsafeSlow(64 * KiB);
        }
      } finally {
        ended = true;
      }
    }
    const form = reader(body());
    await form.nextFile();
    for await (const _chunk of form.bytes()) break;
    form.close();
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    assert.ok(ended);
    assert.ok(asked <= 2, `asked ${asked} times`);
  });

  test('fails with what its body fails with, wherever that is', async () => {
    const fault = new Problem('incomplete-body', { detail: 'gone' });
    const whole = Buffer.concat([field('projectId', 'p'), file('abc'), file('def'), end]);
    for (let length = 0; length < whole.length - 2; length++) {
      async function* body() {
        yield* pieces(whole.subarray(0, length), 50);
        throw fault;
      }
      await assert.rejects(read(body()), (error) => error === fault, `after ${length} bytes`);
      await assert.rejects(read(pieces(whole.subarray(0, length), 50)), { type: 'malformed-multipart' });
    }
  });

  test('a name is the one that was checked', async () => {
    for (const [parameters, name] of [
      ['filename="a.png"', 'a.png'],
      ['filename=a.png', 'a.png'],
      ['filename="a=b;c*d\'e%22.png"', "a=b;c*d'e%22.png"],
      ['filename="C:\\fakepath\\a.png"', 'C:\\fakepath\\a.png'],
      ['filename="\\"a\\\\b\\".png"', '"a\\b".png'],
      ["filename*=UTF-8''%e2%82%ac.png", '€.png'],
      ['filename="x.png"; filename*=utf-8\'en\'%e2%82%ac.png', '€.png'],
      ['filename*=utf-8\'\'%e2%82%ac.png; filename="x.png"', '€.png'],
      ['filename="é €.png"', 'é €.png'],
      ['filename=""', ''],
      ['filename="a.png"; size=500;x="y"', 'a.png'],
    ] as const) {
      const { files } = await read(pieces(Buffer.concat([file('abc', parameters), end]), 9));
      assert.deepEqual(
        files.map((each) => [each.name, each.type, each.bytes.toString()]),
        [[name, 'image/png', 'abc']],
        parameters,
      );
    }
  });

  for (const [title, parts] of [
    ['a name in pieces (RFC 2231)', [file('abc', 'filename*0="a"; filename*1=".png"')]],
    ['a field name in another charset', [part('Content-Disposition: form-data; name="file"; name*=utf-8\'\'x', 'abc')]],
    ['a line break in filename*', [file('abc', "filename*=utf-8''a%0d%0ab.png")]],
    ['a boundary among its header fields', [file('abc', `filename="a.png"\r\n--${BOUNDARY}: y`)]],
    ['text behind a quote', [file('abc', 'filename="a.png"x')]],
    ['an open quote', [file('abc', 'filename="a.png')]],
    ['two names', [file('abc', 'filename="a.png"; FileName="b.png"')]],
  ] as const) {
    test(`a part with ${title} is refused`, async () => {
      await assert.rejects(read(pieces(Buffer.concat([...parts, end]), 1000)), { type: 'malformed-multipart' });
    });
  }

  test('the fields and files that are too many are refused by name of the limit', async () => {
    const files = Buffer.concat([file('a'), file('b'), file('c'), end]);
    await assert.rejects(read(pieces(files, 1000)), { type: 'unexpected-part', message: /too many/ });
    const fields = Buffer.concat([...Array.from({ length: 9 }, (_, index) => field(`f${index}`, 'x')), end]);
    await assert.rejects(read(pieces(fields, 1000)), { type: 'unexpected-part', message: /too many fields/ });
  });

  test('a part without a file name is a field, whatever type it has', async () => {
    const octets = part(
      'Content-Disposition: form-data; name="projectId"\r\nContent-Type: application/octet-stream',
      'p',
    );
    const json = part('Content-Disposition: form-data; name="metadata"\r\nContent-Type: application/json', '{"a":"b"}');
    const { files, fields } = await read(pieces(Buffer.concat([octets, json, end]), 1000));
    assert.deepEqual([files, fields], [[], { projectId: 'p', metadata: '{"a":"b"}' }]);
    for (const text of ['12345678901234567890', 'null', '{', '{"__proto__":1}', '']) {
      const other = part('Content-Disposition: form-data; name="metadata"\r\nContent-Type: application/json', text);
      await assert.rejects(read(pieces(Buffer.concat([other, end]), 1000)), { type: 'unexpected-part' }, text);
    }
  });

  test('a name that every object has is refused before the rest is read', async () => {
    for (const name of ['__proto__', 'constructor']) {
      async function* body() {
        yield part(`Content-Disposition: form-data; name="${name}"; filename="a.png"`, 'abc');
        assert.fail('more was asked for');
      }
      await assert.rejects(read(body()), { type: 'unexpected-part' });
    }
  });
});

async function* pieces(whole: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < whole.length; at += size) {
    const piece = Buffer.allocUnsafeSlow(Math.min(size, whole.length - at));
    whole.copy(piece, 0, at);
    yield piece;
  }
}
