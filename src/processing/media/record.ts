/** What a record tells of a sound or film, and back: of what the steps before have found out, later ones make use. */
import type { Facts } from '../../database/tables/processing-record.ts';
import type { MediaFacts } from './facts.ts';

export function toFacts({ duration, bitRate, video, audio }: MediaFacts): Facts {
  return {
    ...(duration !== undefined && { duration }),
    ...(bitRate !== undefined && { bitRate }),
    ...(video && { width: video.width, height: video.height, videoCodec: video.codec }),
    ...(video?.framesPerSecond !== undefined && { framesPerSecond: video.framesPerSecond }),
    ...(audio && { audioCodec: audio.codec, channels: audio.channels, sampleRate: audio.sampleRate }),
  };
}

/** @returns what matters for what is made of it */
export function toMediaFacts(facts: Facts): MediaFacts {
  const { duration, width, height, framesPerSecond, channels, sampleRate } = facts;
  return {
    ...(duration !== undefined && { duration }),
    ...(width !== undefined &&
      height !== undefined && {
        video: {
          ...{ codec: facts.videoCodec ?? 'unknown', width, height, rotation: 0 },
          ...(framesPerSecond !== undefined && { framesPerSecond }),
        },
      }),
    ...(channels !== undefined &&
      sampleRate !== undefined && { audio: { codec: facts.audioCodec ?? 'unknown', channels, sampleRate } }),
  };
}
