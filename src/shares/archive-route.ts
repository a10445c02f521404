/** All files of a share as one ZIP archive, which counts as one download. */

import { deliverArchive } from '../archives/deliver-archive.ts';
import { archiveSettings, archiveTooLarge, checkFiles, MAX_ARCHIVED } from '../archives/limits.ts';
import { archivesOf } from '../archives/service.ts';
import { archivedProblem } from '../assets/archived.ts';
import { conditionalHeaders } from '../assets/delivery.ts';
import type { Core } from '../core.ts';
import type { App } from '../http/openapi.ts';
import { binary } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import { checkFileName } from '../validation/file-name.ts';
import { cachingOf } from './content-routes.ts';
import type { ShareDoor } from './door.ts';
import { leavingNoTrace } from './no-trace.ts';
import { sharePasswordNeeded, shareViewOnly, unknownShare } from './problems.ts';
import type { FoundShare } from './reach.ts';
import { byToken, publicBytes, strangerHeaders, strangerTags } from './stranger-routes.ts';

const zip = { 'application/zip': { schema: binary } };

export function shareArchiveRoute(app: App, core: Core, door: ShareDoor): void {
  const archives = archivesOf(core);
  const { MAX_ARCHIVE_SIZE: maxBytes } = core.settings(archiveSettings);
  app.route({
    method: ['GET', 'HEAD'],
    url: '/s/:token/archive',
    schema: {
      operationId: 'downloadSharedArchive',
      tags: strangerTags,
      summary: 'Get all that is shared as one ZIP archive',
      description: 'Of a share of several files or of a project. Honours one Range and all conditional header fields.',
      security: [],
      params: byToken,
      headers: conditionalHeaders,
    },
    config: {
      ...publicBytes,
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
        archiveTooLarge,
        archivedProblem,
        'precondition-failed',
        'range-not-satisfiable',
        'too-many-requests',
        'too-many-downloads',
        'overloaded',
      ],
    },
    handler: async (request, reply) => {
      reply.headers(strangerHeaders);
      const entered = await door.enterArchive(request, request.params.token);
      const { share, download } = entered;
      if (share.target === 'asset') throw unknownShare();
      if (share.allow === 'view')
        throw new Problem(shareViewOnly, { detail: 'Whoever shared it lets it be looked at, and not saved.' });
      const files = await door.reach.archived(share, MAX_ARCHIVED + 1);
      if (files.length === 0) throw unknownShare();
      checkFiles(files, maxBytes);
      let isCounted = false;
      return leavingNoTrace(reply, async () => {
        try {
          return await deliverArchive(archives, request, reply, {
            callerId: `address ${request.ip}`,
            name: nameOf(share),
            files,
            cacheControl: cachingOf(share),
            beforeBytes: async (begun) => {
              isCounted = await door.begin(entered, reply.statusCode === 206);
              await door.downloads.markAssets(begun.map(({ id }) => id));
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

/** What whoever shared calls it, where a file may be called so. */
function nameOf({ label }: FoundShare): string {
  const checked = checkFileName(`${label ?? 'files'}.zip`);
  return checked.ok ? checked.name : 'files.zip';
}
