/** Everything the service needs in its database: its own tables and those of the job queue. Safe to run at any time. */
import { applyMigrations } from './database/migrations.ts';
import { installQueues } from './jobs/queue.ts';

/** @param url of the database, whose user may create tables */
export async function prepareDatabase(url: string): Promise<void> {
  await applyMigrations(url, installQueues);
}
