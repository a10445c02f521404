/** An upload straight to the bucket: parts by signed links, several at a time, each as often as need be. */
import { UploadFailed } from './failure.ts';
import type { Asset, PartLink } from './generated/index.ts';
import { completeUpload, createUpload, getUpload, signUploadParts } from './generated/index.ts';
import type { Outcome, Tries } from './patience.ts';
import { type SendAnswer, send } from './transport.ts';
import type { UploadJob } from './upload.ts';

/** Links that are signed at once, when one is missing. */
const SIGNED_AT_ONCE = 50;
/** So often a fresh link may be refused, or the bucket be silent while the service answers, before it counts as final. */
const MAX_REFUSALS = 3;
/** Times that parts may turn out to be missing when they should all be there. */
const MAX_ROUNDS = 3;

/** The server has no direct uploads, or the bucket cannot be reached from here. */
export class DirectUploadImpossible extends Error {
  readonly failure: UploadFailed;

  constructor(failure: UploadFailed) {
    super(failure.message);
    this.failure = failure;
  }
}

/** @param hasAlternative whether to give up early where direct uploads do not work at all. @throws DirectUploadImpossible */
export async function uploadDirect(job: UploadJob, hasAlternative: boolean): Promise<Asset> {
  const links = new Map<number, PartLink>();
  const id = job.previous.uploadId ?? (await begin(job, links));
  for (let round = 1; ; round++) {
    const upload = await stateOf(job, id);
    if (upload.state === 'complete') return job.service.asset(id);
    const parts = new PartSender(job, id, upload, links, hasAlternative);
    await parts.sendMissing();
    try {
      return await complete(job, id);
    } catch (error) {
      const isIncomplete =
        error instanceof UploadFailed && error.problem?.type === 'urn:stowage:problem:upload-incomplete';
      if (!isIncomplete || round >= MAX_ROUNDS) throw error;
    }
  }
}

async function begin(job: UploadJob, links: Map<number, PartLink>): Promise<string> {
  const { service, source, fileName, type, projectId, assetType, metadata, sha256 } = job;
  await job.remember({});
  const session = await service
    .insist((signal) =>
      createUpload({
        client: service.client,
        headers: { ...service.headers, 'idempotency-key': job.previous.idempotencyKey },
        body: {
          fileName,
          size: source.size,
          contentType: type,
          ...(projectId !== undefined && { projectId }),
          ...(assetType !== undefined && { assetType }),
          ...(metadata && { metadata }),
          ...(sha256 !== undefined && { sha256 }),
        },
        signal,
      }),
    )
    .catch((error) => {
      const isMissing = error instanceof UploadFailed && (error.status === 404 || error.status === 405);
      throw isMissing ? new DirectUploadImpossible(error) : error;
    });
  for (const link of session.parts) links.set(link.partNumber, link);
  await job.remember({ uploadId: session.uploadId, expiresAt: session.expiresAt });
  return session.uploadId;
}

interface UploadState {
  state: string;
  partSize: number;
  partCount: number;
  /** Numbers of parts that have arrived. */
  arrived: Set<number>;
}

async function stateOf({ service, source }: UploadJob, id: string): Promise<UploadState> {
  const { client } = service;
  const found = await service.insist((signal) => getUpload({ client, headers: service.headers, path: { id }, signal }));
  const { state, partSize = source.size, partCount = 1, parts } = found;
  const isWhole = ({ partNumber, size }: { partNumber: number; size: number }) =>
    size === Math.min(partSize, source.size - (partNumber - 1) * partSize);
  return { state, partSize, partCount, arrived: new Set(parts.filter(isWhole).map(({ partNumber }) => partNumber)) };
}

function complete({ service }: UploadJob, id: string): Promise<Asset> {
  const { client } = service;
  return service.insist((signal) => completeUpload({ client, headers: service.headers, path: { id }, signal }));
}

class PartSender {
  readonly #job: UploadJob;
  readonly #id: string;
  readonly #upload: UploadState;
  readonly #links: Map<number, PartLink>;
  readonly #hasAlternative: boolean;
  /** Bytes that have arrived or are on their way, by part. */
  readonly #sent = new Map<number, number>();
  /** Parts that nobody has begun yet, in order. */
  readonly #waiting: number[];
  /** A part has arrived, so the bucket can be reached. */
  #isReachable: boolean;
  #signing: Promise<void> | undefined;

