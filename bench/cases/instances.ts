/** One, two and four instances behind nginx, on this one machine. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitUntil } from '../../tests/support/wait-until.ts';
import { writePng } from '../files.ts';
import type { Load, LoadOptions } from '../load.ts';
import { type Row, Samples } from '../report.ts';
import { seedAssets } from '../seed.ts';
import { freePort, KiB, type Stage } from '../stage.ts';
import { empty } from '../storage.ts';
import type { CaseOptions } from './case.ts';
import { uploaded } from './reads.ts';

const NGINX = '/usr/sbin/nginx';
const counts = [1, 2, 4];
const AT_ONCE = 32;

export async function instances(stage: Stage, { rounds, seconds, say }: CaseOptions): Promise<Row[]> {
  if (!existsSync(NGINX)) {
    say('left out: nginx is not installed');
    return [];
  }
  const databaseUrl = await stage.database();
  await seedAssets(databaseUrl, 'bench', 100_000);
  const bucket = await stage.bucket();
  const services = [];
  for (let index = 0; index < Math.max(...counts); index++)
    services.push(await stage.service({ databaseUrl, bucket, env: { TRUST_PROXY: 'loopback' } }));
  const [first] = services;
  if (!first) return [];
  const headers = first.headersOf();
  const id = await uploaded(stage, first.url, headers, KiB);
  const bodyFile = join(stage.directory, 'instances.png');
  writePng(bodyFile, KiB);
  const fronts = [];
  for (const count of counts)
    fronts.push({
      count,
      ...(await startNginx(
        stage,
        services.slice(0, count).map(({ url }) => new URL(url).host),
      )),
    });
  const rates = new Samples();
  const kinds: Record<string, Omit<LoadOptions, 'url' | 'connections' | 'seconds'> & { path: string }> = {
    'uploads of 1 KiB': {
      path: '/v1/assets/raw/small.png',
      method: 'PUT',
      headers: { ...headers, 'content-type': 'image/png' },
      bodyFile,
    },
    'download links': { path: `/v1/assets/${id}/download`, headers },
    'lists of 50': { path: '/v1/assets', headers },
  };
  for (let round = 0; round <= rounds; round++) {
    for (const [kind, { path, ...how }] of Object.entries(kinds)) {
      for (const { count, url } of fronts) {
        const options: LoadOptions = { ...how, url: url + path, connections: AT_ONCE, seconds };
        const { perSecond } = await stage.run<Load>('load.ts', options);
        if (round === 0) continue;
        rates.add(`${kind} ${count}`, perSecond);
        say(`round ${round}: ${kind}, ${count} instances: ${perSecond.toFixed(0)}/s`);
      }
    }
  }
  for (const { stop } of fronts) await stop();
  for (const service of services) await service.stop();
  await empty(bucket);
  return Object.keys(kinds).flatMap((kind) =>
    counts.slice(1).map(
      (count): Row => ({
        group: 'instances',
        what: `${kind}, 32 at once, ${count} instances`,
        unit: '/s',
        measured: rates.of(`${kind} ${count}`),
        yardstick: rates.of(`${kind} 1`),
        beside: 'one instance',
      }),
    ),
  );
}

async function startNginx(stage: Stage, hosts: string[]): Promise<{ url: string; stop: () => Promise<void> }> {
  const port = await freePort();
  const directory = join(stage.directory, `nginx-${port}`);
  mkdirSync(directory);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(directory, name)};`,
  );
  const configuration = join(directory, 'nginx.conf');
  writeFileSync(
    configuration,
    `daemon off; pid ${join(directory, 'pid')}; error_log ${join(directory, 'error.log')}; worker_processes 1;
     events {}
     http {
       access_log off; ${temporary.join(' ')}
       upstream stowage { ${hosts.map((host) => `server ${host};`).join(' ')} keepalive 64; }
       server {
         listen 127.0.0.1:${port};
         location / {
           proxy_pass http://stowage; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
           proxy_request_buffering off; proxy_buffering off; client_max_body_size 0;
         }
       }
     }`,
  );
  const nginx: ChildProcess = spawn(NGINX, ['-c', configuration, '-p', directory, '-e', join(directory, 'error.log')], {
    stdio: 'ignore',
  });
  const url = `http://127.0.0.1:${port}`;
  await waitUntil(async () => (await fetch(`${url}/livez`).catch(() => undefined))?.ok);
  return {
    url,
    stop: async () => {
      const ended = once(nginx, 'exit');
      nginx.kill('SIGTERM');
      await ended;
    },
  };
}
