/**
 * The shape of a sound: the lowest and the highest sample of each stretch, in the JSON of BBC audiowaveform, version 2, which
 * peaks.js reads as it is, and wavesurfer.js as its `peaks`; and a drawing of it.
 *
 * How long the sound is, nobody is asked: a header may lie or be silent. Stretches begin short, and each time there are too many,
 * neighbours become one. So memory and result are bounded, and the whole sound is in them.
 */
import { type Sandbox, ToolError } from '../tools/sandbox.ts';
import type { MediaFacts } from './facts.ts';
import { cpuSecondsFor, decode, type MediaFile } from './input.ts';
import type { MediaOptions } from './probe.ts';

/** https://github.com/bbc/audiowaveform/blob/master/doc/DataFormat.md */
export interface Waveform {
  version: 2;
  channels: 1;
  sample_rate: number;
  samples_per_pixel: number;
  bits: 8;
  /** Stretches. */
  length: number;
  /** Lowest and highest of each stretch, -128 to 127. */
  data: number[];
}

/** Between half of it and all of it stretches are in the result of a sound longer than a second. */
export const MAX_POINTS = 2000;
const FIRST_SAMPLES_PER_POINT = 16;

/** Sound that is longer has no waveform: at some point nobody sees anything in it. */
const MAX_HOURS = 12;
const MAX_SAMPLE_RATE = 192_000;
/** An hour of MP3 (58 MiB) takes 4 s of processor, one of silence in FLAC (40 KiB) 1 s. */
const CPU = { base: 20, perMiB: 2, longest: 300 };
const LIMITS = { seconds: 600, fileSize: 0, output: 8 * 1024 ** 3 };

/**
 * @param facts tell the rate at which the sound is read, which is its own: another costs more and flattens peaks
 * @throws ToolError when there is no sound, or too much of it
 */
export async function waveform(
  sandbox: Sandbox,
  file: MediaFile,
  facts: Pick<MediaFacts, 'audio'>,
  { signal }: MediaOptions = {},
): Promise<Waveform> {
  if (!facts.audio) throw new ToolError('refused', 'There is no sound in the file');
  const rate = Math.min(facts.audio.sampleRate, MAX_SAMPLE_RATE);
  const seconds = MAX_HOURS * 3600;
  const output = ['-ac', '1', '-ar', String(rate), '-t', String(seconds + 1), '-c:a', 'pcm_s8', '-f', 's8', 'pipe:1'];
  const args = [...decode(file), '-map', '0:a:0', '-vn', '-sn', '-dn', ...output];
  const limits = { ...LIMITS, cpuSeconds: cpuSecondsFor(file, CPU.base, CPU.perMiB, CPU.longest) };
  const peaks = new Peaks(MAX_POINTS, FIRST_SAMPLES_PER_POINT);
  await sandbox.run(
    { program: 'ffmpeg', args, input: file.path, limits, ...(signal && { signal }) },
    async (stdout) => {
      for await (const chunk of stdout) peaks.add(new Int8Array(chunk.buffer, chunk.byteOffset, chunk.length));
    },
  );
  const { data, samplesPerPoint, samples } = peaks.end();
  if (samples === 0) throw new ToolError('refused', 'There is no sound in the file that can be decoded');
  if (samples > seconds * rate)
    throw new ToolError('refused', `Sound of more than ${MAX_HOURS} hours gets no waveform`);
  return {
    version: 2,
    channels: 1,
    sample_rate: rate,
    samples_per_pixel: samplesPerPoint,
    bits: 8,
    length: data.length / 2,
    data,
  };
}

/** Lowest and highest samples of stretches of equal length, which doubles when there are too many of them. */
export class Peaks {
  readonly #max: number;
  #data: number[] = [];
  #samplesPerPoint: number;
  #lowest = 127;
  #highest = -128;
  /** Samples of the stretch that has not ended. */
  #seen = 0;
  #samples = 0;

  constructor(maxPoints: number, samplesPerPoint: number) {
    this.#max = maxPoints;
    this.#samplesPerPoint = samplesPerPoint;
  }

  add(samples: Int8Array): void {
    this.#samples += samples.length;
    for (let at = 0; at < samples.length; ) {
      const end = Math.min(samples.length, at + this.#samplesPerPoint - this.#seen);
      this.#seen += end - at;
      let [lowest, highest] = [this.#lowest, this.#highest];
      for (; at < end; at++) {
        const sample = samples[at] ?? 0;
        if (sample < lowest) lowest = sample;
        if (sample > highest) highest = sample;
      }
      this.#lowest = lowest;
      this.#highest = highest;
      if (this.#seen === this.#samplesPerPoint) this.#endPoint();
    }
  }

  end(): { data: number[]; samplesPerPoint: number; samples: number } {
    if (this.#seen > 0) this.#endPoint();
    // When that made too many of them, one may have been left over.
    if (this.#seen > 0) this.#endPoint();
    return { data: this.#data, samplesPerPoint: this.#samplesPerPoint, samples: this.#samples };
  }

  #endPoint(): void {
    this.#data.push(this.#lowest, this.#highest);
    this.#lowest = 127;
    this.#highest = -128;
    this.#seen = 0;
    if (this.#data.length > 2 * this.#max) this.#halve();
  }

  /** An odd one at the end begins the stretch that has not ended. */
  #halve(): void {
    const [old, merged]: [number[], number[]] = [this.#data, []];
    const pairs = old.length - (old.length % 4);
    for (let at = 0; at < pairs; at += 4)
      merged.push(Math.min(old[at] ?? 0, old[at + 2] ?? 0), Math.max(old[at + 1] ?? 0, old[at + 3] ?? 0));
    if (pairs < old.length) {
      this.#lowest = old[pairs] ?? 0;
      this.#highest = old[pairs + 1] ?? 0;
      this.#seen = this.#samplesPerPoint;
    }
    this.#data = merged;
    this.#samplesPerPoint *= 2;
  }
}
