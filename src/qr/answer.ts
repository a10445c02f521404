/** How a QR code is asked for and answered, whatever it leads to. */
import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { conditionsOf, evaluateConditions, type recordConditions } from '../http/preconditions.ts';
import { binary } from '../http/schema-types.ts';
import { Problem } from '../problems.ts';
import { type CodeFormat, MAX_TEXT, makeCode, toPng, toSvg, WRITER } from './code.ts';
import { tooLongForCode } from './problems.ts';

const MIN_SIZE = 64;
const MAX_SIZE = 2048;
const SIZE = `must be ${MIN_SIZE} to ${MAX_SIZE}`;
/** Of the query. */
export const codeLook = {
  format: z
    .enum(['svg', 'png'], { error: 'must be svg or png' })
    .meta({ id: 'CodeFormat' })
    .default('svg')
    .meta({ description: 'Media type of the picture' }),
  size: z
    .string()
    .regex(/^\d{1,4}$/, SIZE)
    .transform(Number)
    .refine((n) => n >= MIN_SIZE && n <= MAX_SIZE, SIZE)
    .default(512)
    .meta({
      override: { type: 'integer', minimum: MIN_SIZE, maximum: MAX_SIZE, default: 512 },
      description: 'Pixels on each side, with the quiet zone of 4 modules',
    }),
};

const codeHeaders = z.object({
  ETag: z.string(),
  'Cache-Control': z.string().meta({ example: 'private, max-age=3600' }),
});
/** The answer in the contract. */
export const codeSuccess = {
  status: 200,
  description: 'The picture',
  headers: codeHeaders,
  content: { 'image/svg+xml': { schema: binary }, 'image/png': { schema: binary } },
  others: { '304': { description: 'The client has this picture already', headers: codeHeaders } },
};

export interface WantedCode {
  text: string;
  format: CodeFormat;
  size: number;
  /** Seconds. */
  maxAge: number;
}

type ConditionalRequest = FastifyRequest & { headers: z.output<typeof recordConditions> };

/** @throws Problem precondition-failed, too-long-for-code, invalid-parameter */
export async function sendCode(request: ConditionalRequest, reply: FastifyReply, wanted: WantedCode): Promise<never> {
  const { text, format, size, maxAge } = wanted;
  const digest = createHash('sha256').update(`${WRITER}\n${format}\n${size}\n${text}`).digest('base64url');
  const tag = `"${digest.slice(0, 22)}"`;
  const outcome = evaluateConditions(conditionsOf(request.headers), tag);
  if (outcome === 'precondition-failed')
    throw new Problem('precondition-failed', { detail: 'The code is another one than If-Match wants.' });
  reply.header('etag', tag).header('cache-control', `private, max-age=${maxAge}`);
  if (outcome === 'not-modified') return reply.code(304).send() as never;
  const picture = await pictureOf(text, format, size);
  return reply.type(format === 'svg' ? 'image/svg+xml' : 'image/png').send(picture) as never;
}

/** @throws Problem too-long-for-code, invalid-parameter */
async function pictureOf(text: string, format: CodeFormat, size: number): Promise<string | Buffer> {
  if (Buffer.byteLength(text) > MAX_TEXT)
    throw new Problem(tooLongForCode, { detail: `A QR code holds ${MAX_TEXT} bytes, and the address has more.` });
  const code = makeCode(text);
  if (format === 'svg') return toSvg(code, size);
  if (size < code.modules) {
    const detail = `must be at least ${code.modules}, the modules on each side of this code, or the format svg`;
    throw new Problem('invalid-parameter', { detail: `size: ${detail}.`, errors: [{ parameter: 'size', detail }] });
  }
  return toPng(code, size);
}
