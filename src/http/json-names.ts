/**
 * Names that a JSON object has twice. Parsers differ in which of the two values they take (RFC 8259 section 4), and one of
 * them is dropped silently; so what has been read by somebody on the way is not what is done here.
 */

/** What is said of anything that is there twice, and whose name stands before it. */
export const GIVEN_TWICE = 'is there more than once; it may be there once';

/** Strings, brackets and commas: all that tells where a name stands. */
const token = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],]/g;

/** What is open at a place of the text. */
interface Level {
  /** Of an object; undefined for a list. */
  names: Set<string> | undefined;
  /** Whether the next string is a name. */
  expectsName: boolean;
  /** Of the value that is being read: its name, or its place. */
  at: string | number;
}

/**
 * @param json that has been parsed without a fault
 * @returns the names, from the outermost object on, that lead to the first member that is there twice
 */
export function repeatedName(json: string): string[] | undefined {
  const levels: Level[] = [];
  for (const [text] of json.matchAll(token)) {
    const level = levels.at(-1);
    if (text === '{') levels.push({ names: new Set(), expectsName: true, at: '' });
    else if (text === '[') levels.push({ names: undefined, expectsName: false, at: 0 });
    else if (text === '}' || text === ']') levels.pop();
    else if (!level) continue;
    else if (text === ',') {
      level.expectsName = level.names !== undefined;
      if (typeof level.at === 'number') level.at += 1;
    } else if (level.names && level.expectsName) {
      // `a` and `\u0061` are one name.
      level.at = String(JSON.parse(text));
      level.expectsName = false;
      if (level.names.has(level.at)) return levels.map(({ at }) => String(at));
      level.names.add(level.at);
    }
  }
  return undefined;
}
