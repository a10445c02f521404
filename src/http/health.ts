/**
 * Probes. `/livez` says that the process runs; `/readyz` that it can serve, and it turns first when the process drains;
 * `/health` gives details as `application/health+json`, and tells what is missing for want of a program. Checks are cheap, never write, have a deadline, and are cached:
 * any number of load balancers asks the database and the object store once in a while.
 */
import type { FastifyInstance } from 'fastify';
import { Problem, RETRY_SOON } from '../problems.ts';

const CACHE_TIME = 10_000;
/** While something fails, look more often, to recover soon. */
const CACHE_TIME_FAILING = 1000;
const CHECK_DEADLINE = 3000;

/** Something that the service does where a program is installed, and does without where not. */
export interface Ability {
  /** Of the program. */
  name: string;
  works: boolean;
  /** What is missing without it. */
  lost: string;
  /** How to get it. */
  remedy: string;
}

export interface HealthOptions {
  checks: Record<string, (signal: AbortSignal) => Promise<unknown>>;
  /** Cheap to ask for. */
  abilities: () => Promise<readonly Ability[]>;
  draining: () => boolean;
  version: string;
}

interface Health {
  ok: boolean;
  at: number;
  abilities: readonly Ability[];
  checks: Record<string, { status: 'pass' | 'fail'; milliseconds: number; time: string }>;
}

export function healthRoutes(app: FastifyInstance, options: HealthOptions): void {
  const probe = { config: { public: true, rateLimit: false, logRequests: false } } as const;
  const look = cached(options);

  app.get('/livez', probe, async (_request, reply) => reply.type('text/plain').send('ok\n'));

  app.get('/readyz', probe, async (_request, reply) => {
    if (options.draining())
      throw new Problem('unavailable', { detail: 'The service is stopping.', retryAfter: RETRY_SOON });
    const { ok, checks } = await look();
    if (ok) return reply.type('text/plain').send('ok\n');
    const failing = Object.keys(checks).filter((name) => checks[name]?.status === 'fail');
    throw new Problem('unavailable', { detail: `Not answering: ${failing.join(', ')}.`, retryAfter: RETRY_SOON });
  });

  app.get('/health', probe, async (_request, reply) => {
    const { ok, abilities, checks } = await look();
    const healthy = ok && !options.draining();
    return reply
      .code(healthy ? 200 : 503)
      .headers(healthy ? {} : { 'retry-after': String(RETRY_SOON) })
      .type('application/health+json')
      .send(
        JSON.stringify({
          status: healthy ? 'pass' : 'fail',
          version: options.version,
          ...(options.draining() && { notes: ['draining'] }),
          features: abilities.map(({ name, works, lost, remedy }) =>
            works ? { name, status: 'pass' } : { name, status: 'warn', output: lost, remedy },
          ),
          checks: Object.fromEntries(
            Object.entries(checks).map(([name, { status, milliseconds, time }]) => [
              `${name}:responseTime`,
              [
                {
                  componentType: name === 'database' ? 'datastore' : 'component',
                  observedValue: milliseconds,
                  observedUnit: 'ms',
                  status,
                  time,
                },
              ],
            ]),
          ),
        }),
      );
  });
}

/** One look at a time, shared by all who ask meanwhile. */
function cached(options: HealthOptions): () => Promise<Health> {
  let last: Health | undefined;
  let running: Promise<Health> | undefined;
  return () => {
    const age = last ? performance.now() - last.at : Number.POSITIVE_INFINITY;
    if (last && age < (last.ok ? CACHE_TIME : CACHE_TIME_FAILING)) return Promise.resolve(last);
    running ??= lookNow(options).then((health) => {
      last = health;
      running = undefined;
      return health;
    });
    return running;
  };
}

async function lookNow({ checks, abilities }: HealthOptions): Promise<Health> {
  const results = await Promise.all(
    Object.entries(checks).map(async ([name, check]) => {
      const started = performance.now();
      const status = await within(check).then(
        () => 'pass' as const,
        () => 'fail' as const,
      );
      return [
        name,
        { status, milliseconds: Math.round(performance.now() - started), time: new Date().toISOString() },
      ] as const;
    }),
  );
  return {
    ok: results.every(([, { status }]) => status === 'pass'),
    at: performance.now(),
    abilities: await abilities(),
    checks: Object.fromEntries(results),
  };
}

async function within(check: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
  const signal = AbortSignal.timeout(CHECK_DEADLINE);
  await Promise.race([
    check(signal),
    new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true })),
  ]);
}
