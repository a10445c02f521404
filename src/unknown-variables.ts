/** Variables of the environment that look like settings but are none: typos, which would otherwise be silent. */

/** Below, short words of every language are near to each other. */
const MIN_LENGTH = 5;
/** From here on two letters may be wrong. */
const LONG = 8;

/**
 * The names that are no setting, each with the setting that was probably meant.
 * @param given names in the environment
 * @param known names of settings
 */
export function misspelled(given: readonly string[], known: readonly string[]): [given: string, meant: string][] {
  const all = new Set(known);
  return given
    .filter((name) => !all.has(name) && /^[A-Z][A-Z0-9_]*$/.test(name) && name.length >= MIN_LENGTH)
    .flatMap((name) => {
      const meant = nearest(name, known);
      return meant === undefined ? [] : [[name, meant] as [string, string]];
    });
}

function nearest(name: string, known: readonly string[]): string | undefined {
  const bare = name.replace(/^STOWAGE_/, '');
  if (known.includes(bare)) return bare;
  const ranked = known
    .map((setting) => ({ setting, distance: distance(bare, setting) }))
    .sort((one, other) => one.distance - other.distance);
  const [best] = ranked;
  if (best && best.distance <= (bare.length >= LONG ? 2 : 1)) return best.setting;
  return ranked.find(({ setting }) => sharesWords(bare, setting))?.setting;
}

/** `S3_SECRET_KEY` for `S3_SECRET_ACCESS_KEY`, `JWT_SECRET` for `AUTH_JWT_SECRET`, `DATABASE_POOL_SIZE` for `DATABASE_POOL`. */
function sharesWords(name: string, setting: string): boolean {
  const [words, wanted] = [name.split('_'), setting.split('_')];
  if (words.length < 2 || wanted.length < 2) return false;
  const isPart = words.every((word) => wanted.includes(word));
  return isPart || (words[0] === wanted[0] && wanted.every((word) => words.includes(word)));
}

/** Letters to add, drop, change or swap with the next (Damerau and Levenshtein, optimal string alignment). */
function distance(one: string, other: string): number {
  let [before, row]: [number[], number[]] = [[], Array.from({ length: other.length + 1 }, (_, at) => at)];
  for (let i = 1; i <= one.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= other.length; j += 1) {
      const changed = (row[j - 1] ?? 0) + (one[i - 1] === other[j - 1] ? 0 : 1);
      let least = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, changed);
      if (i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1])
        least = Math.min(least, (before[j - 2] ?? 0) + 1);
      next.push(least);
    }
    [before, row] = [row, next];
  }
  return row[other.length] ?? 0;
}
