/** Links to what is stored, for one asset or for many: found and recorded by one statement, and the same for all who ask in a window. */
import type { FastifyRequest } from 'fastify';
import { actorOf, type Caller } from '../access/caller.ts';
import { accessOf } from '../access/conditions.ts';
import { linkLifeOf } from '../access/tiers.ts';
import type { AuditAction } from '../database/audit.ts';
import type { DownloadLinks, Link } from '../http/download-links.ts';
import { assetNotFound, Problem } from '../problems.ts';
import { archived, isAtHand } from './archived.ts';
import type { Asset } from './asset.ts';
import { contentDisposition } from './content-disposition.ts';
import type { DerivativeDocument } from './derivative-document.ts';
import { nameOfDerivative } from './derivative-names.ts';
import type { FoundDownload, WantedDownload } from './download-statement.ts';
import type { AssetsRepository } from './repository.ts';
import { inTrash } from './routes.ts';
import type { ServedDerivatives } from './served-derivative.ts';
import { dispositionOf, isSafeInline } from './serving.ts';

/** What a caller may say of a link. */
export interface LinkWishes {
  /** Seconds. */
  expiresIn?: number | undefined;
  disposition?: 'inline' | 'attachment' | undefined;
  /** Name of a derivative that is wanted instead of the file. */
  derivative?: string | undefined;
}

export interface IssuedLink extends Link {
  asset: Asset;
}

export interface LinkIssuerOptions {
  assets: AssetsRepository;
  derivatives: ServedDerivatives;
  links: DownloadLinks;
  /** Seconds that a link lives when the caller names none. */
  linkLife: number;
}

/** Derivatives that one request has made again, at most: each takes a statement and a job. */
const MAX_MADE_AGAIN = 10;

export class LinkIssuer {
  readonly #options: LinkIssuerOptions;

  constructor(options: LinkIssuerOptions) {
    this.#options = options;
  }

  /** @throws Problem not-found, wrong-state, derivative-pending, derivative-unavailable */
  async issue(request: IssuingRequest, id: string, wishes: LinkWishes): Promise<IssuedLink> {
    const found = await this.#options.assets.findWanted(this.#wanted(request, id, wishes));
    if (!found?.served) throw await this.#refusal(found, wishes);
    return this.#sign(request, found, wishes);
  }

