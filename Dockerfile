# syntax=docker/dockerfile:1

# Production needs neither the tools of development nor the embedded Postgres.
FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --omit=optional && npm cache clean --force

FROM node:24-slim
LABEL org.opencontainers.image.title="Stowage" \
      org.opencontainers.image.description="A storage service for the files of an application: one REST API in front of any S3 bucket." \
      org.opencontainers.image.licenses="MIT"
ENV NODE_ENV=production \
    NODE_COMPILE_CACHE=/app/compile-cache \
    MALLOC_ARENA_MAX=2 \
    HOST=0.0.0.0 \
    PORT=3000
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json ./
COPY migrations ./migrations
COPY scripts/migrate.ts scripts/compile.ts ./scripts/
COPY src ./src
# The compile cache is filled now, by the user that will read it. Later nothing is written but to the database and the
# object store, so the file system may be read-only.
RUN install --directory --owner=node --group=node compile-cache
USER node
RUN node scripts/compile.ts
EXPOSE 3000
STOPSIGNAL SIGTERM
# The process itself: a database that is away must not make the container be replaced. Load balancers ask /readyz.
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/livez`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# Not by npm, which would stand between the signals and the service. The flags are those of `npm start`.
CMD ["node", "--max-semi-space-size=4", "src/main.js"]
