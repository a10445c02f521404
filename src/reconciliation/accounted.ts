/** Which objects and open uploads of the store have a record: that of an asset, of a version, of an upload, or of a derivative. */
import { and, eq, notExists, or, type SQLWrapper } from 'drizzle-orm';
import { build, compile, isAnyOf, type Parameter } from '../database/statements.ts';
import { assets, inState } from '../database/tables/assets.ts';
import { derivatives } from '../database/tables/derivatives.ts';
import { reconcileObjects as objects } from '../database/tables/reconciliation.ts';
import { assetVersions, replacements } from '../database/tables/versions.ts';

/** Each is run once or a few times a day: planned for its values. */
const seldom = { named: false };

/** An upload that is to take the place of the bytes of the asset under whose id an object lies. */
const isReplacing = (assetId: SQLWrapper) =>
  and(eq(replacements.assetId, assetId), eq(replacements.uploadId, assets.id));
/**
 * No asset has it as its own, now or as a version, nor an upload that replaces, and no derivative of those: an asset that is
 * there does not speak for whatever lies beside its object.
 */
export const hasNoRecord = and(
  notExists(
    build
      .select({ id: assetVersions.assetId })
      .from(assetVersions)
      .where(and(eq(assetVersions.assetId, objects.assetId), eq(assetVersions.objectKey, objects.key))),
  ),
  notExists(
    build
      .select({ id: assets.id })
      .from(replacements)
      .innerJoin(assets, isReplacing(objects.assetId))
      .leftJoin(derivatives, eq(derivatives.assetId, assets.id))
      .where(or(eq(assets.objectKey, objects.key), eq(derivatives.objectKey, objects.key))),
  ),
  notExists(
    build
      .select({ id: assets.id })
      .from(assets)
      .where(and(eq(assets.id, objects.assetId), eq(assets.objectKey, objects.key))),
  ),
  notExists(
    build
      .select({ id: derivatives.id })
      .from(derivatives)
      .where(and(eq(derivatives.assetId, objects.assetId), eq(derivatives.objectKey, objects.key))),
  ),
);

export const keyHasRecord = compile(
  'find-record-of-key',
  (p: Parameter<'assetId' | 'key'>) => {
    const original = build
      .select({ key: assets.objectKey })
      .from(assets)
      .where(and(eq(assets.id, p('assetId')), eq(assets.objectKey, p('key'))));
    const derived = build
      .select({ key: derivatives.objectKey })
      .from(derivatives)
      .where(and(eq(derivatives.assetId, p('assetId')), eq(derivatives.objectKey, p('key'))));
    const version = build
      .select({ key: assetVersions.objectKey })
      .from(assetVersions)
      .where(and(eq(assetVersions.assetId, p('assetId')), eq(assetVersions.objectKey, p('key'))));
    const replacing = build
      .select({ key: assets.objectKey })
      .from(replacements)
      .innerJoin(assets, eq(replacements.uploadId, assets.id))
      .leftJoin(derivatives, eq(derivatives.assetId, assets.id))
      .where(
        and(
          eq(replacements.assetId, p('assetId')),
          or(eq(assets.objectKey, p('key')), eq(derivatives.objectKey, p('key'))),
        ),
      );
    return original.unionAll(derived).unionAll(version).unionAll(replacing);
  },
  seldom,
);
export const uploading = compile(
  'find-uploads-by-id',
  (p: Parameter<'ids'>) => {
    const replacing = build
      .select({ id: replacements.assetId })
      .from(replacements)
      .innerJoin(assets, eq(assets.id, replacements.uploadId))
      .where(and(isAnyOf(replacements.assetId, p('ids')), inState('uploading')));
    return build
      .select({ id: assets.id })
      .from(assets)
      .where(and(isAnyOf(assets.id, p('ids')), inState('uploading')))
      .unionAll(replacing);
  },
  seldom,
);
