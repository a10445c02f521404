/** All files of a gallery at once, as a ZIP archive that is made while it is sent. */
import type { FastifyReply } from 'fastify';
import type { ArchivedFile } from '../archives/archived-file.ts';
import { type ArchiveService, deliverArchive } from '../archives/deliver-archive.ts';
import { archiveSettings, archiveTooLarge, checkSize, MAX_ARCHIVED } from '../archives/limits.ts';
import { safeName } from '../archives/names.ts';
import { archivesOf } from '../archives/service.ts';
import { conditionalHeaders } from '../assets/delivery.ts';
import type { Core } from '../core.ts';
import type { App } from '../http/openapi.ts';
import type { Position } from '../http/paging.ts';
import { binary } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import type { ShareDoor } from './door.ts';
import { sharePasswordNeeded, shareViewOnly } from './problems.ts';
import type { FoundShare } from './reach.ts';
import { byToken, strangerHeaders, strangerTags } from './stranger-routes.ts';

/** Files that are asked for by one statement. */
const PAGE = 1000;
const zip = { 'application/zip': { schema: binary } };

export function shareArchiveRoute(app: App, core: Core, door: ShareDoor): void {
  const archives = archivesOf(core);
  const { MAX_ARCHIVE_SIZE: maxBytes } = core.settings(archiveSettings);
  app.route({
    method: ['GET', 'HEAD'],
    url: '/s/:token/archive.zip',
    schema: {
      operationId: 'downloadSharedArchive',
      tags: strangerTags,
      summary: 'Get all files that are shared as one ZIP archive',
      description:
        'The files are stored in it as they are; names that are there more than once get a number. Is one download of the share. Honours one Range and conditional header fields; the archive is another one when a file comes or goes.',
      security: [],
      params: byToken,
      headers: conditionalHeaders,
    },
    config: {
      public: true,
      success: {
        status: 200,
        description: 'The archive',
        content: zip,
        others: {
          '206': { description: 'The range', content: zip },
          '304': { description: 'The client has this archive already' },
        },
      },
      problems: [
        'not-found',
        sharePasswordNeeded,
        shareViewOnly,
        'precondition-failed',
        archiveTooLarge,
        'range-not-satisfiable',
        'too-many-requests',
        'too-many-downloads',
        'overloaded',
      ],
    },
    handler: async (request, reply) => {
      reply.headers(strangerHeaders);
      const entered = await door.enterGallery(request, request.params.token);
      const { share, download } = entered;
      if (share.allow === 'view')
        throw new Problem(shareViewOnly, { detail: 'Whoever shared it lets it be looked at, and not saved.' });
      const files = await filesOf(archives, door, share);
      checkSize(files, maxBytes);
      const isKept = share.password === null && share.maxDownloads === null;
      let isCounted = false;
      return asBefore(reply, async () => {
        try {
          return await deliverArchive(archives, request, reply, {
            callerId: `address ${request.ip}`,
            name: safeName(`${share.label ?? 'files'}.zip`),
            files,
            cacheControl: isKept ? 'private, no-cache' : 'private, no-store',
            beforeBytes: async (begun) => {
              isCounted = await door.begin(entered, reply.statusCode === 206);
              await archives.repository.count(begun);
            },
          });
        } catch (error) {
          if (isCounted) await door.downloads.takeBack(download);
          throw error;
        }
      });
    },
  });
}

/** In the order in which the share shows them; one more than there may be where there are too many. */
async function filesOf(
  { repository }: ArchiveService,
  { reach }: ShareDoor,
  share: FoundShare,
): Promise<ArchivedFile[]> {
  const files: ArchivedFile[] = [];
  for (let after: Position | undefined; files.length <= MAX_ARCHIVED; ) {
    const rows = await reach.list(share, { after, limit: PAGE });
    files.push(...(await repository.find(rows.map(({ asset }) => asset.id))));
    after = rows.at(-1)?.position;
    if (rows.length < PAGE) break;
  }
  return files;
}

/** Who comes too late gets the answer of those who come to nothing. */
async function asBefore<Result>(reply: FastifyReply, work: () => Promise<Result>): Promise<Result> {
  const before = reply.getHeaders();
  try {
    return await work();
  } catch (error) {
    for (const name of Object.keys(reply.getHeaders())) if (!(name in before)) reply.removeHeader(name);
    reply.headers(before);
    throw error;
  }
}
