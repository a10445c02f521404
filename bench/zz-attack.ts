import net from 'node:net';
import { readFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { SignJWT } from 'jose';
import pg from 'pg';
import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { createTestDatabase } from '../tests/support/postgres.ts';
import { createTestBucket, requireS3Settings } from '../tests/support/s3.ts';
import { prepareDatabase } from '../src/prepare-database.ts';
import { png, glb } from '../tests/support/files.ts';
import { waitUntil } from '../tests/support/wait-until.ts';
const SECRET = 'a secret of the attack, longer than its digest';
const store = process.argv[2] ?? 'disk';
const token = (sub: string) => new SignJWT({ scope: 'admin' }).setProtectedHeader({ alg: 'HS256' }).setSubject(sub).setExpirationTime('2h').sign(new TextEncoder().encode(SECRET));
const db = await createTestDatabase(); await prepareDatabase(db.url);
const bucket = store === 's3' ? await createTestBucket() : undefined;
const s3: any = store === 's3' ? requireS3Settings() : {};
const port = 39000 + Math.floor(Math.random() * 900);
const child = spawn('node', ['--max-semi-space-size=4', '--heap-growing-percent=50', '--expose-gc', process.env['ATTACK_ENTRY'] ?? 'dist/main.js'], { env: { PATH: process.env['PATH'] ?? '', MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '131072', PORT: String(port), HOST: '127.0.0.1', DATABASE_URL: db.url, DATA_DIR: mkdtempSync('/tmp/attack-'), AUTH_JWT_SECRET: SECRET, UPLOADS_PER_HOUR: '100000', REQUESTS_PER_MINUTE: process.env['RPM'] ?? '6000',
  ...(bucket && { S3_BUCKET: bucket.bucket, S3_ENDPOINT: s3.endpoint, S3_REGION: s3.region, S3_ACCESS_KEY_ID: s3.accessKeyId, S3_SECRET_ACCESS_KEY: s3.secretAccessKey, S3_FORCE_PATH_STYLE: 'true' }) }, stdio: ['ignore', 'ignore', 'pipe'] });
let err = ''; child.stderr.on('data', (c) => { err += c; });
const url = `http://127.0.0.1:${port}`;
await waitUntil(async () => { if (child.exitCode !== null) throw new Error(err); return (await fetch(`${url}/readyz`).catch(() => undefined))?.ok; }, { timeout: 60000 });
const victim = await token('victim');
const attackers = await Promise.all(Array.from({ length: 4 }, (_, i) => token(`attacker-${i}`)));
const rss = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) / 1024;
const picture = png(1024, 1);
const median = (v: number[]) => v.sort((a, b) => a - b)[Math.floor(v.length / 2)] ?? NaN;
async function measure(seconds = 6) {
  const up: number[] = [], list: number[] = []; let ready = 0, notReady = 0, bad = 0; let peak = 0;
  const until = performance.now() + seconds * 1000;
  while (performance.now() < until) {
    let t = performance.now();
    const r = await fetch(`${url}/v1/assets/raw/v.png`, { method: 'PUT', headers: { authorization: `Bearer ${victim}`, 'content-type': 'image/png' }, body: picture }).catch(() => undefined);
    up.push(performance.now() - t); if (r?.status !== 201) bad++; await r?.arrayBuffer();
    t = performance.now();
    const l = await fetch(`${url}/v1/assets?limit=20`, { headers: { authorization: `Bearer ${victim}` } }).catch(() => undefined);
    list.push(performance.now() - t); if (l?.status !== 200) bad++; await l?.arrayBuffer();
    const ok = (await fetch(`${url}/readyz`).catch(() => undefined))?.status === 200; ok ? ready++ : notReady++;
    peak = Math.max(peak, rss());
    await delay(50);
  }
  return { up: median(up), list: median(list), n: up.length, bad, notReady, peak };
}
const rest = await measure(5);
console.log(store, 'rest', JSON.stringify(rest));
const sockets: net.Socket[] = [];
const raw = (text: string | Buffer, read = false) => { const s = net.connect(port, '127.0.0.1'); s.on('error', () => {}); if (!read) s.pause(); else s.resume(); s.write(text); sockets.push(s); return s; };
let stop = false;
async function during(name: string, attack: () => Promise<unknown> | unknown, seconds = 6) {
  stop = false; const running = Promise.resolve(attack()).catch((e) => console.log('attack error', String(e)));
  await delay(1500);
  const r = await measure(seconds);
  const open = sockets.filter((s) => !s.destroyed).length;
  stop = true; for (const s of sockets) s.destroy(); sockets.length = 0; await Promise.race([running, delay(5000)]);
  console.log(store, name.padEnd(28), `upload x${(r.up / rest.up).toFixed(1)} list x${(r.list / rest.list).toFixed(1)} (${r.up.toFixed(0)}/${r.list.toFixed(0)} ms, n ${r.n}) bad ${r.bad} notReady ${r.notReady} peak ${r.peak.toFixed(0)} MiB, sockets open ${open}`);
  await delay(2000);
}
const a = (i = 0) => ({ authorization: `Bearer ${attackers[i]}` });
// files of the attacker
const big = glb(24 * 1024 * 1024);
const ids: string[] = [];
for (let i = 0; i < 1; i++) { const r = await fetch(`${url}/v1/assets/raw/big.glb`, { method: 'PUT', headers: a(), body: big }); const b: any = await r.json(); if (r.status !== 201) console.log(b); ids.push(b.id); }
const meta = encodeURIComponent(JSON.stringify(Object.fromEntries(Array.from({ length: 7 }, (_, i) => [`k${i}`, 'x'.repeat(1000)]))));
for (let i = 0; i < 150; i++) await (await fetch(`${url}/v1/assets/raw/m.png?metadata=${meta}`, { method: 'PUT', headers: a(1), body: png(300, i) })).arrayBuffer();
await during('one-byte tus patches', async () => {
  await Promise.all(Array.from({ length: 12 }, async (_, k) => {
    const c = await fetch(`${url}/v1/resumable`, { method: 'POST', headers: { ...a(k % 4), 'tus-resumable': '1.0.0', 'upload-length': String(big.length), 'upload-metadata': `filename ${Buffer.from('b.glb').toString('base64')}` } });
    const loc = url + c.headers.get('location');
    const p = await fetch(loc, { method: 'PATCH', headers: { ...a(k % 4), 'tus-resumable': '1.0.0', 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' }, body: big.subarray(0, 7 * 1024 * 1024) });
    let offset = Number(p.headers.get('upload-offset'));
    while (!stop) { const r = await fetch(loc, { method: 'PATCH', headers: { ...a(k % 4), 'tus-resumable': '1.0.0', 'upload-offset': String(offset), 'content-type': 'application/offset+octet-stream' }, body: big.subarray(offset, offset + 1) }); if (r.status === 204) offset++; else await delay(5); await r.arrayBuffer(); }
  }));
});
await during('unread docs', () => { for (let i = 0; i < 200; i++) raw('GET /docs/js/scalar.js HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(3)); });
await during('unread lists', () => { for (let i = 0; i < 80; i++) raw(`GET /v1/assets?limit=200 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${attackers[1]}\r\n\r\n`.repeat(5)); });
await during('slow readers', () => { for (let i = 0; i < 140; i++) { const s = raw(`GET /v1/assets/${ids[0]}/content HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${attackers[0]}\r\n\r\n`); const t = setInterval(() => { s.read(1); }, 500); s.on('close', () => clearInterval(t)); } });
await during('slow PUTs', () => { for (let i = 0; i < 64; i++) { const s = raw(`PUT /v1/assets/raw/s.glb HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${attackers[i % 4]}\r\nContent-Length: ${big.length}\r\n\r\n`, true); let o = 0; const t = setInterval(() => { s.write(big.subarray(o, o + 240)); o += 240; }, 200); s.on('close', () => clearInterval(t)); } });
await during('chunk extensions', () => { for (let i = 0; i < 500; i++) { const s = raw(`PUT /v1/assets/raw/s.glb HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${attackers[i % 4]}\r\nTransfer-Encoding: chunked\r\n\r\n1;`, true); const t = setInterval(() => s.write('a=b;'), 300); s.on('close', () => clearInterval(t)); } });
await during('junk tokens', async () => { await Promise.all(Array.from({ length: 32 }, async () => { while (!stop) await (await fetch(`${url}/v1/assets`, { headers: { authorization: `Bearer ${randomUUID()}.${randomUUID()}.x` } })).arrayBuffer(); })); });
await during('unknown tus ids', async () => { await Promise.all(Array.from({ length: 16 }, async () => { while (!stop) await (await fetch(`${url}/v1/resumable/${randomUUID()}`, { method: 'PATCH', headers: { ...a(2), 'tus-resumable': '1.0.0', 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' }, body: 'x' })).arrayBuffer(); })); });
const client = new pg.Client(db.url); await client.connect();
await client.query(`insert into assets (id, owner_id, name, state, asset_type, media_type, size, object_key, created_at, updated_at) select gen_random_uuid(), 'attacker-3', 'a.png', 'ready', 'image', 'image/png', 1, 'k' || n, now(), now() from generate_series(1, 200000) n`);
await during('statistics of 200,000', async () => { await Promise.all(Array.from({ length: 20 }, async () => { while (!stop) { const r = await fetch(`${url}/v1/statistics`, { headers: a(3) }); await r.arrayBuffer(); if (r.status !== 200) await delay(10); } })); });
await during('metrics', async () => { await Promise.all(Array.from({ length: 16 }, async () => { while (!stop) await (await fetch(`${url}/metrics`)).arrayBuffer(); })); });
await delay(20000); console.log(store, 'rss at the end', rss().toFixed(0));
const { rows } = await client.query(`select (select count(*) from audit_events) as audit, (select count(*) from idempotency_keys) as keys`); console.log(rows[0]);
await client.end(); child.kill('SIGTERM'); await new Promise((r) => child.once('exit', r)); if (err) console.log('stderr', err.slice(-500));
process.exit(0);
