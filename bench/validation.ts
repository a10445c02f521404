/**
 * `node bench/validation.ts [MiB]`: CPU time of the validation of files that are made to be expensive, and of ordinary
 * ones beside them. What is measured is what an upload pays before and beside its digest. The tests count steps instead.
 */
import { FileValidation } from '../src/validation/file-validation.ts';
import { loadUploadPolicies } from '../src/validation/upload-policies.ts';
import { expensiveFiles, ordinaryFiles } from '../tests/support/expensive-files.ts';

const CHUNK = 64 * 1024;
const policies = loadUploadPolicies(undefined, 5 * 1024 ** 3);
const size = Number(process.argv[2] ?? 4) * 1024 ** 2;

/** @returns CPU milliseconds, of the first chunk and of all, and how far it came */
async function measure(file: { fileName: string; bytes: Buffer }) {
  const validation = new FileValidation(policies, { fileName: file.fileName });
  let [seen, outcome] = [0, 'accepted'];
  const before = process.cpuUsage();
  try {
    await validation.begin(file.bytes.subarray(0, CHUNK));
    for (; seen < file.bytes.length; seen += CHUNK) validation.update(file.bytes.subarray(seen, seen + CHUNK));
    validation.end();
  } catch (error) {
    outcome = error instanceof Error ? error.message : String(error);
  }
  const { user, system } = process.cpuUsage(before);
  return { milliseconds: (user + system) / 1000, seen: Math.min(seen + CHUNK, file.bytes.length), outcome };
}

for (const file of [...ordinaryFiles(size), ...expensiveFiles(size)]) {
  const runs = [];
  for (let run = 0; run < 5; run += 1) runs.push(await measure(file));
  const [best] = runs.sort((one, other) => one.milliseconds - other.milliseconds);
  if (!best) continue;
  const perMiB = (best.milliseconds / best.seen) * 1024 ** 2;
  console.log(
    `${best.milliseconds.toFixed(1).padStart(8)} ms ${perMiB.toFixed(1).padStart(8)} ms/MiB  ${file.title}: ${best.outcome.slice(0, 80)} after ${(best.seen / 1024).toFixed(0)} KiB`,
  );
}
