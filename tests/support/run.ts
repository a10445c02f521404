/**
 * `npm test`: the whole suite with line coverage, or the files named: `npm test tests/unit/config.test.ts`.
 * `npm run test:quick` (`--quick`): what tells in two minutes whether the main ways still work.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const quickFiles = [
  'tests/unit/*.test.ts',
  'tests/storage/disk-object-store.test.ts',
  ...[
    'authentication',
    'catalogue',
    'contract',
    'forms',
    'idempotency',
    'jobs',
    'lifecycle',
    'migrations',
    'problems',
  ].map((name) => `tests/integration/${name}.test.ts`),
  'tests/end-to-end/uploads.test.ts',
  'tests/end-to-end/downloads.test.ts',
];
/** Milliseconds for a file: nobody takes so long, but a test that hangs on something without a limit of its own. */
const LIMIT = 30 * 60_000;
/**
 * Files at once. On two cores, the files that take longest wait for most of their time: for limits that run out, for
 * processes that start, for other programs.
 */
const AT_ONCE = 3;

const named = process.argv.slice(2);
const isQuick = named[0] === '--quick';
const isWhole = named.length === 0;
const files = isWhole ? ['tests/**/*.test.ts'] : isQuick ? quickFiles : named;
const coverage = ['--experimental-test-coverage', '--test-coverage-include=src/**', '--test-coverage-lines=80'];
const reporters = [
  'spec',
  ...(isWhole || isQuick ? ['./tests/support/progress-reporter.ts'] : []),
  './tests/support/summary-reporter.ts',
];
// Whole runs start hundreds of processes: the bundle takes less than half as long as the source.
const bundle = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
if (isWhole && spawnSync(process.execPath, ['scripts/build.ts'], { stdio: 'inherit' }).status !== 0) process.exit(1);
const { status } = spawnSync(
  process.execPath,
  [
    '--test',
    `--test-concurrency=${AT_ONCE}`,
    `--test-timeout=${LIMIT}`,
    '--test-global-setup=tests/support/global-setup.ts',
    ...(isWhole ? coverage : []),
    ...reporters.flatMap((reporter) => [`--test-reporter=${reporter}`, '--test-reporter-destination=stdout']),
    ...files,
  ],
  {
    stdio: 'inherit',
    env: {
      ...process.env,
      ...(isQuick && { TEST_QUICK: 'true' }),
      ...(isWhole && { TEST_WARM: 'true', TEST_ENTRY: process.env['TEST_ENTRY'] || bundle }),
    },
  },
);
process.exit(status ?? 1);
