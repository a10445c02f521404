CREATE TABLE "upload_tails" (
	"asset_id" uuid NOT NULL,
	"begin" bigint NOT NULL,
	"bytes" "bytea" NOT NULL,
	CONSTRAINT "upload_tails_asset_id_begin_pk" PRIMARY KEY("asset_id","begin")
);
--> statement-breakpoint
ALTER TABLE "assets" ADD COLUMN "verified_bytes" bigint;--> statement-breakpoint
ALTER TABLE "upload_sessions" ADD COLUMN "tail_begin" bigint;--> statement-breakpoint
ALTER TABLE "upload_sessions" ADD COLUMN "takes" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "upload_sessions" ADD COLUMN "upload_metadata" text;--> statement-breakpoint
ALTER TABLE "upload_sessions" ADD COLUMN "policies" jsonb;--> statement-breakpoint
ALTER TABLE "upload_tails" ADD CONSTRAINT "upload_tails_asset_id_upload_sessions_asset_id_fk" FOREIGN KEY ("asset_id") REFERENCES "public"."upload_sessions"("asset_id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "assets_open_uploads" ON "assets" USING btree (owner_id,created_at,id) WHERE state = 'uploading';--> statement-breakpoint
ALTER TABLE "upload_sessions" ADD CONSTRAINT "upload_sessions_tail" CHECK (tail_begin is null or (tail is null and position > tail_begin and position <= tail_begin + part_size));--> statement-breakpoint
-- Files are compressed already: compressing them again would cost time and save nothing.
ALTER TABLE "upload_tails" ALTER COLUMN "bytes" SET STORAGE EXTERNAL;