  /** An outcome for each, in their order. */
  async issueMany(
    request: IssuingRequest,
    ids: readonly string[],
    wishes: LinkWishes,
  ): Promise<(IssuedLink | Problem)[]> {
    const wanted = ids.map((id) => this.#wanted(request, id, wishes));
    const found = await this.#options.assets.findAllWanted(wanted);
    const outcomes: (IssuedLink | Problem)[] = [];
    let madeAgain = 0;
    for (const each of found) {
      if (each?.served) outcomes.push(await this.#sign(request, each, wishes));
      else if (madeAgain < MAX_MADE_AGAIN) {
        const refusal = await this.#refusal(each, wishes);
        if (refusal.type === 'derivative-pending') madeAgain += 1;
        outcomes.push(refusal);
      } else outcomes.push(await this.#refusal(each, wishes, { makesAgain: false }));
    }
    return outcomes;
  }

  /** What a list tells of its assets beside their records: links to those that can be had, and what was made of them. */
  async describe(
    request: IssuingRequest,
    ids: readonly string[],
    { withLinks, withDerivatives }: { withLinks: boolean; withDerivatives: boolean },
  ): Promise<{ link?: IssuedLink; derivatives?: DerivativeDocument[] }[]> {
    const wanted = ids.map((id) => {
      const { action, ...rest } = this.#wanted(request, id, {});
      return { ...rest, withDerivatives, ...(withLinks && { action }) };
    });
    const found = await this.#options.assets.findAllWanted(wanted);
    return Promise.all(
      found.map(async (each) => ({
        ...(withLinks && each?.served && { link: await this.#sign(request, each, {}) }),
        ...(withDerivatives && {
          derivatives: each ? [...each.made, ...this.#options.derivatives.coming(each.asset, each.made)] : [],
        }),
      })),
    );
  }

  #wanted(request: IssuingRequest, id: string, wishes: LinkWishes): WantedDownload & { action: AuditAction } {
    const { caller } = request;
    const { disposition, derivative } = wishes;
    const detail = {
      expiresIn: this.#lifeOf(caller, wishes),
      ...(disposition !== undefined && { disposition }),
      ...(derivative !== undefined && { derivative }),
    };
    return {
      id,
      access: accessOf(caller),
      actor: actorOf(request),
      action: 'asset.link-issued',
      detail,
      counts: false,
      ...(derivative !== undefined && { derivative }),
    };
  }

  /** @throws Problem invalid-parameter, when it is more than the tier of the caller allows */
  #lifeOf(caller: Caller, { expiresIn }: LinkWishes): number {
    return linkLifeOf(caller, expiresIn, this.#options.linkLife);
  }

  async #refusal(
    found: FoundDownload | undefined,
    { derivative: name }: LinkWishes,
    { makesAgain = true } = {},
  ): Promise<Problem> {
    if (!found) return assetNotFound();
    const refusal = name === undefined ? notDownloadable(found.asset) : notServable(found.asset);
    if (refusal) return refusal;
    if (name === undefined) throw new Error(`the asset ${found.asset.id} is served and not served`);
    return this.#options.derivatives.whyNot(found.asset, name, found.derivative, { makesAgain });
  }

  async #sign(request: IssuingRequest, { asset, derivative }: FoundDownload, wishes: LinkWishes): Promise<IssuedLink> {
    const { objectKey, mediaType, name } = derivative ? ofDerivative(asset, derivative) : asset;
    const link = await this.#options.links.issue(request, objectKey, {
      expiresIn: this.#lifeOf(request.caller, wishes),
      contentType: mediaType,
      contentDisposition: dispositionFor({ name, mediaType }, wishes.disposition),
      cacheControl: asset.cacheControl,
    });
    return { ...link, asset };
  }
}

type IssuingRequest = FastifyRequest & { caller: Caller };

function ofDerivative(asset: Asset, { objectKey, mediaType, name }: NonNullable<FoundDownload['derivative']>) {
  if (mediaType === null) throw new Error(`a ready derivative of the asset ${asset.id} has no media type`);
  return { objectKey, mediaType, name: nameOfDerivative(asset, { name, mediaType }) };
}

/** Why the file itself cannot be downloaded; undefined when it can. */
function notDownloadable(asset: Asset): Problem | undefined {
  return notServable(asset) ?? (isAtHand(asset) ? undefined : archived(asset));
}

/** Why nothing of an asset is served; undefined when it is. What was made of an archived file is there. */
export function notServable(asset: Asset): Problem | undefined {
  if (asset.trashedAt) return inTrash();
  if (asset.state === 'ready') return undefined;
  return new Problem('wrong-state', { detail: `The asset is ${asset.state} and cannot be downloaded.` });
}

/** @throws Problem wrong-state unless the asset is ready and out of the trash */
export function servable(asset: Asset): Asset {
  const refusal = notServable(asset);
  if (refusal) throw refusal;
  return asset;
}

/** @throws Problem wrong-state, archived unless the file itself can be downloaded */
export function downloadable(asset: Asset): Asset {
  const refusal = notDownloadable(asset);
  if (refusal) throw refusal;
  return asset;
}

export function dispositionFor(
  asset: Pick<Asset, 'name' | 'mediaType'>,
  wanted: 'inline' | 'attachment' | undefined,
): string {
  const type =
    wanted === 'inline' && !isSafeInline(asset.mediaType) ? 'attachment' : (wanted ?? dispositionOf(asset.mediaType));
  return contentDisposition(type, asset.name);
}
