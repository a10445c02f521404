/** A policy that has its pictures encoded again: what is served is the new file, and never larger for it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import sharp from 'sharp';
import { Client } from '../support/client.ts';
import { startService, type TestService } from '../support/service.ts';
import { waitUntil } from '../support/wait-until.ts';

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const bounded = {
  mediaTypes: ['image/jpeg', 'image/gif'],
  maxBytes: 50_000_000,
  reencode: { maxWidth: 300, maxHeight: 300 },
};

describe('a policy that has pictures encoded again', () => {
  let service: TestService;
  let client: Client;
  before(async () => {
    const policies = {
      bounded,
      converted: { ...bounded, reencode: { format: 'webp', quality: 60 } },
    };
    service = await startService({ policies });
    client = new Client(service.url);
  });
  after(() => service.close());

  const upload = async (bytes: Buffer, assetType: string) => {
    const { status, body } = await client.upload(new Uint8Array(bytes), { name: 'photo.jpg', fields: { assetType } });
    assert.equal(status, 201, JSON.stringify(body));
    await waitUntil(async () => (await client.get(`/v1/assets/${body.id}`)).body.state === 'ready');
    const { body: asset } = await client.get(`/v1/assets/${body.id}`);
    return { asset, content: (await client.content(body.id)).body };
  };
  const noise = (width: number, height: number) =>
    sharp({
      create: { width, height, channels: 3, noise: { type: 'gaussian', mean: 128, sigma: 30 }, background: '#000' },
    });

  test('makes a large one fit, upright and without metadata', async () => {
    const sent = await noise(800, 400).withMetadata({ orientation: 6 }).jpeg().toBuffer();
    const { asset, content } = await upload(sent, 'bounded');
    const { width, height, orientation, exif } = await sharp(content).metadata();
    assert.deepEqual([width, height, orientation, exif], [150, 300, undefined, undefined]);
    assert.deepEqual([asset.size, asset.sha256], [content.length, sha256(content)]);
    assert.deepEqual(asset.original, { size: sent.length, sha256: sha256(sent) });
    assert.equal(asset.processing?.reencode?.state, 'done');
  });

  test('keeps what would not become a tenth smaller, and what cannot be encoded again', async () => {
    const small = await noise(200, 100).jpeg({ quality: 20 }).toBuffer();
    const { asset, content } = await upload(small, 'bounded');
    assert.deepEqual(content, small);
    assert.deepEqual([asset.processing?.reencode?.state, asset.processing?.reencode?.reason], ['skipped', 'no-gain']);
    const moving = readFileSync(new URL('../fixtures/animation.gif', import.meta.url));
    const answer = await client.upload(new Uint8Array(moving), { name: 'a.gif', fields: { assetType: 'bounded' } });
    await waitUntil(async () => (await client.get(`/v1/assets/${answer.body.id}`)).body.state === 'ready');
    assert.equal((await client.get(`/v1/assets/${answer.body.id}`)).body.processing?.reencode?.state, 'failed');
    assert.deepEqual((await client.content(answer.body.id)).body, moving);
  });

  test('may turn it into another format', async () => {
    const { asset, content } = await upload(await noise(400, 300).jpeg({ quality: 95 }).toBuffer(), 'converted');
    assert.equal(asset.mediaType, 'image/webp');
    assert.equal((await sharp(content).metadata()).format, 'webp');
  });
});
