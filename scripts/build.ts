/**
 * `npm run build`: writes what `npm start` and the image run into `dist/`. The service is one file; a process takes 20 MiB
 * less than from the source, because neither types nor the package.json of hundreds of packages are read.
 *
 *   service.js          the service and all packages that it uses
 *   main.js             the entry: turns the compile cache on and loads service.js
 *   compile.js          fills the compile cache
 *   workers/            what runs in processes of its own, because it reads bytes that nobody trusts
 *
 * With `--whole` it is complete without any package, as the image needs it. That takes half as long again:
 *
 *   node_modules/       packages of workers that are more than JavaScript
 *   reference-page.js   the page of /docs, 4 MB, loaded when somebody asks for it; else it is loaded from its package
 *   migrate.js, doctor.js, reconcile.js, backup.js, restore.js, setup-bucket.js, key.js, rotate-variant-key.js, rotate-share-key.js   the commands of these names, each
 *                       with what it uses
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { basename, dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build, type Plugin } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

const REFERENCE_PAGE = '@scalar/fastify-api-reference';
/** pg asks for it when somebody uses `pg.native`, which nobody does. */
const NEVER_INSTALLED = 'pg-native';

const WORKERS = 'src/processing/tools/workers';
/** Packages that hold libraries or WebAssembly in files beside their modules. */
const NOT_BUNDLED = ['sharp', 'libheif-js', '@embedpdf/pdfium'];

/** What operators run beside the service. */
const commands = [
  'migrate',
  'doctor',
  'reconcile',
  'backup',
  'restore',
  'setup-bucket',
  'key',
  'rotate-variant-key',
  'rotate-share-key',
].map((name) => [name, `scripts/${name}.ts`]);

/** What is loaded by `import()` from a file of its own instead of being part of the file that imports it. */
const files: Record<string, string> = { './process.ts': 'service', '../src/process.ts': 'service' };

/** Packages of CommonJS get modules of Node by `require`, which ES modules do not have. */
const require = `import{createRequire as $createRequire}from'node:module';const require=$createRequire(import.meta.url);`;

/**
 * @param whole see above
 * @returns the packages that the files load when they run
 */
export async function buildService(directory: string, { whole }: { whole: boolean }): Promise<string[]> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: {
      main: 'src/main.js',
      service: 'src/process.ts',
      compile: 'scripts/compile.ts',
      ...workers(),
      ...(whole && { 'reference-page': REFERENCE_PAGE, ...Object.fromEntries(commands) }),
    },
    outdir: directory,
    write: false,
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    // AWS publishes its packages in both forms. Of ES modules, what nobody uses is left out: 3 MiB of memory.
    mainFields: ['module', 'main'],
    external: [NEVER_INSTALLED, ...NOT_BUNDLED, ...(whole ? [] : [REFERENCE_PAGE])],
    plugins: [separateFiles(whole ? { ...files, [REFERENCE_PAGE]: 'reference-page' } : files)],
    banner: { js: require },
    metafile: true,
    // Identifiers stay, for 1 MiB of memory: logs name the class of an error (with a number behind it where several
    // packages have such a class), profiles name functions, and drizzle-orm knows a pool by the name of its class.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    sourcemap: true,
    sourcesContent: false,
  });
  for (const { path, contents } of outputFiles) replace(path, contents);
  const written = new Set(outputFiles.map(({ path }) => relative(directory, path).split(sep)[0]));
  for (const name of readdirSync(directory)) if (!written.has(name)) rmSync(join(directory, name), { recursive: true });
  if (whole) for (const name of NOT_BUNDLED) copyPackage(name, join(directory, 'node_modules'));
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports);
  const packages = imports.filter(({ path, external }) => external && !path.startsWith('.') && !isBuiltin(path));
  return [...new Set(packages.map(({ path }) => path))];
}

function workers(): Record<string, string> {
  const modules = readdirSync(join(root, WORKERS)).filter((file) => file !== 'serve.ts');
  return Object.fromEntries(modules.map((file) => [`workers/${basename(file, '.ts')}`, `${WORKERS}/${file}`]));
}

/** With the packages that it needs, as far as they are installed: of those for several systems, one is. */
function copyPackage(name: string, directory: string): void {
  const source = join(root, 'node_modules', name);
  const target = join(directory, name);
  if (!existsSync(source) || existsSync(target)) return;
  cpSync(source, target, { recursive: true, filter: (path) => !path.endsWith('.map') });
  const manifest: unknown = JSON.parse(readFileSync(join(source, 'package.json'), 'utf8'));
  for (const field of ['dependencies', 'optionalDependencies']) {
    const needed: unknown = manifest instanceof Object ? Reflect.get(manifest, field) : undefined;
    for (const other of Object.keys(needed ?? {})) copyPackage(other, directory);
  }
}

function separateFiles(names: Record<string, string>): Plugin {
  return {
    name: 'separate-files',
    setup({ onResolve }) {
      onResolve({ filter: /process\.ts$|fastify-api-reference$/ }, ({ path, kind }) => {
        const name = kind === 'dynamic-import' ? names[path] : undefined;
        return name === undefined ? undefined : { path: `./${name}.js`, external: true };
      });
    },
  };
}

/** A service that runs from this directory may read the file at any time: it never finds half of one. */
function replace(path: string, contents: Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  const written = `${path}.${process.pid}`;
  writeFileSync(written, contents);
  renameSync(written, path);
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { whole: { type: 'boolean', default: false } } });
  const began = performance.now();
  await buildService(join(root, 'dist'), values);
  console.log(`dist/ built in ${Math.round(performance.now() - began)} ms`);
}
