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
  const files = [STYLE, SCRIPT, ICON].map((file) => ({ ...file, make: onceMade(file) }));
  app.get(
    `${FOLDER}/:name`,
    { config: { public: true, sharedAnswer: true, countsAsPublic: true } },
    async (request: FastifyRequest<{ Params: { name?: string } }>, reply: FastifyReply) => {
      const [, stem, digest, extension] = /^([a-z]+)\.([\w-]{12})\.([a-z]+)$/.exec(request.params.name ?? '') ?? [];
      const file = files.find((each) => each.stem === stem && each.extension === extension);
      if (!file) throw new Problem('not-found', { detail: 'There is no such file.' });
      // During an upgrade an instance of one version is asked for the file of another; it sends its own, for this once.
      return sendShared(request, reply, await file.make(), digest === file.digest ? IMMUTABLE : 'no-store');
    },
  );
}

/** Compressed when somebody asks for it. */
function onceMade({ content, type }: StaticFile): () => Promise<SharedFile> {
  let made: Promise<SharedFile> | undefined;
  return () => {
    // Pages name their files under PUBLIC_URL, which may be another host than that of the address bar.
    made ??= sharedFile(Buffer.from(content), type, { 'cross-origin-resource-policy': 'cross-origin' });
    return made;
  };
}
