/**
 * `npm start` runs this first: it fills the compile cache, so that even the first service process finds it warm. A faulty
 * configuration ends it before that.
 */
import { enableCompileCache } from 'node:module';

enableCompileCache();
await import('../src/process.ts');
// An image is built without the configuration of those who will run it.
if (process.env['NODE_ENV'] !== 'production') {
  const [{ readConfiguration }, { features }] = await Promise.all([
    import('../src/startup.ts'),
    import('../src/app.ts'),
  ]);
  readConfiguration(features);
}
