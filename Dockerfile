# syntax=docker/dockerfile:1

# The bundle holds every package that it uses, or has it beside it. So the image below needs none, and no install script has to
# run here.
FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts && npm cache clean --force
COPY scripts/build.ts scripts/compile.ts scripts/migrate.ts scripts/doctor.ts scripts/reconcile.ts scripts/backup.ts scripts/restore.ts scripts/setup-bucket.ts scripts/key.ts scripts/rotate-variant-key.ts scripts/rotate-share-key.ts ./scripts/
COPY src ./src
RUN node scripts/build.ts --whole

FROM node:24-slim
LABEL org.opencontainers.image.title="Stowage" \
      org.opencontainers.image.description="A storage service for the files of an application: one REST API in front of any S3 bucket." \
      org.opencontainers.image.licenses="MIT"
ENV NODE_ENV=production \
    NODE_COMPILE_CACHE=/app/compile-cache \
    MALLOC_ARENA_MAX=2 \
    MALLOC_MMAP_THRESHOLD_=131072 \
    HOST=0.0.0.0 \
    PORT=3000
# Programs that read files that nobody trusts, and what confines them. Without one of them the service does what it can;
# bubblewrap needs a seccomp profile that allows namespaces of users.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap ffmpeg poppler-utils \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build /app/dist ./dist
COPY package.json ./
COPY migrations ./migrations
# The compile cache is filled now, by the user that will read it. Later nothing is written but to the database and the
# object store, so the file system may be read-only.
RUN install --directory --owner=node --group=node compile-cache
# For SCRATCH_DIR: a volume that is mounted here belongs to the user.
RUN install --directory --owner=node --group=node --mode=0700 /scratch
USER node
RUN node dist/compile.js
EXPOSE 3000
STOPSIGNAL SIGTERM
# The process itself: a database that is away must not make the container be replaced. Load balancers ask /readyz.
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/livez`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# Not by npm, which would stand between the signals and the service. The flags are those of `npm start`.
CMD ["node", "--max-semi-space-size=4", "--heap-growing-percent=50", "--expose-gc", "dist/main.js"]
