/**
 * `npm run lifecycle -- --dry-run [--days N] [--project ID]`: prints what the rules of the life cycle would do now, or within
 * so many days, a line of tabs for each asset; with the upload policies as they are configured here, so before a service
 * that has them was started. Nothing is changed. Exit code 1 when it fails.
 */
import { parseArgs } from 'node:util';
import { type StepValues, stepValues } from '../src/assets/life-cycle-step.ts';
import { withCore } from '../src/command.ts';
import { type DueStep, type LookPosition, LooksRepository } from '../src/retention/looks.ts';

const PAGE = 1000;
const DAY = 24 * 3600 * 1000;

function readArguments(): { days: number; projectId: string | undefined } {
  const { values } = parseArgs({
    options: {
      'dry-run': { type: 'boolean', default: false },
      days: { type: 'string', default: '0' },
      project: { type: 'string' },
    },
  });
  if (!values['dry-run'])
    throw new Error('the rules are applied by the service; this prints what they would do: --dry-run');
  if (!/^\d{1,5}$/.test(values.days)) throw new Error('--days must be a whole number');
  return { days: Number(values.days), projectId: values.project };
}

async function* dueSteps(looks: LooksRepository, until: Date, rules: StepValues, projectId: string | undefined) {
  if (projectId === undefined) {
    let after: string | undefined;
    do {
      const page = await looks.dueOfEach(until, rules, { after, limit: PAGE });
      yield* page.due;
      after = page.next;
    } while (after !== undefined);
    return;
  }
  let after: LookPosition | undefined;
  do {
    const page = await looks.dueOfProject(projectId, until, rules, { after, limit: PAGE });
    yield* page.due;
    after = page.next;
  } while (after);
}

function lineOf({ id, action, at, rule, size, projectId, ownerId, name }: DueStep): string {
  return [action, at.toISOString(), rule, id, size ?? '', projectId ?? '', ownerId, name].join('\t');
}

try {
  const { days, projectId } = readArguments();
  const sums = { archive: { assets: 0, bytes: 0 }, delete: { assets: 0, bytes: 0 } };
  await withCore(async (core) => {
    const looks = new LooksRepository(core.background);
    const until = new Date(Date.now() + days * DAY);
    for await (const due of dueSteps(looks, until, stepValues(core), projectId)) {
      console.log(lineOf(due));
      sums[due.action].assets += 1;
      sums[due.action].bytes += due.size ?? 0;
    }
  });
  const told = Object.entries(sums).map(([action, { assets, bytes }]) => `${action}: ${assets} assets, ${bytes} bytes`);
  console.error(`A dry run: nothing was changed. ${told.join('; ')}.`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
