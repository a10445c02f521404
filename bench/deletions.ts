/**
 * Deletes assets for good, from a process of its own: `node bench/deletions.ts OPTIONS`, with a JSON object as its only
 * argument, prints a JSON object.
 */
import { Agent, request } from 'node:http';

export interface DeletionOptions {
  url: string;
  headers: Record<string, string>;
  ids: string[];
  /** Requests at once, each for one asset; `bulk`: one request for all. */
  atOnce: number | 'bulk';
}

export interface Deletions {
  /** Seconds until the last answer. */
  seconds: number;
}

const options = JSON.parse(process.argv[2] ?? '{}') as DeletionOptions;
const { url, headers, ids, atOnce } = options;
const agent = new Agent({ keepAlive: true, maxSockets: atOnce === 'bulk' ? 1 : atOnce });

function send(method: string, path: string, body?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const type = body === undefined ? {} : { 'content-type': 'application/json' };
    request(url + path, { method, agent, headers: { ...headers, ...type } }, (answer) => {
      answer.resume().once('end', () => {
        if (answer.statusCode === 204 || answer.statusCode === 200) resolve();
        else reject(new Error(`${method} ${path}: ${answer.statusCode}`));
      });
    })
      .once('error', reject)
      .end(body);
  });
}

const startedAt = performance.now();
if (atOnce === 'bulk')
  await send('POST', '/v1/assets/bulk', JSON.stringify({ action: 'delete', permanent: true, ids }));
else {
  const rest = ids.values();
  const worker = async () => {
    for (const id of rest) await send('DELETE', `/v1/assets/${id}?permanent=true`);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
agent.destroy();
const deletions: Deletions = { seconds: (performance.now() - startedAt) / 1000 };
console.log(JSON.stringify(deletions));
