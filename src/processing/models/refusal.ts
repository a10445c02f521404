/** Why there are no facts or no picture of a model; it is written on the record. */
export type ModelFault =
  | 'damaged'
  | 'too-large'
  | 'nothing-to-draw'
  | 'unsupported-draco'
  | 'unsupported-meshopt'
  | 'unsupported-ktx2'
  | 'unsupported-extension';

export class ModelRefused extends Error {
  override name = 'ModelRefused';
  readonly reason: ModelFault;
  constructor(reason: ModelFault, message: string) {
    super(message);
    this.reason = reason;
  }
}

export const damaged = (message: string) => new ModelRefused('damaged', message);
export const tooLarge = (message: string) => new ModelRefused('too-large', message);
