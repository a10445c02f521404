/**
 * `npm run test:clients`: clients that others' generators make from the contract, compiled and run against a service: each
 * makes the same tour and tells what it saw. A job of its own, for it needs Java and Python, and packages of npm and Debian.
 * Nothing comes from anywhere else: clients of other generators are programs in the folder TEST_CLIENTS, each called with
 * the service's URL and the path of a picture, that print what programs/python.py prints. What is left out is said.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import { toOpenApi30 } from '../../src/http/openapi-3.0.ts';
import { openApiDocument } from '../../src/openapi-document.ts';
import { png } from '../support/files.ts';
import { startService, type TestService } from '../support/service.ts';
import { debianSkip, filesBelow, provideNpmPackages, python } from './packages.ts';

const run = promisify(execFile);
const here = fileURLToPath(new URL('.', import.meta.url));
const programs = join(here, 'programs');
const photo = png(5000, 1);
const jars = ['gson', 'okhttp', 'okio', 'jackson-core', 'jackson-databind', 'jackson-annotations', 'jsr305'].map(
  (name) => `/usr/share/java/${name}.jar`,
);
const others = process.env['TEST_CLIENTS'];
const runs = (name: string) => `${name}: put a program that runs it into the folder TEST_CLIENTS`;

/** What every client sees. */
const tour = {
  uploaded: ['photo.png', 'web', { album: 'summer' }, 'ready'],
  page: [1, false],
  linked: photo.length,
  content: photo.length,
  renamed: 'summer.png',
  cleared: null,
  quota: photo.length,
  trash: [1, null],
  batch: [201, 415],
  direct: ['direct.png', 'ready'],
  problem: 'urn:stowage:problem:not-found',
};

/** What the programs see that make projects, keys and tickets; each has callers of its own, named after its language. */
const accessTour = (language: string) => ({
  project: ['Team', { color: 'blue' }, 'Crew'],
  members: ['editor', 2],
  seen: ['not-found', 1, `${language}-ann`, 'forbidden', 'last-manager', 'not-found'],
  key: ['stw_', `${language}-user`, 1],
  ticket: ['stt_', true, 'ticket-used-up', 1, 1, 'not-found'],
});

