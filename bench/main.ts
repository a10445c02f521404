/**
 * `npm run bench`: how close the service comes to what its parts can do, and what a request costs. Prints a table.
 *
 *   npm run bench                          everything, in about a quarter of an hour
 *   npm run bench -- --only links,lists    some of it
 *   npm run bench -- --rounds 3            instead of 5
 *   npm run bench -- --json figures.json   keeps the figures of every round
 *   npm run bench -- --profile DIRECTORY   keeps CPU profiles of the service, for the developer tools of a browser
 *   npm run bench -- --short               what does not depend on the machine: fails when it rises
 *
 * Needs curl, and installs Ceph where the tests would.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import type { Case } from './cases/case.ts';
import { counts } from './cases/counts.ts';
import { deletion } from './cases/deletion.ts';
import { growth } from './cases/growth.ts';
import { instances } from './cases/instances.ts';
import { largeUploads } from './cases/large-uploads.ts';
import { latency } from './cases/latency.ts';
import { memory } from './cases/memory.ts';
import { mirrors } from './cases/mirrors.ts';
import { pages } from './cases/pages.ts';
import { processing } from './cases/processing.ts';
import { content, links, lists } from './cases/reads.ts';
import { smallUploads } from './cases/small-uploads.ts';
import { type Compared, compare, table } from './report.ts';
import { GiB, Stage } from './stage.ts';

const cases: Record<string, Case> = {
  'large-uploads': largeUploads,
  'small-uploads': smallUploads,
  links,
  lists,
  content,
  processing,
  deletion,
  memory,
  mirrors,
  latency,
  growth,
  instances,
  counts,
  pages,
};
/** What does not depend on the machine. */
const shortCases = ['counts', 'pages', 'memory'];

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '5' },
    json: { type: 'string' },
    profile: { type: 'string' },
    short: { type: 'boolean', default: false },
  },
});
const { short } = values;
const names = values.only?.split(',') ?? (short ? shortCases : Object.keys(cases));
const rounds = short ? 1 : Number(values.rounds);
const unknown = names.filter((name) => !(name in cases));
if (unknown.length > 0) {
  console.error(`There is no ${unknown.join(', ')}. There are ${Object.keys(cases).join(', ')}.`);
  process.exit(64);
}

const stage = await Stage.open(values.profile);
const rows: Compared[] = [];
try {
  for (const name of names) {
    const run = cases[name];
    const say = (text: string) => console.error(`${name}: ${text}`);
    const options = { rounds, short, seconds: Number(values.seconds), say };
    if (run) rows.push(...(await run(stage, options)).map(compare));
  }
} finally {
  await stage.close();
}
const machine = `${availableParallelism()} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / GiB)} GiB, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}`;
console.log(`${machine}\n\nMedian of ${rounds} rounds (smallest–largest).\n\n${table(rows)}`);
const missed = rows.filter(({ met }) => met === false);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, rows }, undefined, 2)}\n`);
// A measured time may miss its aim on a machine that is busy; a count may not.
if (short && missed.length > 0) {
  console.error(`\nRisen: ${missed.map(({ what }) => what).join('; ')}.`);
  process.exitCode = 1;
}
