/** What S3 servers refuse, in sentences that name the setting to correct. */
import type { Config } from '../config.ts';
import type { S3Refusal } from '../storage/s3/probes.ts';

const unreachable = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'TimeoutError',
  'ECONNRESET',
  'EPIPE',
]);

const byCode: Record<string, string> = {
  NoSuchBucket: 'the bucket does not exist: run npm run setup-bucket, or correct S3_BUCKET',
  InvalidAccessKeyId: 'the server does not know the access key: correct S3_ACCESS_KEY_ID',
  SignatureDoesNotMatch: 'the secret is not that of the access key: correct S3_SECRET_ACCESS_KEY',
  AccessDenied:
    'the credentials are accepted but may not use this bucket: compare with the policy that npm run setup-bucket prints, or correct S3_BUCKET',
  RequestTimeTooSkewed: 'the clocks are too far apart: set that of this machine by NTP',
  ExpiredToken: 'the temporary credentials have expired: renew them',
  CredentialsProviderError:
    'there are no credentials: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or give the machine a role',
};

/** Of the server of another region. */
const elsewhere = new Set([
  'PermanentRedirect',
  'TemporaryRedirect',
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
]);

/** @returns a sentence with the words of the server, and what to do */
export function explainRefusal(config: Config, refusal: S3Refusal): string {
  const { code, status } = refusal;
  const endpoint = config.S3_ENDPOINT ?? 'AWS S3';
  const told = toldBy(refusal);
  if (refusal.speaksHttps)
    return `${told}. S3_ENDPOINT says http, but the server speaks https there: correct S3_ENDPOINT`;
  if (elsewhere.has(code) || status === 301 || status === 307) return `${told}. ${regionAdvice(refusal)}`;
  const advice = byCode[code];
  if (advice !== undefined) return `${told}. ${advice[0]?.toUpperCase()}${advice.slice(1)}`;
  if (/^(EPROTO|ERR_SSL)/.test(code))
    return `${code}. S3_ENDPOINT says https, but the server speaks http there: correct S3_ENDPOINT`;
  if (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code))
    return `${told}. The certificate of ${endpoint} is not trusted: name its authority by NODE_EXTRA_CA_CERTS`;
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return `${told}. ${hostAdvice(config)}`;
  if (unreachable.has(code)) return `${told}. Nobody answers at ${endpoint}: correct S3_ENDPOINT, or start the server`;
  if (status === 404) return `${told}. ${hostAdvice(config)}`;
  return `${told}. Compare S3_ENDPOINT, S3_REGION and S3_BUCKET with those of the server`;
}

/** The words of the server. What the SDK says of an answer that it cannot read helps nobody. */
function toldBy({ code, message, status }: S3Refusal): string {
  if (/XML parse error|Deserialization error/.test(message)) return `The server answers ${status}, and no XML`;
  const words = message.replaceAll(/\s+/g, ' ').trim().replace(/\.$/, '');
  return words === '' || words === 'UnknownError' ? code : `${code}: ${words}`;
}

function regionAdvice({ region }: S3Refusal): string {
  if (region === undefined) return 'The bucket is in another region: correct S3_REGION';
  return `The bucket is in the region ${region}: set S3_REGION=${region}`;
}

function hostAdvice({ S3_FORCE_PATH_STYLE, S3_ENDPOINT }: Config): string {
  if (S3_FORCE_PATH_STYLE) return 'There is no such host or path: correct S3_ENDPOINT';
  if (S3_ENDPOINT === undefined) return 'There is no such host: correct S3_REGION or S3_BUCKET';
  return 'The name of the bucket is put before that of the host: set S3_FORCE_PATH_STYLE=true, or correct S3_ENDPOINT';
}
