/** The embedded Postgres of a service that lives long: started again on the same port should it die. */
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyBaseLogger } from 'fastify';
import {
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  startEmbeddedPostgres,
} from './embedded/embedded-postgres.ts';

/** How often it is looked after. Milliseconds. */
const WATCH = 500;

/** @returns its URL, and how to stop it for good */
export async function supervisePostgres(
  options: EmbeddedPostgresOptions,
  logger: FastifyBaseLogger,
): Promise<{ url: string; stop: () => Promise<void> }> {
  let postgres: EmbeddedPostgres = await startEmbeddedPostgres(options);
  const { url } = postgres;
  const port = Number(new URL(url).port);
  const stopping = new AbortController();
  const watching = watch();
  return {
    url,
    stop: async () => {
      stopping.abort();
      await watching;
      await postgres.stop();
    },
  };

  async function watch(): Promise<void> {
    while (await pause(WATCH, stopping.signal)) {
      if (isAlive(postgres.pid)) continue;
      logger.error('the embedded Postgres has died; starting it again');
      try {
        await postgres.stop();
        postgres = await startEmbeddedPostgres({ ...options, port });
      } catch (err) {
        logger.error({ err }, 'the embedded Postgres cannot be started');
      }
    }
  }
}

/** @returns false when the signal ended it */
async function pause(milliseconds: number, signal: AbortSignal): Promise<boolean> {
  return delay(milliseconds, true, { signal, ref: false }).catch(() => false);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
