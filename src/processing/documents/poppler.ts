/** PDFs by the programs of poppler, which run in the sandbox. */
import { join } from 'node:path';
import { asText, type Sandbox, ToolError, type ToolLimits } from '../tools/sandbox.ts';
import type { PdfFacts } from './tasks.ts';

export interface PopplerOptions {
  seconds: number;
  signal: AbortSignal;
}

const limitsOf = (seconds: number): Partial<ToolLimits> => ({
  seconds,
  cpuSeconds: seconds,
  memory: 512 * 1024 * 1024,
  fileSize: 64 * 1024 * 1024,
  output: 1024 * 1024,
});

export async function popplerFacts(sandbox: Sandbox, path: string, options: PopplerOptions): Promise<PdfFacts> {
  const text = await refusing(() =>
    sandbox.run(
      { program: 'pdfinfo', args: [path], input: path, limits: limitsOf(options.seconds), signal: options.signal },
      asText,
    ),
  );
  const pages = Number(lastOf(text, /^Pages: +(\d+)$/gm)?.[1]);
  if (!Number.isSafeInteger(pages)) throw new ToolError('refused', 'pdfinfo tells no number of pages');
  const size = lastOf(text, /^Page size: +([\d.]+) x ([\d.]+) pts/gm);
  if (!size) return { pages };
  const sides = [Number(size[1]), Number(size[2])];
  const isTurned = Number(lastOf(text, /^Page rot: +(\d+)$/gm)?.[1]) % 180 === 90;
  const [pageWidth = 0, pageHeight = 0] = isTurned ? sides.toReversed() : sides;
  return { pages, pageWidth, pageHeight };
}

/** The title and other texts of the document come first; they may hold lines that look like these. */
const lastOf = (text: string, line: RegExp) => [...text.matchAll(line)].at(-1);

/**
 * The first page as PNG, which must be read as untrusted. With `-r` a page of 200,000 points would be as large in
 * pixels; `-scale-to` bounds the picture whatever the page claims.
 * @param side pixels of the longer side
 * @returns path of the picture, if there is one: the program may end well without
 */
export async function popplerPage(
  sandbox: Sandbox,
  { path, directory }: { path: string; directory: string },
  side: number,
  { seconds, signal }: PopplerOptions,
): Promise<string> {
  const args = ['-f', '1', '-l', '1', '-singlefile', '-scale-to', String(side), '-png', path, join(directory, 'page')];
  const limits = limitsOf(seconds);
  const run = { program: 'pdftoppm', args, input: path, outputDirectory: directory, limits, signal } as const;
  await refusing(() => sandbox.run(run, asText));
  return join(directory, 'page.png');
}

/** What poppler says of a document that it would need a password for (its Error.cc knows no code for it). */
async function refusing<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof ToolError && /incorrect password/i.test(error.message))
      throw new ToolError('refused', 'the document needs a password', 'encrypted');
    throw error;
  }
}
