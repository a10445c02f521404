/** Everything the service needs in its database: its own tables and the queues of its jobs. Safe to run at any time. */
import { features } from './app.ts';
import { jobsOf } from './core.ts';
import { applyMigrations } from './database/migrations.ts';
import { installQueues } from './jobs/queue.ts';

/**
 * @param url of the database, whose user may create tables
 * @param indexedRows see applyMigrations
 */
export async function prepareDatabase(url: string, which = features, indexedRows?: number): Promise<void> {
  await applyMigrations(url, (same) => installQueues(same, jobsOf(which)), indexedRows);
}
