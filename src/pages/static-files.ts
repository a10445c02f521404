/** What pages load beside their files: named by their content, so that browsers and caches keep them for ever. */
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { App } from '../http/openapi.ts';
import { type SharedFile, sendShared, sharedFile } from '../http/shared-file.ts';
import { Problem } from '../problems.ts';
import { script } from './script.ts';
import { style } from './style.ts';

export interface StaticFile {
  stem: string;
  extension: string;
  type: string;
  content: string;
  /** Of the content. */
  digest: string;
}

const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0b57d0"/><path d="M16 7v12m-5-5 5 5 5-5M8 24h16" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round" stroke-linejoin="round"/></svg>`;

export const STYLE = staticFile('page', 'css', 'text/css; charset=utf-8', style);
export const SCRIPT = staticFile('page', 'js', 'text/javascript; charset=utf-8', script);
export const ICON = staticFile('icon', 'svg', 'image/svg+xml', icon);

const FOLDER = '/pages';
/** A year, which is as long as caches keep anything. */
const IMMUTABLE = 'public, max-age=31536000, immutable';

function staticFile(stem: string, extension: string, type: string, content: string): StaticFile {
  const digest = createHash('sha256').update(content).digest('base64url').slice(0, 12);
  return { stem, extension, type, content, digest };
}

export function pathOf({ stem, extension, digest }: StaticFile): string {
  return `${FOLDER}/${stem}.${digest}.${extension}`;
}

export function staticRoutes(app: App): void {
  for (const file of [STYLE, SCRIPT, ICON]) staticRoute(app, file);
}

function staticRoute(app: App, file: StaticFile): void {
  // Pages name their files under PUBLIC_URL, which may be another host than that of the address bar.
  const open = { 'cross-origin-resource-policy': 'cross-origin', 'access-control-allow-origin': '*' };
  let made: Promise<SharedFile> | undefined;
  app.get(
    `${FOLDER}/${file.stem}.:digest.${file.extension}`,
    { config: { public: true, sharedAnswer: true } },
    async (request: FastifyRequest<{ Params: { digest?: string } }>, reply: FastifyReply) => {
      const { digest = '' } = request.params;
      if (!/^[\w-]{12}$/.test(digest)) throw new Problem('not-found', { detail: 'There is no such file.' });
      made ??= sharedFile(Buffer.from(file.content), file.type, open);
      // During an upgrade an instance of one version is asked for the file of another; it has its own, for this once.
      return sendShared(request, reply, await made, digest === file.digest ? IMMUTABLE : 'no-store');
    },
  );
}
