/** Encrypted files, without a service: the vectors, and what a reader does with files that were tampered with. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ENCRYPTED_TYPE } from '../../src/validation/structure/encrypted.ts';
import { structureCheck } from '../../src/validation/structure.ts';
import {
  cobblestone,
  type DecryptedFile,
  EncryptedSource,
  encryption,
  pattern,
  vectors,
} from '../support/encryption.ts';

const { decrypt, encrypt, DecryptionFailed, FileChanged } = encryption;
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const CHUNK = 16_384;
const SEALED = CHUNK + 16;
const HEADER = 56;
const bytesOf = async (blob: Blob) => new Uint8Array(await blob.arrayBuffer());
const described = { name: 'plan.txt', type: 'text/plain' };
const identity = await encryption.generateIdentity();
const keys = { recipients: [await encryption.identityToRecipient(identity)] };

/** What comes out before the stream fails or ends. */
async function drain(file: DecryptedFile): Promise<{ bytes: Uint8Array; error?: unknown }> {
  const pieces: Uint8Array[] = [];
  try {
    for await (const piece of file.stream()) pieces.push(piece);
  } catch (error) {
    return { bytes: Buffer.concat(pieces), error };
  }
  return { bytes: Buffer.concat(pieces) };
}

interface CobblestoneVector {
  key: string;
  context: string;
  plaintextLength: number;
  salt: string;
  commitment: string;
  ciphertextLength: number;
  ciphertextSha256: string;
}

describe('Cobblestone-256', () => {
  const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'));
  for (const vector of vectors<{ vectors: CobblestoneVector[] }>('cobblestone-256').vectors) {
    const { plaintextLength: length, context, key, salt, commitment } = vector;
    test(`makes the bytes that pyca/cryptography makes of ${length} bytes, in the context "${context}", and reads them`, async () => {
      const use = Uint8Array.from(Buffer.from(context));
      const message = await cobblestone.Message.derive(hex(key), hex(salt), use);
      assert.equal(Buffer.from(message.header).toString('hex'), salt + commitment);
      const chunks = await message.seal(0, pattern(length), true);
      assert.equal(HEADER + chunks.length, vector.ciphertextLength);
      assert.equal(sha256(Buffer.concat([message.header, chunks])), vector.ciphertextSha256);
      const reader = await cobblestone.Message.open(hex(key), message.header, use);
      assert.deepEqual(Buffer.from(await reader.unseal(0, chunks)), Buffer.from(pattern(length)));
      await assert.rejects(cobblestone.Message.open(hex(key), message.header, hex('00')), { name: 'NotAuthentic' });
    });
  }

  test('knows the size of each ciphertext, and which sizes none has', () => {
    for (const length of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 2 ** 40])
      assert.equal(cobblestone.plaintextSize(cobblestone.ciphertextSize(length)), length);
    for (const cut of [0, HEADER, HEADER + 15, HEADER + SEALED, HEADER + SEALED + 15])
      assert.equal(cobblestone.plaintextSize(cut), undefined);
  });

  test('numbers chunks beyond 2^32', async () => {
    const message = await cobblestone.Message.derive(new Uint8Array(32), new Uint8Array(24), new Uint8Array());
    const sealed = await message.seal(2 ** 32, pattern(5), true);
    await assert.rejects(message.unseal(0, sealed), { name: 'NotAuthentic' });
    assert.deepEqual(await message.unseal(2 ** 32, sealed), pattern(5));
    await assert.rejects(message.seal(2 ** 38, pattern(5), true), RangeError);
  });
});

interface FileVectors {
  identity: string;
  passphrase: string;
  vectors: {
    length: number;
    name: string;
    type: string;
    key: string;
    opensWith: 'identity' | 'passphrase';
    prefix: string;
    sha256: string;
  }[];
}

