/**
 * The direction of imports, type imports too: rooms lie in layers, and each knows only what lies below it. A room that is
 * not named here is a feature; features may use each other where no circle comes of it, and app.ts alone has their list.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const src = fileURLToPath(new URL('../../src/', import.meta.url));

/** From the lowest to the highest. A file that lies in no folder is a room of its own. */
const below: string[][] = [
  ['paths.ts', 'data-directory.ts', 'storage-providers.ts'],
  [
    'backoff.ts',
    'background-tasks.ts',
    'config.ts',
    'descriptors.ts',
    'memory-at-rest.ts',
    'problems.ts',
    'secrets.ts',
    'source-stack.ts',
    'unknown-variables.ts',
    'version.ts',
  ],
  ['database', 'validation'],
  ['access', 'storage'],
  ['doctor', 'http'],
  ['jobs'],
  ['feature.ts'],
  ['idempotency'],
  ['core.ts'],
];
const above: string[][] = [
  ['server.ts'],
  ['app.ts'],
  ['startup.ts', 'prepare-database.ts', 'openapi-document.ts'],
  ['command.ts', 'process.ts'],
  ['main.js', 'main.ts'],
];

interface Import {
  from: string;
  /** A file of ours, or the name of a package. */
  to: string;
  /** Only types: nothing is loaded. */
  isType: boolean;
}

/** `import ... from`, `export ... from`, `import '...'` and `import('...')`, with or without `type`. */
const statement = /\b(?:(?:import|export)\s+(type\s)?[\w\s{},*]*?from\s*|import\s*\(?\s*)'([^']+)'/g;

const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => /\.[jt]s$/.test(file));
const imports = files.flatMap((from): Import[] => {
  const text = readFileSync(join(src, from), 'utf8');
  return [...text.matchAll(statement)].map(([, type, to = '']) => ({
    from,
    to: to.startsWith('.') ? normalize(join(dirname(from), to)) : to,
    isType: type !== undefined,
  }));
});
const isOurs = (to: string) => /\.[jt]s$/.test(to) && existsSync(join(src, to));
const roomOf = (file: string) => file.split('/')[0] ?? file;
const told = ({ from, to }: Import) => `${from} imports ${to}`;

const between = imports.filter(({ from, to }) => isOurs(to) && roomOf(from) !== roomOf(to));
const features = [...new Set(files.map(roomOf))].filter((room) => !room.includes('.') && !below.flat().includes(room));
const layers = [...below, features, ...above];
const layerOf = (room: string) => layers.findIndex((layer) => layer.includes(room));

