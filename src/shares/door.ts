/**
 * The one way of strangers to a share: whoever has its token, and its password where it has one, gets in. Whatever shows or
 * sends something of a share asks here first.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Core } from '../core.ts';
import { serviceUrls } from '../http/public-url.ts';
import { Problem } from '../problems.ts';
import { type Download, ShareDownloads } from './downloads.ts';
import { ShareKeys } from './keys.ts';
import { KnownShares } from './known-shares.ts';
import { isPass, signPass } from './pass.ts';
import { MAX_PASSWORD, Passwords } from './passwords.ts';
import { sharePasswordNeeded, unknownShare } from './problems.ts';
import { type FoundShare, type SharedRow, ShareReach } from './reach.ts';
import { shareSettings } from './settings.ts';
import { pathOf } from './token.ts';
import { ShareTries } from './tries.ts';
import { addressOf, cookieOf, PASS_COOKIE, visitorOf } from './visitor.ts';

/** Asked for where there is no share, so that an answer takes as long as where there is one. */
const NO_ID = '00000000-0000-0000-0000-000000000000';

/** A share that somebody may look at. */
export interface EnteredShare {
  token: string;
  share: FoundShare;
}

/** What somebody may have the bytes of. */
export interface EnteredDownload extends EnteredShare {
  download: Download;
}
/** One asset of it. */
export interface EnteredAsset extends EnteredDownload {
  row: SharedRow;
}

interface Locked extends FoundShare {
  password: Buffer;
}
const isLocked = (share: FoundShare): share is Locked => share.password !== null;

export class ShareDoor {
  readonly reach: ShareReach;
  readonly downloads: ShareDownloads;
  readonly passwords = new Passwords();
  readonly keys: ShareKeys;
  readonly #known: KnownShares;
  readonly #tries: ShareTries;
  readonly #toUrl: ReturnType<typeof serviceUrls>;
  /** Passwords that are looked at: many requests with the same one make one try. */
  readonly #looking = new Map<string, Promise<boolean>>();

  constructor(core: Core) {
    const { database } = core.database;
    this.reach = new ShareReach(database);
    this.downloads = new ShareDownloads(core.database);
    this.keys = new ShareKeys(database);
    this.#known = new KnownShares(this.reach);
    this.#tries = new ShareTries(database, core.settings(shareSettings).SHARE_PASSWORD_TRIES);
    this.#toUrl = serviceUrls(core.config);
  }

  /** @returns undefined where nothing is told of a share; used up is as good as gone */
  async find(token: string): Promise<FoundShare | undefined> {
    const share = await this.#known.find(token);
    return share?.isUsedUp ? undefined : share;
  }

  /** To look at it. @throws Problem not-found, share-password-needed, too-many-requests, overloaded */
  async enter(request: FastifyRequest, token: string): Promise<EnteredShare> {
    const share = await this.find(token);
    if (!share) throw unknownShare();
    await this.requireUnlocked(request, token, share);
    return { token, share };
  }

  /**
   * To get bytes of an asset: also of a share that is used up meanwhile, for whoever has begun.
   * @param assetId absent: of the only asset of the share
   * @throws Problem as `enter`
   */
  async enterAsset(request: FastifyRequest, token: string, assetId?: string): Promise<EnteredAsset> {
    const { share, download } = await this.#enterDownload(request, token, assetId);
    const row = await this.#assetOf(share, assetId);
    if (!row) throw unknownShare();
    return { token, share, row, download: { ...download, assetId: row.asset.id } };
  }

  /** The same for all of its assets in one. */
  enterArchive(request: FastifyRequest, token: string): Promise<EnteredDownload> {
    return this.#enterDownload(request, token, undefined);
  }

