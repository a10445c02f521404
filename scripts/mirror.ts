/**
 * `npm run mirror -- --status`: how far the mirrors are. `--backfill`: has everything copied that a mirror lacks, such as one that
 * was added later. `--verify [--digests] [--mend]`: compares a mirror with what is stored, both ways. `--restore [--asset ID]
 * [--digests]`: brings back what the first store has lost. `--mirror NAME` looks at one. Exit code 0: all is well. 1: it is not.
 */
import { parseArgs } from 'node:util';
import { explainFault } from '../src/backups/explain.ts';
import { withCore } from '../src/command.ts';
import type { Core } from '../src/core.ts';
import { requireConfirmed } from '../src/database/unconfirmed-restore.ts';
import { compareMirror } from '../src/mirrors/comparing.ts';
import { Filling } from '../src/mirrors/filling.ts';
import { KnownMirrors } from '../src/mirrors/known-mirrors.ts';
import { bringBack } from '../src/reconciliation/returning.ts';
import type { Mirror } from '../src/storage/mirror.ts';

/** Findings that are printed. */
const PRINTED = 100;
const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const { values } = (() => {
  try {
    return parseArgs({
      options: {
        status: { type: 'boolean', default: false },
        backfill: { type: 'boolean', default: false },
        verify: { type: 'boolean', default: false },
        restore: { type: 'boolean', default: false },
        digests: { type: 'boolean', default: false },
        mend: { type: 'boolean', default: false },
        asset: { type: 'string' },
        mirror: { type: 'string' },
      },
    });
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(1);
  }
})();

async function status(core: Core, mirrors: readonly Mirror[]): Promise<void> {
  const known = await new KnownMirrors(core.background, core.outbox).list();
  for (const { name, behind, failed, leaving } of known) {
    if (!mirrors.some((mirror) => mirror.name === name)) continue;
    const lacking = await new Filling(core.background).lacking(name);
    const oldest = behind.oldestAt ? `, the oldest since ${behind.oldestAt.toISOString()}` : '';
    console.log(
      `${name}: behind by ${behind.objects} objects with ${behind.bytes} bytes${oldest}; ${failed} have failed; ${leaving} copies are to be removed.`,
    );
    if (lacking.objects > 0)
      console.log(
        `${name}: ${lacking.objects} objects with ${lacking.bytes} bytes were stored before it was there: npm run mirror -- --backfill`,
      );
    if (behind.objects + lacking.objects > 0) process.exitCode = 1;
  }
}

async function backfill(core: Core, mirrors: readonly Mirror[]): Promise<void> {
  for (const { name } of mirrors) {
    const { objects, bytes } = await new Filling(core.background).fillUp(name);
    console.log(
      `${name}: ${objects} objects with ${bytes} bytes are to be copied now. The service does it; --status tells how far it is.`,
    );
  }
}

async function verify(core: Core, mirrors: readonly Mirror[]): Promise<void> {
  if (values.mend) await requireConfirmed(core.background.database);
  for (const mirror of mirrors) {
    let printed = 0;
    const found = await compareMirror(core, mirror, {
      readsBytes: values.digests,
      mends: values.mend,
      onFinding: ({ kind, key, assetId }) => {
        if (printed++ < PRINTED) console.log(`${mirror.name}: ${kind}  ${assetId ? `asset ${assetId}  ` : ''}${key}`);
      },
    });
    const { copies, missing, damaged, unknown, orphans, lacking } = found;
    console.log(
      `${mirror.name}: of ${copies} copies ${missing} are missing, ${damaged} damaged, ${unknown} could not be judged; ${orphans} objects belong to nothing; ${lacking.objects} objects have no copy.`,
    );
    if (values.mend)
      console.log(`${mirror.name}: what is missing is copied again, and what belongs to nothing is removed.`);
    else if (missing + damaged + unknown + orphans + lacking.objects > 0) process.exitCode = 1;
  }
}

async function restore(core: Core): Promise<void> {
  const of = values.asset === undefined ? 'all' : { assetId: values.asset };
  const { looked, returned, bytes, ready, failed } = await bringBack(core, {
    of,
    readsBytes: values.digests,
    jobId: 'command',
  });
  for (const { assetId, objectKey } of failed.slice(0, PRINTED))
    console.log(`not brought back  asset ${assetId}  ${objectKey}`);
  console.log(
    `Of ${looked} objects that have copies, ${returned} with ${bytes} bytes were brought back; ${ready} assets that were lost are ready again.`,
  );
  if (failed.length > 0 || (values.asset !== undefined && looked === 0)) process.exitCode = 1;
  if (looked === 0) console.log('No mirror has a copy.');
}

try {
  const chosen = ['status', 'backfill', 'verify', 'restore'] as const;
  const what = chosen.filter((name) => values[name]);
  if (what.length !== 1) throw new Error('say one of --status, --backfill, --verify, --restore');
  if (values.asset !== undefined && !uuid.test(values.asset)) throw new Error('--asset must be the id of an asset');
  await withCore(async (core) => {
    const mirrors = core.mirrors.filter(({ name }) => values.mirror === undefined || name === values.mirror);
    if (mirrors.length === 0)
      throw new Error(
        values.mirror === undefined
          ? 'no mirror is configured: set MIRROR_S3_BUCKET or MIRRORS'
          : `there is no mirror ${values.mirror}`,
      );
    if (values.status) await status(core, mirrors);
    else if (values.backfill) await backfill(core, mirrors);
    else if (values.verify) await verify(core, mirrors);
    else await restore(core);
  });
} catch (error) {
  console.error(`The mirrors could not be looked at: ${explainFault(error)}`);
  process.exitCode = 1;
}
