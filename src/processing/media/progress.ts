/** What `-progress pipe:1` of ffmpeg tells: lines of `key=value`, a block of them twice a second. */

/** The longest line that is kept while its end has not come; real ones have fewer than 40 characters. */
const MAX_LINE = 1000;

/** Seconds of the result that are made, each time ffmpeg tells. */
export async function* timesOf(stdout: AsyncIterable<Buffer>): AsyncGenerator<number> {
  let rest = '';
  for await (const chunk of stdout) {
    const lines = (rest + chunk.toString('latin1')).split('\n');
    rest = lines.pop()?.slice(-MAX_LINE) ?? '';
    for (const line of lines) {
      // Microseconds; N/A before the first frame, and negative before the start.
      const [, microseconds] = /^out_time_us=(\d{1,16})$/.exec(line) ?? [];
      if (microseconds !== undefined) yield Number(microseconds) / 1e6;
    }
  }
}

export async function lastTime(stdout: AsyncIterable<Buffer>): Promise<number | undefined> {
  let last: number | undefined;
  for await (const time of timesOf(stdout)) last = time;
  return last;
}
