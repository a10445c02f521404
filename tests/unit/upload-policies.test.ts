import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { loadUploadPolicies, PolicyError } from '../../src/validation/upload-policies.ts';

const GiB = 1024 ** 3;

describe('a file of upload policies', () => {
  const directory = mkdtempSync(join(tmpdir(), 'stowage-policies-'));
  after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'policies.json');

  function faultsOf(content: unknown): string {
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    try {
      loadUploadPolicies(file, GiB);
    } catch (error) {
      assert.ok(error instanceof PolicyError);
      return error.message;
    }
    return assert.fail('it was accepted');
  }
  const good = { mediaTypes: ['text/plain'], maxBytes: 10 };

  test('is told each of its faults with the place and the value', () => {
    for (const [content, fault] of [
      [{ 'My Policy': good }, /^UPLOAD_POLICIES: "My Policy": policy names are lower-case/],
      [
        { a: { ...good, mediaTypes: ['text/plain', 'jpeg'] } },
        /a\.mediaTypes\.1: must be a media type such as image\/png, not "jpeg"/,
      ],
      [{ a: { ...good, mediaTypes: ['multipart/mixed'] } }, /not "multipart\/mixed"/],
      [{ a: { ...good, mediaTypes: ['text/*'] } }, /not "text\/\*"/],
      [{ a: { ...good, mediaTypes: [] } }, /a\.mediaTypes: .*, not \[\]/],
      [{ a: { ...good, maxBytes: '10MiB' } }, /a\.maxBytes: .*, not "10MiB"/],
      [{ a: { ...good, transcodes: { formats: ['avi'] } } }, /a\.transcodes\.formats\.0: .*, not "avi"/],
      [{ a: { ...good, transcodes: { maxDuration: 1e6 } } }, /a\.transcodes\.maxDuration: must be at most 12 hours/],
      [{ a: { ...good, derivatives: { 'mp3-128k': {} } } }, /this is the name of a transcode/],
      [{ a: { ...good, maxBytes: 0 } }, /a\.maxBytes: .*, not 0/],
      [{ a: { ...good, maxbytes: 1 } }, /a: .*"maxbytes"/],
      [{ a: { mediaTypes: ['text/plain'] } }, /a\.maxBytes: /],
      [{ a: 5 }, /a: .*, not 5/],
      ['[]', /the file: /],
      ['{', /cannot be read as JSON/],
      [{ a: { ...good, maxBytes: 2 * GiB } }, /a\.maxBytes is more than MAX_FILE_SIZE/],
    ] as const)
      assert.match(faultsOf(content), fault, JSON.stringify(content));
  });

  test('shows all faults, and never a long value whole', () => {
    const faults = faultsOf({ B: good, c: { ...good, mediaTypes: ['x'.repeat(500)] } }).split('\n');
    assert.equal(faults.length, 2);
    for (const fault of faults) assert.ok(fault.length < 250, fault);
  });
});
