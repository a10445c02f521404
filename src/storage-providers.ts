/**
 * What is known of S3 servers of which there is documentation: how their endpoints look, and where they are not like AWS. A
 * server that nobody can tell by its name (Ceph, SeaweedFS, Garage, MinIO) is taken to be like AWS; what it does can be tried
 * out: by `npm run doctor`, or by storage tests.
 *
 * Every entry names where it was read. What is not known stands here as nothing, and is not checked.
 */

/** S3 API, "Amazon S3 multipart upload limits". */
export const S3_MAX_PARTS = 10_000;

export interface StorageProvider {
  name: string;
  /** Host of the endpoint, without the bucket. `region` is what the host says of the region. */
  host: RegExp;
  /** The region of the endpoint, where it is not what the host says. */
  regionOf?: (region: string | undefined) => string | undefined;
  /** Other names of the region that the server takes. */
  regionAliases?: readonly string[];
  /** The region is no part of the signature, or any is taken. */
  anyRegion?: boolean;
  /** Parts of one object; 10,000 when absent. */
  maxParts?: number;
  /** All parts but the last must be of one size: those of this service are. */
  equalParts?: boolean;
  /** Storage classes of objects that can be read at once. */
  storageClasses?: readonly string[];
  /** Those that have to be restored before they are read. */
  archiveClasses?: readonly string[];
  /** `x-amz-server-side-encryption` is refused. */
  refusesEncryption?: boolean;
  /** Whether `If-None-Match` keeps an object from being overwritten; absent: not told. This service needs it nowhere. */
  conditionalWrites?: boolean;
  /** Plain HTTP is refused. */
  httpsOnly?: boolean;
  /** Prefixes and suffixes of bucket names that are kept for something else. */
  reservesNames?: boolean;
}

