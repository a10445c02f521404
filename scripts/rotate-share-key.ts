/**
 * `npm run rotate-share-key`: makes a new key from which the addresses of shares are derived. It is used ten minutes later, when all
 * instances have read it, for shares that are made from then on; those that there are stay as they are. See docs/sharing.md.
 */
import { withCore } from '../src/command.ts';
import { rotateShareKey } from '../src/shares/keys.ts';

try {
  const since = await withCore(({ background }) => rotateShareKey(background));
  console.log(`Shares that are made from ${since.toISOString()} on have addresses of a new key.`);
} catch (error) {
  console.error(`The key was not replaced: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
