/**
 * Mirrors: every stored object has a copy in other buckets, at other providers if wanted. The copies are made after the answer,
 * and no upload waits for them or fails because of them; docs/durability.md tells what holds when a mirror does not work.
 */
import type { Core } from '../core.ts';
import type { Feature } from '../feature.ts';
import { closeCopiers, startCopiers } from './copiers.ts';
import { makeKnown } from './known-mirrors.ts';
import { mirrorSettings } from './settings.ts';

export const mirrors: Feature<Core> = {
  name: 'mirrors',
  settings: mirrorSettings,
  start: ({ background, mirrors }) => makeKnown(background.database, mirrors),
  work: startCopiers,
  close: closeCopiers,
};
