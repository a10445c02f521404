/** The scan of a small file before anything of it is stored. */
import { infectedFile } from '../scanning/problems.ts';
import type { UploadPolicy } from '../validation/upload-policies.ts';
import type { UploadContext } from './context.ts';
import type { LearnedOnTheWay } from './upload.ts';

/**
 * What is too large for it, or cannot be scanned now, is scanned by a job.
 * @param head the first bytes, as far as they are in memory
 * @param length bytes of the file
 * @returns what the record then tells
 * @throws Problem infected
 */
export async function scanBeforeStoring(
  { scanner }: Pick<UploadContext, 'scanner'>,
  { scan: wanted = 'off' }: UploadPolicy,
  head: Buffer,
  length: number,
): Promise<LearnedOnTheWay> {
  if (!scanner || wanted === 'off' || length > scanner.inlineLimit || head.length !== length) return {};
  const scanned = await scanner.scanNow(head);
  if (!scanned || scanned.notScanned) return {};
  const { scan } = scanned;
  if (scan.signature !== undefined) throw infectedFile(scan.signature);
  return { scan, ended: { scan: { state: 'done', at: scan.at } } };
}
