/**
 * `npm run key -- --name backend --scope act-for [--owner NAME] [--project ID] [--expires 90d]`: makes an API key, the first one
 * above all, and prints its secret, which is shown this once. `--scope` and `--project` may be there several times. The owner is
 * named as the key where nobody else is named; keys made here are listed and revoked as all others, or by
 * `npm run key -- --owner NAME --revoke ID`.
 */
import { parseArgs } from 'node:util';
import { features } from '../src/app.ts';
import { withCore } from '../src/command.ts';
import { makeKey, revokeKey } from '../src/keys/command.ts';
import { readConfiguration } from '../src/startup.ts';

try {
  const { values } = parseArgs({
    options: {
      name: { type: 'string' },
      scope: { type: 'string', multiple: true, default: [] },
      project: { type: 'string', multiple: true, default: [] },
      owner: { type: 'string' },
      expires: { type: 'string' },
      revoke: { type: 'string' },
    },
  });
  // Its faults are told before anything is opened.
  readConfiguration(features);
  if (values.revoke !== undefined) {
    const { owner = '', revoke } = values;
    await withCore(({ background }) => revokeKey(background, owner, revoke));
    console.log('The key is revoked. Within a second no instance takes it any more.');
  } else {
    const wanted = { ...values, scopes: values.scope, projects: values.project };
    const { secret, id, owner } = await withCore(({ background }) => makeKey(background, wanted));
    console.error(`The key ${id} of ${owner}. Its secret is shown this once:`);
    console.log(secret);
  }
} catch (error) {
  console.error(`The key was not changed or made: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
