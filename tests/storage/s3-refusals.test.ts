/** What doctor says of an S3 server that cannot be used: in front of the real one, and as AWS answers what no other does. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { features } from '../../src/app.ts';
import { loadConfig } from '../../src/config.ts';
import { explainStore } from '../../src/doctor/s3-checks.ts';
import { settingsOf } from '../../src/feature.ts';
import { s3Options } from '../../src/storage/open.ts';
import { setUpBucket } from '../../src/storage/s3/bucket.ts';
import { createTestBucket, requireS3Settings, s3Skip, type TestBucket } from '../support/s3.ts';

const servers: Server[] = [];
async function listening(server: Server): Promise<string> {
  servers.push(server.listen(0, '127.0.0.1'));
  await once(server, 'listening');
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}
after(() => {
  for (const server of servers) server.close();
});

const configOf = (environment: Record<string, string>) =>
  loadConfig(
    {
      S3_BUCKET: 'files',
      S3_REGION: 'us-east-1',
      S3_ACCESS_KEY_ID: 'KEY',
      S3_SECRET_ACCESS_KEY: 'secret',
      S3_FORCE_PATH_STYLE: 'true',
      ...environment,
    },
    settingsOf(features),
  );
const explain = (environment: Record<string, string>) => explainStore(configOf(environment));

describe('of the real server', { skip: s3Skip() }, () => {
  let bucket: TestBucket;
  let real: Record<string, string>;
  /** Speaks TLS, and passes on what is said to the server. */
  let front: string;
  before(async () => {
    bucket = await createTestBucket();
    const { endpoint, accessKeyId, secretAccessKey } = requireS3Settings();
    real = {
      S3_BUCKET: bucket.bucket,
      S3_ENDPOINT: endpoint,
      S3_ACCESS_KEY_ID: accessKeyId,
      S3_SECRET_ACCESS_KEY: secretAccessKey,
    };
    const { hostname, port } = new URL(endpoint);
    const server = createTlsServer(selfSigned(), (socket) => {
      const onwards = connect(Number(port), hostname);
      socket.on('error', () => onwards.destroy());
      onwards.on('error', () => socket.destroy());
      socket.pipe(onwards).pipe(socket);
    });
    front = await listening(server);
  });
  after(() => bucket?.drop());

  test('nothing, when it can be used', async () => assert.equal(await explain(real), undefined));

  test('that S3_ENDPOINT says https where http is spoken, and the other way round', async () => {
    const https =
      (await explain({ ...real, S3_ENDPOINT: real['S3_ENDPOINT']?.replace('http:', 'https:') ?? '' })) ?? '';
    assert.match(https, /S3_ENDPOINT says https, but the server speaks http there: correct S3_ENDPOINT$/);
    const http = (await explain({ ...real, S3_ENDPOINT: `http://${front}` })) ?? '';
    assert.match(http, /S3_ENDPOINT says http, but the server speaks https there: correct S3_ENDPOINT$/);
  });

  test('that nobody trusts its certificate', async () => {
    const said = (await explain({ ...real, S3_ENDPOINT: `https://${front}` })) ?? '';
    assert.match(said, /The certificate of https:\S+ is not trusted: name its authority by NODE_EXTRA_CA_CERTS$/);
  });

  test('that it has no such region, when the bucket is to be made there', async () => {
    const config = configOf({ ...real, S3_BUCKET: `${bucket.bucket}-x`, S3_REGION: 'eu-nowhere-9' });
    const steps = await setUpBucket(s3Options(config), { keyPrefix: '', corsOrigins: [], versioning: false });
    assert.deepEqual(
      steps.map(({ outcome }) => outcome),
      ['failed'],
    );
    assert.match(steps[0]?.detail ?? '', /LocationConstraint.*: correct S3_REGION$/);
  });
});

describe('of AWS', () => {
  /** As documented (S3 API, Error responses); our own server takes every region. */
  const answers: Record<string, { status: number; region?: string; body: string }> = {
    signed: {
      status: 400,
      body: `<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'</Message><Region>eu-central-1</Region></Error>`,
    },
    moved: {
      status: 301,
      region: 'eu-central-1',
      body: '<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to access must be addressed using the specified endpoint.</Message></Error>',
    },
    moving: {
      status: 307,
      body: '<Error><Code>TemporaryRedirect</Code><Message>Please re-send this request to the specified temporary endpoint.</Message></Error>',
    },
    silent: { status: 301, body: '' },
    page: { status: 400, body: '<html><head><title>400</title></head><body><hr></body></html>' },
  };
  let endpoint: string;
  before(async () => {
    const server = createHttpServer((request, response) => {
      const { status = 404, region, body = '' } = answers[request.url?.split(/[/?]/)[1] ?? ''] ?? {};
      response.writeHead(status, {
        'content-type': 'application/xml',
        ...(region !== undefined && { 'x-amz-bucket-region': region }),
      });
      response.end(body);
    });
    endpoint = `http://${await listening(server)}`;
  });

  for (const [name, says] of [
    ['signed', /expecting 'eu-central-1'\. The bucket is in the region eu-central-1: set S3_REGION=eu-central-1$/],
    ['moved', /^PermanentRedirect: .*endpoint\. The bucket is in the region eu-central-1: set S3_REGION=eu-central-1$/],
    ['moving', /^TemporaryRedirect: .*The bucket is in another region: correct S3_REGION$/],
    ['silent', /The bucket is in another region: correct S3_REGION$/],
    ['page', /^The server answers 400, and no XML\. Compare S3_ENDPOINT, S3_REGION and S3_BUCKET/],
  ] as const)
    test(`what is wrong with the region or the endpoint: ${name}`, async () =>
      assert.match((await explain({ S3_ENDPOINT: endpoint, S3_BUCKET: name })) ?? '', says));
});

function selfSigned(): { key: string; cert: string } {
  const directory = mkdtempSync(join(tmpdir(), 'stowage-tls-'));
  const [key, cert] = [join(directory, 'key'), join(directory, 'cert')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const made = spawnSync('openssl', ['req', '-x509', ...curve, '-nodes', '-keyout', key, '-out', cert, ...subject]);
  assert.equal(made.status, 0, `openssl: ${made.error?.message ?? made.stderr}`);
  const pair = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
  rmSync(directory, { recursive: true });
  return pair;
}