describe('an encrypted file', () => {
  const told = vectors<FileVectors>('encrypted-files');
  for (const vector of told.vectors)
    test(`of ${vector.length} bytes has the bytes that Python made, and is read, by its ${vector.opensWith}`, async () => {
      const file = new Blob([pattern(vector.length)]);
      const own = vector.opensWith === 'identity' ? { identities: [told.identity] } : { passphrase: told.passphrase };
      const source = await EncryptedSource.again(file, Uint8Array.from(Buffer.from(vector.prefix, 'base64')), own);
      assert.ok(source);
      const ciphertext = await source.read(0, source.size);
      assert.equal(sha256(await bytesOf(ciphertext)), vector.sha256);
      const opened = await decrypt(ciphertext, { key: Uint8Array.from(Buffer.from(vector.key, 'hex')) });
      assert.deepEqual([opened.name, opened.type, opened.size], [vector.name, vector.type, vector.length]);
      assert.deepEqual(Buffer.from(await opened.bytes()), Buffer.from(pattern(vector.length)));
    });

  test('is read in ranges as it is read whole', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(5 * CHUNK), fc.nat(), fc.nat(), async (length, one, other) => {
        const [start = 0, end = 0] = [one % (length + 1), other % (length + 1)].sort((a, b) => a - b);
        const file = await decrypt(await encrypt(new Blob([pattern(length)]), described, keys), {
          identities: [identity],
        });
        const range = await file.bytes({ start, end });
        assert.ok(Buffer.from(range).equals(pattern(length).subarray(start, end)));
      }),
      { numRuns: 25 },
    );
  });

  test('is the same ciphertext whichever pieces of it are made, and after a reload', async () => {
    const file = new Blob([pattern(2 ** 20 + 3 * CHUNK + 5)]);
    const source = await EncryptedSource.begin(file, described, keys);
    const whole = Buffer.from(await bytesOf(await source.read(0, source.size)));
    const again = await EncryptedSource.again(file, source.prefix, { identities: [identity] });
    assert.ok(again);
    await fc.assert(
      fc.asyncProperty(fc.nat(source.size), fc.nat(source.size), async (one, other) => {
        const [from = 0, to = 0] = [one, other].sort((a, b) => a - b);
        assert.ok(whole.subarray(from, to).equals(await bytesOf(await again.read(from, to))));
      }),
      { numRuns: 25 },
    );
  });

  test('is never other plaintext under the same key: not after a reload, nor while the file changes', async () => {
    const plaintext = pattern(3 * 2 ** 20);
    const source = await EncryptedSource.begin(new Blob([plaintext]), described, keys);
    const other = plaintext.slice();
    other.set([1], 2 ** 20 + 77);
    assert.equal(await EncryptedSource.again(new Blob([other]), source.prefix, { identities: [identity] }), undefined);
    assert.equal(
      await EncryptedSource.again(new Blob([plaintext]), source.prefix, {
        identities: [await encryption.generateIdentity()],
      }),
      undefined,
    );
    let current = new Blob([plaintext]);
    const changing = { size: current.size, slice: (from: number, to: number) => current.slice(from, to) } as Blob;
    const changed = await EncryptedSource.begin(changing, described, keys);
    current = new Blob([other]);
    await changed.read(0, 2 ** 20);
    await assert.rejects(changed.read(2 ** 20 + CHUNK, 2 ** 20 + 2 * CHUNK), FileChanged);
  });

  test('needs a passphrase or recipients, not both, and any of several recipients reads it', async () => {
    for (const wrong of [{}, { passphrase: '' }, { passphrase: 'a', ...keys }])
      await assert.rejects(encrypt(new Blob(['a']), described, wrong), TypeError);
    const second = await encryption.generateIdentity();
    const recipients = [...keys.recipients, await encryption.identityToRecipient(second)];
    const file = await encrypt(new Blob(['for two']), described, { recipients });
    for (const each of [identity, second])
      assert.equal(Buffer.from(await (await decrypt(file, { identities: [each] })).bytes()).toString(), 'for two');
    const passworded = await encrypt(new Blob(['secret']), described, { passphrase: 'open', workFactor: 10 });
    assert.equal((await decrypt(passworded, { passphrase: 'open' })).name, described.name);
    for (const wrong of [{ passphrase: 'close' }, { identities: [identity] }, {}])
      await assert.rejects(decrypt(passworded, wrong), { name: 'DecryptionFailed', fault: 'wrong-key' });
  });

  test('tells neither name nor type, nor how long they are', async () => {
    const sizes = new Set<number>();
    for (const name of ['a', 'Kündigung Müller 2026-03-01.docx']) {
      const bytes = await bytesOf(await encrypt(new Blob(['content']), { name, type: 'text/secret' }, keys));
      for (const word of ['secret', 'Müller', 'content']) assert.ok(!Buffer.from(bytes).includes(word));
      sizes.add(bytes.length);
    }
    assert.equal(sizes.size, 1);
  });
});

