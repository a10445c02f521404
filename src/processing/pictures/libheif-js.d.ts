/** The package has no types. What we use of it, in the names that it has. */
declare module 'libheif-js/wasm-bundle.js' {
  interface HeifImage {
    get_width(): number;
    get_height(): number;
    is_primary(): boolean;
    has_alpha_channel(): boolean;
    /** Decodes into `data`; calls back with null when that is impossible. */
    display(
      picture: { data: Uint8ClampedArray; width: number; height: number },
      done: (picture: object | null) => void,
    ): void;
  }
  const libheif: {
    HeifDecoder: new () => { decode(bytes: Uint8Array): HeifImage[] };
  };
  export default libheif;
}
