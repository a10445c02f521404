/** The JSON of a glTF (glTF 2.0 specification, section 5), as far as facts and pictures need it. */
import { z } from 'zod';
import { damaged } from './refusal.ts';

const index = z.number().int().min(0);
const bytes = z.number().int().min(0);
const count = z.number().int().min(0).max(0xffff_ffff);
const vector = (length: number) => z.array(z.number()).length(length);

const textureRef = z.object({
  index,
  texCoord: index.optional(),
  strength: z.number().optional(),
  extensions: z
    .object({
      KHR_texture_transform: z
        .object({
          offset: vector(2).optional(),
          rotation: z.number().optional(),
          scale: vector(2).optional(),
          texCoord: index.optional(),
        })
        .optional(),
    })
    .optional(),
});

const sparse = z.object({
  count,
  indices: z.object({ bufferView: index, byteOffset: bytes.optional(), componentType: z.number() }),
  values: z.object({ bufferView: index, byteOffset: bytes.optional() }),
});

const accessor = z.object({
  bufferView: index.optional(),
  byteOffset: bytes.optional(),
  componentType: z.number(),
  normalized: z.boolean().optional(),
  count,
  type: z.string(),
  min: z.array(z.number()).max(16).optional(),
  max: z.array(z.number()).max(16).optional(),
  sparse: sparse.optional(),
});

const bufferView = z.object({
  buffer: index,
  byteOffset: bytes.optional(),
  byteLength: bytes,
  byteStride: z.number().int().min(4).max(252).optional(),
  extensions: z
    .object({ EXT_meshopt_compression: z.unknown(), KHR_meshopt_compression: z.unknown() })
    .partial()
    .optional(),
});

const primitive = z.object({
  attributes: z.record(z.string(), index),
  indices: index.optional(),
  material: index.optional(),
  mode: z.number().int().min(0).max(6).optional(),
  extensions: z.object({ KHR_draco_mesh_compression: z.unknown() }).partial().optional(),
});

const node = z.object({
  mesh: index.optional(),
  skin: index.optional(),
  children: z.array(index).optional(),
  matrix: vector(16).optional(),
  translation: vector(3).optional(),
  rotation: vector(4).optional(),
  scale: vector(3).optional(),
});

const material = z.object({
  pbrMetallicRoughness: z
    .object({
      baseColorFactor: vector(4).optional(),
      baseColorTexture: textureRef.optional(),
      metallicFactor: z.number().optional(),
      roughnessFactor: z.number().optional(),
      metallicRoughnessTexture: textureRef.optional(),
    })
    .optional(),
  occlusionTexture: textureRef.optional(),
  emissiveFactor: vector(3).optional(),
  emissiveTexture: textureRef.optional(),
  alphaMode: z.string().optional(),
  alphaCutoff: z.number().optional(),
  extensions: z
    .object({
      KHR_materials_unlit: z.unknown().optional(),
      KHR_materials_emissive_strength: z.object({ emissiveStrength: z.number().optional() }).optional(),
      KHR_materials_transmission: z.object({ transmissionFactor: z.number().optional() }).optional(),
      KHR_materials_pbrSpecularGlossiness: z
        .object({
          diffuseFactor: vector(4).optional(),
          diffuseTexture: textureRef.optional(),
          glossinessFactor: z.number().optional(),
        })
        .optional(),
    })
    .optional(),
});

const imageRef = z.object({ source: index.optional() }).optional();
const texture = z.object({
  sampler: index.optional(),
  source: index.optional(),
  extensions: z
    .object({ EXT_texture_webp: imageRef, EXT_texture_avif: imageRef, KHR_texture_basisu: imageRef })
    .optional(),
});

const gltf = z.object({
  scene: index.optional(),
  scenes: z.array(z.object({ nodes: z.array(index).optional() })).optional(),
  nodes: z.array(node).optional(),
  meshes: z.array(z.object({ primitives: z.array(primitive) })).optional(),
  accessors: z.array(accessor).optional(),
  bufferViews: z.array(bufferView).optional(),
  buffers: z.array(z.object({ uri: z.string().optional() })).optional(),
  materials: z.array(material).optional(),
  textures: z.array(texture).optional(),
  // An image may have an address instead of bytes. It is not read here, so nothing can follow it.
  images: z.array(z.object({ bufferView: index.optional() })).optional(),
  samplers: z
    .array(z.object({ magFilter: z.number().optional(), wrapS: z.number().optional(), wrapT: z.number().optional() }))
    .optional(),
  skins: z.array(z.object({ inverseBindMatrices: index.optional(), joints: z.array(index) })).optional(),
  animations: z.array(z.unknown()).optional(),
  extensionsRequired: z.array(z.string()).optional(),
});

export type Gltf = z.output<typeof gltf>;
export type GltfAccessor = z.output<typeof accessor>;
export type GltfBufferView = z.output<typeof bufferView>;
export type GltfMaterial = z.output<typeof material>;
export type GltfNode = z.output<typeof node>;
export type GltfPrimitive = z.output<typeof primitive>;
export type GltfTextureRef = z.output<typeof textureRef>;

/** @throws ModelRefused */
export function parseGltf(json: Buffer): Gltf {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json.toString('utf8'));
  } catch {
    throw damaged('the JSON cannot be read');
  }
  const result = gltf.safeParse(parsed);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw damaged(`the JSON is not that of a glTF: ${issue?.path.join('.')} ${issue?.message}`.slice(0, 200));
}
