/**
 * The scanner of a process: clamd with a bound on what is scanned at once, the records of what it said, and the metrics.
 *
 * A small file is scanned before anything of it is stored, while its sender waits. That must cost the sender little: where
 * clamd is busy, away or slow, the scan is given up after some seconds, and for the next seconds none is begun; the file
 * is scanned by a job then. So no upload fails for clamd, and no file is taken for clean for that.
 */
import type { Core } from '../core.ts';
import type { Scan } from '../database/tables/processing-record.ts';
import { Clamd, type ClamdPatience, type ClamdVersion, type ScanOutcome } from './clamd.ts';
import { ScanMetrics, type ScanTrigger } from './metrics.ts';
import { ScanPlaces } from './places.ts';
import { scanSettings } from './settings.ts';

/** Of jobs: an hour and a half for the largest file that ClamAV scans. */
const patient: ClamdPatience = { connect: 5000, idle: 60_000, total: 60_000, perMiB: 2500 };
/** Of uploads, whose senders wait. With some millions of signatures, a MiB takes 0.15 s. */
const impatient: ClamdPatience = { connect: 1000, idle: 2000, total: 2000, perMiB: 500 };
/** How long an upload waits for a place to be scanned, and for how long none is scanned after clamd was away or too slow. */
const UPLOAD_WAIT = 300;
const REST = 5000;
/** How long the version of clamd and its signatures is believed. */
const VERSION_LIFE = 60_000;
const UP_LIFE = 5000;

/** Bytes that are sent to clamd at once. */
const CHUNK = 256 * 1024;

/** The verdict as it is kept, and why there is none. */
export interface Scanned {
  scan: Scan;
  notScanned?: Extract<ScanOutcome, { verdict: 'not-scanned' }>;
}

export class Scanner {
  readonly #clamd: Clamd;
  /** The same, for whom somebody waits. */
  readonly #hasty: Clamd;
  readonly #places: ScanPlaces;
  readonly #metrics: ScanMetrics;
  /** Bytes of a file that is scanned before it is stored, at most. */
  readonly inlineLimit: number;
  #version: { is: ClamdVersion; until: number } | undefined;
  #up: { is: Promise<boolean>; until: number } | undefined;
  #restsUntil = 0;

  constructor({ CLAMD, SCAN_INLINE, SCANS_AT_ONCE }: ScannerOptions, metrics: ScanMetrics) {
    this.#clamd = new Clamd(CLAMD, patient);
    this.#hasty = new Clamd(CLAMD, impatient);
    this.#places = new ScanPlaces(SCANS_AT_ONCE);
    this.#metrics = metrics;
    this.inlineLimit = SCAN_INLINE;
  }

  get active(): number {
    return this.#places.active;
  }

  get waiting(): number {
    return this.#places.waiting;
  }

  /**
   * Scans bytes that are stored, by a job.
   * @param open called when there is a place
   * @throws the signal's reason; what `open` throws
   */
  async scan(
    open: () => Promise<AsyncIterable<Uint8Array>>,
    { size, signal, trigger }: { size: number; signal: AbortSignal; trigger: ScanTrigger },
  ): Promise<Scanned> {
    const leave = await this.#places.forJob(signal);
    try {
      const engine = await this.#engine();
      const startedAt = performance.now();
      const outcome = await this.#clamd.scan(await open(), { size, signal });
      signal.throwIfAborted();
      return this.#told(outcome, engine, trigger, startedAt);
    } finally {
      leave();
    }
  }

  /**
   * Scans the bytes of a file that was sent, and is not stored yet.
   * @returns undefined when there was no place, or clamd was not there a moment ago. Never throws
   */
  async scanNow(bytes: Buffer): Promise<Scanned | undefined> {
    if (performance.now() < this.#restsUntil) return undefined;
    const leave = await this.#places.forUpload(UPLOAD_WAIT);
    if (!leave) return undefined;
    try {
      const startedAt = performance.now();
      // At the same time: once a minute clamd is asked for it.
      const engine = this.#engine();
      const outcome = await (bytes.length > CHUNK
        ? this.#hasty.scan(slices(bytes), { size: bytes.length })
        : this.#hasty.scanWhole(bytes));
      if (outcome.verdict === 'not-scanned' && outcome.why !== 'too-large') this.#restsUntil = performance.now() + REST;
      return this.#told(outcome, await engine, 'upload', startedAt);
    } finally {
      leave();
    }
  }

  /** @throws ClamdUnavailable */
  async version(): Promise<ClamdVersion> {
    if (this.#version && performance.now() < this.#version.until) return this.#version.is;
    const is = await this.#hasty.version();
    this.#version = { is, until: performance.now() + VERSION_LIFE };
    return is;
  }

  /** Whether clamd answers, as of some seconds ago: probes may ask as often as they like. */
  async isUp(): Promise<boolean> {
    if (!this.#up || performance.now() > this.#up.until) {
      const is = this.#hasty.ping().then(
        () => true,
        () => false,
      );
      this.#up = { is, until: performance.now() + UP_LIFE };
    }
    return this.#up.is;
  }

  /** For what is asked of clamd apart from scans. */
  get clamd(): Clamd {
    return this.#hasty;
  }

  async #engine(): Promise<string | undefined> {
    return this.version().then(
      ({ engine }) => engine,
      () => undefined,
    );
  }

  #told(outcome: ScanOutcome, engine: string | undefined, trigger: ScanTrigger, startedAt: number): Scanned {
    this.#metrics.scanned(outcome.verdict, trigger, (performance.now() - startedAt) / 1000);
    const at = new Date().toISOString();
    const scan: Scan = {
      verdict: outcome.verdict,
      ...(engine !== undefined && { engine }),
      ...(outcome.verdict === 'infected' && { signature: outcome.signature }),
      at,
    };
    return outcome.verdict === 'not-scanned' ? { scan, notScanned: outcome } : { scan };
  }
}

async function* slices(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += CHUNK) yield bytes.subarray(at, at + CHUNK);
}

interface ScannerOptions {
  CLAMD: string;
  SCAN_INLINE: number;
  SCANS_AT_ONCE: number;
}

const scanners = new WeakMap<Core, Scanner>();

/** The scanner of a process; undefined where CLAMD is not set. */
export function scannerOf(core: Core): Scanner | undefined {
  const { CLAMD, SCAN_INLINE, SCANS_AT_ONCE } = core.settings(scanSettings);
  if (CLAMD === undefined) return undefined;
  let scanner = scanners.get(core);
  if (!scanner) {
    const inline = Math.min(SCAN_INLINE, core.config.PART_SIZE);
    const options = { CLAMD, SCAN_INLINE: inline, SCANS_AT_ONCE };
    scanner = new Scanner(options, new ScanMetrics(core.metrics.registry));
    scanners.set(core, scanner);
  }
  return scanner;
}
