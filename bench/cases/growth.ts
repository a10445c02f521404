/** What the number of assets does to the cost of a list, of a quota, and of the statements of an upload. */
import { randomBytes } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { userNamed } from '../../src/access/caller.ts';
import { noLifeCycle } from '../../src/assets/life-cycle-looks.ts';
import { openDatabase } from '../../src/database/client.ts';
import { DerivativesRepository } from '../../src/processing/derivatives.ts';
import { noSteps } from '../../src/processing/pipeline.ts';
import { UploadsRepository } from '../../src/uploads/repository.ts';
import { Contents } from '../../src/versions/contents.ts';
import { noOutbox } from '../no-outbox.ts';
import { median, type Row, Samples } from '../report.ts';
import { seedAssets } from '../seed.ts';
import type { Stage } from '../stage.ts';
import type { CaseOptions } from './case.ts';

const sizes = [10_000, 100_000, 1_000_000];
/** Of each operation in each round. */
const REPEATS = 300;

export async function growth(stage: Stage, { rounds, say }: CaseOptions): Promise<Row[]> {
  const places = await Promise.all(
    sizes.map(async (count) => {
      const databaseUrl = await stage.database();
      await seedAssets(databaseUrl, 'bench', count);
      return { count, databaseUrl, ...operations(databaseUrl) };
    }),
  );
  const service = await Promise.all(places.map(({ databaseUrl }) => stage.service({ databaseUrl })));
  const kinds = ['list', 'quota', 'upload commit'] as const;
  const medians = new Samples();
  for (let round = 0; round <= rounds; round++) {
    for (const kind of kinds) {
      for (const [index, place] of places.entries()) {
        const at = service[index];
        if (!at) continue;
        const headers = at.headersOf();
        const one = async () => {
          if (kind === 'upload commit') return place.uploadCommit();
          const answer = await fetch(`${at.url}/v1/${kind === 'list' ? 'assets' : 'quota'}`, { headers });
          if (!answer.ok) throw new Error(await answer.text());
          await answer.arrayBuffer();
        };
        const times: number[] = [];
        for (let repeat = 0; repeat < REPEATS; repeat++) {
          const startedAt = performance.now();
          await one();
          times.push(performance.now() - startedAt);
        }
        if (round === 0) continue;
        medians.add(`${kind} ${place.count}`, median(times));
      }
    }
    say(`round ${round}`);
  }
  for (const at of service) await at.stop();
  for (const place of places) await place.close();
  const [smallest = 0, ...larger] = sizes;
  return kinds.flatMap((kind) =>
    larger.map(
      (count): Row => ({
        group: 'growth',
        what: `${kind} with ${count.toLocaleString('en').replaceAll(',', ' ')} assets`,
        unit: 'ms',
        measured: medians.of(`${kind} ${count}`),
        yardstick: medians.of(`${kind} ${smallest}`),
        beside: 'with 10 000',
        aim: { compare: '<=', value: 1.3 },
      }),
    ),
  );
}

function operations(databaseUrl: string) {
  const database = openDatabase({ url: databaseUrl, connections: 2, timeout: 5000, onError: () => {} });
  const uploads = new UploadsRepository({
    database,
    outbox: noOutbox,
    limits: { defaultLimit: 2 ** 50, tierQuotas: null },
    lease: 120,
    lookAgain: 60,
    rules: noSteps,
    lifeCycleOf: () => noLifeCycle,
    contents: new Contents({
      outbox: noOutbox,
      derivatives: new DerivativesRepository(database, noOutbox),
      kept: () => 0,
      grace: 0,
      limits: { defaultLimit: 2 ** 50, tierQuotas: null },
    }),
  });
  return {
    close: () => database.close(),
    /** The two statements of a small upload. */
    uploadCommit: async () => {
      const id = uuidv7();
      const actor = { callerId: 'bench', requestId: id, via: null, because: null };
      const place = { isNew: false, account: 'bench' };
      const whose = { ownerId: 'bench', caller: userNamed('bench'), place, actor };
      const upload = {
        id,
        ...whose,
        name: 'a.png',
        objectKey: id,
        metadata: {},
        path: '',
        tags: [],
        createdAt: new Date(),
      };
      const stored = {
        size: 1024,
        sha256: randomBytes(32),
        mediaType: 'image/png',
        assetType: 'image',
        cacheControl: 'private',
      };
      await uploads.begin(upload, stored.size, { seal: stored });
      await uploads.settle({ id, isReplacing: false }, stored, actor);
    },
  };
}
