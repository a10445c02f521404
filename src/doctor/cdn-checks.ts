/** Whether links to the CDN of the configuration lead to bytes, and only those that are signed. */
import { createHash, randomBytes } from 'node:crypto';
import { type Cdn, HmacCdn } from '../storage/cdn.ts';
import { linkWindow } from '../storage/link-window.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { probeFolder } from '../storage/probe-keys.ts';
import { type Check, Fault } from './check.ts';

/** Seconds. */
const LIFE = 300;
/** Milliseconds. */
const TIMEOUT = 10_000;
const attributes = {
  contentType: 'application/octet-stream',
  contentDisposition: 'attachment; filename="doctor.bin"',
  cacheControl: 'private, max-age=60',
  metadata: { 'made-by': 'doctor' },
};

/** @param keyPrefix of the configuration; nothing outside of it is touched */
export function cdnChecks(cdn: Cdn | undefined, store: ObjectStore, keyPrefix: string): Check[] {
  if (!cdn) return [];
  // Where the service is the origin, it need not run yet.
  const needed = !(cdn instanceof HmacCdn);
  return [{ name: 'download link by the CDN', needed, run: () => downloadLink(cdn, store, keyPrefix) }];
}

async function downloadLink(cdn: Cdn, store: ObjectStore, keyPrefix: string): Promise<string> {
  const key = `${probeFolder(keyPrefix, 'doctor')}/cdn`;
  const body = randomBytes(1000);
  const { expiresAt, life } = linkWindow(new Date(), LIFE);
  try {
    await store.put(key, body, attributes, { sha256: createHash('sha256').update(body).digest() });
    const url = await cdn.sign({ key, ...attributes, expiresAt, life });
    // First, so that no copy answers for it. Another letter in the middle of the signature is another signature.
    const forged = await answerTo(
      url.replace(/(signature=.{20})(.)/i, (_all, start, next) => `${start}${next === 'A' ? 'B' : 'A'}`),
    );
    if (forged.status === 200)
      throw new Fault(
        'a link with a wrong signature is answered: the edge verifies nothing, so anybody can have what he can name',
      );
    const { status, bytes, disposition } = await answerTo(url);
    if (status !== 200)
      throw new Fault(
        `the link answers ${status}: do CDN_URL, its origin and the key of the edge belong to this service, and does it run?`,
      );
    if (!bytes.equals(body)) throw new Fault('the link gives other bytes');
    if (disposition !== attributes.contentDisposition)
      throw new Fault(
        'the link does not set Content-Disposition: are the query strings response-* passed on to the origin?',
      );
  } finally {
    await store.delete(key, {});
  }
  return 'works, and a wrong signature is refused';
}

async function answerTo(url: string): Promise<{ status: number; bytes: Buffer; disposition: string | null }> {
  const { origin } = new URL(url);
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT) });
    const bytes = Buffer.from(await answer.arrayBuffer());
    return { status: answer.status, bytes, disposition: answer.headers.get('content-disposition') };
  } catch (error) {
    throw new Fault(`nobody answers at ${origin}: correct CDN_URL, or start what is there`, { cause: error });
  }
}
