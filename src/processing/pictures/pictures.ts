/**
 * Pictures: what they are, previews, placeholders, variants, and re-encoding. All of it happens in a process that can be killed
 * (tools/child-pool.ts), because it reads bytes that nobody trusts; this is the service's side.
 */
import { join } from 'node:path';
import type { ChildPool, Task, TaskOptions } from '../tools/child-pool.ts';
import type {
  EncodedPicture,
  PictureFacts,
  PictureSource,
  PictureTask,
  PreviewSize,
  Previews,
  ReencodedPicture,
  Reencoding,
  UnderstoodPicture,
  Variant,
} from './tasks.ts';

export type {
  EncodedPicture,
  PictureFacts,
  PictureSource,
  Pixels,
  PreviewSize,
  Previews,
  Reencoding,
  Variant,
} from './tasks.ts';

/** Media types of pictures that can be read. SVG is not among them: a drawing may refer to other files, and hold programs. */
const readable = new Set(['image/jpeg', 'image/png', 'image/webp', 'image/gif', 'image/avif', 'image/heic']);

/** Seconds. Of a header, of a picture of 100 megapixels, and of one that is encoded at its full size. */
const LOOK = 10;
const RENDER = 30;
const ENCODE = 60;

export type PictureOptions = Pick<TaskOptions, 'signal' | 'callerId'>;

/** All operations throw ToolError when the picture cannot be read, and PoolBusy when too many tasks wait. */
export class Pictures {
  readonly #pool: Pick<ChildPool, 'run'>;

  constructor(pool: Pick<ChildPool, 'run'>) {
    this.#pool = pool;
  }

  /** Whether pictures of this media type can be read. */
  static canRead(mediaType: string): boolean {
    return readable.has(mediaType);
  }

  facts(source: PictureSource, options: PictureOptions = {}): Promise<PictureFacts> {
    return this.#run({ kind: 'facts', source }, { seconds: LOOK, ...options });
  }

  /** For whoever has somebody waiting: what it is, and the previews unless they would take long. */
  understand(
    source: PictureSource,
    sizes: readonly PreviewSize[],
    options: PictureOptions = {},
  ): Promise<UnderstoodPicture> {
    return this.#run({ kind: 'understand', source, sizes }, { seconds: LOOK, ...options });
  }

  /** Previews of all sizes from one decoding, upright, of the first frame, and the placeholder. */
  previews(source: PictureSource, sizes: readonly PreviewSize[], options: PictureOptions = {}): Promise<Previews> {
    return this.#run({ kind: 'previews', source, sizes }, { seconds: RENDER, ...options });
  }

  /** One picture as somebody asked for it, upright, of the first frame. */
  variant(source: PictureSource, variant: Variant, options: PictureOptions = {}): Promise<EncodedPicture> {
    return this.#run({ kind: 'variant', source, variant }, { seconds: RENDER, ...options });
  }

  /**
   * The whole picture, turned upright, without any metadata but its colour profile. What moves goes on moving.
   * @param outputDirectory where the file comes
   * @throws ToolError `refused` with the reason when the format cannot be written, or cannot hold what the picture has
   */
  async reencode(
    source: PictureSource,
    reencoding: Reencoding,
    outputDirectory: string,
    options: PictureOptions = {},
  ): Promise<Omit<ReencodedPicture, 'name'> & { path: string }> {
    const input: PictureTask = { kind: 'reencode', source, reencoding };
    const task = { ...taskOf(input), outputDirectory };
    const { name, ...picture } = await this.#pool.run<ReencodedPicture>(task, { seconds: ENCODE, ...options });
    return { ...picture, path: join(outputDirectory, name) };
  }

  #run<T>(input: PictureTask, options: TaskOptions): Promise<T> {
    return this.#pool.run<T>(taskOf(input), options);
  }
}

/** A process sees the file of its task and no other. */
function taskOf(input: PictureTask): Task {
  return { module: 'pictures', input, ...(typeof input.source === 'string' && { file: input.source }) };
}
