CREATE TABLE "resumable_parts" (
	"asset_id" uuid NOT NULL,
	"part_number" integer NOT NULL,
	"etag" text NOT NULL,
	"size" bigint NOT NULL,
	CONSTRAINT "resumable_parts_asset_id_part_number_pk" PRIMARY KEY("asset_id","part_number")
);
--> statement-breakpoint
CREATE TABLE "resumable_uploads" (
	"asset_id" uuid PRIMARY KEY NOT NULL,
	"store_upload_id" text,
	"part_size" bigint NOT NULL,
	"size" bigint,
	"position" bigint DEFAULT 0 NOT NULL,
	"tail" "bytea",
	"holder" uuid,
	"declared_type" text,
	"asset_type" text,
	"media_type" text,
	"policy" text,
	"expires_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "resumable_parts" ADD CONSTRAINT "resumable_parts_asset_id_resumable_uploads_asset_id_fk" FOREIGN KEY ("asset_id") REFERENCES "public"."resumable_uploads"("asset_id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "resumable_uploads" ADD CONSTRAINT "resumable_uploads_asset_id_assets_id_fk" FOREIGN KEY ("asset_id") REFERENCES "public"."assets"("id") ON DELETE cascade ON UPDATE no action;