describe('imports', () => {
  test('are found by this test', () => {
    assert.ok(imports.some(({ from, to }) => from === 'app.ts' && to === 'uploads/index.ts'));
    assert.ok(imports.some(({ from, to }) => from === 'jobs/queue.ts' && to === 'pg-boss'));
    assert.ok(features.includes('assets') && features.includes('uploads'));
  });

  test('every room has its layer', () => {
    const rooms = new Set(files.map(roomOf));
    assert.deepEqual(
      [...rooms].filter((room) => layerOf(room) < 0),
      [],
    );
  });

  test('lead downwards; features use each other', () => {
    const wrong = between.filter(({ from, to }) => {
      const [upper, lower] = [layerOf(roomOf(from)), layerOf(roomOf(to))];
      return lower > upper || (lower === upper && lower !== layers.indexOf(features));
    });
    assert.deepEqual(wrong.map(told), []);
  });

  test('make no circle of rooms', () => {
    assert.equal(circleIn(between.map(({ from, to }) => ({ from: roomOf(from), to: roomOf(to) }))), undefined);
  });

  test('make no circle of files within a room, but for types', () => {
    const atRunTime = imports.filter(({ from, to, isType }) => isOurs(to) && roomOf(from) === roomOf(to) && !isType);
    assert.equal(circleIn(atRunTime), undefined);
  });

  test('of the index of a feature are those of app.ts alone', () => {
    const indexes = files.filter((file) => /^[^/]+\/index\.ts$/.test(file));
    const wrong = imports.filter(({ from, to }) => indexes.includes(to) && from !== 'app.ts');
    assert.deepEqual(wrong.map(told), []);
  });

  const knownBy: [what: string, packages: RegExp, places: RegExp][] = [
    ['the AWS SDK', /^@(aws-sdk|smithy|aws)\//, /^storage\/s3\//],
    ['other programs', /^node:child_process$/, /^(processing\/tools|database\/embedded)\//],
    ['the job queue', /^pg-boss$/, /^jobs\/queue\.ts$/],
    ['other programs', /^node:child_process$/, /^(processing\/tools|database\/embedded)\//],
    ['Postgres', /^pg$/, /^(database|doctor)\//],
    [
      'the file system',
      /^node:fs/,
      /^(storage\/disk|database|doctor|validation|processing)\/|^(startup|config|secrets|data-directory|descriptors|source-stack|version)\.ts$/,
    ],
  ];
  for (const [what, packages, places] of knownBy)
    test(`of ${what} are where it belongs`, () => {
      const wrong = imports.filter(({ from, to }) => packages.test(to) && !places.test(from));
      assert.deepEqual(wrong.map(told), []);
      assert.ok(imports.some(({ to }) => packages.test(to)));
    });
});

describe('the picture of the rooms in docs/architecture.md', () => {
  const document = readFileSync(new URL('../../docs/architecture.md', import.meta.url), 'utf8');
  const picture = /## The house\n\n```mermaid\n([\s\S]*?)```/.exec(document)?.[1] ?? '';
  const roomNamed = (name: string) => (existsSync(join(src, `${name}.ts`)) ? `${name}.ts` : name);
  /** `features` stands for each of them. */
  const rooms = (name: string) => (name === 'features' ? features : [roomNamed(name)]);
  const arrows = [...picture.matchAll(/^ *(\w+)\S*.*? --> (\w+)/gm)].map(([, from = '', to = '']) => ({
    from: rooms(from),
    to: rooms(to),
  }));
  const drawn = new Set([...picture.matchAll(/\b(\w+)\[/g)].map(([, name = '']) => roomNamed(name)));

  test('has an arrow only where there is an import', () => {
    assert.ok(arrows.length > 20);
    const wrong = arrows.filter(
      (arrow) => !between.some(({ from, to }) => arrow.from.includes(roomOf(from)) && arrow.to.includes(roomOf(to))),
    );
    assert.deepEqual(wrong, []);
  });

  test('has a way along its arrows for every import between rooms that it shows', () => {
    const leadsTo = (from: string, to: string): boolean =>
      arrows.some((arrow) => arrow.from.includes(from) && arrow.to.some((next) => next === to || leadsTo(next, to)));
    const missing = between.filter(({ from, to }) => {
      const [upper, lower] = [roomOf(from), roomOf(to)];
      return drawn.has(upper) && drawn.has(lower) && !leadsTo(upper, lower);
    });
    assert.deepEqual(missing.map(told), []);
  });

  test('shows every folder but features, which it need not show', () => {
    for (const room of below.flat()) if (!room.includes('.')) assert.ok(drawn.has(room), room);
  });
});

/** The names along a circle; undefined when there is none. */
function circleIn(edges: Pick<Import, 'from' | 'to'>[]): string[] | undefined {
  const targets = Map.groupBy(edges, ({ from }) => from);
  const done = new Set<string>();
  const visit = (name: string, path: string[]): string[] | undefined => {
    if (path.includes(name)) return [...path.slice(path.indexOf(name)), name];
    if (done.has(name)) return undefined;
    for (const { to } of targets.get(name) ?? []) {
      const circle = visit(to, [...path, name]);
      if (circle) return circle;
    }
    done.add(name);
    return undefined;
  };
  for (const name of targets.keys()) {
    const circle = visit(name, []);
    if (circle) return circle;
  }
  return undefined;
}
