CREATE TABLE "asset_versions" (
	"asset_id" uuid NOT NULL,
	"number" integer NOT NULL,
	"name" text NOT NULL,
	"media_type" text NOT NULL,
	"size" bigint NOT NULL,
	"sha256" "bytea",
	"object_key" text NOT NULL,
	"cache_control" text,
	"scan" jsonb,
	"facts" jsonb,
	"original" jsonb,
	"thumb_hash" text,
	"processing" jsonb,
	"stored_at" timestamp (3) with time zone NOT NULL,
	"replaced_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "asset_versions_asset_id_number_pk" PRIMARY KEY("asset_id","number")
);
--> statement-breakpoint
CREATE TABLE "replacements" (
	"upload_id" uuid PRIMARY KEY NOT NULL,
	"asset_id" uuid NOT NULL,
	"uploader_id" text NOT NULL,
	"expected_version" integer,
	"name" text,
	"begun_at" timestamp (3) with time zone NOT NULL,
	"accepted_at" timestamp (3) with time zone,
	"settled_at" timestamp (3) with time zone,
	"content_version" integer
);
--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "content_version" integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "content_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "version_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "asset_versions" ADD CONSTRAINT "asset_versions_asset_id_assets_id_fk" FOREIGN KEY ("asset_id") REFERENCES "public"."assets"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "replacements_of_asset" ON "replacements" USING btree (asset_id);--> statement-breakpoint
CREATE INDEX "replacements_by_age" ON "replacements" USING btree (begun_at);