-- The first key that signs addresses of variants, in force from the beginning; see src/variants/keys.ts.
INSERT INTO "service_secrets" ("name", "value")
VALUES ('variant-links/0', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
