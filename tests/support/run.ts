/**
 * `npm test`: the whole suite with line coverage, or the files named: `npm test tests/unit/config.test.ts`.
 */
import { spawnSync } from 'node:child_process';

const files = process.argv.slice(2);
const coverage = ['--experimental-test-coverage', '--test-coverage-include=src/**', '--test-coverage-lines=80'];
const { status } = spawnSync(
  process.execPath,
  [
    '--test',
    '--test-concurrency=2',
    '--test-timeout=300000',
    '--test-global-setup=tests/support/global-setup.ts',
    ...(files.length === 0 ? coverage : []),
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    ...['--test-reporter=./tests/support/summary-reporter.ts', '--test-reporter-destination=stdout'],
    ...(files.length === 0 ? ['tests/**/*.test.ts'] : files),
  ],
  { stdio: 'inherit' },
);
process.exit(status ?? 1);
