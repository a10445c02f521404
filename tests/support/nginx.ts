/** A real nginx, configured as the documents say. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { programPath } from './programs.ts';
import { waitUntil } from './wait-until.ts';

export interface Nginx {
  url: string;
  errors(): string;
  stop(): Promise<void>;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await once(server.close(), 'close');
  return address && typeof address === 'object' ? address.port : 0;
}

/** The configuration of nginx in a document. */
export function nginxIn(document: string): string {
  const page = readFileSync(new URL(`../../docs/${document}`, import.meta.url), 'utf8');
  const [, snippet] = /```nginx\n([\s\S]*?)```/.exec(page) ?? [];
  if (snippet === undefined) throw new Error(`there is no nginx in ${document}`);
  return snippet;
}

/**
 * As a document configures it, in front of these instances.
 * @param probe path that answers when nginx is there
 */
export async function startNginx(
  snippet: string,
  hosts: string[],
  { port, probe = '/livez' }: { port?: number; probe?: string } = {},
): Promise<Nginx> {
  const directory = mkdtempSync(join(tmpdir(), 'stowage-nginx-'));
  const listening = port ?? (await freePort());
  const server = snippet
    .replace('/var/cache/nginx', directory)
    .replace('listen 8080', `listen 127.0.0.1:${listening}`)
    .replace(/server 127\.0\.0\.1:3000(.*?);/, (_all, how) => hosts.map((host) => `server ${host}${how};`).join(' '));
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(directory, name)};`,
  );
  const configuration = join(directory, 'nginx.conf');
  // Workers of root run as somebody else, who may not write into the directory.
  writeFileSync(
    configuration,
    `${process.getuid?.() === 0 ? 'user root;' : ''} daemon off; pid ${join(directory, 'pid')}; error_log ${join(directory, 'error.log')};
     events {} http { access_log off; ${temporary.join(' ')} ${server} }`,
  );
  const child = spawn(
    programPath('nginx'),
    ['-c', configuration, '-p', directory, '-e', join(directory, 'error.log')],
    { stdio: 'ignore' },
  );
  const url = `http://127.0.0.1:${listening}`;
  await waitUntil(async () => (await fetch(`${url}${probe}`)).status < 500);
  return {
    url,
    errors: () => readFileSync(join(directory, 'error.log'), 'utf8'),
    stop: async () => {
      child.kill('SIGQUIT');
      await once(child, 'exit');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