  async #enterDownload(request: FastifyRequest, token: string, assetId: string | undefined): Promise<EnteredDownload> {
    const share = await this.#known.find(token);
    const download = downloadOf(request, token, share, assetId);
    // Asked of the unknown as well: nobody can tell by the time of an answer which share is used up.
    const mayBegin = share !== undefined && !share.isUsedUp;
    if (!mayBegin && !(await this.downloads.hasBegun(download))) throw unknownShare();
    if (!share) throw unknownShare();
    await this.requireUnlocked(request, token, share);
    return { token, share, download };
  }

  async #assetOf(share: FoundShare, assetId: string | undefined): Promise<SharedRow | undefined> {
    if (assetId !== undefined) return this.reach.asset(share, assetId);
    return share.target === 'asset' ? this.reach.onlyAsset(share) : undefined;
  }

  /**
   * Before bytes of it are sent.
   * @returns whether it is one more download
   * @throws Problem not-found when there may be no more
   */
  async begin({ token, share, download }: EnteredDownload, isRange: boolean): Promise<boolean> {
    const isLimited = share.maxDownloads !== null;
    const began = await this.downloads.begin(download, isLimited, isRange);
    if (began !== 'refused') return began === 'begun';
    this.#known.forget(token);
    const now = await this.#known.find(token);
    // It was given a limit, or lost it, within the last moment.
    const isOther = now !== undefined && (now.maxDownloads !== null) !== isLimited;
    const second = isOther ? await this.downloads.begin(download, !isLimited, isRange) : 'refused';
    if (second === 'refused') throw unknownShare();
    return second === 'begun';
  }

  /** @throws Problem share-password-needed, too-many-requests, overloaded */
  async requireUnlocked(request: FastifyRequest, token: string, share: FoundShare): Promise<void> {
    if (!isLocked(share) || (await this.#hasPass(request, share))) return;
    const password = basicPassword(request);
    if (password === undefined) throw passwordNeeded('Send it to the address of the share, with /unlock at its end.');
    if (!(await this.#isRight(request, token, share, password))) throw passwordNeeded('This one is wrong.');
  }

  /** @throws Problem not-found, share-password-needed, too-many-requests, overloaded */
  async unlock(
    request: FastifyRequest,
    reply: FastifyReply,
    token: string,
    password: string,
  ): Promise<{ endsAt: Date } | undefined> {
    const share = await this.find(token);
    if (!share) throw unknownShare();
    if (!isLocked(share)) return undefined;
    if (!(await this.#isRight(request, token, share, password))) throw passwordNeeded('This one is wrong.');
    const key = await this.keys.since(share.keySince);
    if (!key) throw new Error(`the key of the share ${share.id} is gone`);
    const now = Math.floor(Date.now() / 1000);
    const { pass, endsAt } = signPass(key, share, now);
    reply.header('set-cookie', this.cookie(request, token, PASS_COOKIE, pass, endsAt - now));
    return { endsAt: new Date(endsAt * 1000) };
  }

  /** For this share only (RFC 6265 section 4.1.2); no script reads it. @param life seconds */
  cookie(request: FastifyRequest, token: string, name: string, value: string, life: number): string {
    const { pathname, protocol } = new URL(this.#toUrl(request, pathOf(token)));
    const secure = protocol === 'https:' ? '; Secure' : '';
    return `${name}=${value}; Path=${pathname}; Max-Age=${life}; HttpOnly; SameSite=Lax${secure}`;
  }

  async #hasPass(request: FastifyRequest, share: Locked): Promise<boolean> {
    const pass = cookieOf(request, PASS_COOKIE);
    const key = pass === undefined ? undefined : await this.keys.since(share.keySince);
    return key !== undefined && isPass(key, share, pass ?? '', Math.floor(Date.now() / 1000));
  }

  #isRight(request: FastifyRequest, token: string, share: Locked, password: string): Promise<boolean> {
    if (this.passwords.recall(share.password, password)) return Promise.resolve(true);
    const client = addressOf(request, token);
    const name = [share.id, client.toString('base64'), password].join('\n');
    const looking = this.#looking.get(name) ?? this.#look(request, share, client, password);
    this.#looking.set(name, looking);
    const forget = () => this.#looking.delete(name);
    looking.then(forget, forget);
    return looking;
  }

  async #look(request: FastifyRequest, share: Locked, client: Buffer, password: string): Promise<boolean> {
    const seconds = await this.#tries.take(share.id, client);
    if (seconds !== undefined)
      throw new Problem('too-many-requests', {
        detail: 'Too many passwords were tried. Try again later.',
        retryAfter: seconds,
      });
    // Others may wait for the same; whoever asked first may have gone.
    const { signal } = new AbortController();
    const isRight = await this.passwords.matches(share.password, password, `address ${request.ip}`, signal);
    if (isRight) await this.#tries.giveBack(share.id, client);
    return isRight;
  }
}

/** What a download is of, as far as that is known before the asset is looked for. */
function downloadOf(
  request: FastifyRequest,
  token: string,
  share: FoundShare | undefined,
  assetId: string | undefined,
): Download {
  const shareId = share?.id ?? NO_ID;
  // By both of its addresses a single asset is the same download.
  const what = share?.target === 'asset' || assetId === undefined ? shareId : assetId;
  return { shareId, what, assetId: null, client: visitorOf(request, token) };
}

function passwordNeeded(what: string): Problem {
  return new Problem(sharePasswordNeeded, {
    detail: `The share has a password. ${what}`,
    // RFC 7617 section 2.1; the name before the colon does not matter.
    headers: { 'www-authenticate': 'Basic realm="share", charset="UTF-8"' },
  });
}

/** RFC 7617. @returns undefined where there is none, or none that could be right */
function basicPassword({ headers }: FastifyRequest): string | undefined {
  const credentials = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(headers.authorization ?? '')?.[1];
  if (credentials === undefined) return undefined;
  const text = Buffer.from(credentials, 'base64').toString();
  const colon = text.indexOf(':');
  const password = text.slice(colon + 1);
  return colon < 0 || password === '' || Buffer.byteLength(password) > MAX_PASSWORD ? undefined : password;
}

const doors = new WeakMap<object, ShareDoor>();

/** One of a service: what it remembers is what all its routes know. */
export function doorOf(core: Core): ShareDoor {
  const known = doors.get(core) ?? new ShareDoor(core);
  doors.set(core, known);
  return known;
}
