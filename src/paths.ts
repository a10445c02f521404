/**
 * Where the files are that come with the program. This module and the bundle, `dist/main.js`, both lie one folder below
 * the root, so that one expression finds it from the source and from the bundle. No other module may derive paths of
 * the project from its own place: in the bundle that place is another.
 */
import { fileURLToPath } from 'node:url';

const root = new URL('../', import.meta.url);

/** `package.json` of the service. */
export const manifestFile = fileURLToPath(new URL('package.json', root));
/** Folder of the migrations. */
export const migrationsFolder = fileURLToPath(new URL('migrations', root));
/** List of the migrations, in order, as drizzle-kit writes it. */
export const migrationsJournal = fileURLToPath(new URL('migrations/meta/_journal.json', root));
/** URL of the folder of the program: `src/` or `dist/`. */
export const programFolder = new URL('./', import.meta.url).href;

const isBundle = import.meta.url.endsWith('.js');
/** Modules of src/processing/tools/workers, which run in processes of their own. */
export const workerFile = (module: string): string =>
  fileURLToPath(new URL(isBundle ? `workers/${module}.js` : `processing/tools/workers/${module}.ts`, programFolder));
