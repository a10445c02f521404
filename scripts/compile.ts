/**
 * `npm start` runs this first: it fills the compile cache, so that even the first service process finds it warm. A faulty
 * configuration ends it before that.
 */
import { enableCompileCache } from 'node:module';

enableCompileCache();
// An image is built without the configuration of those who will run it.
if (process.env['NODE_ENV'] !== 'production') (await import('../src/startup.ts')).readConfiguration();
await import('../src/process.ts');
