/** `npm start` runs this first: it fills the compile cache, so that even the first service process finds it warm. */
import { enableCompileCache } from 'node:module';

enableCompileCache();
await import('../src/app.ts');
await import('../src/database/embedded-postgres.ts');
await import('../src/storage/open.ts');
