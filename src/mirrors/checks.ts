/** What `npm run doctor` says about mirrors. */
import { createHash, randomBytes } from 'node:crypto';
import type { Core } from '../core.ts';
import { type Check, Fault } from '../doctor/check.ts';
import { keyIn, type Mirror } from '../storage/mirror.ts';
import { readCopy } from './copy-object.ts';
import { KnownMirrors, type MirrorStatus } from './known-mirrors.ts';
import { mirrorSettings } from './settings.ts';

/** Milliseconds for the probe of one mirror. */
const PATIENCE = 20_000;

export function mirrorChecks(core: Core): Check[] {
  const { mirrors, config } = core;
  return [
    ...mirrors.map((mirror) => ({
      name: `mirror ${mirror.name}`,
      needed: true,
      run: () => writeAndRead(mirror, config.S3_KEY_PREFIX),
    })),
    { name: 'mirrors', needed: false, run: () => progress(core) },
  ];
}

async function writeAndRead(mirror: Mirror, keyPrefix: string): Promise<string> {
  const { store } = mirror;
  const key = keyIn(mirror, `${keyPrefix}doctor/${randomBytes(8).toString('hex')}/copy`);
  const body = randomBytes(1000);
  const sha256 = createHash('sha256').update(body).digest();
  const signal = AbortSignal.timeout(PATIENCE);
  const attributes = {
    contentType: 'application/octet-stream',
    contentDisposition: 'attachment',
    cacheControl: 'no-store',
    metadata: { 'made-by': 'doctor' },
  };
  await store.put(key, body, attributes, { sha256, signal });
  try {
    await readCopy({ store, key }, { size: body.length, sha256 }, signal);
  } finally {
    await store.delete(key, { signal });
  }
  return `takes, gives and removes an object (${store.kind})`;
}

async function progress(core: Core): Promise<string | { skipped: string }> {
  const { mirrors, background, outbox } = core;
  const known = await new KnownMirrors(background, outbox).list();
  if (known.length === 0) return { skipped: 'there are none: every object is in one place only' };
  const former = known.filter(({ name }) => !mirrors.some((mirror) => mirror.name === name));
  if (former.length > 0)
    throw new Fault(
      `${namesOf(former)}: not configured any more, and deletions wait for the copies there. Configure it again, or have it forgotten: DELETE /v1/admin/mirrors/NAME`,
    );
  const lag = core.settings(mirrorSettings).MIRROR_LAG;
  const lagging = known.filter(({ behind }) => behind.oldestAt && Date.now() - behind.oldestAt.getTime() > lag);
  if (lagging.length > 0)
    throw new Fault(`${namesOf(lagging)}: behind for longer than MIRROR_LAG. GET /v1/admin/mirrors tells the reasons`);
  return known.map(({ name, behind }) => `${name} lacks ${behind.objects} objects`).join(', ');
}

function namesOf(mirrors: readonly MirrorStatus[]): string {
  return mirrors.map(({ name }) => name).join(', ');
}
