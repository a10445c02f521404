/**
 * The entry, of the source as of the bundle. Node keeps what it compiled, so that the next start is faster and takes less
 * memory: from the source 15 MiB, for the compiler of TypeScript, and from the bundle 11. That must be turned on before
 * anything else is loaded, and by a file that has no types itself; the process is in process.ts.
 */
import { enableCompileCache } from 'node:module';

enableCompileCache();
const { run } = await import('./process.ts');
await run();
