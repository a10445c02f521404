/** The rules of the life cycle as their job applies them, on a day that the test names. */
import { randomUUID } from 'node:crypto';
import { AssetDeletions } from '../../src/assets/deletions.ts';
import { stepValues } from '../../src/assets/life-cycle-step.ts';
import { lookThrough, noticePolicies, type Place } from '../../src/retention/jobs/look-through.ts';
import { type RulesReport, runRules } from '../../src/retention/jobs/run-rules.ts';
import { LooksRepository } from '../../src/retention/looks.ts';
import type { TestService } from './service.ts';

const DAY = 24 * 3600 * 1000;
const context = () => ({ id: randomUUID(), signal: new AbortController().signal, fence: async () => {} });

/** Applies the rules as if so many days had passed. */
export function rulesIn(service: TestService, days: number): Promise<RulesReport> {
  const { core } = service.service;
  const { background, outbox } = core;
  return runRules(
    {
      looks: new LooksRepository(background),
      deletions: new AssetDeletions(background, outbox),
      outbox,
      rules: stepValues(core),
      now: () => new Date(Date.now() + days * DAY),
    },
    context(),
  );
}

/** Finds upload policies with other rules than before. */
export function notice(service: TestService, now?: Date): Promise<string[]> {
  const { core } = service.service;
  const { background, outbox } = core;
  const { policies } = stepValues(core);
  return noticePolicies({ looks: new LooksRepository(background), outbox }, policies, context(), now);
}

/** Has assets looked at whose rules have changed. */
export function lookThroughNow(service: TestService, place: Place): Promise<void> {
  const { background, outbox } = service.service.core;
  return lookThrough({ looks: new LooksRepository(background), outbox }, place, context());
}