describe('a file that was tampered with', () => {
  /** Where the content begins. */
  const contentOf = (bytes: Uint8Array) =>
    16 + Buffer.from(bytes).readUInt32BE(8) + Buffer.from(bytes).readUInt32BE(12);

  type Change = (
    bytes: Uint8Array<ArrayBuffer>,
    foreign: Uint8Array,
    at: number,
    to: number,
  ) => Uint8Array<ArrayBuffer>;
  const chunkAt = (bytes: Uint8Array, seed: number) => {
    const first = contentOf(bytes) + HEADER;
    const index = seed % Math.ceil((bytes.length - first) / SEALED);
    return [first + index * SEALED, Math.min(bytes.length, first + (index + 1) * SEALED)] as const;
  };
  const joined = (...pieces: Uint8Array[]) => Uint8Array.from(Buffer.concat(pieces));
  const changes: Record<string, Change> = {
    'one bit of it': (bytes, _, at, bit) => {
      const changed = bytes.slice();
      changed[at % bytes.length] = (changed[at % bytes.length] ?? 0) ^ (1 << (bit % 8));
      return changed;
    },
    'the end cut off': (bytes, _, at) => bytes.slice(0, at % bytes.length),
    'the last chunks cut off': (bytes, _, at) => bytes.slice(0, chunkAt(bytes, at)[0]),
    'bytes after its end': (bytes, foreign, at) => joined(bytes, foreign.subarray(0, 1 + (at % foreign.length))),
    'a chunk left out': (bytes, _, at) => {
      const [begin, end] = chunkAt(bytes, at);
      return joined(bytes.subarray(0, begin), bytes.subarray(end));
    },
    'a chunk twice': (bytes, _, at) => {
      const [begin, end] = chunkAt(bytes, at);
      return joined(bytes.subarray(0, end), bytes.subarray(begin));
    },
    'two chunks swapped': (bytes, _, at, to) => {
      const [one, other] = [chunkAt(bytes, at), chunkAt(bytes, to)].sort(([a], [b]) => a - b);
      if (!one || !other || one[0] === other[0]) return bytes.slice(0, -1);
      return joined(
        bytes.subarray(0, one[0]),
        bytes.subarray(...other),
        bytes.subarray(one[1], other[0]),
        bytes.subarray(...one),
        bytes.subarray(other[1]),
      );
    },
    'a chunk of another file': (bytes, foreign, at) => {
      const [begin, end] = chunkAt(bytes, at);
      const from = contentOf(foreign) + begin - contentOf(bytes);
      return joined(bytes.subarray(0, begin), foreign.subarray(from, from + end - begin), bytes.subarray(end));
    },
    'the content of another file': (bytes, foreign) =>
      joined(bytes.subarray(0, contentOf(bytes)), foreign.subarray(contentOf(foreign))),
    'the name of another file': (bytes, foreign) => {
      const nameAt = (file: Uint8Array) => 16 + Buffer.from(file).readUInt32BE(8);
      return joined(
        bytes.subarray(0, nameAt(bytes)),
        foreign.subarray(nameAt(foreign), contentOf(foreign)),
        bytes.subarray(contentOf(bytes)),
      );
    },
  };

  for (const [title, change] of Object.entries(changes))
    test(`is an error to its reader, and no byte that is not authentic is given out: ${title}`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 1, max: 4 * CHUNK }), fc.nat(), fc.nat(), async (length, at, to) => {
          const plaintext = pattern(length);
          const bytes = await bytesOf(await encrypt(new Blob([plaintext]), described, keys));
          // Encrypted for the same reader, and as long.
          const foreign = await bytesOf(await encrypt(new Blob([plaintext]), described, keys));
          const changed = new Blob([change(bytes, foreign, at, to)]);
          const opened = await decrypt(changed, { identities: [identity] }).catch((error: unknown) => error);
          if (opened instanceof Error) return assert.ok(opened instanceof DecryptionFailed, String(opened));
          const { bytes: given, error } = await drain(opened as DecryptedFile);
          assert.ok(error instanceof DecryptionFailed, `no error, but ${given.length} of ${length} bytes`);
          assert.ok(Buffer.from(plaintext.subarray(0, given.length)).equals(given));
        }),
        { numRuns: 20 },
      );
    });

  test('is told from a file that was cut', async () => {
    const file = await encrypt(new Blob([pattern(3 * CHUNK)]), described, keys);
    for (const [changed, fault] of [
      [file.slice(0, -1), 'truncated'],
      [file.slice(0, -16), 'truncated'],
      [file.slice(0, 40), 'truncated'],
      [file.slice(1), 'not-encrypted'],
      [new Blob([]), 'not-encrypted'],
    ] as const)
      await assert.rejects(decrypt(changed, { identities: [identity] }), { name: 'DecryptionFailed', fault });
  });
});

describe('what the service can see of an encrypted file', () => {
  const faultOf = (bytes: Uint8Array) => {
    const check = structureCheck(ENCRYPTED_TYPE);
    for (let at = 0; at < bytes.length; at += 10_000) check.update(bytes.subarray(at, at + 10_000));
    return check.end();
  };

  test('is that it is whole, by its length, of any plaintext', async () => {
    for (const length of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7]) {
      const bytes = await bytesOf(await encrypt(new Blob([pattern(length)]), described, keys));
      assert.equal(faultOf(bytes), undefined);
      const rest = (length % CHUNK) + 1;
      assert.match(faultOf(bytes.subarray(0, -rest)) ?? '', /cut/);
    }
  });

  test('is where its parts begin: lengths that nobody writes are refused', async () => {
    const bytes = await bytesOf(await encrypt(new Blob(['a']), described, keys));
    for (const [offset, value] of [
      [8, 10],
      [8, 0xffffffff],
      [12, 70],
      [12, 0x10000],
    ] as const) {
      const changed = Buffer.from(bytes);
      changed.writeUInt32BE(value, offset);
      assert.notEqual(faultOf(changed), undefined);
    }
    const noAge = Buffer.from(bytes);
    noAge.write('gpg', 16);
    assert.match(faultOf(noAge) ?? '', /age/);
  });
});
