CREATE TABLE "multipart_uploads" (
	"asset_id" uuid PRIMARY KEY NOT NULL,
	"store_upload_id" text,
	"part_size" bigint NOT NULL,
	"size" bigint NOT NULL,
	"declared_type" text NOT NULL,
	"asset_type" text NOT NULL,
	"sha256" "bytea",
	"expires_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "assets" DROP CONSTRAINT "assets_complete";--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "reason" text;--> statement-breakpoint
ALTER TABLE "multipart_uploads" ADD CONSTRAINT "multipart_uploads_asset_id_assets_id_fk" FOREIGN KEY ("asset_id") REFERENCES "public"."assets"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "assets" ADD CONSTRAINT "assets_complete" CHECK (state in ('uploading', 'deleting') or (size is not null and media_type is not null and asset_type is not null));