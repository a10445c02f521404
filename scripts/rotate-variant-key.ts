/**
 * `npm run rotate-variant-key -- [--at-once]`: makes a new key that signs addresses of variants. It signs ten minutes later, when all
 * instances have read it; addresses that the key before has signed stay good until they end. With `--at-once`, for a key that somebody
 * else knows, all addresses that were signed so far end within a minute.
 */
import { parseArgs } from 'node:util';
import { withCore } from '../src/command.ts';
import { rotateKeys } from '../src/variants/keys.ts';

try {
  const { values } = parseArgs({ options: { 'at-once': { type: 'boolean', default: false } } });
  const atOnce = values['at-once'];
  const since = await withCore(({ background }) => rotateKeys(background, { atOnce }));
  console.log(
    atOnce
      ? 'Signed with a new key from now on; all addresses of variants that were signed before end within a minute.'
      : `Signed with a new key from ${since.toISOString()}. Addresses that were signed before stay good until they end.`,
  );
} catch (error) {
  console.error(`The key was not replaced: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