describe('clients that are generated from the contract', () => {
  let service: TestService;
  let work = '';
  let picture = '';
  before(async () => {
    provideNpmPackages(here);
    work = await mkdtemp(join(tmpdir(), 'stowage-test-clients-'));
    picture = join(work, 'photo.png');
    writeFileSync(picture, photo);
    writeFileSync(join(work, 'photo.jpg'), photo);
    const contract = await openApiDocument();
    writeFileSync(join(work, 'openapi.yaml'), contract);
    writeFileSync(join(work, 'openapi-3.0.json'), JSON.stringify(toOpenApi30(parse(contract))));
    service = await startService();
  });
  after(async () => {
    await service?.close();
    await rm(work, { recursive: true, force: true });
  });

  /** @returns what it printed */
  async function told(command: string, ...rest: string[]): Promise<unknown> {
    const { stdout } = await run(command, [...rest, service.url, picture], { cwd: work });
    return JSON.parse(stdout);
  }

  async function makesTheTour(command: string, ...rest: string[]): Promise<void> {
    assert.deepEqual(await told(command, ...rest), tour);
    await freeProject();
  }

  /** All programs name the project `web`, and it is that of who names it first. */
  async function freeProject(): Promise<void> {
    await service.query("update assets set project_id = null where project_id = 'web'");
    await service.query("delete from projects where id = 'web'");
  }

  /** openapi-generator 5.0.0-beta2, the last one whose jar is in a package of npm, or another. */
  async function generate(generator: string, output: string, ...options: string[]): Promise<string> {
    return generateBy('@openapitools/openapi-generator-cli', 'openapi-3.0.json', generator, output, ...options);
  }

  async function generateBy(name: string, input: string, generator: string, output: string, ...options: string[]) {
    const jar = join(here, 'node_modules', name, 'bin/openapi-generator.jar');
    const [from, to] = [join(work, input), join(work, output)];
    await run('java', ['-jar', jar, 'generate', '-g', generator, '-i', from, '-o', to, ...options]);
    return to;
  }

  test('openapi-typescript and openapi-fetch', async () => {
    const directory = join(work, 'typescript');
    cpSync(join(programs, 'openapi-fetch.ts'), join(directory, 'program.ts'));
    cpSync(join(here, 'node_modules'), join(directory, 'node_modules'), { recursive: true });
    writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
    const bin = join(here, 'node_modules/.bin');
    await run(join(bin, 'openapi-typescript'), [join(work, 'openapi.yaml'), '-o', join(directory, 'contract.ts')]);
    const strict = ['--strict', '--noEmit', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2024'];
    const typeRoots = ['--typeRoots', join(here, '../../node_modules/@types'), '--types', 'node'];
    const checked = [...strict, ...typeRoots, '--allowImportingTsExtensions', join(directory, 'program.ts')];
    const { stdout } = await run(join(bin, 'tsc'), checked).catch((error) => error);
    assert.equal(stdout, '');
    await makesTheTour(process.execPath, join(directory, 'program.ts'));
  });

  test('openapi-generator for Python', {
    skip: debianSkip('java', 'python3-urllib3', 'python3-dateutil'),
  }, async () => {
    const client = await generate('python', 'python');
    await makesTheTour(python, join(programs, 'python.py'), client);
    assert.deepEqual(await told(python, join(programs, 'access.py'), client), accessTour('python'));
  });

  test('openapi-generator for Go', { skip: debianSkip('java', 'go', 'golang-golang-x-oauth2-dev') }, async () => {
    // 5.0.0-beta2 writes no models in Go. That of 4.3.1 takes one file where there is a list of them.
    const contract = JSON.parse(readFileSync(join(work, 'openapi-3.0.json'), 'utf8'));
    delete contract.paths['/v1/assets/batch'];
    delete contract.components.schemas.BatchForm;
    writeFileSync(join(work, 'openapi-go.json'), JSON.stringify(contract));
    const client = await generateBy(
      'openapi-generator-4.3',
      'openapi-go.json',
      'go-experimental',
      join('go/src/stowage'),
      ...['--package-name', 'stowage', '--additional-properties=enumClassPrefix=true'],
      ...['--global-property', 'skipFormModel=true'],
    );
    // Packages of Debian, and no module of anywhere else.
    const path = [join(client, '../..'), '/usr/share/gocode'].join(':');
    const env = { ...process.env, GOPATH: path, GO111MODULE: 'off', GOFLAGS: '' };
    const program = join(work, 'access');
    await run('go', ['build', '-o', program, join(programs, 'go/access.go')], { cwd: work, env });
    assert.deepEqual(await told(program), accessTour('go'));
  });

  for (const library of ['okhttp-gson', 'native']) {
    const skip = debianSkip(
      'javac',
      'libokhttp-java',
      'libgoogle-gson-java',
      'libjackson2-databind-java',
      'libjsr305-java',
    );
    test(`openapi-generator for Java, ${library}`, { skip }, async () => {
      const options = '--additional-properties=dateLibrary=java8,openApiNullable=false,hideGenerationTimestamp=true';
      const client = await generate('java', library, '--library', library, options);
      const own = join(programs, 'java', library, 'Setup.java');
      const sources = [join(client, 'src/main'), join(programs, 'java/shims')].flatMap((each) =>
        filesBelow(each, '.java'),
      );
      const classes = join(work, `${library}-classes`);
      const path = ['-cp', [classes, ...jars].join(':')];
      const compile = ['-nowarn', '-parameters', '-d', classes, ...path];
      await run('javac', [...compile, ...sources, join(programs, 'java/Tour.java'), own]);
      // In this version no Java library sends a list of files.
      const { batch, ...others } = tour;
      assert.deepEqual(await told('java', ...path, 'Tour'), others);
      await freeProject();
    });
  }

  const found = others && existsSync(others) ? readdirSync(others) : [];
  for (const name of found) test(`${name} of TEST_CLIENTS`, () => makesTheTour(join(others ?? '', name)));
  for (const name of ['openapi-python-client', 'oapi-codegen'])
    if (!found.some((each) => each.includes(name))) test(name, { skip: runs(name) }, () => {});
});