/** Whose endpoint in a setting is no endpoint at all. */
const aws: StorageProvider = {
  name: 'AWS S3',
  // https://docs.aws.amazon.com/general/latest/gr/s3.html
  host: /^s3(?:\.dualstack|-fips|-fips\.dualstack)?[.-](?<region>[a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?$/,
  // https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html, x-amz-storage-class
  storageClasses: ['STANDARD', 'REDUCED_REDUNDANCY', 'STANDARD_IA', 'ONEZONE_IA', 'INTELLIGENT_TIERING', 'GLACIER_IR'],
  archiveClasses: ['GLACIER', 'DEEP_ARCHIVE'],
  // https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
  conditionalWrites: true,
  reservesNames: true,
};

/** https://docs.wasabi.com/docs/service-urls-for-wasabis-storage-regions (6 March 2026) */
const wasabiRegions: Record<string, string> = {
  'nl-1': 'eu-central-1',
  'de-1': 'eu-central-2',
  'uk-1': 'eu-west-1',
  'uk-2': 'eu-west-3',
  'fr-1': 'eu-west-2',
  'it-1': 'eu-south-1',
};

const others: readonly StorageProvider[] = [
  {
    name: 'Cloudflare R2',
    // https://developers.cloudflare.com/r2/api/s3/api/: the account, and perhaps the jurisdiction, before the domain;
    // the region is `auto`, for which `us-east-1` stands as well; two classes; no header of server-side encryption
    host: /^[a-z0-9-]+(?:\.[a-z]+)?\.r2\.cloudflarestorage\.com$/,
    regionOf: () => 'auto',
    regionAliases: ['us-east-1'],
    storageClasses: ['STANDARD', 'STANDARD_IA'],
    refusesEncryption: true,
    // https://developers.cloudflare.com/r2/objects/upload-objects and the server itself: "All non-trailing parts must
    // have the same length."
    equalParts: true,
  },
  {
    name: 'Wasabi',
    // https://docs.wasabi.com/docs/service-urls-for-wasabis-storage-regions
    host: /^s3(?:\.(?<region>[a-z]{2}(?:-[a-z]+)*-\d))?\.wasabisys\.com$/,
    regionOf: (region = 'us-east-1') => wasabiRegions[region] ?? region,
    // https://docs.wasabi.com/docs/bucket-naming-conventions
    reservesNames: true,
  },
  {
    name: 'Backblaze B2',
    // https://www.backblaze.com/docs/cloud-storage-call-the-s3-compatible-api: "accept connections only over HTTPS"
    host: /^s3\.(?<region>[a-z]{2}-[a-z]+-\d{3})\.backblazeb2\.com$/,
    httpsOnly: true,
  },
  {
    name: 'DigitalOcean Spaces',
    // https://docs.digitalocean.com/products/spaces/reference/aws-sdks/: the endpoint says the region, and clients of AWS
    // are told to sign for us-east-1
    host: /^[a-z]{3}\d\.digitaloceanspaces\.com$/,
    anyRegion: true,
  },
  {
    name: 'Scaleway',
    // https://www.scaleway.com/en/docs/object-storage/api-cli/multipart-uploads/: "1 to 1000 parts per object"; classes by
    // rclone, backend/s3/provider/Scaleway.yaml
    host: /^s3\.(?<region>[a-z]{2}-[a-z]{3})\.scw\.cloud$/,
    maxParts: 1000,
    storageClasses: ['STANDARD', 'ONEZONE_IA'],
    archiveClasses: ['GLACIER'],
    // https://www.scaleway.com/en/docs/object-storage/api-cli/using-conditional-writes/ (3 July 2026)
    conditionalWrites: true,
  },
  {
    name: 'Google Cloud Storage',
    // https://cloud.google.com/storage/docs/multipart-uploads: "Preconditions are not supported in the requests";
    // classes by https://cloud.google.com/storage/docs/storage-classes
    host: /^storage\.googleapis\.com$/,
    anyRegion: true,
    storageClasses: ['STANDARD', 'NEARLINE', 'COLDLINE', 'ARCHIVE', 'MULTI_REGIONAL', 'REGIONAL'],
    conditionalWrites: false,
  },
  {
    name: 'Hetzner',
    // https://docs.hetzner.com/storage/object-storage/supported-actions/: of encryption "only this type: SSE-C"
    host: /^(?<region>[a-z]{3}\d)\.your-objectstorage\.com$/,
    refusesEncryption: true,
  },
  {
    name: 'OVHcloud',
    // rclone, backend/s3/provider/OVHcloud.yaml; classes of AWS are mapped to its own (docs of OVHcloud, s3_location)
    host: /^s3\.(?<region>[a-z]+(?:-[a-z]+)*)\.io\.cloud\.ovh\.(?:net|us)$/,
  },
];

/** The provider of an endpoint, and the region that the endpoint is of; undefined for one that is not known. */
export interface KnownEndpoint {
  provider: StorageProvider;
  region: string | undefined;
}

/** @param endpoint a URL; absent for AWS */
export function providerOf(endpoint: string | undefined): KnownEndpoint | undefined {
  if (endpoint === undefined) return { provider: aws, region: undefined };
  return knownHost(URL.parse(endpoint)?.hostname ?? '');
}

function knownHost(host: string): KnownEndpoint | undefined {
  for (const provider of [aws, ...others]) {
    const match = provider.host.exec(host);
    if (!match) continue;
    const named = match.groups?.['region'];
    return { provider, region: provider.regionOf ? provider.regionOf(named) : named };
  }
  return undefined;
}

/** Parts of one object at most. */
export function maxPartsOf(endpoint: string | undefined): number {
  return providerOf(endpoint)?.provider.maxParts ?? S3_MAX_PARTS;
}

/** Of settings in which nobody has named one. */
const DEFAULT_REGION = 'us-east-1';

/** The region of an endpoint, where settings name none, or what they say anyway. */
export function regionFor(endpoint: string | undefined, region: string): string {
  return region === DEFAULT_REGION ? (providerOf(endpoint)?.region ?? region) : region;
}

/** Where objects are to be kept, as settings say it. Only what is there is looked at. */
export interface StoragePlace {
  bucket: string;
  endpoint?: string | undefined;
  /** As it was written; absent where nobody has. */
  region?: string | undefined;
  storageClass?: string | undefined;
  /** Whether encryption at rest is asked for. */
  encrypts?: boolean;
  /** What is there may have to be restored before it is read. */
  isArchive?: boolean;
}

/** Names of the settings of a place, as they are called in faults: `S3_BUCKET`, or `mirror.bucket` of a file. */
export type PlaceNames = Record<Exclude<keyof StoragePlace, 'isArchive'>, string>;

export const placeNames = (prefix: string): PlaceNames => ({
  bucket: `${prefix}S3_BUCKET`,
  endpoint: `${prefix}S3_ENDPOINT`,
  region: `${prefix}S3_REGION`,
  storageClass: `${prefix}S3_STORAGE_CLASS`,
  encrypts: `${prefix}S3_SSE`,
});

/** What cannot work, each in a sentence that names the setting and the way out. */
export function placeFaults(place: StoragePlace, names: PlaceNames): string[] {
  const known = providerOf(place.endpoint);
  const faults = [...bucketFaults(place, names, known), ...endpointFaults(place, names, known)];
  if (!known) return faults;
  const { provider } = known;
  if (place.encrypts && provider.refusesEncryption)
    faults.push(`${names.encrypts} must be none: ${provider.name} does not take it, and says itself how it encrypts`);
  return [...faults, ...classFaults(place, names, provider)];
}

/**
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, general purpose buckets. What every server
 * that follows S3 asks for, and what AWS keeps for names of its own.
 */
const nameRules: [RegExp, string][] = [
  [/^.{0,2}$|^.{64}/, 'must have 3 to 63 characters'],
  [/[A-Z]/, 'must be in small letters'],
  [/_/, 'must not have an underscore: take a hyphen'],
  [/[^a-z0-9.-]/, 'must be made of a-z, 0-9, dot and hyphen; a path belongs into the key prefix'],
  [/^[.-]|[.-]$/, 'must begin and end with a letter or a digit'],
  [/\.\./, 'must not have two dots next to each other'],
  [/^\d{1,3}(\.\d{1,3}){3}$/, 'must not look like an IP address'],
];
const reservedNames: [RegExp, string][] = [
  [/^(xn--|sthree-|amzn-s3-demo-)/, 'must not begin with xn--, sthree- or amzn-s3-demo-, which are kept'],
  [/(-s3alias|--ol-s3|\.mrap|--table-s3)$/, 'is the alias of an access point or a table: name the bucket itself'],
  [/--x-s3$/, 'is a directory bucket (S3 Express), which has another API: take a general purpose bucket'],
];

function bucketFaults({ bucket }: StoragePlace, names: PlaceNames, known: KnownEndpoint | undefined): string[] {
  const rules = known?.provider.reservesNames ? [...nameRules, ...reservedNames] : nameRules;
  const broken = rules.find(([pattern]) => pattern.test(bucket));
  return broken ? [`${names.bucket} ${broken[1]}`] : [];
}

function endpointFaults(place: StoragePlace, names: PlaceNames, known: KnownEndpoint | undefined): string[] {
  const { bucket, endpoint, region: given } = place;
  const url = endpoint === undefined ? null : URL.parse(endpoint);
  if (!known) {
    const withoutBucket = url?.hostname.startsWith(`${bucket}.`) ? url.hostname.slice(bucket.length + 1) : undefined;
    if (withoutBucket === undefined || !knownHost(withoutBucket)) return [];
    return [`${names.endpoint} must not name the bucket: set ${names.endpoint}=https://${withoutBucket}`];
  }
  const { provider, region } = known;
  const faults: string[] = [];
  if (url?.protocol === 'http:' && provider.httpsOnly)
    faults.push(`${names.endpoint} must begin with https://: ${provider.name} refuses plain http`);
  if (url && url.pathname !== '/')
    faults.push(`${names.endpoint} must end after the host: ${provider.name} has nothing below a path`);
  const isRight = given === region || provider.regionAliases?.includes(given ?? '');
  if (given !== undefined && region !== undefined && !isRight && !provider.anyRegion)
    faults.push(
      `${names.region} must be ${region}, that of ${names.endpoint} at ${provider.name}: set it so, leave it out, or correct ${names.endpoint}`,
    );
  return faults;
}

function classFaults(place: StoragePlace, names: PlaceNames, provider: StorageProvider): string[] {
  const { storageClass, isArchive } = place;
  const { storageClasses, archiveClasses = [] } = provider;
  if (storageClass === undefined || !storageClasses) return [];
  const taken = isArchive ? [...storageClasses, ...archiveClasses] : storageClasses;
  if (taken.includes(storageClass)) return [];
  const allowed = taken.join(', ');
  if (archiveClasses.includes(storageClass))
    return [
      `${names.storageClass} must be one of ${allowed}: what is stored as ${storageClass} has to be restored before it is read`,
    ];
  return [`${names.storageClass} must be one of ${allowed}: ${provider.name} has no other`];
}
