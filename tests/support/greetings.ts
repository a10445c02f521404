/** Greets: whoever asks, and the owner of every asset that is ready. It shows how a feature plugs in. */
import { eq, sql } from 'drizzle-orm';
import { z } from 'zod';
import { count, setting } from '../../src/config.ts';
import type { Core } from '../../src/core.ts';
import { recordEvent, systemActor } from '../../src/database/audit.ts';
import { build, compile } from '../../src/database/statements.ts';
import { auditEvents } from '../../src/database/tables/audit.ts';
import { type Feature, subscribe } from '../../src/feature.ts';
import { defineJob } from '../../src/jobs/job.ts';
import { defineProblem, Problem } from '../../src/problems.ts';
import { assetReady } from '../../src/processing/events.ts';

const settings = { GREETING_LENGTH: setting('Greetings', count, '20', 'Characters that a greeting may have.') };
const tooLong = defineProblem('greeting-too-long', { status: 422, title: 'The greeting is too long' });
const auditActions = ['greeting.said'] as const;
declare module '../../src/database/audit.ts' {
  interface AuditActions {
    greetings: (typeof auditActions)[number];
  }
}

const greet = defineJob({
  name: 'greet',
  data: z.object({ ownerId: z.string() }),
  run: ({ ownerId }, { id }, { background }: Core) =>
    recordEvent(background.database, { action: 'greeting.said', actor: systemActor('greeter', id), ownerId }),
});

const said = sql<number>`count(*)::integer`.as('said');
const countSaid = compile('count-greetings', () =>
  build.select({ said }).from(auditEvents).where(eq(auditEvents.action, 'greeting.said')),
);
const howMany = async ({ background }: Core) => (await background.database.run(countSaid, {})).rows[0]?.said;

export const greetings: Feature<Core> = {
  name: 'greetings',
  tags: [{ name: 'Greetings', description: 'What is said' }],
  settings,
  problems: [tooLong],
  auditActions,
  routes: (app, core) => {
    const body = z.object({ text: z.string() });
    const schema = { operationId: 'greet', tags: ['Greetings'], summary: 'Greet yourself', body };
    const config = { success: { status: 202, description: 'It will be said' }, problems: [tooLong] };
    app.post('/v1/greetings', { schema, config }, async ({ body, caller }, reply) => {
      const longest = core.settings(settings).GREETING_LENGTH;
      if (body.text.length > longest) throw new Problem(tooLong, { detail: `At most ${longest} characters.` });
      await core.database.transact((transaction) => core.outbox.send(transaction, greet, { ownerId: caller.id }));
      return reply.code(202).send();
    });
  },
  jobs: [greet],
  on: [
    subscribe(assetReady, (transaction, { ownerId }, { outbox }: Core) => outbox.send(transaction, greet, { ownerId })),
  ],
  gauges: (core) => [{ name: 'stowage_greetings', help: 'Greetings that were said', read: () => howMany(core) }],
  checks: (core) => [{ name: 'greetings', needed: false, run: async () => `${await howMany(core)} were said` }],
};
