/** What knows a kind of file: reads its facts and makes its derivatives. makers.ts has the list of them. */
import type { Facts } from '../database/tables/processing-record.ts';
import type { DerivativePolicy } from '../validation/upload-policies.ts';
import type { Pictures } from './pictures/pictures.ts';
import type { ProcessedAsset, WorkingCopy } from './step.ts';
import type { ChildPool } from './tools/child-pool.ts';
import type { Sandbox } from './tools/sandbox.ts';

export interface MadeFile {
  /** Path of a file in the directory of the working copy, or the bytes of a small one. */
  content: string | Buffer;
  mediaType: string;
  /** Pixels. */
  width?: number;
  height?: number;
}

/** What makers work with; `Toolbox` says what each is. */
export interface MakerTools {
  readonly sandbox: Promise<Sandbox>;
  readonly pool: Pick<ChildPool, 'run'>;
  readonly pictures: Pictures;
}

export interface MakerWork {
  readonly asset: Pick<ProcessedAsset, 'ownerId' | 'mediaType' | 'size' | 'facts'>;
  readonly file: Omit<WorkingCopy, keyof AsyncDisposable>;
  readonly tools: MakerTools;
  readonly signal: AbortSignal;
}

export interface FoundFacts {
  facts: Facts;
  /** Base64 of some 25 bytes: a placeholder that is there before anything is loaded. */
  thumbHash?: string;
}

/** By name; a text is the reason for which one could not be made, a word such as `encrypted` or `unsupported`. */
export interface MadeDerivatives {
  made: ReadonlyMap<string, MadeFile | string>;
  thumbHash?: string;
}

/** May throw ToolError, which becomes the reason for all that was asked for. */
export interface Maker {
  accepts(mediaType: string): boolean;
  /** @returns undefined when files of this type tell nothing */
  readFacts(work: MakerWork): Promise<FoundFacts | undefined>;
  /**
   * Facts and derivatives by one look at the file; absent where that costs no less than two.
   * @param wanted by name, with complete sizes; at least one
   * @param options `quickly`: somebody waits, so what takes long is not made; then there are facts alone
   */
  understand?(
    wanted: ReadonlyMap<string, WantedDerivative>,
    work: MakerWork,
    options: { quickly: boolean },
  ): Promise<FoundFacts & Partial<MadeDerivatives>>;
  /** What is made where the policy names nothing, with sizes where they are not those of the settings. */
  defaults(mediaType: string): Readonly<Record<string, DerivativePolicy>>;
  /** @param wanted by name, with complete sizes */
  make(wanted: ReadonlyMap<string, WantedDerivative>, work: MakerWork): Promise<MadeDerivatives>;
}

/** The picture fits into width x height. */
export interface WantedDerivative {
  /** Pixels. */
  width: number;
  height: number;
  format?: NonNullable<DerivativePolicy['format']>;
}
