CREATE TABLE "upload_parts" (
	"asset_id" uuid NOT NULL,
	"part_number" integer NOT NULL,
	"etag" text NOT NULL,
	"size" bigint NOT NULL,
	CONSTRAINT "upload_parts_asset_id_part_number_pk" PRIMARY KEY("asset_id","part_number")
);
--> statement-breakpoint
CREATE TABLE "upload_sessions" (
	"asset_id" uuid PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"store_upload_id" text,
	"part_size" bigint NOT NULL,
	"size" bigint,
	"declared_type" text,
	"asset_type" text,
	"sha256" "bytea",
	"expires_at" timestamp (3) with time zone NOT NULL,
	"position" bigint DEFAULT 0 NOT NULL,
	"tail" "bytea",
	"holder" uuid,
	"validated_type" text,
	"validated_policy" text,
	CONSTRAINT "upload_sessions_kind" CHECK (kind in ('direct', 'resumable')),
	CONSTRAINT "upload_sessions_direct" CHECK (kind <> 'direct' or (size is not null and declared_type is not null and asset_type is not null))
);
--> statement-breakpoint
ALTER TABLE "upload_parts" ADD CONSTRAINT "upload_parts_asset_id_upload_sessions_asset_id_fk" FOREIGN KEY ("asset_id") REFERENCES "public"."upload_sessions"("asset_id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "upload_sessions" ADD CONSTRAINT "upload_sessions_asset_id_assets_id_fk" FOREIGN KEY ("asset_id") REFERENCES "public"."assets"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
-- Uploads in progress go on in the one table of sessions.
INSERT INTO "upload_sessions" ("asset_id", "kind", "store_upload_id", "part_size", "size", "declared_type", "asset_type", "sha256", "expires_at")
SELECT "asset_id", 'direct', "store_upload_id", "part_size", "size", "declared_type", "asset_type", "sha256", "expires_at" FROM "multipart_uploads";
--> statement-breakpoint
INSERT INTO "upload_sessions" ("asset_id", "kind", "store_upload_id", "part_size", "size", "declared_type", "asset_type", "expires_at", "position", "tail", "holder", "validated_type", "validated_policy")
SELECT "asset_id", 'resumable', "store_upload_id", "part_size", "size", "declared_type", "asset_type", "expires_at", "position", "tail", "holder", "media_type", "policy" FROM "resumable_uploads";
--> statement-breakpoint
INSERT INTO "upload_parts" ("asset_id", "part_number", "etag", "size")
SELECT "asset_id", "part_number", "etag", "size" FROM "resumable_parts";
