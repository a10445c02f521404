/**
 * What everybody may see: public assets, by addresses that caches keep, and the galleries of projects. Whether an asset is
 * public is told by its record, which its owners and managers change (assets/publicity.ts); each request asks it anew, so
 * what is made private, trashed, deleted or replaced is gone at once, on all instances. Caches in front are told to forget it.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { defineJob, HOUR, nothing } from '../jobs/job.ts';
import { PublicDownloads } from './downloads.ts';
import { galleryRoutes } from './gallery.ts';
import { purgeCaches } from './purge.ts';
import { PublicRoutes, tags } from './routes.ts';
import { publishingSettings } from './settings.ts';

const counters = new WeakMap<object, PublicDownloads>();

export const publishing: Feature<Core> = {
  name: 'publishing',
  tags: [{ name: 'Public', description: 'What everybody may see without a token: public assets and galleries' }],
  settings: publishingSettings,
  routes: (app, core) => {
    const downloads = new PublicDownloads(core.database.database, core.onError);
    counters.set(core, downloads);
    new PublicRoutes(core, downloads).register(app);
    galleryRoutes(app, core, tags);
  },
  jobs: [
    defineJob({
      name: 'purge-caches',
      keepsObjects: true,
      data: nothing,
      retries: 3,
      firstPause: 5,
      limit: HOUR,
      // One of it goes on for most of an hour: begun anew where the last one has ended.
      schedule: '* * * * *',
      run: (_data, { signal }, core: Core) => purgeCaches(core, signal),
    }),
  ],
  close: async (core) => counters.get(core)?.write(),
};
