/** Variants that were made before, beside the same bytes as a file that was uploaded. */
import sharp from 'sharp';
import type { Load, LoadOptions } from '../load.ts';
import type { Row } from '../report.ts';
import type { Stage } from '../stage.ts';
import type { CaseOptions } from './case.ts';
import { compare } from './reads.ts';

const AT_ONCE = 32;

export async function variants(stage: Stage, options: CaseOptions): Promise<Row[]> {
  const service = await stage.service({ env: { DERIVATIVES: 'false' } });
  const headers = service.headersOf();
  const store = async (name: string, body: BodyInit) => {
    const answer = await fetch(`${service.url}/v1/assets/raw/${name}`, { method: 'PUT', headers, body });
    return ((await answer.json()) as { id: string }).id;
  };
  const noise = { type: 'gaussian', mean: 128, sigma: 30 } as const;
  const photo = await sharp({ create: { width: 1600, height: 1200, channels: 3, background: 'grey', noise } })
    .jpeg()
    .toBuffer();
  const id = await store('photo.jpg', new Uint8Array(photo));
  const image = `${service.url}/v1/assets/${id}/image?width=384`;
  const variant = await fetch(image, { headers });
  const same = await store('same.webp', new Uint8Array(await variant.arrayBuffer()));
  const link = await fetch(`${service.url}/v1/assets/${id}/variants/link?width=384`, { headers });
  const { url } = (await link.json()) as { url: string };

  const load = (asked: string, by: Record<string, string> = {}) =>
    stage.run<Load>('load.ts', {
      url: asked,
      headers: by,
      connections: AT_ONCE,
      seconds: options.seconds,
    } satisfies LoadOptions);
  const content = () => load(`${service.url}/v1/assets/${same}/content`, headers);
  const size = `${Math.round(Number(variant.headers.get('content-length')) / 1024)} KiB`;
  const rows = [
    await compare(options, `a variant of ${size} by its address, 32 at once`, {
      ours: () => load(url),
      theirs: content,
    }),
    await compare(options, `a variant of ${size} for its owner, 32 at once`, {
      ours: () => load(image, headers),
      theirs: content,
    }),
  ];
  await service.stop();
  return rows.map((row) => ({
    ...row,
    group: 'processing',
    beside: 'GET content of the same bytes',
    aim: { compare: '>=', value: 0.9 },
  }));
}
