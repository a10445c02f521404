/**
 * `npm start` runs this before the service, as `dist/compile.js`. It fills the compile cache, so that even the first
 * process finds it warm: a process that compiles takes 20 MiB more for good.
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
