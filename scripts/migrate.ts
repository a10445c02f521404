/** `npm run migrate`: applies the migrations to DATABASE_URL and ends. The service does the same when it starts. */
import { existsSync } from 'node:fs';
import { explainDatabaseFault } from '../src/database/faults.ts';
import { prepareDatabase } from '../src/prepare-database.ts';

if (existsSync('.env')) process.loadEnvFile('.env');
const url = process.env['DATABASE_URL'];
if (!url) {
  console.error('DATABASE_URL is not set. The embedded Postgres is migrated by `npm start`.');
  process.exit(1);
}
try {
  await prepareDatabase(url, undefined, Number.POSITIVE_INFINITY);
  console.log('The migrations are applied.');
} catch (error) {
  console.error(`The migrations could not be applied: ${explainDatabaseFault(error)}`);
  process.exit(1);
}
