/**
 * The entry. Node strips types at run time and keeps what it compiled: with the cache, the next start is faster and the
 * compiler is never loaded, which would take 15 MiB for good. That must be said before anything else is imported, and by
 * a file that has no types itself; the process is in process.ts.
 */
import { enableCompileCache } from 'node:module';

enableCompileCache();
const { run } = await import('./process.ts');
await run();
