/** What `npm start` and the image run: the service as one file, built by scripts/build.ts. */
import assert from 'node:assert/strict';
import { isAscii } from 'node:buffer';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Client as Postgres } from 'pg';
import { buildService } from '../../scripts/build.ts';
import { runningEmbeddedPostgres } from '../../src/database/embedded/embedded-postgres.ts';
import { secretIn } from '../../src/secrets.ts';
import { Client } from '../support/client.ts';
import { png } from '../support/files.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { launch, spawnService } from '../support/processes.ts';
import { waitUntil } from '../support/wait-until.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

describe('the bundle', () => {
  /** Beside the bundle lies what comes with it, as in the repository and in the image. */
  const place = mkdtempSync(join(tmpdir(), 'stowage-test-build-'));
  const [main, whole] = ['npm', 'image'].map((name) => join(place, name, 'dist/main.js')) as [string, string];

  const packages: Record<string, string[]> = {};

  before(async (context) => {
    for (const name of ['npm', 'image']) {
      mkdirSync(join(place, name));
      cpSync(join(root, 'package.json'), join(place, name, 'package.json'));
      cpSync(join(root, 'migrations'), join(place, name, 'migrations'), { recursive: true });
    }
    symlinkSync(join(root, 'node_modules'), join(place, 'npm/node_modules'));
    // Of an earlier build, which had more files.
    mkdirSync(join(place, 'npm/dist'));
    writeFileSync(join(place, 'npm/dist/earlier.js'), '');
    const began = performance.now();
    packages['npm'] = await buildService(join(place, 'npm/dist'), { whole: false });
    const built = performance.now();
    packages['image'] = await buildService(join(place, 'image/dist'), { whole: true });
    if ('diagnostic' in context)
      context.diagnostic(
        `built in ${Math.round(built - began)} ms, whole in ${Math.round(performance.now() - built)} ms`,
      );
  });
  after(() => rmSync(place, { recursive: true, force: true }));

  const filesOf = (name: string) =>
    readdirSync(join(place, name, 'dist'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.js') && !file.startsWith('node_modules'))
      .sort();

  /** Made by a worker of the bundle. */
  const hasThumbnail = async (client: Client, id: string) => {
    await waitUntil(async () => (await client.get(`/v1/assets/${id}`)).body.processing?.derive?.state !== 'waiting');
    const { body } = await client.get(`/v1/assets/${id}`);
    assert.deepEqual([body.facts?.width, body.processing?.derive?.state], [2, 'done']);
    assert.equal(
      (await fetch(`${client.url}/v1/assets/${id}/derivatives/thumbnail`, { headers: client.headers })).status,
      200,
    );
  };

  test('is one file beside its entries, each with a source map, and asks for no other package', () => {
    const modules = readdirSync(join(root, 'src/processing/tools/workers')).filter((name) => name !== 'serve.ts');
    const workers = modules.map((name) => `workers/${basename(name, '.ts')}.js`);
    assert.ok(workers.includes('workers/pictures.js'));
    assert.deepEqual(filesOf('npm'), ['compile.js', 'main.js', 'service.js', ...workers]);
    assert.deepEqual(filesOf('image'), [
      ...[
        'backup',
        'compile',
        'doctor',
        'key',
        'lifecycle',
        'main',
        'migrate',
        'mirror',
        'reconcile',
        'reference-page',
        'restore',
        'rotate-share-key',
        'rotate-variant-key',
        'service',
        'setup-bucket',
      ].map((name) => `${name}.js`),
      ...workers,
    ]);
    // Else an entry holds a second service, and the compile cache is filled for that one.
    for (const entry of ['main.js', 'compile.js'])
      assert.ok(statSync(join(place, 'npm/dist', entry)).size < 2000, entry);
    // One letter beyond ASCII, and Node keeps the whole source with two bytes for each of its characters: 5 MiB more.
    for (const name of ['npm', 'image'])
      assert.ok(isAscii(readFileSync(join(place, name, 'dist/service.js'))), `write letters of ${name} as escapes`);
    for (const name of ['npm', 'image']) {
      for (const file of filesOf(name)) {
        const map = JSON.parse(readFileSync(join(place, name, 'dist', `${file}.map`), 'utf8'));
        assert.equal(map.version, 3, file);
      }
    }
    // What is more than JavaScript comes with the image as it is.
    const isInImage = (name: string) => existsSync(join(place, 'image/dist/node_modules', name));
    const asked = (name: string) => packages[name]?.filter((one) => !isInImage(one)).sort();
    assert.deepEqual(asked('npm'), ['@scalar/fastify-api-reference', 'pg-native']);
    assert.deepEqual(asked('image'), ['pg-native']);
    assert.ok(packages['image']?.includes('sharp'));
    assert.doesNotMatch(readFileSync(join(place, 'image/dist/service.js'), 'utf8'), /from ?"sharp"/);
  });

  test('starts on the embedded Postgres, takes an upload, logs errors in lines of the source, stops on SIGTERM', async (context) => {
    const DATA_DIR = join(place, 'data');
    const service = await launch({ DATA_DIR, DERIVATIVES: 'true' }, main);
    context.after(() => service.child.kill('SIGKILL'));
    const client = new Client(service.url);
    const { status, body } = await client.upload(png(5000));
    assert.equal(status, 201);
    assert.equal((await client.content(body.id)).body.length, 5000);
    await hasThumbnail(client, body.id);
    assert.equal((await fetch(`${service.url}/docs/`)).status, 200);

    const password = secretIn(DATA_DIR, 'postgres-password').toString('hex');
    const postgres = new Postgres(runningEmbeddedPostgres(join(DATA_DIR, 'postgres'), password));
    await postgres.connect();
    await postgres.query('alter table assets rename to elsewhere');
    assert.equal((await client.get(`/v1/assets/${body.id}`)).status, 500);
    await postgres.end();
    const lines = service.output().split('\n');
    const logged = lines.find((line) => line.includes('"level":50')) ?? '';
    const { err } = JSON.parse(logged);
    // Another package may have a class of the same name.
    assert.match(err.type, /^DatabaseError\d*$/);
    const frames = [...err.stack.matchAll(/file:\/\/\S+\/(src\/\S+\.ts):(\d+):\d+/g)].map(([, path, line]) => ({
      path,
      line,
    }));
    assert.ok(
      frames.some(({ path }) => path === 'src/assets/routes.ts'),
      err.stack,
    );
    for (const { path, line } of frames)
      assert.match(
        readFileSync(join(root, path), 'utf8').split('\n')[line - 1] ?? '',
        /await|return|\(/,
        `${path}:${line}`,
      );
    assert.doesNotMatch(err.stack, /dist\/service\.js/);

    service.child.kill('SIGTERM');
    assert.equal(await service.exit, 0);
  });

  test('needs no package in the image: it migrates, starts, and has the page of the reference', async (context) => {
    const database = await createTestDatabase();
    const migration = spawnService({ DATABASE_URL: database.url }, join(place, 'image/dist/migrate.js'));
    assert.equal(await migration.exit, 0, migration.output());
    const DATA_DIR = join(place, 'image-data');
    for (const [command, says] of [
      ['doctor', /Everything that the service needs works/],
      ['reconcile', /objects in the store/],
      ['setup-bucket', /S3_BUCKET is not set/],
    ] as const) {
      const run = spawnService({ DATABASE_URL: database.url, DATA_DIR }, join(place, `image/dist/${command}.js`));
      await run.exit;
      assert.match(run.output(), says, command);
    }
    const compilation = spawnService({}, join(place, 'image/dist/compile.js'));
    assert.equal(await compilation.exit, 0, compilation.output());

    // Nor any program of the system.
    const service = await launch(
      { DATABASE_URL: database.url, DATA_DIR, DERIVATIVES: 'true', PATH: '/nowhere' },
      whole,
    );
    context.after(() => service.child.kill('SIGKILL'));
    assert.match(service.output(), /Missing: ffmpeg\. So no posters .*Remedy: apt-get install ffmpeg/);
    const { status: health, features } = (await (await fetch(`${service.url}/health`)).json()) as {
      status: string;
      features: { name: string; status: string; remedy?: string }[];
    };
    assert.equal(health, 'pass');
    const pdftoppm = features.find(({ name }) => name === 'pdftoppm');
    assert.deepEqual([pdftoppm?.status, pdftoppm?.remedy], ['warn', 'apt-get install poppler-utils']);
    const client = new Client(service.url);
    const { status, body } = await client.upload(png(5000));
    assert.equal(status, 201);
    await hasThumbnail(client, body.id);
    const page = await fetch(`${service.url}/docs/`);
    assert.equal(page.status, 200);
    assert.match(await page.text(), /scalar/i);
    assert.equal((await fetch(`${service.url}/openapi.yaml`)).status, 200);
    service.child.kill('SIGTERM');
    assert.equal(await service.exit, 0);
    await database.drop();
  });

  test('tells of a faulty configuration without a stack', async () => {
    const service = spawnService({ PART_SIZE: '1MiB' }, main);
    assert.equal(await service.exit, 1);
    assert.match(service.output(), /PART_SIZE/);
    assert.doesNotMatch(service.output(), /\n\s+at /);
  });
});
