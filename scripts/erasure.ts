/**
 * `npm run erasure -- --verify FILE [--owner ID] [--keys FILE]`: whether a receipt of an erasure is as the service has signed
 * it. The keys are those of the database, or with `--keys` those of a file: the answer of `GET /v1/receipt-keys`, with which no
 * database is needed. `--owner` also compares the pseudonym in it with that of this owner. Exit code 0: it is sound.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { withCore } from '../src/command.ts';
import { Pseudonyms } from '../src/erasures/pseudonyms.ts';
import { faultOfReceipt, type ReceiptKey, receiptKeys, subjectOf } from '../src/erasures/receipt.ts';

const keyFile = z.object({
  data: z.array(z.object({ keyId: z.string(), algorithm: z.literal('Ed25519'), publicKey: z.string() })),
});

/** What the database is asked for, where it is needed. */
async function askDatabase(owner: string | undefined): Promise<{ keys: ReceiptKey[]; subject: string | undefined }> {
  return withCore(async ({ background: { database } }) => ({
    keys: await receiptKeys(database),
    subject: owner === undefined ? undefined : await new Pseudonyms(database).of(owner),
  }));
}

try {
  const { values } = parseArgs({
    options: { verify: { type: 'string' }, owner: { type: 'string' }, keys: { type: 'string' } },
  });
  const { verify, owner, keys: file } = values;
  if (verify === undefined) throw new Error('say what to do: --verify FILE');
  const text = readFileSync(verify, 'utf8');
  const asked = file === undefined || owner !== undefined ? await askDatabase(owner) : undefined;
  const keys = file === undefined ? (asked?.keys ?? []) : keyFile.parse(JSON.parse(readFileSync(file, 'utf8'))).data;
  const isOfAnother = asked?.subject !== undefined && asked.subject !== subjectOf(text);
  const fault = faultOfReceipt(text, keys) ?? (isOfAnother ? `it is not of ${owner}` : undefined);
  if (fault === undefined) console.log('The receipt is as the service has signed it.');
  else {
    console.error(`NOT SOUND: ${fault}`);
    process.exitCode = 1;
  }
} catch (error) {
  console.error(`The receipt was not verified: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
