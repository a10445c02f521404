/** What an asset's record tells of its processing, as clients see it. */
import { z } from 'zod';
import { type ProcessingRecord, stepNames } from '../database/tables/processing-record.ts';
import { bytesCount, openEnum, timestamp } from '../http/schema-types.ts';
import { ENCRYPTED_TYPE } from '../validation/structure/encrypted.ts';
import type { Asset } from './asset.ts';

const reason = z.string().optional().meta({ description: 'Why, in one word; more may be added', example: 'timed-out' });
const pixels = z.number().int().min(0).optional();
const whole = z.number().int().min(0).optional();
const rational = z.number().min(0).optional();

const scan = z
  .object({
    verdict: openEnum(
      'ScanVerdict',
      ['clean', 'infected', 'not-scanned', 'off', 'encrypted'],
      'What the virus scanner said. `not-scanned` is not clean; `off`: nobody asked it; `encrypted`: nobody can scan what only its readers can open.',
    ),
    engine: z.string().optional().meta({ description: 'Scanner and signatures', example: 'ClamAV 1.4.3/27800' }),
    signature: z.string().optional().meta({ description: 'What was found', example: 'Eicar-Test-Signature' }),
    at: timestamp,
  })
  .meta({ id: 'Scan' });

const corner = z.array(z.number()).meta({ description: 'x, y, z' });
const facts = z
  .object({
    width: pixels.meta({ description: 'Pixels, as it is shown: after orientation', example: 4032 }),
    height: pixels.meta({ description: 'Pixels, as it is shown', example: 3024 }),
    orientation: whole.meta({ description: 'EXIF orientation, 1 to 8, as it was sent' }),
    frames: whole.meta({ description: 'Of a moving picture' }),
    hasAlpha: z.boolean().optional(),
    duration: rational.meta({ description: 'Seconds', example: 183.4 }),
    bitRate: whole.meta({ description: 'Bits per second', example: 128000 }),
    videoCodec: z.string().optional().meta({ example: 'h264' }),
    audioCodec: z.string().optional().meta({ example: 'aac' }),
    channels: whole.meta({ example: 2 }),
    sampleRate: whole.meta({ description: 'Hertz', example: 44100 }),
    framesPerSecond: rational.meta({ example: 29.97 }),
    pages: whole.meta({ description: 'Of a document' }),
    pageWidth: rational.meta({
      description: 'Of the first page as it is shown, in points (1/72 inch)',
      example: 595.28,
    }),
    pageHeight: rational.meta({ description: 'Of the first page as it is shown, in points', example: 841.89 }),
    triangles: whole.meta({ description: 'Of a model' }),
    meshes: whole,
    nodes: whole,
    materials: whole,
    animations: whole,
    boundingBox: z
      .object({ min: corner, max: corner })
      .optional()
      .meta({ id: 'BoundingBox', description: 'Around the model, in its own units' }),
  })
  .meta({ id: 'Facts', description: 'What the file holds; which of them there are depends on its media type' });

const original = z
  .object({
    size: bytesCount,
    sha256: z.string().meta({ description: 'Hexadecimal', example: '9f86d081884c7d659a2feaa0c55ad015…' }),
  })
  .meta({ id: 'OriginalFile', description: 'What was sent, where that is not what is served' });

const step = z
  .object({
    state: openEnum('StepState', ['waiting', 'done', 'failed', 'skipped'], 'How far this step is.'),
    reason,
    at: timestamp.optional(),
  })
  .meta({ id: 'ProcessingStep' });
const steps = z
  .object({
    verify: step.optional(),
    scan: step.optional(),
    strip: step.optional(),
    reencode: step.optional(),
    facts: step.optional(),
    derive: step.optional(),
  } satisfies Record<(typeof stepNames)[number], unknown>)
  .meta({ id: 'Processing', description: 'How far each step is that this file goes through' });

/** Members of the document of an asset. */
export const processingDocument = {
  scan: scan.optional(),
  facts: facts.optional(),
  original: original.optional(),
  thumbHash: z.string().optional().meta({
    description: 'A placeholder for the picture, in base64, as the thumbhash library decodes it',
    example: '3OcRJYB4d3h/iIeHeEh3eIhw+j3A',
  }),
  processing: steps.optional(),
};

/** Nothing is done with what nobody here can read. */
const unreadable: ProcessingRecord = Object.fromEntries(
  (['scan', 'strip', 'reencode', 'facts', 'derive'] as const).map((name) => [
    name,
    { state: 'skipped', reason: 'encrypted' } as const,
  ]),
);

export function toProcessingDocument(asset: Asset) {
  if (asset.mediaType !== ENCRYPTED_TYPE) return processingOf(asset);
  const { processing, createdAt } = asset;
  const scan = { verdict: 'encrypted' as const, at: createdAt.toISOString() };
  return { scan, processing: inOrder({ ...processing, ...unreadable }) };
}

function processingOf({ scan, facts, original, thumbHash, processing, createdAt }: Asset) {
  const isScanned = scan !== undefined || processing?.scan?.state === 'waiting';
  return {
    ...(scan && { scan }),
    ...(!isScanned && { scan: { verdict: 'off' as const, at: createdAt.toISOString() } }),
    ...(facts && { facts }),
    ...(original && { original }),
    ...(thumbHash !== undefined && { thumbHash }),
    ...(processing && { processing: inOrder(processing) }),
  };
}

/** Postgres keeps the members of an object in an order of its own. */
function inOrder(processing: ProcessingRecord): ProcessingRecord {
  return Object.fromEntries(
    stepNames.flatMap((name) => {
      const step = processing[name];
      if (!step) return [];
      const { state, reason, at } = step;
      return [[name, { state, ...(reason !== undefined && { reason }), ...(at !== undefined && { at }) }]];
    }),
  );
}
