/**
 * `npm run audit -- --verify [--expect DIGEST]`: compares the audit trail with the seals of its days. Exit code 0: no row of a
 * sealed day was changed, removed or inserted. 1: one was, or it failed. With a digest that was noted elsewhere, such as in
 * the log of the service, also that this seal is still there, so that not all of them were made anew.
 */
import { parseArgs } from 'node:util';
import { hasSeal, verifyAudit } from '../src/audit/seals.ts';
import { auditSettings, retentionOf } from '../src/audit/settings.ts';
import { withCore } from '../src/command.ts';

try {
  const { values } = parseArgs({
    options: { verify: { type: 'boolean', default: false }, expect: { type: 'string' } },
  });
  const { expect } = values;
  if (!values.verify) throw new Error('say what to do: --verify');
  if (expect !== undefined && !/^[0-9a-f]{64}$/i.test(expect))
    throw new Error('--expect must be 64 hexadecimal digits');
  const { found, seal } = await withCore(async (core) => ({
    found: await verifyAudit(core.background.database, retentionOf(core.settings(auditSettings))),
    seal: expect === undefined ? 'has' : await hasSeal(core.background.database, Buffer.from(expect, 'hex')),
  }));
  for (const fault of found.faults) console.error(`NOT AS IT WAS: ${fault}`);
  if (!seal) console.error(`NOT AS IT WAS: no day has the seal ${expect}`);
  console.log(`${found.intact} days with ${found.rows} rows are as they were sealed.`);
  if (found.dropped > 0) console.log(`${found.dropped} days are kept no more.`);
  if (found.resealed > 0)
    console.log(
      `${found.resealed} days were sealed anew, because the name of somebody who was erased gave way to a pseudonym.`,
    );
  if (seal === 'had') console.log(`The seal ${expect} is one that a day had before.`);
  if (found.last) console.log(`The last seal, of ${found.last.day}: ${found.last.digest.toString('hex')}`);
  else console.log('No day was sealed yet: that is done when a day is over.');
  if (found.faults.length > 0 || !seal) process.exitCode = 1;
} catch (error) {
  console.error(`The audit trail was not verified: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
