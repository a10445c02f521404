/** What there is: the features of the application, in the order in which they are put together. */
import { administration } from './administration/index.ts';
import { archives } from './archives/index.ts';
import { assets } from './assets/index.ts';
import { audit } from './audit/index.ts';
import { backups } from './backups/index.ts';
import type { Core } from './core.ts';
import { erasures } from './erasures/index.ts';
import { exports } from './exports/index.ts';
import type { Feature } from './feature.ts';
import { holds } from './holds/index.ts';
import { idempotency } from './idempotency/index.ts';
import { keys } from './keys/index.ts';
import { mirrors } from './mirrors/index.ts';
import { owners } from './owners/index.ts';
import { pages } from './pages/index.ts';
import { policies } from './policies/index.ts';
import { processing } from './processing/index.ts';
import { projects } from './projects/index.ts';
import { publishing } from './publishing/index.ts';
import { qr } from './qr/index.ts';
import { quotas } from './quotas/index.ts';
import { reconciliation } from './reconciliation/index.ts';
import { rescans } from './rescans/index.ts';
import { retention } from './retention/index.ts';
import { scanning } from './scanning/index.ts';
import { buildServer, type Service, type ServiceResources } from './server.ts';
import { shares } from './shares/index.ts';
import { storageTests } from './storage-tests/index.ts';
import { tickets } from './tickets/index.ts';
import { transcodes } from './transcodes/index.ts';
import { trash } from './trash/index.ts';
import { uploads } from './uploads/index.ts';
import { usage } from './usage/index.ts';
import { variants } from './variants/index.ts';
import { versions } from './versions/index.ts';

export const features: readonly Feature<Core>[] = [
  uploads,
  scanning,
  rescans,
  policies,
  assets,
  trash,
  holds,
  retention,
  erasures,
  exports,
  archives,
  projects,
  keys,
  tickets,
  shares,
  processing,
  variants,
  versions,
  publishing,
  transcodes,
  quotas,
  owners,
  usage,
  administration,
  storageTests,
  mirrors,
  reconciliation,
  backups,
  qr,
  pages,
  idempotency,
  audit,
];

/** The service of all features, or of those that are named. Nothing is connected to or listened to by it. */
export function buildApp(resources: ServiceResources, which = features): Promise<Service> {
  return buildServer(resources, which);
}
