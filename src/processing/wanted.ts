/** Which derivatives an asset has by its policy, or by default. */
import type { Core } from '../core.ts';
import type { UploadPolicy } from '../validation/upload-policies.ts';
import type { WantedDerivative } from './maker.ts';
import { makerOf } from './makers.ts';
import { processingSettings } from './settings.ts';

/** @returns by name; empty when there are none */
export function wantedDerivatives(
  core: Pick<Core, 'settings'>,
  policy: UploadPolicy | undefined,
  mediaType: string,
): ReadonlyMap<string, WantedDerivative> {
  const { DERIVATIVES, THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT } = core.settings(processingSettings);
  const maker = makerOf(mediaType);
  if (!DERIVATIVES || !maker) return new Map();
  const usual = maker.defaults(mediaType);
  const named = policy?.derivatives ?? usual;
  return new Map(
    Object.entries(named).map(([name, { width, height, format }]) => [
      name,
      {
        width: width ?? usual[name]?.width ?? THUMBNAIL_WIDTH,
        height: height ?? usual[name]?.height ?? THUMBNAIL_HEIGHT,
        ...(format !== undefined && { format }),
      },
    ]),
  );
}
