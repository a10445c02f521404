/** What the record of an asset tells of its copies. */
import type { z } from 'zod';
import type { Core } from '../core.ts';
import { type copyDocument, toCopyDocument } from './copy-document.ts';
import { CopiesRepository } from './repository.ts';

/** Looks up the copies of what an asset has now; nothing is asked where no mirror is configured. */
export type CopiesOf = (asset: { id: string; objectKey: string }) => Promise<z.input<typeof copyDocument>[]>;

export function copiesOf({ mirrors, database, outbox }: Pick<Core, 'mirrors' | 'database' | 'outbox'>): CopiesOf {
  if (mirrors.length === 0) return async () => [];
  const copies = new CopiesRepository(database, outbox);
  return async ({ id, objectKey }) => (await copies.list(id, objectKey)).map(toCopyDocument);
}