  constructor(job: UploadJob, id: string, upload: UploadState, links: Map<number, PartLink>, hasAlternative: boolean) {
    this.#job = job;
    this.#id = id;
    this.#upload = upload;
    this.#links = links;
    this.#hasAlternative = hasAlternative;
    this.#isReachable = upload.arrived.size > 0;
    const numbers = Array.from({ length: upload.partCount }, (_, index) => index + 1);
    this.#waiting = numbers.filter((number) => !upload.arrived.has(number));
    for (const number of upload.arrived) this.#sent.set(number, this.#sizeOf(number));
  }

  async sendMissing(): Promise<void> {
    this.#report();
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#job.signal, failed.signal]);
    const lane = async () => {
      for (let number = this.#waiting.shift(); number !== undefined; number = this.#waiting.shift())
        await this.#sendPart(number, signal);
    };
    try {
      await Promise.all(Array.from({ length: this.#job.parallel }, lane));
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  }

  /** A part may be sent again as often as need be; a link that has expired is made anew. */
  async #sendPart(number: number, signal: AbortSignal): Promise<void> {
    const { source, patience, stallTimeout } = this.#job;
    const begin = (number - 1) * this.#upload.partSize;
    const body = await source.read(begin, begin + this.#sizeOf(number));
    const tries = patience.begin(signal);
    for (let refusals = 0; ; ) {
      const link = await this.#link(number);
      signal.throwIfAborted();
      const onProgress = (sent: number) => {
        this.#sent.set(number, sent);
        this.#report();
      };
      const { url, headers } = link;
      const answer = await send({ method: 'PUT', url, headers, body, onProgress, stallTimeout, signal });
      signal.throwIfAborted();
      if (answer.status >= 200 && answer.status < 300) {
        this.#isReachable = true;
        patience.succeeded();
        return onProgress(body.size);
      }
      this.#links.delete(number);
      refusals = await this.#refused(number, answer, refusals, tries);
    }
  }

  /** Pauses, where another try makes sense. @returns how often this part was refused by now */
  async #refused(number: number, answer: SendAnswer, before: number, tries: Tries): Promise<number> {
    const { status } = answer;
    const isRefusal = status >= 400 && status < 500 && status !== 408 && status !== 429;
    // Whether it is the way to the bucket alone that is closed is known when the service answers.
    const isBlocked = status === 0 && !this.#isReachable && this.#hasAlternative;
    if (isBlocked) await stateOf(this.#job, this.#id);
    const refusals = isRefusal || isBlocked ? before + 1 : before;
    if (refusals >= MAX_REFUSALS) throw this.#final(number, answer);
    const outcome: Exclude<Outcome<never>, { ok: never }> = {
      status,
      retryAfter: answer.header('retry-after'),
      mayPass: true,
    };
    await tries.failed(outcome);
    return refusals;
  }

  #final(number: number, { status, text }: SendAnswer): Error {
    const code = /<Code>(\w+)<\/Code>/.exec(text)?.[1];
    const why = status === 0 ? 'no answer' : `${status}${code ? ` ${code}` : ''}`;
    const failure = new UploadFailed(status, undefined, { message: `part ${number} could not be sent: ${why}` });
    return this.#isReachable ? failure : new DirectUploadImpossible(failure);
  }

  async #link(number: number): Promise<PartLink> {
    for (;;) {
      const link = this.#links.get(number);
      if (link) return link;
      // One request for all lanes: whoever finds his link missing afterwards asks again.
      this.#signing ??= this.#sign(number).finally(() => {
        this.#signing = undefined;
      });
      await this.#signing;
    }
  }

  async #sign(number: number): Promise<void> {
    const { service, remember } = this.#job;
    const { client } = service;
    const next = this.#waiting.filter((each) => !this.#links.has(each)).slice(0, SIGNED_AT_ONCE - 1);
    const { parts, expiresAt } = await service.insist((signal) =>
      signUploadParts({
        client,
        headers: service.headers,
        path: { id: this.#id },
        body: { partNumbers: [number, ...next] },
        signal,
      }),
    );
    for (const link of parts) this.#links.set(link.partNumber, link);
    if (!this.#links.has(number)) throw new UploadFailed(0, undefined, { message: 'the service signed nothing' });
    await remember({ expiresAt });
  }

  #sizeOf(number: number): number {
    const { partSize } = this.#upload;
    return Math.min(partSize, this.#job.source.size - (number - 1) * partSize);
  }

  #report(): void {
    let sum = 0;
    for (const sent of this.#sent.values()) sum += sent;
    this.#job.report(sum);
  }
}
