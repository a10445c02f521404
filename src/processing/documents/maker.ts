/**
 * Facts and the first page of PDFs: by poppler where it is installed, else by PDFium in a child. Office documents have
 * neither: whatever could draw them is an office program.
 */
import { access } from 'node:fs/promises';
import type { Maker, MakerWork } from '../maker.ts';
import type { PictureSource } from '../pictures/pictures.ts';
import { ToolError } from '../tools/tool-error.ts';
import { popplerFacts, popplerPage } from './poppler.ts';
import type { PagePicture, PdfFacts, PdfTask } from './tasks.ts';

/**
 * Seconds until a program is killed. No page of an honest document needs a tenth of it, but every engine has files that
 * hold it: 16 million operators in 0.7 MB take 12 s, a form that draws itself takes PDFium forever.
 */
const LIMIT = 12;
const QUALITY = 82;

/** @param seconds for each thing that is asked of a program */
export const documentMakerWithin = (seconds: number): Maker => ({
  accepts: (mediaType) => mediaType === 'application/pdf',

  readFacts: async (work) => {
    const { tools, file, signal } = work;
    const sandbox = await tools.sandbox;
    const facts = sandbox.has('pdfinfo')
      ? await popplerFacts(sandbox, file.path, { seconds, signal })
      : await ask<PdfFacts>(work, { kind: 'facts' }, seconds);
    return { facts: rounded(facts) };
  },

  defaults: () => ({ thumbnail: {} }),

  make: async (wanted, work) => {
    const made = new Map();
    const options = { signal: work.signal, callerId: work.asset.ownerId };
    for (const [name, { format = 'webp', ...size }] of wanted) {
      if (name !== 'thumbnail') continue;
      const page = await drawPage(work, Math.max(size.width, size.height), seconds);
      const look = { ...size, fit: 'inside' as const, quality: QUALITY, format };
      const { bytes, ...picture } = await work.tools.pictures.variant(page, look, options);
      made.set(name, { ...picture, content: bytes });
    }
    return { made };
  },
});

export const documentMaker = documentMakerWithin(LIMIT);

/** @param side pixels of its longer side */
async function drawPage(work: MakerWork, side: number, seconds: number): Promise<PictureSource> {
  const { tools, file, signal } = work;
  const sandbox = await tools.sandbox;
  if (!sandbox.has('pdftoppm')) {
    const page = await ask<PagePicture>(work, { kind: 'page', side }, seconds);
    return { ...page, channels: 4 };
  }
  const path = await popplerPage(sandbox, file, side, { seconds, signal });
  await access(path).catch(() => {
    throw new ToolError('refused', 'pdftoppm wrote no picture');
  });
  return path;
}

function ask<T>({ tools, asset, file, signal }: MakerWork, input: PdfTask, seconds: number): Promise<T> {
  return tools.pool.run<T>({ module: 'pdf', input, file: file.path }, { seconds, signal, callerId: asset.ownerId });
}

/** Points, of which hundredths are enough. A page that cannot be read has no size, though programs call it 0 x 0. */
function rounded({ pages, pageWidth = 0, pageHeight = 0 }: PdfFacts): PdfFacts {
  const hundredths = (points: number) => Math.round(points * 100) / 100;
  const [width, height] = [hundredths(pageWidth), hundredths(pageHeight)];
  return { pages, ...(width > 0 && height > 0 && { pageWidth: width, pageHeight: height }) };
}
