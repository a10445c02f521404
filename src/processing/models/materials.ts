/** Materials (glTF 2.0 specification, section 3.9), as far as they show in a small picture. Normal maps do not. */
import type { Glb } from './glb.ts';
import type { GltfMaterial } from './gltf.ts';
import { type Texture, TextureReader } from './textures.ts';

export interface Material {
  /** Red, green, blue, alpha; linear. */
  colour: readonly number[];
  colourMap?: Texture;
  metallic: number;
  roughness: number;
  /** Roughness in green, metallic in blue. */
  surfaceMap?: Texture;
  /** Red: how much of the light from all around arrives. */
  occlusionMap?: Texture;
  emissive: readonly number[];
  emissiveMap?: Texture;
  isUnlit: boolean;
  /** Below this alpha there is nothing; undefined where alpha has no meaning. */
  cutoff?: number;
  isBlended: boolean;
}

/** Reads each material once. */
export class MaterialReader {
  readonly #glb: Glb;
  readonly #textures: TextureReader;
  readonly #read = new Map<number | undefined, Material>();

  constructor(glb: Glb) {
    this.#glb = glb;
    this.#textures = new TextureReader(glb);
  }

  /** @param index undefined, or of no material: the one that the specification gives to primitives without one */
  async read(index: number | undefined): Promise<Material> {
    const known = this.#read.get(index);
    if (known) return known;
    const material = await this.#make((index !== undefined && this.#glb.gltf.materials?.[index]) || {});
    this.#read.set(index, material);
    return material;
  }

  async #make(material: GltfMaterial): Promise<Material> {
    const { alphaMode, alphaCutoff = 0.5, extensions: more = {} } = material;
    const pbr = material.pbrMetallicRoughness ?? {};
    const old = more.KHR_materials_pbrSpecularGlossiness;
    const [red = 1, green = 1, blue = 1, alpha = 1] = old?.diffuseFactor ?? pbr.baseColorFactor ?? [];
    const transmission = within(more.KHR_materials_transmission?.transmissionFactor ?? 0);
    const strength = more.KHR_materials_emissive_strength?.emissiveStrength ?? 1;
    const maps = await this.#maps(material);
    return {
      ...maps,
      // What lets light through is drawn as glass that still can be seen.
      colour: [red, green, blue, alpha * (1 - 0.7 * transmission)].map((value) => Math.max(0, value)),
      metallic: old ? 0 : within(pbr.metallicFactor ?? 1),
      roughness: old ? 1 - within(old.glossinessFactor ?? 1) : within(pbr.roughnessFactor ?? 1),
      emissive: (material.emissiveFactor ?? [0, 0, 0]).map((value) => Math.max(0, value * strength)),
      isUnlit: more.KHR_materials_unlit !== undefined,
      isBlended: alphaMode === 'BLEND' || transmission > 0,
      ...(alphaMode === 'MASK' && { cutoff: alphaCutoff }),
    };
  }

  async #maps(material: GltfMaterial) {
    const pbr = material.pbrMetallicRoughness ?? {};
    const old = material.extensions?.KHR_materials_pbrSpecularGlossiness;
    const colourMap = await this.#textures.read(old?.diffuseTexture ?? pbr.baseColorTexture, true);
    const surfaceMap = await this.#textures.read(pbr.metallicRoughnessTexture, false);
    const occlusionMap = await this.#textures.read(material.occlusionTexture, false);
    const emissiveMap = await this.#textures.read(material.emissiveTexture, true);
    return {
      ...(colourMap && { colourMap }),
      ...(surfaceMap && { surfaceMap }),
      ...(occlusionMap && { occlusionMap }),
      ...(emissiveMap && { emissiveMap }),
    };
  }
}

const within = (value: number) => Math.max(0, Math.min(1, value));
