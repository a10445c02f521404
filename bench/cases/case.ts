import type { Row } from '../report.ts';
import type { Stage } from '../stage.ts';

export interface CaseOptions {
  /** Rounds, in each of which everything is measured once, one after the other. */
  rounds: number;
  /** Seconds of a measured rate. */
  seconds: number;
  /** Only what takes little time. */
  short: boolean;
  /** Told what is going on. */
  say: (text: string) => void;
}

export type Case = (stage: Stage, options: CaseOptions) => Promise<Row[]>;
