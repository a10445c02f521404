/**
 * The entry. Node strips types at run time and keeps what it compiled: with the cache, the next start is faster and the
 * compiler's 60 MB are never loaded. That must be said before anything else is imported; the process itself is in
 * process.ts.
 */
import { enableCompileCache } from 'node:module';

enableCompileCache();
const { readConfiguration } = await import('./startup.ts');
const startup = readConfiguration();
const { run } = await import('./process.ts');
await run(startup);
